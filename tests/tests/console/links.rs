//! Links that are mailed: what lets a user in, and what acts on a message in quarantine.

use super::bed::{Bed, assert_harmless};

/// The links of a mail, in their order.
fn links(text: &str) -> Vec<String> {
    let whole = text.replace("=\r\n", "").replace("=3D", "=");
    let places = whole.split("/l/").skip(1);
    places
        .map(|rest| format!("/l/{}", rest.split(|c: char| !(c.is_alphanumeric() || "-_".contains(c))).next().unwrap()))
        .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_lets_its_mailbox_in_once_by_a_button_and_nobody_learns_who_exists() {
    let bed = Bed::start("").await;
    let mut asks = bed.nobody();
    let asked = asks.post("/login", "/login/link", &[("address", "Carol+tag@home.example")]).await;
    assert_eq!((asked.status, asked.field("location")), (303, "/login?done=mailed"));
    for other in ["nobody@elsewhere.example", "no address"] {
        let answer = asks.post("/login", "/login/link", &[("address", other)]).await;
        assert_eq!((answer.status, answer.field("location")), (303, "/login?done=mailed"), "{other}");
    }
    let mail = bed.arrived("carol@home.example", "/l/").await;
    assert_eq!(mail.from, "<>");
    let link = links(&mail.text).remove(0);
    // Programs that follow links press no button.
    let mut carol = bed.nobody();
    for _ in 0..3 {
        let page = carol.get(&link).await;
        assert!(page.status == 200 && page.text().contains("carol@home.example"), "{}", page.text());
        assert_harmless("link", &page);
        assert_eq!(carol.get("/me").await.field("location"), "/login?next=%2Fme");
    }
    assert_eq!(carol.send(&link, &[], &[]).await.status, 403, "without the token of the page");
    let entered = carol.post(&link, &link, &[]).await;
    assert_eq!((entered.status, entered.field("location")), (303, "/me"));
    let cookie = entered.field("set-cookie");
    assert!(cookie.contains("HttpOnly") && cookie.contains("SameSite=Strict"), "{cookie}");
    assert_eq!(carol.get("/me").await.status, 200);
    assert_eq!(carol.get("/overview").await.status, 403);
    // A second time it is nothing.
    let mut late = bed.nobody();
    assert_eq!(late.get(&link).await.status, 404);
    assert_eq!(late.post("/login", &link, &[]).await.status, 404);
    assert_eq!(carol.post("/me", "/logout", &[]).await.status, 303);
    assert_eq!(carol.get("/me").await.status, 303);
}

#[tokio::test(flavor = "multi_thread")]
async fn guessed_links_are_nothing_and_asking_for_many_is_bounded() {
    let bed = Bed::start("").await;
    let mut eve = bed.nobody();
    let token = super::bed::token(&eve.get("/login").await.text());
    let mut statuses = Vec::new();
    for n in 0..40_u32 {
        let guess = format!("/l/{n:A>43}");
        statuses.push(eve.send(&guess, &[("token", &token)], &[]).await.status);
        assert_eq!(eve.get(&guess).await.status, 404);
    }
    assert_eq!(statuses, [404; 40]);
    let mut asked = Vec::new();
    for _ in 0..20 {
        asked.push(eve.send("/login/link", &[("token", &token), ("address", "bob@home.example")], &[]).await.status);
    }
    assert_eq!(asked.iter().filter(|status| **status == 303).count(), 5, "{asked:?}");
    bed.arrived("bob@home.example", "/l/").await;
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    let mails = bed.inbox.taken().len();
    assert!((1..=4).contains(&mails), "an hour's worth for one mailbox: {mails}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_digest_names_what_is_kept_back_and_its_links_act_for_its_reader_alone() {
    let bed = Bed::start("digest = \"1s\"").await;
    let to = ["bob@home.example", "carol@home.example"];
    let (_, held) = bed.kept("DIGEST1", "alice@sender.example", &to, "Prize http://evil.example/").await;
    let bobs = bed.arrived("bob@home.example", "kept back").await;
    let carols = bed.arrived("carol@home.example", "kept back").await;
    assert!(
        bobs.text.contains("alice [at] sender [dot] example") && !bobs.text.contains("http://evil"),
        "{}",
        bobs.text
    );
    assert!(!bobs.text.contains("carol"), "{}", bobs.text);
    let (bobs, carols) = (links(&bobs.text), links(&carols.text));
    assert_eq!((bobs.len(), carols.len()), (4, 4), "release, want, delete, enter");
    let mut reader = bed.nobody();
    for link in &bobs {
        assert_eq!(reader.get(link).await.status, 200);
    }
    assert_eq!(bed.waits(held).await.len(), 2, "to look does nothing");
    let want = reader.post(&bobs[1], &bobs[1], &[]).await;
    assert!(want.status == 200 && want.text().contains("on its way"), "{}", want.text());
    assert_eq!(bed.waits(held).await, ["carol@home.example"]);
    assert_eq!(bed.wanted("bob@home.example").await, ["alice@sender.example"]);
    assert!(bed.wanted("carol@home.example").await.is_empty());
    bed.arrived("bob@home.example", "Subject: Prize").await;
    assert_eq!(reader.post("/login", &bobs[1], &[]).await.status, 404, "replayed");
    // What is done already is said, and does nothing.
    assert_ne!(reader.post(&bobs[2], &bobs[2], &[]).await.status, 200, "nothing is left to delete for bob");
    let delete = reader.post(&carols[2], &carols[2], &[]).await;
    assert_eq!(delete.status, 200);
    assert!(bed.waits(held).await.is_empty());
    // Nothing new is kept back: no second mail.
    tokio::time::sleep(std::time::Duration::from_secs(4)).await;
    let digests = bed.inbox.taken().into_iter().filter(|taken| taken.text.contains("kept back")).count();
    assert_eq!(digests, 2);
    let acts = bed.register().await.acts(None, 10).await.unwrap();
    let told: Vec<(&str, &str)> = acts.iter().map(|row| (row.act.who.as_str(), row.act.act.as_str())).collect();
    assert_eq!(told, [("carol@home.example", "delete"), ("bob@home.example", "want")]);
}
