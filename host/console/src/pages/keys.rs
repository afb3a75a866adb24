//! The domains of this site and the keys of an address as far as they may be told, and what the doctor says.

use addrauth::proto::address::Address;
use maud::html;

use super::domain::seen;
use super::page as whole;
use super::parts::plain;
use crate::answer::Answer;
use crate::fault::Fault;
use crate::form::segment;
use crate::verbs;
use crate::visit::Visit;

/// The domains, and the keys of an address that is asked for; never a key.
pub(super) async fn page(visit: &Visit) -> Result<Answer, Fault> {
    let (config, domains) = (&visit.current.config, seen(visit)?);
    let keys = match visit.query.some("address").map(|text| Address::parse(text.as_bytes(), true)) {
        Some(Ok(address)) if domains.contains(address.domain()) => {
            let said = verbs::run(&visit.desk, &["key", "show", "--", &address.to_string()], b"").await?;
            Some((address.to_string(), said.text))
        }
        Some(_) => Some((visit.query.text("address").to_owned(), "That is no address of these domains.".into())),
        None => None,
    };
    let is_server = domains.iter().any(|domain| config.authority.domains.contains(domain));
    let main = html! {
        h1 { "Domain and keys" }
        @if domains.is_empty() { p { "There are none." } } @else {
            div.wide tabindex="0" role="region" aria-label="Domains" { table.rows {
                thead { tr { th { "Domain" } th { "Its mail ends here" } th { "Its keys are given here" } } }
                tbody { @for domain in &domains { tr {
                    td data-name="Domain" { a href={ "/keys/" (segment(domain.as_str())) } { (plain(domain.as_str())) } }
                    td data-name="Mail" { @if config.final_domains.contains(domain) { "yes" } @else { "no" } }
                    td data-name="Keys" { @if config.authority.domains.contains(domain) { "yes" } @else { "no" } }
                } } }
            } }
        }
        @if is_server {
            form.filters method="get" action="/keys" role="search" {
                label { "Keys of" input type="email" name="address" value=(visit.query.text("address")) placeholder="alice@example.com"; }
                div.buttons { button { "Show" } }
            }
        }
        @if let Some((address, said)) = keys {
            h2 { "Keys of " (plain(&address)) }
            pre tabindex="0" { (said) }
        }
    };
    Ok(whole(visit, "Domain and keys", &main))
}

/// What the doctor says of this installation.
pub(super) async fn doctor(visit: &Visit) -> Result<Answer, Fault> {
    let said = verbs::run(&visit.desk, &["doctor"], b"").await?;
    let main = html! {
        h1 { "Doctor" }
        @if said.good { p.notice.good { "Nothing is wrong." } } @else { p.notice.odd { "Something is wrong, or could not be told." } }
        pre tabindex="0" { (said.text) }
    };
    Ok(whole(visit, "Doctor", &main))
}
