//! Who did what.

use maud::html;

use super::page as whole;
use super::parts::{moment, plain, word};
use crate::answer::Answer;
use crate::fault::Fault;
use crate::visit::Visit;

/// The page.
pub(super) async fn page(visit: &Visit) -> Result<Answer, Fault> {
    let rows = visit.desk.limits.console.rows;
    let below = visit.query.some("below").and_then(|text| text.parse().ok());
    let acts = visit.desk.register.acts(below, u32::try_from(rows).unwrap_or(u32::MAX)).await?;
    let next = acts.last().map(|row| row.id).filter(|_| acts.len() == rows);
    let main = html! {
        h1 { "Who did what" }
        @if acts.is_empty() { p { "Nobody did anything so far." } } @else {
            div.wide tabindex="0" role="region" aria-label="Acts" { table.rows {
                thead { tr { th { "When" } th { "Who" } th { "From" } th { "What" } th { "Came to" } } }
                tbody { @for row in &acts { tr {
                    td data-name="When" { (moment(row.at)) }
                    td data-name="Who" { (plain(&row.act.who)) " " small { (row.act.role) } }
                    td data-name="From" { (plain(&row.act.source)) }
                    td data-name="What" {
                        @match row.act.journal {
                            Some(id) => a href={ "/messages/" (id) } { (plain(&row.act.act)) },
                            None => (plain(&row.act.act)),
                        }
                        " " (plain(&row.act.about))
                    }
                    td data-name="Came to" { (word(&plain(&row.act.outcome))) }
                } } }
            } }
        }
        @if let Some(next) = next { p.pages { a rel="next" href={ "?below=" (next) } { "Older" } } }
    };
    Ok(whole(visit, "Who did what", &main))
}
