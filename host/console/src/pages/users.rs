//! Users who chose something, for administrators.

use addrauth::proto::address::Address;
use maud::html;

use super::page as whole;
use super::parts::plain;
use crate::answer::Answer;
use crate::fault::Fault;
use crate::form::{query, segment};
use crate::visit::Visit;

/// The page.
pub(super) async fn page(visit: &Visit) -> Result<Answer, Fault> {
    if let Some(asked) = visit.query.some("address") {
        let address = Address::parse(asked.as_bytes(), true);
        let address = address.map_err(|_| Fault::Refused(format!("{asked:?} is no address: write bob@example.com")))?;
        return Ok(Answer::To(format!("/users/{}", segment(address.mailbox().as_str()))));
    }
    let (scope, rows) = (&visit.who()?.scope, visit.desk.limits.console.rows);
    let (mut shown, mut after) = (Vec::new(), visit.query.text("after").to_owned());
    let mut more = false;
    // In a domain with few of many users the page is short, and has a next one.
    for _ in 0..20 {
        let page = visit.desk.ledger.users(&after, u32::try_from(rows).unwrap_or(u32::MAX)).await?;
        let Some(last) = page.last() else { break };
        after.clone_from(&last.address);
        more = page.len() == rows;
        shown.extend(page.into_iter().filter(|user| scope.includes(&user.address)));
        if !more || shown.len() >= rows {
            break;
        }
    }
    let main = html! {
        h1 { "Users" }
        form.filters method="get" action="/users" role="search" {
            label { "Address" input type="email" name="address" required placeholder="bob@example.com"; }
            div.buttons { button { "Show his choices" } }
        }
        @if shown.is_empty() { p { "Nobody chose anything so far: the administrator's policies count." } } @else {
            div.wide tabindex="0" role="region" aria-label="Users" { table {
                thead { tr { th { "Address" } th.number { "Choices" } th.number { "Wanted senders" } } }
                tbody { @for user in &shown { tr {
                    td { a href={ "/users/" (segment(&user.address)) } { (plain(&user.address)) } }
                    td.number { (user.choices) } td.number { (user.allowed) }
                } } }
            } }
        }
        @if more { p.pages { a rel="next" href={ "?" (query(&[("after", &after)])) } { "More" } } }
    };
    Ok(whole(visit, "Users", &main))
}
