//! Taking one address out of the journal, however it is spelled there.

use sqlx::Row as _;

use super::journal::escaped;
use super::{Error, Ledger, Search, folded};

/// What stands in the place of an address that was taken out.
pub const ERASED: &str = "erased@erased.invalid";

/// What taking an address out came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Journal rows that held it.
    pub rows: u64,
    /// Ended notices that held it.
    pub ended: u64,
    /// Notices still to be sent that hold it until they are; those collected for a digest count too.
    pub unsent: u64,
    /// Where it remains, since that is not the journal's to forget.
    pub remains: Remains,
}

/// Where an address still stands, once it is out of the journal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Remains {
    /// Choices that its user made.
    pub choices: u64,
    /// Entries of its user's own list of wanted senders.
    pub allowed: u64,
    /// Lists of other users that name it.
    pub listed: u64,
    /// Messages in quarantine that are for it, or from it.
    pub quarantined: u64,
}

impl Ledger {
    /// Takes an address out of every journal row and every ended notice: `local+tag` and letter case count as the same.
    /// What is deleted is overwritten in the file. What users chose, and messages in quarantine, are counted and stay.
    pub async fn erase(&self, address: &str) -> Result<Erased, Error> {
        let Some(target) = folded(address) else { return Ok(Erased::default()) };
        let mut erased = Erased::default();
        let (domain, mut below) = (target.rsplit_once('@').map_or("", |(_, domain)| domain), None);
        let search = Search { holds: Some(format!("@{domain}")), ..Search::default() };
        loop {
            let rows = self.page(&search, below, 256).await?;
            let Some(last) = rows.last() else { break };
            below = Some(last.id);
            for row in &rows {
                erased.rows += u64::from(self.erase_row(row.id, &target).await.map_err(|e| self.0.failed(e))?);
            }
        }
        self.erase_notices(&target, &mut erased).await.map_err(|e| self.0.failed(e))?;
        self.count_remains(&target, &mut erased).await.map_err(|e| self.0.failed(e))?;
        Ok(erased)
    }

    /// Counts what holds it besides: a choice is its user's to take back, a message somebody's to release or delete.
    async fn count_remains(&self, target: &str, erased: &mut Erased) -> Result<(), sqlx::Error> {
        let mut reader = self.0.readers().acquire().await?;
        let counts = [
            ("SELECT count(*) FROM choice WHERE address = ?", &mut erased.remains.choices),
            ("SELECT count(*) FROM allowed WHERE address = ?", &mut erased.remains.allowed),
            ("SELECT count(*) FROM allowed WHERE sender = ?", &mut erased.remains.listed),
        ];
        for (statement, count) in counts {
            let counted: i64 = sqlx::query_scalar(statement).bind(target).fetch_one(&mut *reader).await?;
            *count = counted.unsigned_abs();
        }
        let holds = |texts: &[String]| texts.iter().any(|text| without(text, target) != *text);
        let domain = format!("%@{}%", escaped(target.rsplit_once('@').map_or("", |(_, domain)| domain)));
        let kept: Vec<(bool, String, String)> = sqlx::query_as(
            "SELECT EXISTS (SELECT 1 FROM held WHERE quarantine = q.id AND folded = ?1), coalesce(sender, ''), reverse_path
             FROM quarantine q WHERE sender LIKE ?2 ESCAPE '\\' OR reverse_path LIKE ?2 ESCAPE '\\'
             OR EXISTS (SELECT 1 FROM held WHERE quarantine = q.id AND folded = ?1)",
        )
        .bind(target)
        .bind(domain)
        .fetch_all(&mut *reader)
        .await?;
        let counts =
            |(is_for, sender, path): &(bool, String, String)| *is_for || holds(&[sender.clone(), path.clone()]);
        erased.remains.quarantined = kept.iter().filter(|row| counts(row)).count() as u64;
        let collected: Vec<(String, String)> =
            sqlx::query_as("SELECT recipient, senders FROM digest").fetch_all(&mut *reader).await?;
        erased.unsent += collected.iter().filter(|(to, senders)| holds(&[to.clone(), senders.clone()])).count() as u64;
        Ok(())
    }

    /// Takes it out of one row, read again under the lock: a note may have been added since; whether it was there.
    async fn erase_row(&self, id: i64, target: &str) -> Result<bool, sqlx::Error> {
        let mut work = self.0.writer().begin_with("BEGIN IMMEDIATE").await?;
        let row = sqlx::query("SELECT sender, entry, note FROM journal WHERE id = ?").bind(id);
        let Some(row) = row.fetch_optional(&mut *work).await? else { return Ok(false) };
        let sender: Option<String> = row.try_get("sender")?;
        let (entry, note): (String, String) = (row.try_get("entry")?, row.try_get("note")?);
        let new_sender = sender.as_deref().map(|sender| without(sender, target));
        let (new_entry, new_note) = (without_in_json(&entry, target), without(&note, target));
        if (&new_sender, &new_entry, &new_note) == (&sender, &entry, &note) {
            return Ok(false);
        }
        // Whatever of the row held it: a later note must not bring it back.
        let new_entry = remarked(&new_entry);
        sqlx::query("UPDATE journal SET sender = ?, entry = ?, note = ? WHERE id = ?")
            .bind(new_sender)
            .bind(new_entry)
            .bind(new_note)
            .bind(id)
            .execute(&mut *work)
            .await?;
        work.commit().await?;
        Ok(true)
    }

    async fn erase_notices(&self, target: &str, erased: &mut Erased) -> Result<(), sqlx::Error> {
        let mut work = self.0.writer().begin_with("BEGIN IMMEDIATE").await?;
        let rows = sqlx::query("SELECT id, recipient, sender, reverse_path, outcome, ended FROM outbox")
            .fetch_all(&mut *work)
            .await?;
        for row in rows {
            let text = |name| row.try_get::<Option<String>, _>(name).map(Option::unwrap_or_default);
            let old = [text("recipient")?, text("sender")?, text("reverse_path")?, text("outcome")?];
            let new = old.clone().map(|text| without(&text, target));
            if new == old {
                continue;
            }
            if row.try_get::<Option<i64>, _>("ended")?.is_none() {
                erased.unsent += 1;
                continue;
            }
            let [recipient, sender, reverse_path, outcome] = new;
            let id: i64 = row.try_get("id")?;
            sqlx::query(
                "UPDATE outbox SET recipient = ?1, capped_as = CASE recipient WHEN ?1 THEN capped_as ELSE ?1 END,
                 sender = ?2, reverse_path = ?3, outcome = ?4 WHERE id = ?5",
            )
            .bind(recipient)
            .bind(sender)
            .bind(reverse_path)
            .bind(outcome)
            .bind(id)
            .execute(&mut *work)
            .await?;
            erased.ended += 1;
        }
        work.commit().await?;
        // The write-ahead log still has the pages as they were.
        sqlx::raw_sql("PRAGMA wal_checkpoint(TRUNCATE)").execute(self.0.writer()).await.map(|_| ())
    }
}

/// The story without the address, and with the remark that one was taken out.
fn without_in_json(json: &str, target: &str) -> String {
    let Ok(mut story) = serde_json::from_str::<serde_json::Value>(json) else { return without(json, target) };
    if walk(&mut story, target) { remarked(&story.to_string()) } else { json.to_owned() }
}

/// The story with the remark that an address was taken out of its row.
fn remarked(json: &str) -> String {
    let Ok(mut story) = serde_json::from_str::<serde_json::Value>(json) else { return json.to_owned() };
    if let Some(object) = story.as_object_mut() {
        object.insert("erased".into(), true.into());
    }
    story.to_string()
}

/// Takes the address out of every text, all of them; whether it was in any. Its nesting is bounded by the parser's.
fn walk(value: &mut serde_json::Value, target: &str) -> bool {
    match value {
        serde_json::Value::String(text) => {
            let new = without(text, target);
            let differs = new != *text;
            *text = new;
            differs
        }
        serde_json::Value::Array(values) => values.iter_mut().filter_map(|v| walk(v, target).then_some(())).count() > 0,
        serde_json::Value::Object(values) => {
            values.values_mut().filter_map(|v| walk(v, target).then_some(())).count() > 0
        }
        _ => false,
    }
}

/// The text without the address, wherever an `@` stands between words that fold to it.
fn without(text: &str, target: &str) -> String {
    replaced(text, |address| folded(address).as_deref() == Some(target))
}

/// The text without any address.
pub(super) fn without_any(text: &str) -> String {
    replaced(text, |address| folded(address).is_some())
}

/// The text with another address in the place of those that are to go.
fn replaced(text: &str, goes: impl Fn(&str) -> bool) -> String {
    let (mut out, mut from) = (String::new(), 0);
    for (at, _) in text.match_indices('@') {
        let (Some(before), Some(after)) = (text.get(from..at), text.get(at + 1..)) else { continue };
        let begin = from + local_begin(before);
        let domain = |c: char| c.is_alphanumeric() || c == '-' || c == '.';
        let length = after.find(|c| !domain(c)).unwrap_or(after.len());
        let length = after.get(..length).map_or(0, |word| word.trim_end_matches(['.', '-']).len());
        let end = at + 1 + length;
        let (Some(kept), Some(address)) = (text.get(from..begin), text.get(begin..end)) else { continue };
        if goes(address) {
            out += kept;
            out += ERASED;
            from = end;
        }
    }
    out + text.get(from..).unwrap_or_default()
}

/// Where the local part that ends this text begins.
fn local_begin(text: &str) -> usize {
    if let Some(inside) = text.strip_suffix('"') {
        let open = inside.rmatch_indices('"').map(|(at, _)| at);
        let escaped = |at: usize| {
            let before = inside.get(..at).unwrap_or_default();
            (before.len() - before.trim_end_matches('\\').len()) % 2 == 1
        };
        return open.into_iter().find(|&at| !escaped(at)).unwrap_or(inside.len());
    }
    // RFC 5322 §3.2.3 atext and the dot, and what SMTPUTF8 adds.
    let word = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c) || !c.is_ascii();
    text.rfind(|c| !word(c))
        .map_or(0, |at| at + text.get(at..).and_then(|t| t.chars().next()).map_or(1, char::len_utf8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_found_in_every_spelling_and_no_other_goes() {
        let cases = [
            ("bob@example.com", "E"),
            ("<Bob+news@EXAMPLE.com>", "<E>"),
            ("notice to bob@example.com: given up.", "notice to E: given up."),
            ("write to bob@example.com.", "write to E."),
            ("Bob <bob@example.com>, carol@example.com", "Bob <E>, carol@example.com"),
            ("bob@example.com,bob+1@example.com", "E,E"),
            ("notbob@example.com bob@example.com.au", "notbob@example.com bob@example.com.au"),
            ("jim.bob@example.com bob@x.example.com", "jim.bob@example.com bob@x.example.com"),
            ("@@bob@example.com@", "@@E@"),
            ("bob@", "bob@"),
            ("", ""),
        ];
        for (text, want) in cases {
            assert_eq!(without(text, "bob@example.com"), want.replace('E', ERASED), "{text}");
        }
        assert_eq!(without(r#"<"a \" b"@x.example>"#, r#""a \" b"@x.example"#), format!("<{ERASED}>"));
        assert_eq!(without("für ü@bücher.example!", "ü@bücher.example"), format!("für {ERASED}!"));
    }

    #[test]
    fn a_story_from_which_something_went_says_so() {
        let json = r#"{"a":["<bob@example.com>",{"b":"x bob@example.com"}],"n":1}"#;
        let story: serde_json::Value = serde_json::from_str(&without_in_json(json, "bob@example.com")).unwrap();
        assert_eq!(story["a"][0], format!("<{ERASED}>"));
        assert_eq!((&story["a"][1]["b"], &story["erased"]), (&format!("x {ERASED}").into(), &true.into()));
        assert_eq!(without_in_json(json, "eve@example.com"), json);
    }
}
