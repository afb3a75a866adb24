//! The section `[policies.ID]` of a configuration, edited in its text: comments and all else stay.

use addrauth::config::{Module, Size};
use sha2::{Digest as _, Sha256};
use toml_edit::{DocumentMut, Item, TableLike, Value};

use super::super::pin::edit::edited;

/// The line that a kept configuration begins with: which component was in force, and which one took its place.
pub(super) fn line(id: &str, old: &str, new: &str) -> String {
    format!("# addrauth policy promote {id}: SHA-256 {old} until then, {new} from then on")
}

/// The two digests of the first line.
pub(super) fn of_line(text: &str, id: &str) -> Option<(String, String)> {
    let rest = text.lines().next()?.strip_prefix(&format!("# addrauth policy promote {id}: SHA-256 "))?;
    let (old, rest) = rest.split_once(" until then, ")?;
    let new = rest.strip_suffix(" from then on")?;
    let is_digest = |text: &str| text.len() == 64 && text.bytes().all(|octet| octet.is_ascii_hexdigit());
    (is_digest(old) && is_digest(new)).then(|| (old.to_owned(), new.to_owned()))
}

/// The digest of a section, in few digits.
pub(super) fn digest(module: &Module) -> String {
    // Plain data always serialises.
    let text = serde_json::to_string(module).unwrap_or_default();
    Sha256::digest(text).iter().take(6).map(|octet| format!("{octet:02x}")).collect()
}

/// The text with another section of this policy. What is the same in both is not touched.
pub(super) fn replaced(text: &str, id: &str, old: &Module, new: &Module) -> Result<String, String> {
    edited(text, |document| change(document, id, old, new))
}

fn change(document: &mut DocumentMut, id: &str, old: &Module, new: &Module) -> Result<(), String> {
    let missing = || format!("there is no [policies.{id}] in it");
    let policies = document.get_mut("policies").and_then(Item::as_table_like_mut).ok_or_else(missing)?;
    let section = policies.get_mut(id).and_then(Item::as_table_like_mut).ok_or_else(missing)?;
    let path = |path: &Option<std::path::PathBuf>| path.as_ref().map(|path| Value::from(path.display().to_string()));
    if old.module != new.module {
        set(section, "module", path(&new.module));
    }
    if old.settings != new.settings {
        set_settings(section, new)?;
    }
    if old.sha256 != new.sha256 {
        set(section, "sha256", new.sha256.as_ref().map(Value::from));
    }
    if old.size != new.size {
        set(section, "size", (new.size != Size::default()).then(|| Value::from(new.size.word())));
    }
    if old.shadow != new.shadow {
        set(section, "shadow", path(&new.shadow));
    }
    if old.shadow_share.to_bits() != new.shadow_share.to_bits() {
        let is_default = new.shadow_share.to_bits() == Module::default().shadow_share.to_bits();
        set(section, "shadow_share", (!is_default).then(|| Value::from(new.shadow_share)));
    }
    Ok(())
}

/// Sets the settings, one by one where there are some, so that their comments stay.
fn set_settings(section: &mut dyn TableLike, new: &Module) -> Result<(), String> {
    let Value::InlineTable(meant) = settings(new)? else { return Err("no table of settings".into()) };
    let known = section.get_mut("settings").and_then(Item::as_table_like_mut).filter(|known| !known.is_empty());
    let Some(known) = known.filter(|_| !meant.is_empty()) else {
        set(section, "settings", (!meant.is_empty()).then_some(Value::InlineTable(meant)));
        return Ok(());
    };
    let gone: Vec<String> = known.iter().map(|(name, _)| name.to_owned()).filter(|n| !meant.contains_key(n)).collect();
    gone.iter().for_each(|name| set(known, name, None));
    for (name, value) in meant {
        set(known, &name, Some(value));
    }
    Ok(())
}

/// Sets a key, or takes it away; a comment behind its value stays, and so do those above it.
fn set(section: &mut dyn TableLike, key: &str, value: Option<Value>) {
    let Some(mut value) = value else {
        let above = section.key_mut(key).and_then(|key| Some(key.leaf_decor().prefix()?.as_str()?.to_owned()));
        let next = section.iter().skip_while(|(name, _)| *name != key).nth(1).map(|(name, _)| name.to_owned());
        section.remove(key);
        // The comment may be about more than the line below it.
        if let (Some(above), Some(next)) = (above.filter(|above| above.contains('#')), next)
            && let Some(mut next) = section.key_mut(&next)
        {
            let own = next.leaf_decor().prefix().and_then(|prefix| prefix.as_str()).unwrap_or_default().to_owned();
            next.leaf_decor_mut().set_prefix(above + &own);
        }
        return;
    };
    match section.get_mut(key).and_then(Item::as_value_mut) {
        Some(known) => {
            *value.decor_mut() = known.decor().clone();
            *known = value;
        }
        None => {
            section.remove(key);
            section.insert(key, Item::Value(value));
        }
    }
}

/// The settings as one value; lists of several lines as they are usually written.
fn settings(module: &Module) -> Result<Value, String> {
    let text = toml::to_string(&module.settings).map_err(|e| e.to_string())?;
    let table: DocumentMut = text.parse().map_err(|e: toml_edit::TomlError| e.to_string())?;
    let mut inline = toml_edit::InlineTable::new();
    for (name, item) in table.iter() {
        let mut value = item.as_value().cloned().ok_or_else(|| format!("the setting {name} is a table"))?;
        if let Value::Array(lines) = &mut value
            && lines.len() > 1
        {
            lines.iter_mut().for_each(|line| line.decor_mut().set_prefix("\n  "));
            lines.set_trailing_comma(true);
            lines.set_trailing("\n");
        }
        value.decor_mut().clear();
        inline.insert(name, value);
    }
    // `settings.rules = […]`, as the sample configuration has it.
    inline.set_dotted(true);
    Ok(Value::InlineTable(inline))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use addrauth::config::Config;

    use super::*;

    fn module(text: &str) -> Module {
        Config::parse(text, Path::new("x.toml")).unwrap().policies.remove("ours").unwrap()
    }

    fn edited(text: &str, new: &Module) -> String {
        let out = replaced(text, "ours", &module(text), new).unwrap();
        assert_eq!(module(&out), *new, "{out}");
        out
    }

    #[test]
    fn what_changes_is_edited_and_all_comments_stay() {
        let text = "# top\nobserve = false # really\n\n[policies.ours] # ours\n# the file\nmodule = \"a.wasm\" # a\n\
                    # tried since monday\nshadow = \"b.wasm\"\nshadow_share = 0.5\n# pinned by eve\nsha256 = \"00\" # pin\n\
                    on_fault = \"reject\"\n\n[policy] # the rest\ninvalid = \"mark\"\n";
        let old = module(text);
        let new = Module {
            module: Some("c.wasm".into()),
            sha256: Some("11".into()),
            shadow: None,
            shadow_share: 1.0,
            ..old.clone()
        };
        let out = edited(text, &new);
        assert_eq!(
            out,
            "# top\nobserve = false # really\n\n[policies.ours] # ours\n# the file\nmodule = \"c.wasm\" # a\n\
             # tried since monday\n# pinned by eve\nsha256 = \"11\" # pin\non_fault = \"reject\"\n\n[policy] # the rest\n\
             invalid = \"mark\"\n"
        );
        // And back.
        assert_eq!(module(&edited(&out, &old)), old);
    }

    #[test]
    fn the_settings_of_a_text_are_replaced_however_they_are_written() {
        let rules = "[\"when result is invalid: mark\", \"otherwise accept\"]";
        let new = |text: &str| Module {
            settings: [("rules".to_owned(), toml::Value::from(vec!["otherwise \"x\" accept", "b"]))].into(),
            shadow: None,
            ..module(text)
        };
        for text in [
            format!("[policies.ours]\nmodule = \"rules\"\nsettings.rules = {rules}\nshadow = \"n.toml\"\n[notices]\n"),
            format!("[policies.ours]\nshadow = \"n.toml\"\nsettings = {{ rules = {rules} }}\nmodule = \"rules\"\n"),
            format!(
                "[policies.ours]\nmodule = \"rules\"\nshadow = \"n.toml\"\n[policies.ours.settings]\nrules = {rules}\n"
            ),
            format!(
                "policies.ours = {{ module = \"rules\", shadow = \"n.toml\", settings = {{ rules = {rules} }} }}\n"
            ),
            format!("[policies]\nours.module = \"rules\"\nours.shadow = \"n.toml\"\nours.settings.rules = {rules}\n"),
        ] {
            let out = edited(&text, &new(&text));
            assert!(!out.contains("shadow"), "{out}");
        }
        let commented = format!(
            "[policies.ours]\nmodule = \"rules\"\n# by hand\nsettings.rules = {rules} # mine\nshadow = \"n.toml\"\n"
        );
        let out = edited(&commented, &new(&commented));
        assert!(out.contains("# by hand\nsettings.rules = [") && out.contains("] # mine\n"), "{out}");
        assert!(replaced("[policy]\n", "ours", &Module::default(), &Module::default()).is_err());
    }

    #[test]
    fn the_first_line_of_a_kept_configuration_is_read_back() {
        let (one, other) = ("0".repeat(64), "a".repeat(64));
        let text = format!("{}\nobserve = true\n", line("ours", &one, &other));
        assert_eq!(of_line(&text, "ours"), Some((one, other)));
        assert!(of_line(&text, "theirs").is_none() && of_line("observe = true\n", "ours").is_none());
        assert!(of_line(&text.replace("0000", "000"), "ours").is_none());
    }
}
