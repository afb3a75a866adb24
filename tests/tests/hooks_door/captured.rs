//! Requests as real mail servers sent them (tests/fixtures/hooks).

use addrauth::case::{Mail, ReversePath};
use addrauth::config::Limits;
use addrauth_tests::hooks::{Door, open};
use addrauth_tests::http::{Answer, request};
use addrauth_tests::milter::Fake;
use serde_json::{Value, json};

/// The body of a captured request.
pub fn captured(name: &str) -> Value {
    let text = std::fs::read_to_string(format!("fixtures/hooks/{name}.json")).unwrap();
    let whole: Value = serde_json::from_str(&text).unwrap();
    whole.get("body").cloned().unwrap_or(whole)
}

pub fn fields() -> [(&'static str, &'static str); 2] {
    [("content-type", "application/json"), ("accept", "*/*")]
}

pub async fn ask(door: &Door<Fake>, body: &Value) -> Answer {
    request(door.place, "POST /stalwart", &fields(), body.to_string().as_bytes()).await
}

fn read(answer: &Answer) -> Value {
    assert_eq!((answer.status, answer.field("content-type")), (200, "application/json"), "{answer:?}");
    serde_json::from_slice(&answer.content).unwrap()
}

fn value(mail: &Mail, name: &str) -> String {
    let values: Vec<String> = mail.named(name).map(|f| String::from_utf8_lossy(&f.value).into_owned()).collect();
    values.join("|")
}

#[tokio::test]
async fn a_message_is_read_as_each_version_of_stalwart_shows_it() {
    for (name, mta, recipients) in [
        ("stalwart-0.9.4-data", "Stalwart Mail Server v0.9.4", 1),
        ("stalwart-0.15.5-data", "Stalwart v0.15.5", 2),
        ("stalwart-0.16.19-data", "Stalwart v0.16.19", 2),
    ] {
        let judge = Fake::named("one");
        let door = open(judge.clone(), Limits::default(), Default::default());
        let answer = read(&ask(&door, &captured(name)).await);
        assert_eq!(answer["action"], "accept", "{name}");
        let deleted = |index, spelt| json!({ "type": "deleteHeader", "index": index, "name": spelt });
        assert_eq!(
            answer["modifications"],
            json!([
                deleted(3, "X-AUTH-KEY"),
                deleted(2, "x-auth-key"),
                deleted(1, "X-Auth-Key"),
                { "type": "insertHeader", "index": 0, "name": "X-Judge", "value": "one" }
            ]),
            "{name}"
        );
        let mail = judge.kept.lock().unwrap().pop().unwrap();
        assert_eq!(mail.sender().unwrap().to_string(), "alice@send.test");
        assert_eq!((mail.mta.as_str(), mail.daemon.split(':').next()), (mta, Some("stalwart")), "{name}");
        assert_eq!((mail.recipients.len(), mail.head().keys.len(), mail.login.as_deref()), (recipients, 3, None));
        assert!(matches!(&mail.reverse_path, ReversePath::Path(Some(path)) if path.to_string() == "alice@send.test"));
        assert_eq!(mail.client.helo, "client.test");
        assert_eq!(mail.queue_id.as_deref(), Some("4be8277a363f000"));
        assert!(mail.client.ip.is_some() && mail.size.is_some() && mail.client.name.is_none(), "{name}");
        // An octet of it is lost, and its Authentication-Results are a stranger's.
        assert!(!mail.means.exact && !mail.means.holds && !mail.means.results && !mail.means.folders, "{name}");
        assert_eq!(value(&mail, "Subject"), " hi");
        door.close().await;
    }
}

#[tokio::test]
async fn a_login_is_the_mta_s_and_what_comes_before_data_goes_on_at_once() {
    let judge = Fake::named("one");
    let door = open(judge.clone(), Limits::default(), Default::default());
    for stage in ["connect", "ehlo", "mail", "rcpt", "rcpt-second"] {
        let answer = ask(&door, &captured(&format!("stalwart-0.15.5-{stage}"))).await;
        assert_eq!(read(&answer), json!({ "action": "accept" }), "{stage}");
    }
    assert!(judge.kept.lock().unwrap().is_empty());
    read(&ask(&door, &captured("stalwart-0.15.5-data-login")).await);
    let mail = judge.kept.lock().unwrap().pop().unwrap();
    assert_eq!((mail.login.as_deref(), mail.daemon.as_str()), (Some("bob"), "stalwart:25"));
    door.close().await;
}

#[tokio::test]
async fn names_are_deleted_by_the_spelling_in_which_they_came() {
    let judge = Fake::named("one");
    let door = open(judge.clone(), Limits::default(), Default::default());
    let mut body = captured("stalwart-0.15.5-data");
    let names = ["X-Auth-Key ", "X-Auth-Key", "x-auth-key\t", "X-AUTH-KEY ", "X-Auth-Key"];
    let headers: Vec<Value> = names.iter().map(|name| json!([name, " a\r\n"])).collect();
    body["message"]["headers"] = json!(headers);
    let answer = read(&ask(&door, &body).await);
    let deleted: Vec<(u64, &str)> = answer["modifications"].as_array().unwrap()[..5]
        .iter()
        .map(|one| (one["index"].as_u64().unwrap(), one["name"].as_str().unwrap()))
        .collect();
    assert_eq!(
        deleted,
        [(2, "X-Auth-Key"), (2, "X-AUTH-KEY "), (1, "x-auth-key\t"), (1, "X-Auth-Key"), (1, "X-Auth-Key ")]
    );
    door.close().await;
}

#[tokio::test]
async fn recipients_are_told_apart_at_rcpt_and_a_login_s_are_not() {
    let door = open(Fake::splitting(), Limits::default(), Default::default());
    let mut second = captured("stalwart-0.15.5-rcpt-second");
    assert_eq!(read(&ask(&door, &second).await)["action"], "accept");
    second["envelope"]["to"][1]["address"] = json!("carol@elsewhere.test");
    let answer = read(&ask(&door, &second).await);
    assert_eq!(answer["response"]["status"], 452);
    assert_eq!(answer["response"]["enhanced_status"], "4.5.3");
    second["context"]["sasl"] = json!({ "login": "bob" });
    assert_eq!(read(&ask(&door, &second).await)["action"], "accept");
    door.close().await;
}
