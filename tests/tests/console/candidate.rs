//! A candidate from the console: checked, held to its cases, put beside its policy, weighed, promoted, taken back.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::process::CommandExt as _;
use std::process::Command;
use std::time::Instant;

use addrauth_lab::mta::Fate;
use addrauth_tests::daemon::{binary, component};

use super::bed::{Bed, Browser, HOSTILE, PATIENCE, assert_harmless};

const PAGE: &str = "/policies/ours/candidate";
const PLACE: &str = "/policies/ours/place";

fn case(name: &str, status: &str, disposition: &str) -> String {
    format!(
        "[[case]]\nname = '{name}'\nfacts = {{ status = \"{status}\" }}\nexpect = {{ disposition = \"{disposition}\" }}\n"
    )
}

/// Asks for a page until it tells this: the console reads its own configuration again after an act.
async fn until(browser: &mut Browser, path: &str, told: &str) -> String {
    let begin = Instant::now();
    loop {
        let text = browser.get(path).await.text();
        if text.contains(told) {
            return text;
        }
        assert!(begin.elapsed() < PATIENCE, "{told}: {text}");
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_leaves_nothing_and_says_where_and_why() {
    let bed = Bed::start("").await;
    let mut ann = bed.signed_in("ann").await;
    let before = fs::read_to_string(bed.own_file()).unwrap();
    let hostile = case(HOSTILE[0], "none", "reject");
    let good = "when result is missing: mark\r\n\r\notherwise accept";
    let messages = "[[case]]\nname = 'x'\nmessage = '/etc/passwd'\nfacts = { status = \"none\" }\nexpect = { disposition = \"accept\" }\n";
    for (rules, cases, told) in [
        ("when result is missing: mark\nwhen nonsense", "", "line 2, column 6"),
        ("when result is missing: mark", "", "the last line must say"),
        (HOSTILE[1], "", "line 1"),
        (good, hostile.as_str(), "1 of 1 cases fail"),
        (good, hostile.as_str(), "ours.next.cases.toml:4"),
        (good, "[[case]]\nname = 3\n", "ours.next.cases.toml:2"),
        (good, HOSTILE[2], "ours.next.cases.toml:1"),
        (good, messages, "name a message"),
        // What decides already is no candidate.
        (&format!("otherwise quarantine '{}'", HOSTILE[1]), "", "it is what decides as ours already"),
    ] {
        let answer = ann.post(PAGE, PAGE, &[("rules", rules), ("cases_text", cases)]).await;
        assert_eq!(answer.status, 422, "{rules}: {}", answer.text());
        assert!(answer.text().contains(told), "{told}: {}", answer.text());
        assert_harmless(rules, &answer);
    }
    let wasm = component("accept");
    let of = |octets: &[u8]| octets.to_vec();
    for (octets, told) in [
        (of(b"not a component"), "no component: a file .wasm"),
        (of(&wasm[..wasm.len() / 2]), "Refused"),
        (of(b"\0asm\x01\0\0\0"), "Refused"),
        // It has no setting `rules`.
        (wasm.clone(), "no setting"),
    ] {
        let parts: [(&str, Option<&str>, &[u8]); 1] = [("component", Some("../../etc/x.wasm"), &octets)];
        let answer = ann.upload(PAGE, PAGE, &parts).await;
        assert_eq!(answer.status, 422, "{told}: {}", answer.text());
        assert!(answer.text().contains(told), "{told}: {}", answer.text());
        assert_harmless(told, &answer);
    }
    let large = [b"\0asm".as_slice(), &vec![0; 27 << 20]].concat();
    let parts: [(&str, Option<&str>, &[u8]); 1] = [("component", Some("x.wasm"), &large)];
    assert_eq!(ann.upload(PAGE, PAGE, &parts).await.status, 413);
    assert_eq!(ann.post(PAGE, PAGE, &[]).await.status, 422, "neither one nor the other");
    assert_eq!(ann.post(PAGE, "/policies/nowhere/candidate", &[("rules", good)]).await.status, 404);
    assert!(bed.put_there().is_empty(), "{:?}", bed.put_there());
    assert_eq!(fs::read_to_string(bed.own_file()).unwrap(), before);
    let acts = ann.get("/acts").await.text();
    assert!(acts.matches("refused").count() >= 12, "{acts}");
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_become_the_candidate_are_weighed_promoted_and_taken_back() {
    let bed = Bed::start("").await;
    let mut ann = bed.signed_in("ann").await;
    let cases = case("mail of no domain", "none", "accept") + &case("a missing key", "missing", "mark");
    let form = [("rules", "when result is missing: mark\r\n\r\notherwise accept"), ("cases_text", cases.as_str())];
    let put = ann.post("/policies/ours", PAGE, &form).await;
    let text = put.text();
    assert_eq!(put.status, 200, "{text}");
    for told in ["It is the candidate now", "2 of 2 cases pass", "systemctl reload addrauth-filter"] {
        assert!(text.contains(told), "{told}: {text}");
    }
    assert_harmless("put", &put);
    assert_eq!(bed.put_there(), ["ours.next.cases.toml", "ours.next.toml"]);
    let configured = fs::read_to_string(bed.own_file()).unwrap();
    assert!(configured.contains("shadow = \"ours.next.toml\""), "{configured}");
    let mode = fs::metadata(bed.policies.join("ours.next.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o644);

    // What is in force stays so, and the candidate decides beside it.
    bed.obey().await;
    for n in 0..3 {
        assert_eq!(
            bed.mail(&format!("BESIDE{n}"), "alice@sender.example", &["bob@home.example"], HOSTILE[2]).await.0,
            Fate::Discarded
        );
    }
    until(&mut ann, &format!("{PAGE}?since=1d"), "Against it").await;
    // The console has read the configuration anew a moment later.
    let weighed = until(&mut ann, &format!("{PAGE}?since=1d"), "ours.next.toml").await;
    for told in
        ["<b>3</b> decisions of both", "quarantine", "3 of 3 decisions change", "ours.next.toml", "href=\"/messages/"]
    {
        assert!(weighed.contains(told), "{told}: {weighed}");
    }
    let compared = ann
        .post(
            "/try",
            "/try",
            &[
                ("message", "From: a@b.example\r\n\r\nx"),
                ("policy", "ours"),
                ("result", "none"),
                ("beside", "candidate"),
            ],
        )
        .await;
    assert!(compared.text().contains("<mark>decides   accept</mark>"), "{}", compared.text());
    let early = ann.post(PAGE, PLACE, &[("wish", "promote"), ("since", "1d")]).await;
    assert!(early.text().contains("Not done") && early.text().contains("NOT PROMOTED"), "{}", early.text());
    for (name, value) in [("at_least", "-1"), ("at_least", "x"), ("max_change", "101"), ("max_change", "--json")] {
        assert_eq!(ann.post(PAGE, PLACE, &[("wish", "promote"), (name, value)]).await.status, 422, "{name} {value}");
    }

    let wish = [("wish", "promote"), ("since", "1d"), ("at_least", "3"), ("max_change", "100")];
    let promoted = ann.post(PAGE, PLACE, &wish).await;
    assert!(promoted.text().contains("Done.") && promoted.text().contains("promoted"), "{}", promoted.text());
    bed.obey().await;
    assert_eq!(bed.mail("AFTER", "alice@sender.example", &["bob@home.example"], "x").await.0, Fate::Delivered);
    until(&mut ann, PAGE, "nothing decides beside the policy").await;
    let back = ann.post(PAGE, PLACE, &[("wish", "rollback")]).await;
    assert!(back.text().contains("Done.") && back.text().contains("rolled back"), "{}", back.text());
    bed.obey().await;
    assert_eq!(bed.mail("BACK", "alice@sender.example", &["bob@home.example"], "x").await.0, Fate::Discarded);
    // Another one takes the candidate's place, where the configuration stays as it is; without cases of its own the old ones go.
    until(&mut ann, PAGE, "ours.next.toml").await;
    let configured = fs::read_to_string(bed.own_file()).unwrap();
    assert_eq!(ann.post(PAGE, PAGE, &[("rules", "otherwise mark")]).await.status, 200);
    assert_eq!(bed.put_there(), ["ours.next.toml"]);
    assert_eq!(fs::read_to_string(bed.own_file()).unwrap(), configured);
    let off = ann.post(PAGE, PLACE, &[("wish", "off")]).await;
    assert!(off.text().contains("Done."), "{}", off.text());
    assert!(!fs::read_to_string(bed.own_file()).unwrap().contains("shadow"));

    let acts = bed.register().await.acts(None, 20).await.unwrap();
    let told: Vec<(&str, &str, &str)> =
        acts.iter().map(|row| (row.act.who.as_str(), row.act.act.as_str(), row.act.outcome.as_str())).collect();
    assert_eq!(
        told,
        [
            ("ann", "candidate taken away", "done"),
            ("ann", "candidate", "done"),
            ("ann", "rollback", "done"),
            ("ann", "promote", "done"),
            ("ann", "promote", "refused"),
            ("ann", "candidate", "done"),
            ("ann", "sign in", "done"),
        ]
    );
    assert!(acts.iter().any(|row| row.act.about.contains("policy ours: SHA-256 ")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_is_put_beside_a_policy_that_had_no_section() {
    let bed = Bed::start("").await;
    let mut ann = bed.signed_in("ann").await;
    let page = "/policies/mark/candidate";
    let cases = case("whatever it is", "invalid", "accept");
    let wasm = component("accept");
    let parts: [(&str, Option<&str>, &[u8]); 2] =
        [("component", Some("accept.wasm"), &wasm), ("cases", Some("cases.toml"), cases.as_bytes())];
    let put = ann.upload(page, page, &parts).await;
    assert_eq!(put.status, 200, "{}", put.text());
    assert!(put.text().contains("1 of 1 cases pass"), "{}", put.text());
    assert_eq!(bed.put_there(), ["mark.next.cases.toml", "mark.next.wasm"]);
    assert_eq!(fs::read(bed.policies.join("mark.next.wasm")).unwrap(), wasm);
    let configured = fs::read_to_string(bed.own_file()).unwrap();
    assert!(configured.contains("[policies.mark]\nshadow = \"mark.next.wasm\""), "{configured}");
    bed.obey().await;
    until(&mut ann, page, "mark.next.wasm").await;
    // A reader sees it, and is offered nothing.
    let shown = bed.signed_in("rea").await.get(page).await.text();
    assert!(shown.contains("mark.next.wasm") && !shown.contains("type=\"file\""), "{shown}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_it_may_not_be_put_the_page_has_the_command() {
    let bed = Bed::start("").await;
    let text = fs::read_to_string(bed.own_file()).unwrap();
    let dir = format!("dir = {:?}\n", bed.policies);
    assert!(text.contains(&dir));
    fs::write(bed.own_file(), text.replace(&dir, "")).unwrap();
    bed.console.signal("HUP");
    let mut ann = bed.signed_in("ann").await;
    let told = until(&mut ann, PAGE, "policy.dir is not set").await;
    assert!(told.contains("policy shadow ours FILE") && !told.contains("type=\"file\""), "{told}");
    let refused = ann.post(PAGE, PAGE, &[("rules", "otherwise accept")]).await;
    assert!(refused.status == 422 && refused.text().contains("policy.dir is not set"), "{}", refused.text());
}

/// What `policy shadow` says to somebody who may write nothing here; none where this is not run by root.
fn says_to_nobody(bed: &Bed, words: &[&str]) -> Option<(bool, String)> {
    let mut command = Command::new(binary());
    command.arg("--config").arg(bed.own_file()).args(["policy", "shadow"]).args(words).uid(65_534).gid(65_534);
    let output = command.output().ok()?;
    Some((output.status.success(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()))
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_write_is_told_so_and_a_place_of_its_own_needs_no_right_to_the_configuration() {
    let bed = Bed::start("").await;
    let top = bed.own_file().parent().unwrap().to_owned();
    for dir in [&top, &bed.policies] {
        fs::set_permissions(dir, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let rules = top.join("rules");
    fs::write(&rules, "otherwise accept\n").unwrap();
    let file = rules.display().to_string();
    let Some((good, said)) = says_to_nobody(&bed, &["ours", &file, "--rules"]) else {
        println!("skipped: this is not run by root, or the program is in a folder of root's");
        return;
    };
    assert!(!good && said.contains("may not be written to") && said.contains("policy shadow ours FILE"), "{said}");
    // The configuration names a place that is the candidates' own: then it need not be edited.
    let own = top.join("candidates");
    fs::create_dir(&own).unwrap();
    fs::set_permissions(&own, fs::Permissions::from_mode(0o777)).unwrap();
    let text = fs::read_to_string(bed.own_file()).unwrap();
    let shadow = format!("[policies.ours]\nshadow = {:?}\n", own.join("ours.toml"));
    fs::write(bed.own_file(), text.replace("[policies.ours]\n", &shadow)).unwrap();
    let (good, said) = says_to_nobody(&bed, &["ours", &file, "--rules"]).unwrap();
    assert!(good && said.contains("its candidate is"), "{said}");
    assert!(fs::read_to_string(own.join("ours.toml")).unwrap().contains("otherwise accept"));
    assert!(!says_to_nobody(&bed, &["ours", "--off"]).unwrap().0, "that would be an edit");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_candidate_takes_the_place_of_nothing_that_is_in_force() {
    let bed = Bed::start("").await;
    let text = fs::read_to_string(bed.own_file()).unwrap();
    let rules = bed.policies.with_file_name("rules");
    fs::write(&rules, "otherwise accept\n").unwrap();
    fs::write(bed.policies.join("ours.cases.toml"), case("in force", "none", "quarantine")).unwrap();
    let file = rules.display().to_string();
    let dir = bed.policies.display();
    for place in [
        // Its cases would be those of the policy in force.
        format!("{dir}/ours.toml"),
        format!("{dir}/./../policies/ours.toml"),
        bed.own_file().display().to_string(),
    ] {
        fs::write(bed.own_file(), text.replace("[policies.ours]\n", &format!("[policies.ours]\nshadow = {place:?}\n")))
            .unwrap();
        let before = fs::read_to_string(bed.own_file()).unwrap();
        let words = ["policy", "shadow", "ours", &file, "--rules"];
        let mut command = Command::new(binary());
        let output = command.arg("--config").arg(bed.own_file()).args(words).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains("in force"), "{place}: {said}");
        assert_eq!(fs::read_to_string(bed.own_file()).unwrap(), before);
        assert_eq!(bed.put_there(), ["ours.cases.toml"]);
    }
    // The cases of the policy in force hold for a candidate without its own.
    fs::write(bed.own_file(), &text).unwrap();
    let output = Command::new(binary())
        .arg("--config")
        .arg(bed.own_file())
        .args(["policy", "shadow", "ours", &file, "--rules"])
        .output();
    let output = output.unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.code() == Some(1) && said.contains("FAIL in force") && said.contains("nothing was changed"),
        "{said}"
    );
    assert_eq!(bed.put_there(), ["ours.cases.toml"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_looks_keeps_nobody_from_acting_and_two_do_not_act_at_once() {
    let bed = Bed::start("").await;
    let mut ann = bed.signed_in("ann").await;
    assert_eq!(ann.post(PAGE, PAGE, &[("rules", "otherwise accept")]).await.status, 200);
    until(&mut ann, PAGE, "ours.next.toml").await;
    let held = fs::File::open(bed.own_file()).unwrap();
    held.lock().unwrap();
    let looked = bed.signed_in("rea").await.get(PAGE).await.text();
    assert!(looked.contains("<b>0</b> decisions of both") && looked.contains("Against it"), "{looked}");
    let before = fs::read_to_string(bed.policies.join("ours.next.toml")).unwrap();
    let acted = ann.post(PAGE, PAGE, &[("rules", "otherwise mark")]).await;
    assert!(acted.status == 422 && acted.text().contains("is at work on"), "{}", acted.text());
    assert_eq!(fs::read_to_string(bed.policies.join("ours.next.toml")).unwrap(), before);
    drop(held);
    assert_eq!(ann.post(PAGE, PAGE, &[("rules", "otherwise mark")]).await.status, 200);
}
