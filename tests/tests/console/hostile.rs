//! Forms that are not ours, thousands of logins, slow clients, and what no page may hold.

use std::time::{Duration, Instant};

use addrauth::store::Role;
use addrauth_console::table::{May, TABLE, Way};
use addrauth_tests::http::request;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::bed::{Bed, HOSTILE, PASSWORD, PATIENCE, assert_harmless, encoded, token};

#[tokio::test(flavor = "multi_thread")]
async fn a_form_that_is_not_of_this_browser_does_nothing() {
    let bed = Bed::start("").await;
    let (message, held) = bed.kept("CSRF1", "alice@sender.example", &["bob@home.example"], "x").await;
    let (mut bob, mut ann) = (bed.signed_in("bob").await, bed.signed_in("ann").await);
    let (own, anns) = (bob.token().await, ann.token().await);
    let mut forms = 0;
    for row in TABLE.iter().filter(|row| row.way == Way::Post) {
        let path = row
            .path
            .replace("{id}", &message.to_string())
            .replace("{address}", "bob@home.example")
            .replace("{token}", &"A".repeat(43));
        let may = row.may == May::Anyone || row.may.includes(Some(Role::User));
        let browser = if may { &mut bob } else { &mut ann };
        let (own, others) = if may { (&own, &anns) } else { (&anns, &own) };
        let held = held.to_string();
        let form = [
            ("wish", "delete"),
            ("id", &*held),
            ("for", "bob@home.example"),
            ("add", "@x.example"),
            ("none", "accept"),
            ("rules", "otherwise accept"),
        ];
        for (token, site) in
            [("", ""), ("x", ""), (others.as_str(), ""), (own.as_str(), "cross-site"), (own.as_str(), "same-site")]
        {
            let fields: &[(&str, &str)] = if site.is_empty() { &[] } else { &[("sec-fetch-site", site)] };
            let form = [form.as_slice(), &[("token", token)]].concat();
            assert_eq!(browser.send(&path, &form, fields).await.status, 403, "{path} {token} {site}");
            forms += 1;
        }
    }
    assert!(forms >= 50);
    // A form with files is none without its token either.
    for (path, token) in [("/try", "x"), ("/policies/ours/candidate", own.as_str()), ("/policies/ours/candidate", "")] {
        let parts: [(&str, Option<&str>, &[u8]); 2] =
            [("token", None, token.as_bytes()), ("component", Some("x"), b"\0asm")];
        assert_eq!(ann.send_parts(path, &parts).await.status, 403, "{path}");
    }
    assert_eq!(
        ann.send_parts("/quarantine", &[("token", None, anns.as_bytes())]).await.status,
        403,
        "a page that takes no files"
    );
    assert!(bed.put_there().is_empty());
    assert_eq!(bed.waits(held).await, ["bob@home.example"]);
    assert!(bed.wanted("bob@home.example").await.is_empty());
    assert!(bed.ledger().await.users("", 10).await.unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_logins_are_few_looks_at_a_password() {
    let bed = Bed::start("").await;
    let mut eve = bed.nobody();
    let form = format!("token={}&name=ann&password=", encoded(&token(&eve.get("/login").await.text())));
    let (begin, cookie) = (Instant::now(), eve.cookie.clone());
    let count = if std::env::var_os("ADDRAUTH_LONG").is_some() { 10_000 } else { 2_000 };
    let mut looked = 0;
    for n in 0..count {
        let fields = [("cookie", cookie.as_str()), ("content-type", "application/x-www-form-urlencoded")];
        let answer = request(bed.place, "POST /login", &fields, format!("{form}{n}").as_bytes()).await;
        match answer.status {
            401 => looked += 1,
            429 => {}
            other => panic!("{other}: {}", answer.text()),
        }
    }
    let minutes = 1 + begin.elapsed().as_secs() / 60;
    assert!((5..=5 * minutes).contains(&looked), "{looked} in {minutes} minutes");
    println!("{count} logins in {:?}, {looked} passwords looked at", begin.elapsed());
    // The right one does not help meanwhile; after a minute it does.
    let mut late = false;
    while !late {
        let fields = [("cookie", cookie.as_str())];
        let answer =
            request(bed.place, "POST /login", &fields, format!("{form}{}", encoded(PASSWORD)).as_bytes()).await;
        late = answer.status == 303;
        assert!(late || answer.status == 429, "{}", answer.status);
        assert!(begin.elapsed() < 5 * PATIENCE);
        tokio::time::sleep(Duration::from_secs(1)).await;
    }
    assert!(begin.elapsed() >= Duration::from_secs(59));
    let log = bed.console.log();
    assert!(log.contains("a login failed") && !log.contains(PASSWORD), "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn slow_clients_are_ended_and_keep_nobody_waiting() {
    let bed = Bed::start("").await;
    let mut slow = Vec::new();
    for n in 0..150 {
        let mut stream = TcpStream::connect(bed.place).await.unwrap();
        let half = if n % 2 == 0 {
            "GET /login HTTP/1.1\r\nho"
        } else {
            "POST /login HTTP/1.1\r\nhost: x\r\ncontent-length: 500\r\n\r\ntok"
        };
        stream.write_all(half.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    assert_eq!(bed.nobody().get("/login").await.status, 200);
    // A form beyond its bound is not read to its end.
    let most = 300 * 1024;
    let mut big = bed.nobody();
    let large = big.post("/login", "/login", &[("name", &"x".repeat(most))]).await;
    assert_eq!(large.status, 413);
    let begin = Instant::now();
    for mut stream in slow {
        let mut heard = Vec::new();
        let ended = tokio::time::timeout(2 * PATIENCE, stream.read_to_end(&mut heard)).await;
        assert!(ended.is_ok(), "still open after {:?}", begin.elapsed());
    }
    assert_eq!(bed.nobody().get("/login").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_strangers_write_is_text_on_every_page() {
    let bed = Bed::start("").await;
    let mut rows = Vec::new();
    for (n, hostile) in HOSTILE.iter().enumerate() {
        let from = format!("\"{}\" <alice@sender.example>", hostile.replace('"', "'"));
        rows.push(bed.kept(&format!("XSS{n}"), &from, &["bob@home.example"], hostile).await);
    }
    for (name, lists) in
        [("ann", ["/messages", "/quarantine", "/overview"]), ("bob", ["/me/messages", "/me/quarantine", "/me"])]
    {
        let mut browser = bed.signed_in(name).await;
        let ids = rows.iter().flat_map(|(row, held)| [format!("/messages/{row}"), format!("/quarantine/{held}")]);
        let queries = HOSTILE
            .iter()
            .map(|hostile| format!("{}?sender={0}&done={0}&below={0}", lists[0]).replace("{0}", &encoded(hostile)));
        let lost = HOSTILE.iter().map(|hostile| format!("/{}", encoded(hostile)));
        for path in lists.iter().map(ToString::to_string).chain(ids).chain(queries).chain(lost) {
            let answer = browser.get(&path).await;
            assert!(matches!(answer.status, 200 | 404), "{name} {path}: {}", answer.status);
            assert_harmless(&path, &answer);
        }
        let shown = browser.get(&format!("/quarantine/{}", rows[0].1)).await.text();
        assert!(shown.contains("&lt;script&gt;alert(1)"), "it is shown, as text: {shown}");
    }
    // Where a login leads to is a page of ours.
    for next in ["//evil.example", "https://evil.example", "/\\evil.example", "javascript:alert(1)"] {
        let mut browser = bed.nobody();
        let answer = browser.post("/login", "/login", &[("name", "ann"), ("password", PASSWORD), ("next", next)]).await;
        assert_eq!((answer.status, answer.field("location")), (303, "/"), "{next}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_account_that_goes_ends_its_sessions() {
    let bed = Bed::start("").await;
    let mut rea = bed.signed_in("rea").await;
    assert_eq!(rea.get("/overview").await.status, 200);
    assert!(bed.verb(&["console", "user", "passwd", "rea", "--password-file", "-"], "another long password\n"));
    assert_eq!(rea.get("/overview").await.status, 303);
    let mut kay = bed.signed_in("kay").await;
    assert_eq!(kay.get("/messages").await.status, 200);
    assert!(bed.verb(&["console", "user", "remove", "kay"], ""));
    assert_eq!(kay.get("/messages").await.status, 303);
    for (words, input) in [
        (vec!["add", "x", "--role", "admin", "--password-file", "-"], "short\n"),
        (vec!["add", "ann", "--role", "admin", "--password-file", "-"], "correct horse battery staple\n"),
        (vec!["add", "x", "--role", "domain", "--password-file", "-"], "correct horse battery staple\n"),
        (
            vec!["add", "x", "--role", "user", "--for", "x@elsewhere.example", "--password-file", "-"],
            "correct horse battery staple\n",
        ),
        (vec!["add", "a b", "--role", "admin", "--password-file", "-"], "correct horse battery staple\n"),
        (vec!["remove", "nobody"], ""),
    ] {
        assert!(!bed.verb(&[&["console", "user"], words.as_slice()].concat(), input), "{words:?}");
    }
}
