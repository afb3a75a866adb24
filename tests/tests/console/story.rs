//! What bob does without root: he finds why a mail was kept back, lets its sender through, releases it, changes his choice, writes
//! a rule; the next message obeys.

use addrauth_lab::mta::Fate;

use super::bed::{Bed, HOSTILE, assert_harmless};

#[tokio::test(flavor = "multi_thread")]
async fn a_user_finds_out_lets_through_releases_chooses_and_writes_a_rule() {
    let bed = Bed::start("").await;
    let (row, held) = bed.kept("STORY1", "alice@sender.example", &["bob@home.example"], "A bill").await;
    let mut bob = bed.signed_in("bob").await;
    assert_eq!(bob.get("/").await.field("location"), "/me");
    let list = bob.get("/me/messages").await;
    assert!(list.text().contains(&format!("href=\"/messages/{row}\"")), "{}", list.text());
    let why = bob.get(&format!("/messages/{row}")).await;
    let text = why.text();
    for told in [
        "What was found",
        "What was decided",
        "The policy `ours` was asked",
        "In quarantine as number",
        "the same decision",
    ] {
        assert!(text.contains(told), "{told}: {text}");
    }
    assert!(!text.contains("Its settings"), "the administrator's texts are none of bob's: {text}");
    let preview = bob.get(&format!("/quarantine/{held}")).await;
    assert!(
        preview.text().contains("Hello bob@home.example") && !preview.text().contains("<p>Hello"),
        "{}",
        preview.text()
    );
    assert_harmless("preview", &preview);

    let wish = [("wish", "want"), ("id", &*held.to_string()), ("back", &*format!("/messages/{row}"))];
    let done = bob.post("/me", "/quarantine", &wish).await;
    assert_eq!((done.status, done.field("location")), (303, &*format!("/messages/{row}?done=want")));
    assert_eq!(bed.wanted("bob@home.example").await, ["alice@sender.example"]);
    let delivered = bed.arrived("bob@home.example", "Subject: A bill").await;
    assert!(delivered.text.contains("Hello bob@home.example"));
    let trail = bob.get(&format!("/messages/{row}")).await.text();
    assert!(trail.contains("What was done here") && trail.contains("<b>bob</b>"), "{trail}");
    assert_eq!(bed.mail("STORY2", "alice@sender.example", &["bob@home.example"], "Next").await.0, Fate::Delivered);

    // His choice, and one that is not open.
    let refused = bob.post("/me", "/me/choices", &[("none", "reject-silently")]).await;
    assert_eq!(refused.status, 422);
    assert!(refused.text().contains("cannot be chosen for none"), "{}", refused.text());
    let kept = bob.post("/me", "/me/choices", &[("none", "accept"), ("invalid", "quarantine")]).await;
    assert_eq!((kept.status, kept.field("location")), (303, "/me?done=choices"));
    assert_eq!(bed.mail("STORY3", "carl@third.example", &["bob@home.example"], "x").await.0, Fate::Delivered);
    assert_eq!(bed.mail("STORY4", "carl@third.example", &["carol@home.example"], "x").await.0, Fate::Discarded);
    bob.post("/me", "/me/choices", &[("none", ""), ("invalid", "")]).await;

    // His rule, with an error in place first.
    let bad = format!("when sender is @third.example: accept\nwhen nonsense {}", HOSTILE[0]);
    let shown = bob.post("/me", "/me/rules", &[("rules", &bad)]).await;
    assert_eq!(shown.status, 422);
    assert!(shown.text().contains("when nonsense &lt;script&gt;"), "what he wrote stays: {}", shown.text());
    assert_harmless("rules", &shown);
    let token = bob.token().await;
    let part = bob.send("/rules/check", &[("token", &token), ("rules", "nonsense")], &[]).await;
    assert!(part.status == 200 && part.text().starts_with("<p class=\"notice bad\">"), "{}", part.text());
    let good = "when sender is @third.example: accept\r\notherwise quarantine";
    let taken = bob.post("/me", "/me/rules", &[("rules", good)]).await;
    assert_eq!((taken.status, taken.field("location")), (303, "/me?done=rules"), "{}", taken.text());
    assert_eq!(bed.mail("STORY5", "carl@third.example", &["bob@home.example"], "x").await.0, Fate::Delivered);
    assert_eq!(bed.mail("STORY6", "eve@fourth.example", &["bob@home.example"], "x").await.0, Fate::Discarded);

    // All of it is on record, and the administrator alone reads the record.
    let acts = bed.signed_in("ann").await.get("/acts").await.text();
    for act in ["want", "choose", "rules", "sign in"] {
        assert!(acts.contains(act), "{act}: {acts}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_administrator_filters_pages_and_acts_for_users() {
    let bed = Bed::start("").await;
    for n in 0..60 {
        let (from, to) = (format!("s{}@sender{}.example", n % 7, n % 3), format!("u{}@home.example", n % 5));
        bed.mail(&format!("PAGE{n}"), &from, &[&to], "x").await;
    }
    let mut ann = bed.signed_in("ann").await;
    let mut rows = async |path: &str| {
        let text = ann.get(path).await.text();
        (text.matches("<a href=\"/messages/").count(), text)
    };
    for (query, count) in [
        ("", 50),
        ("?sender=%40sender1.example", 20),
        ("?domain=sender1.example", 20),
        ("?recipient=u2%40home.example", 12),
        ("?sender=%40sender1.example&recipient=u2%40home.example", 4),
        ("?result=none&decision=quarantine&since=1d", 50),
        ("?result=invalid", 0),
        ("?decision=accept", 0),
        ("?policy=ours&verdict=discard", 50),
        ("?policy=mark", 0),
        ("?id=PAGE17", 1),
        ("?id=PAGE99", 0),
        ("?since=2020-01-01", 50),
    ] {
        assert_eq!(rows(&format!("/messages{query}")).await.0, count, "{query}");
    }
    let (_, first) = rows("/messages").await;
    let older = first.split("rel=\"next\" href=\"").nth(1).unwrap().split('"').next().unwrap().replace("&amp;", "&");
    let (count, second) = rows(&format!("/messages{older}")).await;
    assert_eq!(count, 10, "{older}");
    assert!(!second.contains("rel=\"next\""));
    for bad in ["?sender=nobody", "?since=yesterday", "?result=nonsense", "?domain=%00"] {
        assert!(rows(&format!("/messages{bad}")).await.1.contains("notice bad"), "{bad}");
    }
    let overview = ann.get("/overview").await.text();
    assert!(overview.contains("<b>60</b> messages were judged") && !overview.contains("sender1.example"), "{overview}");
    // Several at once, and in a user's place.
    let list = ann.get("/quarantine").await.text();
    let ids: Vec<&str> =
        list.split("name=\"id\" value=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).take(3).collect();
    let mut form: Vec<(&str, &str)> = ids.iter().map(|id| ("id", *id)).collect();
    form.push(("wish", "delete"));
    let done = ann.post("/quarantine", "/quarantine", &form).await;
    assert_eq!(done.field("location"), "/quarantine?done=delete");
    for id in ids {
        assert!(bed.waits(id.parse().unwrap()).await.is_empty());
    }
    let done =
        ann.post("/users/u2%40home.example", "/users/u2%40home.example/senders", &[("add", "@friend.example")]).await;
    assert_eq!(done.field("location"), "/users/u2%40home.example?done=wanted");
    assert_eq!(bed.wanted("u2@home.example").await, ["@friend.example"]);
    assert!(ann.get("/users").await.text().contains("u2@home.example"));
    assert_eq!(ann.get("/users/x%40elsewhere.example").await.status, 404);
    // What the program's verbs say.
    for (path, told) in [
        ("/policies", "ours"),
        ("/policies/mark", "All that it decides"),
        ("/try", "Try a message"),
        ("/keys", "home.example"),
        ("/keys/home.example", "How far it takes part"),
        ("/policies/ours/candidate", "nothing decides beside the policy"),
    ] {
        let answer = ann.get(path).await;
        assert!(answer.status == 200 && answer.text().contains(told), "{path}: {}", answer.text());
        assert_harmless(path, &answer);
    }
    // Rules are tried, with what is wrong in them told, and nothing changes by it.
    for (rules, told) in
        [("when nonsense", "line 1, column 6"), ("when result is missing: mark\r\notherwise accept", "missing")]
    {
        let tried = ann.post("/policies/ours", "/policies/ours", &[("rules", rules)]).await;
        assert!(tried.text().contains(told), "{rules}: {}", tried.text());
    }
    assert!(
        ann.get("/policies/ours").await.text().contains("otherwise quarantine &#39;")
            || ann.get("/policies/ours").await.text().contains("otherwise quarantine '")
    );
    let refused = ann.post("/policies/ours", "/policies/ours/place", &[("wish", "promote")]).await;
    assert!(refused.text().contains("Not done"), "there is no candidate: {}", refused.text());
    assert_eq!(ann.post("/policies/ours", "/policies/ours/place", &[("wish", "remove")]).await.status, 404);
    let message = format!("From: eve@evil.example\r\nTo: u1@home.example\r\nSubject: {}\r\n\r\nx\r\n", HOSTILE[2]);
    let tried = ann.post("/try", "/try", &[("message", &message), ("policy", "ours"), ("result", "none")]).await;
    assert!(tried.text().contains("decides   quarantine"), "{}", tried.text());
    assert_harmless("/try", &tried);
    // Beside other rules, from a file: what differs is marked.
    let form: [(&str, Option<&str>, &[u8]); 5] = [
        ("file", Some("\"><svg.eml"), message.as_bytes()),
        ("policy", None, b"ours"),
        ("result", None, b"none"),
        ("beside", None, b"rules"),
        ("rules", None, b"otherwise accept"),
    ];
    let both = ann.upload("/try", "/try", &form).await;
    let text = both.text();
    assert!(text.contains("What differs is marked") && text.contains("<mark>decides   accept</mark>"), "{text}");
    assert!(text.contains("<mark>decides   quarantine"), "{text}");
    assert_harmless("/try", &both);
    let same = ann
        .post(
            "/try",
            "/try",
            &[
                ("message", &message),
                ("policy", "mark"),
                ("result", "none"),
                ("beside", "rules"),
                ("rules", "otherwise nonsense"),
            ],
        )
        .await;
    assert!(same.status == 200 && same.text().contains("line 1"), "{}", same.text());
    let none = ann
        .post("/try", "/try", &[("message", &message), ("policy", "ours"), ("result", "none"), ("beside", "candidate")])
        .await;
    assert!(none.text().contains("names no candidate that can be loaded"), "{}", none.text());
    for (more, status) in [
        (vec![], 422),
        (vec![("message", "x"), ("to", "a\0@home.example")], 422),
        (vec![("message", "x"), ("beside", "rules"), ("rules", "otherwise \0accept")], 200),
        (vec![("message", "x"), ("beside", "rules"), ("rules", &*"when result is none: mark\n".repeat(5_000))], 413),
    ] {
        let form = [vec![("policy", "ours"), ("result", "none")], more].concat();
        assert_eq!(ann.post("/try", "/try", &form).await.status, status, "{:.200}", format!("{form:?}"));
    }
    assert_eq!(
        ann.post("/try", "/try", &[("message", "x"), ("policy", "ours"), ("beside", "--help")]).await.status,
        404
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reload_takes_another_configuration_and_a_bad_one_leaves_the_old_one() {
    let bed = Bed::start("").await;
    let mut bob = bed.signed_in("bob").await;
    let file = bed.own_file();
    let text = std::fs::read_to_string(&file).unwrap();
    let mut rules = async |wanted: bool| {
        let begin = std::time::Instant::now();
        while bob.get("/me").await.text().contains("id=\"rules\"") != wanted {
            assert!(begin.elapsed() < super::bed::PATIENCE);
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    rules(true).await;
    std::fs::write(&file, text.replace("user_rules = true", "user_rules = false")).unwrap();
    bed.console.signal("HUP");
    rules(false).await;
    std::fs::write(&file, "nonsense").unwrap();
    bed.console.signal("HUP");
    let begin = std::time::Instant::now();
    while !bed.console.log().contains("not reloaded, the old configuration stays in force") {
        assert!(begin.elapsed() < super::bed::PATIENCE, "{}", bed.console.log());
    }
    rules(false).await;
    std::fs::write(&file, &text).unwrap();
    bed.console.signal("HUP");
    rules(true).await;
}
