//! A real browser on every page, and how long pages take on a large journal. Both want more than a build: `ADDRAUTH_WALK` names the
//! folder of `tests/browser` with its packages, `ADDRAUTH_ROWS` how many rows the journal has (1,000 by default).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use addrauth::case::{Disposition, KeyStatus, WrittenCase, WrittenFinding};
use addrauth::store::{Columns, NewRow, Role, RowResult};
use addrauth_console::table::{TABLE, Way};

use super::bed::{Bed, HOSTILE, PASSWORD};

/// Rows that are written in one transaction.
const AT_ONCE: usize = 2_000;
const DECISIONS: [Disposition; 7] = [
    Disposition::Accept,
    Disposition::Accept,
    Disposition::Accept,
    Disposition::Accept,
    Disposition::Mark,
    Disposition::Quarantine,
    Disposition::Reject,
];
const RESULTS: [KeyStatus; 7] = [
    KeyStatus::None,
    KeyStatus::None,
    KeyStatus::None,
    KeyStatus::Valid,
    KeyStatus::Missing,
    KeyStatus::Invalid,
    KeyStatus::Unverified,
];

/// Each filter of the list of messages: by what is frequent, rare, and not there; and some together.
const FILTERS: [&str; 26] = [
    "",
    "?below=500",
    "?result=invalid",
    "?result=unusable",
    "?result=valid&decision=reject",
    "?verdict=defer",
    "?decision=reject&since=7d",
    "?decision=defer",
    "?policy=ours&decision=mark",
    "?policy=unknown",
    "?policy=unknown&result=none&since=20d",
    "?sender=u77%40d15.example",
    "?sender=%40d15.example",
    "?sender=nobody%40nowhere.example",
    "?domain=d4711.example",
    "?domain=d4711.example&result=invalid",
    "?domain=nowhere.example",
    "?recipient=r77%40home.example",
    "?recipient=r77%40home.example&result=missing",
    "?recipient=%40home.example",
    "?recipient=nobody%40home.example",
    "?recipient=%40home.example&policy=unknown",
    "?since=1h",
    "?since=2020-01-01&verdict=hold",
    "?id=Q3039",
    "?id=nothing",
];

/// As many rows as are wished for, of senders, recipients, results and decisions that differ as those of a site do.
async fn fill(bed: &Bed, count: usize) {
    let ledger = bed.ledger().await;
    let (_, id) = bed.mail("FILL", "alice@sender.example", &["bob@home.example"], "x").await;
    let row = ledger.journal_row(id).await.unwrap().unwrap();
    let story = WrittenCase::read(&row.entry.json).unwrap();
    let text = serde_json::to_string(&story).unwrap();
    let now = SystemTime::now();
    for part in 0..count.div_ceil(AT_ONCE) {
        let rows = (part * AT_ONCE..count.min((part + 1) * AT_ONCE)).map(|n| {
            let (domain, user) = (n * 7919 % 20_011, n * 104_729 % 5_003);
            let decision = DECISIONS[n * 31 % DECISIONS.len()];
            let result = RESULTS[n * 17 % RESULTS.len()];
            let text = text
                .replace("alice@sender.example", &format!("u{user}@d{domain}.example"))
                .replace("bob@home.example", &format!("r{user}@home.example"));
            let mut case: WrittenCase = serde_json::from_str(&text).unwrap();
            case.decisions[0].disposition = decision;
            let WrittenFinding::Found(found) = &mut case.finding else { panic!("{:?}", case.finding) };
            found.status = result;
            let columns = Columns {
                queue_id: Some(format!("Q{n:X}")),
                sender: Some(format!("u{user}@d{domain}.example")),
                result: RowResult::Judged(result),
                verdict: row.entry.verdict.clone(),
                note: String::new(),
            };
            let age = Duration::from_secs(((count - n) * 30 * 86_400 / count.max(1)) as u64);
            Arc::new(NewRow::of(case, columns, now - age))
        });
        ledger.append(rows.collect()).await.unwrap();
    }
    ledger.close().await;
}

fn rows() -> usize {
    std::env::var("ADDRAUTH_ROWS").map_or(1_000, |text| text.parse().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_of_a_large_journal_are_measured() {
    let bed = Bed::start("").await;
    let begin = Instant::now();
    fill(&bed, rows()).await;
    println!("{} rows in {:?}", rows(), begin.elapsed());
    for (name, scope) in [("kim", ["home.example", "other.example"]), ("kit", ["other.example", "other.example"])] {
        let words = [
            "console",
            "user",
            "add",
            name,
            "--role",
            "domain",
            "--password-file",
            "-",
            "--for",
            scope[0],
            "--for",
            scope[1],
        ];
        assert!(bed.verb(&words, &format!("{PASSWORD}\n")), "{name}");
    }
    for (name, list) in [("ann", "/messages"), ("kim", "/messages"), ("kit", "/messages"), ("bob", "/me/messages")] {
        let mut browser = bed.signed_in(name).await;
        for query in FILTERS {
            let mut times = Vec::new();
            for _ in 0..20 {
                let begin = Instant::now();
                let answer = browser.get(&format!("{list}{query}")).await;
                times.push(begin.elapsed());
                assert_eq!(answer.status, 200, "{query}");
            }
            times.sort();
            println!("{name} {query:<50} median {:>9.1?}  95 of 100 within {:>9.1?}", times[10], times[18]);
        }
    }
    let mut ann = bed.signed_in("ann").await;
    for path in ["/overview", "/overview?since=30d", "/quarantine"] {
        let begin = Instant::now();
        assert_eq!(ann.get(path).await.status, 200);
        println!("{path:<60} first {:.1?}", begin.elapsed());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_browser_walks_every_page_as_each_role() {
    let Some(folder) = std::env::var_os("ADDRAUTH_WALK").map(PathBuf::from) else {
        println!("skipped: ADDRAUTH_WALK names no folder");
        return;
    };
    let bed = Bed::start("").await;
    fill(&bed, rows()).await;
    let to = ["bob@home.example", "dave@other.example"];
    let mut last = (0, 0);
    for (n, hostile) in HOSTILE.iter().enumerate() {
        let from = format!("\"{}\" <mallory@sender{n}.example>", hostile.replace('"', "'"));
        last = bed.kept(&format!("4XyZ1bQ{n}"), &from, &to, &format!("Your bill {n} {hostile}")).await;
    }
    let mut bob = bed.signed_in("bob").await;
    bob.post("/me", "/me/senders", &[("add", "@friends.example")]).await;
    bob.post("/me", "/me/choices", &[("invalid", "quarantine")]).await;
    bob.post("/me", "/me/rules", &[("rules", "when sender is @bank.example: quarantine\notherwise accept")]).await;
    let paths = |role: Option<Role>, address: &str| -> Vec<String> {
        let rows = TABLE.iter().filter(|row| row.way == Way::Get && !row.path.starts_with("/assets"));
        let mut paths: Vec<String> = rows
            .filter(|row| row.may.includes(role) && (role.is_none() || row.path != "/login") && row.path != "/")
            .map(|row| {
                let id = if row.path.starts_with("/quarantine") { last.1.to_string() } else { last.0.to_string() };
                let id = if row.path.starts_with("/policies") { "ours".into() } else { id };
                row.path
                    .replace("{id}", &id)
                    .replace("{address}", address)
                    .replace("{domain}", "other.example")
                    .replace("{token}", &"A".repeat(43))
            })
            .collect();
        if role.is_some() {
            paths.push("/messages/999999999".into());
        }
        paths
    };
    let plan = serde_json::json!({
        "url": format!("http://{}", bed.place), "password": PASSWORD, "browser": "/usr/bin/chromium", "rules": "bob",
        "candidate": "ann", "slow": ["/doctor", "/keys/other.example", "/policies/ours", "/policies/ours/candidate"],
        "roles": {
            "": paths(None, ""), "ann": paths(Some(Role::Admin), "bob@home.example"),
            "kay": paths(Some(Role::Domain), "dave@other.example"), "rea": paths(Some(Role::Reader), ""),
            "bob": paths(Some(Role::User), ""),
        },
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("plan.json");
    std::fs::write(&file, plan.to_string()).unwrap();
    let shots = std::env::var_os("ADDRAUTH_SHOTS").map_or_else(|| dir.path().join("shots"), PathBuf::from);
    assert!(walked(&folder, &file, &shots));
}

fn walked(folder: &Path, plan: &Path, shots: &Path) -> bool {
    let script = folder.join("walk.mjs");
    Command::new("node").arg(script).arg(plan).arg(shots).current_dir(folder).status().unwrap().success()
}
