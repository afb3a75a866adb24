//! The configuration file with other pins: every other line stays as it is, and the file is replaced whole.

use std::collections::BTreeMap;
use std::fs::{self, File, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, fchown};
use std::path::Path;

use addrauth::config::Limits;
use addrauth::files;
use toml_edit::{DocumentMut, InlineTable, Item, Table, TableLike, Value};

use super::super::Error;

/// Where pins stand.
const SECTION: &str = "policies";
/// What a pin is called.
const KEY: &str = "sha256";

/// The text after this change, with all other lines and their ends as they are. A text that cannot be written so is refused with the
/// reason.
pub(in crate::policy) fn edited(
    text: &str,
    change: impl FnOnce(&mut DocumentMut) -> Result<(), String>,
) -> Result<String, String> {
    let plain = text.replace("\r\n", "\n");
    let ends = if plain.len() == text.len() { "\n" } else { "\r\n" };
    let whole = if plain.ends_with('\n') || plain.is_empty() { plain } else { plain + "\n" };
    let mut document: DocumentMut = whole.parse().map_err(|e: toml_edit::TomlError| e.message().to_owned())?;
    let same = document.to_string() == whole && (ends == "\n" || !text.replace("\r\n", "").contains('\n'));
    if !same {
        return Err("it cannot be written again as it stands (its lines end in different ways?)".into());
    }
    change(&mut document)?;
    Ok(document.to_string().replace('\n', ends))
}

/// The text with `policies.ID.sha256` set for each of these, and nothing else changed.
pub(in crate::policy) fn pinned(text: &str, pins: &BTreeMap<&str, &str>) -> Result<String, String> {
    edited(text, |document| pin_in(document, pins))
}

/// The text with this key of `policies.ID` set to this text, and nothing else changed.
pub(in crate::policy) fn keyed(text: &str, id: &str, key: &str, value: &str) -> Result<String, String> {
    edited(text, |document| set_in(document, id, key, value))
}

fn pin_in(document: &mut DocumentMut, pins: &BTreeMap<&str, &str>) -> Result<(), String> {
    pins.iter().try_for_each(|(id, digest)| set_in(document, id, KEY, digest))
}

fn set_in(document: &mut DocumentMut, id: &str, key: &str, value: &str) -> Result<(), String> {
    let odd = || format!("[{SECTION}] is no section there");
    let section = document.entry(SECTION).or_insert_with(|| {
        let mut section = Table::new();
        section.set_implicit(true);
        Item::Table(section)
    });
    let inline = section.is_inline_table();
    let section = section.as_table_like_mut().ok_or_else(odd)?;
    let policy = section.entry(id).or_insert_with(|| fresh(inline));
    set(policy.as_table_like_mut().ok_or_else(odd)?, key, value);
    Ok(())
}

/// A section for a policy that has none yet.
fn fresh(inline: bool) -> Item {
    match inline {
        true => Item::Value(Value::InlineTable(InlineTable::new())),
        false => {
            let mut table = Table::new();
            table.decor_mut().set_prefix("\n");
            Item::Table(table)
        }
    }
}

/// A key that is there keeps its place and the comment behind it.
fn set(policy: &mut dyn TableLike, key: &str, value: &str) {
    match policy.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            let decor = old.decor().clone();
            *old = Value::from(value);
            *old.decor_mut() = decor;
        }
        None => _ = policy.insert(key, Item::Value(Value::from(value))),
    }
}

/// Replaces a file that still has the text `before`: whole or not at all, with its owner and mode, and durably. Behind a link it is the
/// file that the link leads to.
pub(in crate::policy) fn replace(path: &Path, before: &str, after: &str) -> Result<(), Error> {
    let wrong = |source| Error::Write { path: path.to_owned(), source };
    let target = fs::canonicalize(path).map_err(wrong)?;
    let dir = target.parent().unwrap_or(Path::new("/"));
    let old = fs::metadata(&target).map_err(wrong)?;
    // `before` was read without a byte order mark; who put one there finds it again.
    let now = || files::read(&target, Limits::default().files.config).map_err(|e| wrong(e.into()));
    let found = now()?;
    let mark = found.strip_suffix(files::without_mark(&found)).unwrap_or_default();
    let written = tempfile::NamedTempFile::new_in(dir).and_then(|mut file| {
        file.write_all(mark)?;
        file.write_all(after.as_bytes())?;
        let made = file.as_file().metadata()?;
        if (made.uid(), made.gid()) != (old.uid(), old.gid()) {
            fchown(file.as_file(), Some(old.uid()), Some(old.gid()))?;
        }
        file.as_file().set_permissions(Permissions::from_mode(old.mode() & 0o7777))?;
        file.as_file().sync_all()?;
        Ok(file)
    });
    let written = written.map_err(wrong)?;
    if files::without_mark(&now()?) != before.as_bytes() {
        return Err(Error::Changed(path.to_owned()));
    }
    written.persist(&target).map_err(|e| wrong(e.error))?;
    File::open(dir).and_then(|dir| dir.sync_all()).map_err(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: &str = "1111111111111111111111111111111111111111111111111111111111111111";

    fn pin(text: &str, ids: &[&str]) -> Result<String, String> {
        pinned(text, &ids.iter().map(|id| (*id, ONE)).collect())
    }

    /// The lines that are new, after it is sure that no other one is gone.
    fn added(before: &str, after: &str) -> Vec<String> {
        let mut old = before.lines().peekable();
        let mut new = Vec::new();
        for line in after.lines() {
            match old.peek() {
                Some(same) if *same == line => _ = old.next(),
                _ => new.push(line.to_owned()),
            }
        }
        assert_eq!(old.next(), None, "{after}");
        new
    }

    #[test]
    fn a_pin_is_one_line_and_all_others_stay() {
        let text = "# ours\nfinal_domains = [\"a.example\"]   # one\n\n[policy]\ndir = \"/x\"\n\n# strict\n[policies.strict]\n\
                    module   =   \"s.wasm\"  # file\nsettings = { then = 'reject' }\n\n# the end\n[policies.other] # b\n";
        let line = format!("sha256 = \"{ONE}\"");
        for (ids, lines) in [(vec!["strict"], 1), (vec!["other"], 1), (vec!["other", "strict"], 2)] {
            let after = pin(text, &ids).unwrap();
            assert_eq!(added(text, &after), vec![line.clone(); lines], "{after}");
            assert_eq!(pin(&after, &ids).unwrap(), after, "a second time changes nothing");
        }
        let after = pin(text, &["strict"]).unwrap();
        assert!(after.contains(&format!("settings = {{ then = 'reject' }}\n{line}\n\n# the end\n")), "{after}");
    }

    #[test]
    fn a_pin_that_is_there_keeps_its_place_and_its_comment() {
        let text = "[policies.strict]\nsha256 = 'abc'   # as of May\nmodule = \"s.wasm\"\n";
        let after = pin(text, &["strict"]).unwrap();
        assert_eq!(after, format!("[policies.strict]\nsha256 = \"{ONE}\"   # as of May\nmodule = \"s.wasm\"\n"));
    }

    #[test]
    fn a_policy_without_a_section_gets_one_wherever_sections_stand() {
        for text in [
            "",
            "observe = false\n",
            "[policy]\ndir = \"/x\"\n# nothing more\n",
            "[policies.a]\n[policies.a.settings]\nx = 1\n[verify]\ntimeout = \"5s\"\n",
            "policies = { a = { on_fault = \"reject\" } }\n",
            "[policies]\na = { on_fault = \"reject\" }\n[verify]\n",
            "policies.a.on_fault = \"reject\"\n[verify]\n",
            "[policies.b.settings]\nx = 1\n",
        ] {
            let after = pin(text, &["b"]).unwrap();
            let read: toml::Table = toml::from_str(&after).unwrap();
            let mut meant: toml::Table = toml::from_str(text).unwrap();
            let policies = meant.entry("policies").or_insert_with(|| toml::Table::new().into()).as_table_mut().unwrap();
            let policy = policies.entry("b").or_insert_with(|| toml::Table::new().into()).as_table_mut().unwrap();
            policy.insert("sha256".into(), ONE.into());
            assert_eq!(read, meant, "{after}");
            for line in text.lines().filter(|line| !line.starts_with("policies = ")) {
                assert!(after.lines().any(|kept| kept == line), "{line}: {after}");
            }
        }
    }

    #[test]
    fn line_ends_stay_as_they_are_and_a_mixture_is_refused() {
        let text = "[policies.strict]\r\nmodule = \"s.wasm\"\r\n";
        let after = pin(text, &["strict"]).unwrap();
        assert_eq!(after, format!("{text}sha256 = \"{ONE}\"\r\n"));
        assert!(pin("[policies.strict]\r\nmodule = \"s.wasm\"\n", &["strict"]).is_err());
        assert_eq!(pin("[policies.strict]", &["strict"]).unwrap(), format!("[policies.strict]\nsha256 = \"{ONE}\"\n"));
        assert!(pin("policies = 3\n", &["strict"]).is_err());
    }

    #[test]
    fn a_file_is_replaced_whole_behind_its_link_with_its_mode_and_not_where_it_changed() {
        let dir = tempfile::tempdir().unwrap();
        let (file, link) = (dir.path().join("real.toml"), dir.path().join("addrauth.toml"));
        fs::write(&file, "before").unwrap();
        fs::set_permissions(&file, Permissions::from_mode(0o640)).unwrap();
        std::os::unix::fs::symlink("real.toml", &link).unwrap();
        replace(&link, "before", "after").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "after");
        assert!(link.is_symlink() && fs::metadata(&file).unwrap().mode() & 0o7777 == 0o640);
        assert!(matches!(replace(&link, "before", "again"), Err(Error::Changed(_))));
        assert_eq!(fs::read_to_string(&file).unwrap(), "after");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 2, "nothing is left beside it");
    }
}
