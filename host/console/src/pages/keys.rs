//! Domains and their keys as far as they may be told, and what the doctor says.

use addrauth::proto::address::Address;
use maud::html;

use super::page as whole;
use super::parts::plain;
use crate::answer::Answer;
use crate::fault::Fault;
use crate::verbs;
use crate::visit::Visit;

/// Domains, what they publish, who forges them, and the keys of an address that is asked for; never a key.
pub(super) async fn page(visit: &Visit) -> Result<Answer, Fault> {
    let config = &visit.current.config;
    let mut parts = Vec::new();
    for domain in config.authority.domains.iter().take(20) {
        let report = verbs::run(&visit.desk, &["report", domain.as_str()], b"").await?;
        parts.push((domain.to_string(), report.text));
    }
    let keys = match visit.query.some("address").map(|text| Address::parse(text.as_bytes(), true)) {
        Some(Ok(address)) => Some((
            address.to_string(),
            verbs::run(&visit.desk, &["key", "show", "--", &address.to_string()], b"").await?,
        )),
        _ => None,
    };
    let main = html! {
        h1 { "Domain and keys" }
        dl.facts {
            dt { "Mail ends here for" } dd { (plain(&config.final_domains.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))) }
            dt { "Keys are given to" } dd { @if config.authority.domains.is_empty() { "nobody: this host is no Authentication Server" }
                @else { (plain(&config.authority.domains.iter().map(ToString::to_string).collect::<Vec<_>>().join(", "))) } }
        }
        @if !config.authority.domains.is_empty() {
            form.filters method="get" action="/keys" role="search" {
                label { "Keys of" input type="email" name="address" value=(visit.query.text("address")) placeholder="alice@example.com"; }
                div.buttons { button { "Show" } }
            }
        }
        @if let Some((address, said)) = keys {
            h2 { "Keys of " (plain(&address)) }
            pre tabindex="0" { (said.text) }
        }
        @for (domain, report) in &parts { h2 { "Who uses " (plain(domain)) " without a key of it" } pre tabindex="0" { (report) } }
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
