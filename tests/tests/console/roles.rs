//! Each page × each role × whose mail it is.

use addrauth::store::Role;
use addrauth_console::table::{May, Page, TABLE, Way};

use super::bed::{Bed, Browser, HOSTILE, PASSWORD, assert_harmless};

/// A row's path with what is asked for in its open parts.
fn filled(path: &str, message: i64, held: i64, address: &str) -> String {
    let id = if path.starts_with("/quarantine") { held } else { message };
    path.replace("{id}", if path.starts_with("/policies") { "mark" } else { "{id}" })
        .replace("{id}", &id.to_string())
        .replace("{address}", address)
        .replace("{domain}", address.split('@').next_back().unwrap())
        .replace("{file}", "console.css")
        .replace("{token}", &"A".repeat(43))
}

/// Somebody of each role, and nobody.
async fn everybody(bed: &Bed) -> Vec<(Option<Role>, Browser)> {
    let mut all = vec![(None, bed.nobody())];
    for (role, name) in [(Role::Admin, "ann"), (Role::Domain, "kay"), (Role::Reader, "rea"), (Role::User, "bob")] {
        all.push((Some(role), bed.signed_in(name).await));
    }
    all
}

#[tokio::test(flavor = "multi_thread")]
async fn each_page_answers_the_roles_of_its_row_and_no_other() {
    let bed = Bed::start("").await;
    let to = ["bob@home.example", "dave@other.example"];
    let (message, held) = bed.kept("ROLES1", "alice@sender.example", &to, HOSTILE[2]).await;
    let mut asked = 0;
    for (role, mut browser) in everybody(&bed).await {
        let token = match role {
            Some(_) => browser.token().await,
            None => super::bed::token(&browser.get("/login").await.text()),
        };
        for row in TABLE {
            let address = if role == Some(Role::Domain) { "dave@other.example" } else { "bob@home.example" };
            let path = filled(row.path, message, held, address);
            // It ends the session, and the verbs of these ask servers of others; both have tests of their own.
            let slow = matches!(row.page, Page::Doctor | Page::TryMessage);
            if role.is_some() && row.may.includes(role) && (row.page == Page::Logout || slow) {
                continue;
            }
            let answer = match row.way {
                Way::Get => browser.get(&path).await,
                Way::Post => browser.send(&path, &[("token", &token)], &[]).await,
            };
            let (status, to) = (answer.status, answer.field("location").to_owned());
            let said = format!("{role:?} {:?} {path}: {status} {to}", row.way);
            match (row.may.includes(role), role, row.way) {
                (true, ..) => {
                    assert!(status != 403 && status < 500 && (status != 401 || row.page == Page::LoginTry), "{said}")
                }
                (false, None, Way::Get) => assert!(status == 303 && to.starts_with("/login?next="), "{said}"),
                (false, None, Way::Post) => assert_eq!(status, 401, "{said}"),
                (false, Some(_), _) => assert_eq!(status, 403, "{said}"),
            }
            assert_harmless(&said, &answer);
            asked += 1;
        }
    }
    assert!(asked > 4 * TABLE.len());
    assert_eq!(bed.waits(held).await.len(), 2, "nothing was done by an empty form");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_domain_is_shown_to_its_keeper_and_no_other_domain_is() {
    let bed = Bed::start("").await;
    for (name, seen) in [
        ("ann", ["home.example", "other.example"].as_slice()),
        ("rea", &["home.example", "other.example"]),
        ("kay", &["other.example"]),
    ] {
        let mut browser = bed.signed_in(name).await;
        let list = browser.get("/keys").await.text();
        for domain in ["home.example", "other.example", "elsewhere.example"] {
            let answer = browser.get(&format!("/keys/{domain}")).await;
            let may = seen.contains(&domain);
            assert_eq!(answer.status, if may { 200 } else { 404 }, "{name} {domain}");
            assert_eq!(list.contains(&format!("href=\"/keys/{domain}\"")), may, "{name} {domain}: {list}");
            if may {
                let text = answer.text();
                for told in ["How far it takes part", "Next is step 1", "addrauth record", "keyring.learn", "m=all"] {
                    assert!(text.contains(told), "{told}: {text}");
                }
            }
        }
    }
}

#[test]
fn whoever_is_not_signed_in_sees_the_way_in_alone() {
    let open: Vec<Page> = TABLE.iter().filter(|row| row.may == May::Anyone).map(|row| row.page).collect();
    assert_eq!(open, [Page::Asset, Page::Login, Page::LoginTry, Page::LinkAsk, Page::LinkShow, Page::LinkUse]);
    let acts = TABLE
        .iter()
        .filter(|row| row.way == Way::Post && row.may != May::Anyone && row.may.includes(Some(Role::Reader)));
    assert_eq!(
        acts.map(|row| row.page).collect::<Vec<_>>(),
        [Page::Logout, Page::PolicyRules, Page::TryMessage],
        "a reader changes nothing"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn mail_of_others_is_not_there_whatever_is_asked() {
    let bed = Bed::start("").await;
    // The one that is asked for is carol's; one goes to bob as well, one to a third domain's user alone.
    let (carols, carols_held) = bed.kept("CAROL1", "alice@sender.example", &["carol@home.example"], "for carol").await;
    let (shared, shared_held) =
        bed.kept("SHARED1", "alice@sender.example", &["bob@home.example", "carol@home.example"], "for both").await;
    for name in ["bob", "kay"] {
        let mut browser = bed.signed_in(name).await;
        let token = browser.token().await;
        let mut looked = 0;
        for row in TABLE.iter().filter(|row| row.path.contains("{id}") || row.path.contains("{address}")) {
            if row.path.starts_with("/policies") {
                continue;
            }
            let path = filled(row.path, carols, carols_held, "carol@home.example");
            let form = [
                ("token", token.as_str()),
                ("for", "carol@home.example"),
                ("add", "eve@evil.example"),
                ("none", "accept"),
            ];
            let answer = match row.way {
                Way::Get => browser.get(&path).await,
                Way::Post => browser.send(&path, &form, &[]).await,
            };
            let role = if name == "bob" { Role::User } else { Role::Domain };
            let wanted = if row.may.includes(Some(role)) { 404 } else { 403 };
            assert_eq!(answer.status, wanted, "{name} {path}");
            assert!(!answer.text().contains("for carol"), "{name} {path}");
            looked += 1;
        }
        assert!(looked >= 6);
        for wish in ["release", "want", "delete"] {
            let form = [("token", token.as_str()), ("wish", wish), ("id", &carols_held.to_string())];
            assert_eq!(browser.send("/quarantine", &form, &[]).await.status, 404, "{name} {wish}");
        }
        let form = [("token", token.as_str()), ("for", "carol@home.example")];
        let want = browser.send(&format!("/messages/{shared}/want"), &form, &[]).await;
        assert_eq!(want.status, 404, "{name}");
        let lists: &[&str] = if name == "bob" {
            &[
                "/me",
                "/me/messages",
                "/me/messages?recipient=carol%40home.example",
                "/me/messages?id=CAROL1",
                "/me/quarantine",
            ]
        } else {
            &[
                "/messages",
                "/messages?recipient=carol%40home.example",
                "/messages?id=CAROL1",
                "/quarantine",
                "/quarantine?recipient=carol%40home.example",
                "/users",
                "/keys",
                "/keys?address=carol%40home.example",
                "/keys/other.example",
                "/keys/home.example",
            ]
        };
        for path in lists {
            let text = browser.get(path).await.text();
            let shown = text.replace("value=\"carol@home.example\"", "").replace("Keys of carol@home.example", "");
            assert!(
                !shown.contains("carol") && !text.contains(&format!("/messages/{carols}\"")),
                "{name} {path}: {text}"
            );
        }
    }
    assert_eq!(bed.waits(carols_held).await, ["carol@home.example"]);
    assert!(bed.wanted("carol@home.example").await.is_empty());
    // Whoever keeps several domains finds the mail of each of them.
    let (daves, _) = bed.kept("DAVE1", "alice@sender.example", &["dave@other.example"], "for dave").await;
    for (name, domains, seen) in [
        ("kim", ["home.example", "other.example"], [true, true]),
        ("kit", ["other.example", "other.example"], [false, true]),
    ] {
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
            domains[0],
            "--for",
            domains[1],
        ];
        assert!(bed.verb(&words, &format!("{PASSWORD}\n")), "{name}");
        let mut keeper = bed.signed_in(name).await;
        for query in ["", "?sender=alice%40sender.example", "?result=none", "?policy=ours", "?since=1d"] {
            let text = keeper.get(&format!("/messages{query}")).await.text();
            let shown = [carols, daves].map(|row| text.contains(&format!("href=\"/messages/{row}\"")));
            assert_eq!(shown, seen, "{name} {query}: {text}");
        }
    }
    // Of a message to both, bob sees his own part, and does his own part.
    let mut bob = bed.signed_in("bob").await;
    for path in [format!("/messages/{shared}"), format!("/quarantine/{shared_held}"), "/me/messages?id=SHARED1".into()]
    {
        let answer = bob.get(&path).await;
        let text = answer.text();
        assert_eq!(answer.status, 200, "{path}");
        // The field To of the message itself is what the sender wrote to him.
        let shown = text.replace("To: bob@home.example, carol@home.example", "");
        assert!(text.contains("bob@home.example") && !shown.contains("carol"), "{path}: {text}");
    }
    let deleted =
        bob.post("/me/quarantine", "/quarantine", &[("wish", "delete"), ("id", &shared_held.to_string())]).await;
    assert_eq!((deleted.status, deleted.field("location")), (303, "/me/quarantine?done=delete"));
    assert_eq!(bed.waits(shared_held).await, ["carol@home.example"]);
}
