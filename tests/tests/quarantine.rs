//! A message that is kept back comes out again as it came in, less its key; by the program's own verbs.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use addrauth::case::{Body, Case, Direction, Field, Finding, Mail, Owed, Recipient, Refusal, ReversePath, Verdict};
use addrauth::config::{Config, Observe, StateDir};
use addrauth::filter::Filter;
use addrauth::outbox::Turn;
use addrauth::policy::Trial;
use addrauth::proto::address::Address;
use addrauth::proto::header::MARK_FIELD;
use addrauth::proto::header::{Bounds, Edit, scan, strip};
use addrauth_lab::mailbox::{Mailbox, Taken};
use addrauth_lab::zone::Zone;
use addrauth_tests::authority::{Act, Authority};
use addrauth_tests::daemon::{Daemon, binary};
use addrauth_tests::ports::claim_place;
use addrauth_tests::world::{self, ALICE, JUNK, leading_to};

const BOUNDS: Bounds = Bounds { fields: 1_000, octets: 256 * 1024 };
const STATUS: &str = "X-Auth-Key-Status: INVALIDKEY; address=alice@example.com; by=mx.home.example; reason=wrong\r\n";
const HEADER: &str = "From: Alice <alice@example.com>\r\nSubject: two\r\n lines\r\nMessage-ID:\r\n <1@example.com>\r\n";
const BODY: &str = "Grüße,\r\n.\r\n..two dots\r\n\r\n.end\r\n";
const BOB: &str = "bob@home.example";
const CAROL: &str = "carol@home.example";

/// A filter for home.example that quarantines alice's mail with a wrong key, and what it stands on.
struct Stage {
    filter: Filter,
    mailbox: Mailbox,
    home: tempfile::TempDir,
    _server: Authority,
    _zone: Zone,
}

/// Sets the stage; `change` has the last word on the configuration.
async fn stage(change: impl FnOnce(&mut Config)) -> Stage {
    let server = Authority::start([Act::invalid()]).await.unwrap();
    let zone = Zone::start(leading_to(&[&server], "")).await.unwrap();
    let (home, mailbox) = (tempfile::tempdir().unwrap(), Mailbox::start().unwrap());
    let mut config = Config {
        hostname: "mx.home.example".into(),
        final_domains: vec!["home.example".parse().unwrap()],
        observe: Observe(false),
        state_dir: StateDir(home.path().join("state")),
        verify: world::config(&zone),
        ..Config::default()
    };
    config.policy.invalid = "quarantine".into();
    config.notices.notify_via = mailbox.address().to_string();
    change(&mut config);
    // For the program's own verbs.
    std::fs::write(home.path().join("addrauth.toml"), toml::to_string(&config).unwrap()).unwrap();
    let filter = Filter::builder(config, Trial::waived()).open().await.unwrap();
    Stage { filter, mailbox, home, _server: server, _zone: zone }
}

fn recipient(text: &str) -> Recipient {
    Recipient::new(format!("<{text}>"))
}

fn fields(header: &str) -> Vec<Field> {
    let octets = header.as_bytes();
    let text = |range: &std::ops::Range<usize>| String::from_utf8(octets[range.clone()].to_vec()).unwrap();
    // As a milter tells them: folds with LF.
    let field = |span: &addrauth::proto::header::Span| Field {
        name: text(&span.name),
        value: text(&span.value).replace("\r\n", "\n").into_bytes(),
    };
    scan(octets, BOUNDS).fields.iter().map(field).collect()
}

/// Alice's message with a wrong key to these recipients.
fn mail(header: &str, recipients: &[&str]) -> Mail {
    world::mail(&[ALICE], &[JUNK]).altered(|envelope, head| {
        envelope.reverse_path = ReversePath::Path(Address::parse(b"bounces+1@Example.com", false).ok());
        envelope.queue_id = Some("4F1".into());
        envelope.recipients = recipients.iter().map(|r| recipient(r)).collect();
        head.fields = fields(header);
    })
}

impl Stage {
    async fn keep(&self, mail: Mail) -> Case {
        self.filter.keep(self.filter.examine(mail).await, Some(Body(BODY.into()))).await
    }

    /// Runs `addrauth quarantine …`.
    fn run(&self, words: &str) -> (Option<i32>, String, String) {
        let config = self.home.path().join("addrauth.toml");
        let mut command = Command::new(binary());
        command.arg("quarantine").args(words.split(' ')).arg("--config").arg(config);
        let Output { status, stdout, stderr } = command.output().unwrap();
        (status.code(), String::from_utf8(stdout).unwrap(), String::from_utf8(stderr).unwrap())
    }

    /// Runs it with `--json`.
    fn json(&self, words: &str) -> (Option<i32>, serde_json::Value) {
        let (code, out, err) = self.run(&format!("{words} --json"));
        (code, serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{err}")))
    }

    /// Runs `list` with `--json`: one object a line.
    fn listed(&self, words: &str) -> (Option<i32>, Vec<serde_json::Value>) {
        let (code, out, _) = self.run(&format!("list {words} --json").replace("  ", " "));
        (code, out.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    /// Releases it for this recipient without waiting for the outcome, as the verb does.
    async fn release(&self, id: i64, recipient: &str) {
        let opening = addrauth::store::Opening { busy: Duration::from_secs(2), readers: 1 };
        let ledger = addrauth::store::Ledger::open(&self.home.path().join("state"), opening).await.unwrap();
        ledger.release(id, Some(recipient), None, SystemTime::now()).await.unwrap();
        ledger.close().await;
    }

    async fn turn(&self, at: SystemTime) -> Turn {
        self.filter.custody().unwrap().outbox().turn(at).await.unwrap()
    }

    async fn held(&self) -> usize {
        self.filter.custody().unwrap().held(None).await.unwrap().len()
    }

    /// The message that the mailbox took, coming to the filter as its MTA brings it.
    async fn brought(&self, taken: &Taken) -> Case {
        let path = |text: &str| text.trim_start_matches('<').trim_end_matches('>').to_owned();
        let mail = mail(&taken.text, &[&path(&taken.to[0])]).altered(|envelope, head| {
            head.keys.clear();
            envelope.reverse_path = match path(&taken.from).as_str() {
                "" => ReversePath::Null,
                text => ReversePath::Path(Address::parse(text.as_bytes(), false).ok()),
            };
        });
        self.filter.examine(mail).await
    }
}

fn holds(dir: &Path, needle: &str) -> bool {
    std::fs::read_dir(dir).unwrap().any(|file| {
        let octets = std::fs::read(file.unwrap().path()).unwrap();
        octets.windows(needle.len()).any(|window| window == needle.as_bytes())
    })
}

fn is_deferred(case: &Case) -> bool {
    matches!(&case.reply.verdict, Verdict::Defer(Refusal { code: 451, status: "4.3.0", .. }))
        && case.reply.owed.is_empty()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_released_message_passes_the_filter_as_its_own_and_arrives_as_it_was_sent_less_the_key() {
    let ids = "Message-ID: <1@example.com>\r\nMessage-ID: <2@example.com>\r\n";
    for header in [HEADER, "From: Alice <alice@example.com>\r\n", &format!("{HEADER}{ids}")] {
        let stage = stage(|_| {}).await;
        let case = stage.keep(mail(header, &[BOB, CAROL])).await;
        assert_eq!(case.reply.verdict, Verdict::Discard);
        let journal = stage.filter.custody().unwrap().journal(1).await.unwrap();
        assert!(journal[0].entry.note.contains("kept in quarantine as 1"), "{journal:?}");
        assert_eq!(stage.held().await, 1, "one message for both");
        assert_eq!(stage.turn(SystemTime::now()).await, Turn::Idle, "it waits for somebody's word");
        stage.release(1, BOB).await;
        assert_eq!(stage.turn(SystemTime::now()).await, Turn::HandedOn);
        assert_eq!(stage.turn(SystemTime::now()).await, Turn::Idle);
        let [taken] = &stage.mailbox.taken()[..] else { panic!("one message") };
        assert_eq!((taken.from.as_str(), &taken.to[..]), ("<bounces+1@example.com>", &[format!("<{BOB}>")][..]));

        let own = stage.brought(taken).await;
        assert_eq!(own.finding, Finding::Passing(Direction::Own), "{header}");
        assert_eq!(own.reply.edits, [Edit::Delete { name: MARK_FIELD.into(), index: 1 }]);
        let delivered = strip(taken.text.as_bytes(), &[MARK_FIELD], BOUNDS).unwrap();
        assert_eq!(String::from_utf8(delivered).unwrap(), format!("{STATUS}{header}\r\n{BODY}"));

        // The mark lets nobody else's mail pass.
        let stolen = Taken { to: vec![format!("<{CAROL}>")], ..taken.clone() };
        assert!(matches!(stage.brought(&stolen).await.finding, Finding::Found(_)));
        let stolen = Taken { from: "<>".into(), ..taken.clone() };
        assert!(matches!(stage.brought(&stolen).await.finding, Finding::Found(_)));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_id_that_the_mta_gave_to_mail_without_one_does_not_hide_the_mark() {
    let stage = stage(|_| {}).await;
    stage.keep(mail("From: Alice <alice@example.com>\r\n", &[BOB])).await;
    stage.release(1, BOB).await;
    assert_eq!(stage.turn(SystemTime::now()).await, Turn::HandedOn);
    let mut taken = stage.mailbox.taken().remove(0);
    taken.text.insert_str(0, "Message-ID: <20261121@mx.home.example>\r\n");
    assert_eq!(stage.brought(&taken).await.finding, Finding::Passing(Direction::Own));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a13_no_key_is_kept_or_shown() {
    let stage = stage(|_| {}).await;
    stage.keep(mail(HEADER, &[BOB])).await;
    let state = stage.home.path().join("state");
    assert!(holds(&state, "..two dots"), "the search finds what is there");
    assert!(!holds(&state, JUNK));
    for words in ["show 1", "show 1 --raw", "show 1 --json", "list", "list --json"] {
        let (code, out, err) = stage.run(words);
        assert_eq!(code, Some(0), "{words}: {err}");
        assert!(out.contains("alice@example.com") && !out.contains(JUNK), "{words}: {out}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_not_whole_or_finds_no_room_is_deferred() {
    let open = stage(|_| {}).await;
    let case = open.filter.examine(mail(HEADER, &[BOB])).await;
    assert!(case.reply.wants_body());
    let cut = case.mail.clone().altered(|_, head| head.truncated = true);
    assert!(is_deferred(&open.filter.keep(Case { mail: cut, ..case.clone() }, Some(Body::default())).await));
    assert!(is_deferred(&open.filter.keep(case, None).await), "no body");
    assert_eq!(open.held().await, 0);
    assert!(open.filter.custody().unwrap().journal(9).await.unwrap().is_empty());

    let full = stage(|config| config.custody.quarantine_mib = 0).await;
    assert!(is_deferred(&full.keep(mail(HEADER, &[BOB])).await));
    assert_eq!(full.held().await, 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_survives_a_crash_and_repeats_with_the_same_message_id() {
    let stage = stage(|_| {}).await;
    let mut case = stage.filter.examine(mail(HEADER, &[BOB, CAROL])).await;
    case.reply.owed = vec![Owed::Record, Owed::Copy(vec![1])];
    (case.reply.verdict, case.reply.removed) = (Verdict::Accept, vec![1]);
    let kept = stage.filter.keep(case, Some(Body(BODY.into()))).await;
    assert_eq!((kept.reply.verdict, kept.reply.removed), (Verdict::Accept, vec![1]), "the reply stays as it was");
    // Whatever was in memory is gone; what was committed is not.
    stage.filter.custody().unwrap().close().await;
    let mut config = stage.filter.config().clone();
    config.custody.journal_rows += 1;
    let again = stage.filter.reload(config).await.unwrap();
    let outbox = again.custody().unwrap().outbox();
    let now = SystemTime::now();
    stage.mailbox.refuse(Some("451 4.3.0 later"));
    assert!(matches!(outbox.turn(now).await.unwrap(), Turn::Postponed(_)));
    stage.mailbox.refuse(None);
    assert_eq!(outbox.turn(now + Duration::from_secs(61)).await.unwrap(), Turn::HandedOn);
    let taken = stage.mailbox.taken();
    assert_eq!(taken.len(), 2);
    for one in &taken {
        assert_eq!(one.to, [format!("<{CAROL}>")]);
        assert_eq!(one.field("Message-ID").as_deref(), Some("<1@example.com>"));
        assert!(one.text.contains("\r\nX-Spam-Flag: YES\r\n") && one.text.ends_with(BODY), "{}", one.text);
        assert_eq!(stage_finding(&again, &stage, one).await, Finding::Passing(Direction::Own));
    }
    assert!(again.custody().unwrap().held(None).await.unwrap().is_empty());
}

/// What another filter over the same state says of a message that was taken.
async fn stage_finding(filter: &Filter, stage: &Stage, taken: &Taken) -> Finding {
    filter.examine(stage.brought(taken).await.mail).await.finding
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_mta_refuses_for_good_is_kept_again() {
    let stage = stage(|_| {}).await;
    stage.keep(mail(HEADER, &[BOB])).await;
    stage.release(1, BOB).await;
    assert_eq!(stage.held().await, 0);
    stage.mailbox.refuse(Some("550 5.1.1 nobody here"));
    assert!(matches!(stage.turn(SystemTime::now()).await, Turn::GivenUp(_)));
    let (code, rows) = stage.listed("");
    assert_eq!(code, Some(0));
    let note = rows[0]["recipients"][0]["note"].as_str().unwrap();
    assert!(note.contains("nobody here"), "{rows:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_over_goes_by_itself_and_the_journal_says_so() {
    let stage = stage(|config| config.custody.quarantine_kept = Duration::ZERO).await;
    stage.keep(mail(HEADER, &[BOB])).await;
    assert_eq!(stage.held().await, 1);
    let custody = stage.filter.custody().unwrap();
    let shutdown = tokio_util::sync::CancellationToken::new();
    let (worker, stop) = (Arc::clone(custody), shutdown.clone());
    let task = tokio::spawn(async move { worker.run(stop).await });
    for _ in 0..200 {
        if stage.held().await == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    shutdown.cancel();
    task.await.unwrap();
    assert_eq!(stage.held().await, 0);
    let note = custody.journal(1).await.unwrap().remove(0).entry.note;
    assert!(note.contains(&format!("expired in quarantine, not released to {BOB}")), "{note}");
    assert!(stage.mailbox.taken().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_running_filter_sends_what_the_verb_releases() {
    let stage = stage(|config| {
        config.milter.listen = vec![addrauth::config::Listen::Inet(claim_place())];
    })
    .await;
    for _ in 0..3 {
        stage.keep(mail(HEADER, &[BOB, CAROL])).await;
    }
    let config = stage.home.path().join("addrauth.toml");
    let daemon = Daemon::start("filter", &config);
    let (code, released) = stage.json(&format!("release 1 --for {BOB} --allow"));
    assert_eq!((code, &released["allowed"]), (Some(0), &true.into()), "{released}\n{}", daemon.log());
    assert_eq!(released["allowing_helps"], false, "the AS said that the key is wrong");
    assert_eq!(released["recipients"][0]["recipient"], BOB);
    assert_eq!(released["recipients"][0]["state"], "delivered");
    let taken = stage.mailbox.taken();
    assert_eq!((taken.len(), &taken[0].to[..]), (1, &[format!("<{BOB}>")][..]));
    let (code, _, err) = stage.run(&format!("release 1 --for {BOB}"));
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("released already"), "{err}");

    stage.mailbox.refuse(Some("554 5.7.1 not that"));
    let (code, out, _) = stage.run("release 2");
    assert_eq!(code, Some(1), "{out}");
    assert!(out.contains("kept again") && out.contains("not that"), "{out}");
    stage.mailbox.refuse(None);
    let (code, out, _) = stage.run("release 2");
    assert_eq!(code, Some(0), "{out}");
    assert_eq!(out.matches(": delivered").count(), 2, "{out}");
    assert!(!daemon.log().contains(JUNK));
    drop(daemon);
    let left = stage.filter.custody().unwrap().held(None).await.unwrap();
    assert_eq!(left.iter().map(|held| held.id).collect::<Vec<_>>(), [3, 1], "carol waits for the first");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_running_filter_a_release_waits_and_says_so() {
    let stage = stage(|_| {}).await;
    stage.keep(mail(HEADER, &[BOB])).await;
    let (code, out, err) = stage.run("release 4F1 --allow");
    assert_eq!(code, Some(2), "{err}");
    assert!(out.contains("waiting") && out.contains("addrauth filter"), "{out}");
    let said = "alice@example.com is on bob@home.example's list now; that does not help while the sender's domain says";
    assert!(out.contains(said), "{out}");
    assert_eq!(stage.turn(SystemTime::now()).await, Turn::HandedOn, "it goes out when there is one");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_released_and_not_taken_yet_is_listed_and_can_be_deleted() {
    let stage = stage(|_| {}).await;
    stage.keep(mail(HEADER, &[BOB])).await;
    stage.release(1, BOB).await;
    stage.mailbox.refuse(Some("451 4.7.1 greylisted"));
    assert!(matches!(stage.turn(SystemTime::now()).await, Turn::Postponed(_)));
    let (code, out, _) = stage.run("list");
    assert_eq!(code, Some(0), "{out}");
    assert!(out.contains("To: bob@home.example (being delivered: 1 try, next at 20"), "{out}");
    assert!(out.contains("greylisted)") && out.ends_with("\n1 message, 1 KiB of 2048 MiB\n"), "{out}");
    let (_, rows) = stage.listed("");
    assert_eq!(rows[0]["recipients"][0]["under_way"]["tries"], 1);
    assert_eq!(stage.run("delete 1").0, Some(0));
    stage.mailbox.refuse(None);
    assert_eq!(stage.turn(SystemTime::now() + Duration::from_secs(86_400)).await, Turn::Idle);
    assert_eq!(stage.mailbox.taken().len(), 1, "only the try that was refused");
    assert_eq!(stage.run("list").0, Some(1));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_verbs_tell_what_they_did_by_words_and_exit_codes() {
    let stage = stage(|_| {}).await;
    let (code, out, err) = stage.run("list");
    assert_eq!((code, out.as_str(), err.as_str()), (Some(1), "", "no message is kept back\n"));
    stage.keep(mail(HEADER, &[BOB])).await;
    stage.keep(mail(&format!("{HEADER}X-Odd: a\u{1b}[2Jb\r\n"), &["carol+x@home.example"])).await;

    let (code, rows) = stage.listed(&format!("--recipient {CAROL}"));
    assert_eq!((code, rows.len()), (Some(0), 1));
    let row = &rows[0];
    assert_eq!(
        (&row["id"], &row["from"], &row["subject"]),
        (&2.into(), &"alice@example.com".into(), &"two lines".into())
    );
    assert_eq!((&row["reverse_path"], &row["queue_id"]), (&"bounces+1@example.com".into(), &"4F1".into()));
    assert_eq!(row["recipients"][0]["recipient"], "carol+x@home.example");
    assert!(row["reason"].as_str().unwrap().starts_with("quarantine: invalid (wrong)"), "{row}");
    assert_eq!(stage.listed("--recipient eve@home.example").0, Some(1));

    for (words, code) in [
        ("list --sender Alice+x@example.com --since 1h", 0),
        ("list --sender @example.com", 0),
        ("list --sender @sub.example.com", 1),
        ("list --sender nonsense", 2),
        ("list --recipient nonsense", 2),
        ("release 1 --for nonsense", 2),
        ("show 4F1", 2),
        ("show 4F2", 1),
    ] {
        let (found, out, err) = stage.run(words);
        assert_eq!(found, Some(code), "{words}: {out}{err}");
    }
    assert!(stage.run("show 4F1").2.contains("several messages have the queue id \"4F1\": 1, 2"));
    let (_, out, _) = stage.run(&format!("list --recipient {BOB}"));
    assert!(out.contains("octets  queue id 4F1\n") && out.contains("\n1 of 2 messages, 1 KiB of "), "{out}");

    let (code, out, _) = stage.run("show 2");
    assert_eq!(code, Some(0));
    assert!(out.contains("X-Odd: a\\u001b[2Jb") && out.contains("\n  ..two dots\n"), "{out}");
    let (code, out, _) = stage.run("show 1 --raw");
    assert_eq!((code, out), (Some(0), format!("{STATUS}{HEADER}\r\n{BODY}")));

    for words in ["show 7", "release 7", "delete 7"] {
        let (code, _, err) = stage.run(words);
        let want = "addrauth: there is no message 7 in quarantine; `addrauth quarantine list` shows them\n";
        assert_eq!((code, err.as_str()), (Some(1), want), "{words}");
    }
    let (code, _, err) = stage.run(&format!("delete 1 --for {CAROL}"));
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("not kept for carol@home.example"), "{err}");
    assert_eq!(stage.json("delete 1"), (Some(0), serde_json::json!({ "id": 1, "deleted": [BOB] })));
    assert_eq!(stage.run("show 1").0, Some(1));
    let (code, out, err) = stage.run("delete 1 2");
    assert_eq!((code, out.as_str()), (Some(1), "2: deleted for carol+x@home.example\n"), "one keeps no other: {err}");

    let nowhere = tempfile::tempdir().unwrap();
    let config = nowhere.path().join("addrauth.toml");
    std::fs::write(&config, format!("state_dir = {:?}\n", nowhere.path().join("state"))).unwrap();
    let out = Command::new(binary()).args(["quarantine", "list", "--config"]).arg(config).output().unwrap();
    assert_eq!(out.status.code(), Some(2));
    assert!(String::from_utf8(out.stderr).unwrap().contains("Has it run"));
    assert!(!nowhere.path().join("state").exists(), "looking makes nothing");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_verb_prints_what_steers_a_terminal_or_is_not_seen_and_its_json_keeps_the_value() {
    let stage = stage(|_| {}).await;
    let odd = "a\u{9b}2Jb\u{202e}c\u{61c}d\u{200b}e\u{e0041}f\u{1b}[2Jg\u{7f}h\u{2028}i";
    let message = mail(&format!("{HEADER}X-Odd: {odd}\r\n"), &[BOB]).altered(|envelope, _| {
        envelope.client.helo = odd.into();
        envelope.client.name = Some(odd.into());
        envelope.login = None;
    });
    stage.keep(message).await;
    let config = stage.home.path().join("addrauth.toml");
    let mut told = 0;
    for verb in ["quarantine list", "quarantine show 1", "journal list", "journal show 1", "why 1", "journal summary"] {
        for json in [false, true] {
            let mut command = Command::new(binary());
            command.args(verb.split(' ')).arg("--config").arg(&config);
            command.args(json.then_some("--json"));
            let printed = command.output().unwrap();
            assert_eq!(printed.status.code(), Some(0), "{verb}: {}", String::from_utf8_lossy(&printed.stderr));
            for octets in [printed.stdout.clone(), printed.stderr] {
                let text = String::from_utf8(octets).unwrap();
                let hidden = |c: char| c != '\n' && c != '\t' && addrauth::proto::text::is_hidden(c);
                assert!(!text.contains(hidden), "{verb} json {json}: {text:?}");
            }
            let text = String::from_utf8(printed.stdout).unwrap();
            if json {
                let values = serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>();
                let values: Vec<serde_json::Value> = values.map(Result::unwrap).collect();
                // `to_string` prints them as they are.
                told += usize::from(values.iter().any(|value| value.to_string().contains("\u{202e}c\u{61c}d")));
            } else {
                told += usize::from(text.contains("a\\u009b2Jb\\u202ec\\u061cd\\u200be\\udb40\\udc41f"));
            }
        }
    }
    assert!(told >= 4, "what a stranger wrote is among it: {told}");
}
