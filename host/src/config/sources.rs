//! The files of a configuration: addrauth.toml, and those of conf.d beside it, merged in the order of their names.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};

use serde::Deserialize as _;
use toml::de::{DeTable, DeValue};

use super::{Config, Error, Limits, explained};

/// The file that may have others beside it.
const MAIN: &str = "addrauth.toml";
/// Their directory, beside it.
const DIR: &str = "conf.d";

/// What a configuration is read from: its file, and where that is called `addrauth.toml`, each `conf.d/*.toml` beside it.
#[derive(Clone, Debug)]
pub struct Sources {
    main: (PathBuf, String),
    others: Vec<(PathBuf, String)>,
}

impl Sources {
    /// Reads the texts.
    ///
    /// # Errors
    /// A file, or the directory where there is one, cannot be read; there are too many files.
    pub fn read(path: &Path) -> Result<Sources, Error> {
        let main = (path.to_owned(), Config::text(path)?);
        let others = if path.file_name().is_some_and(|name| name == MAIN) { beside(path)? } else { Vec::new() };
        let read = |path: PathBuf| Config::text(&path).map(|text| (path, text));
        Ok(Sources { main, others: others.into_iter().map(read).collect::<Result<_, _>>()? })
    }

    /// The file that `--config` names, and its text.
    pub fn main(&self) -> (&Path, &str) {
        (&self.main.0, &self.main.1)
    }

    /// All files with their texts, that one first.
    pub fn files(&self) -> impl Iterator<Item = (&Path, &str)> {
        std::iter::once(&self.main).chain(&self.others).map(|(path, text)| (path.as_path(), text.as_str()))
    }

    /// The same files, with another text in the first one.
    #[must_use]
    pub fn with(&self, text: &str) -> Sources {
        Sources { main: (self.main.0.clone(), text.to_owned()), others: self.others.clone() }
    }

    /// What they say together.
    ///
    /// # Errors
    /// One is no configuration by itself, two set the same key, or the parts do not fit together.
    pub fn config(&self) -> Result<Config, Error> {
        if self.others.is_empty() {
            return Config::parse(&self.main.1, &self.main.0);
        }
        // By itself first: the parser's words name the file and the line.
        self.files().try_for_each(|(path, text)| Config::syntax(text, path).map(drop))?;
        let config = Config::deserialize(toml::Value::Table(self.table()?))
            .map_err(|e| Error::Meaning(format!("{}: {}", self.main.0.display(), explained(&e.to_string()))))?;
        config.check()?;
        Ok(config)
    }

    /// All that they set.
    ///
    /// # Errors
    /// One is no TOML, or two set the same key.
    pub fn table(&self) -> Result<toml::Table, Error> {
        let mut merged = toml::Table::new();
        for (path, text) in self.files() {
            let syntax = |e: toml::de::Error| Error::Syntax { path: path.to_owned(), text: e.to_string() };
            let table: toml::Table = text.parse().map_err(syntax)?;
            merge(&mut merged, table, &mut Vec::new()).map_err(|key| self.twice(&key))?;
        }
        Ok(merged)
    }

    /// Which two files set a key, and where.
    fn twice(&self, key: &[String]) -> Error {
        let place = |(path, text)| Some(format!("{} line {}", Path::display(path), line(text, key)?));
        let places: Vec<String> = self.files().filter_map(place).collect();
        Error::Meaning(format!("{} is set twice, in {}: take one out", key.join("."), places.join(" and ")))
    }
}

/// The files of the directory beside this one, in the order of their names.
fn beside(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let dir = path.with_file_name(DIR);
    let wrong = |source| Error::Read { path: dir.clone(), source };
    let mut found = Vec::new();
    let entries = match std::fs::read_dir(&dir) {
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(found),
        entries => entries.map_err(wrong)?,
    };
    for entry in entries {
        let file = entry.map_err(wrong)?.path();
        let hidden = file.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if file.extension().is_some_and(|end| end == "toml") && !hidden {
            found.push(file);
        }
    }
    let most = Limits::default().files.configs;
    if found.len() > most {
        return Err(Error::Meaning(format!("{}: more than {most} files ending in .toml are in it", dir.display())));
    }
    found.sort();
    Ok(found)
}

/// Puts a table into another one; the key that both set is the error.
fn merge(into: &mut toml::Table, from: toml::Table, above: &mut Vec<String>) -> Result<(), Vec<String>> {
    for (key, value) in from {
        above.push(key.clone());
        match (into.get_mut(&key), value) {
            (Some(toml::Value::Table(into)), toml::Value::Table(from)) => merge(into, from, above)?,
            (Some(_), _) => return Err(above.clone()),
            (None, value) => drop(into.insert(key, value)),
        }
        above.pop();
    }
    Ok(())
}

/// The line in which a text sets this key.
fn line(text: &str, key: &[String]) -> Option<usize> {
    let parsed = DeTable::parse(text).ok()?;
    let (last, above) = key.split_last()?;
    let mut table = parsed.get_ref();
    for name in above {
        let (_, value) = table.iter().find(|(known, _)| known.get_ref() == name)?;
        let DeValue::Table(inner) = value.get_ref() else { return None };
        table = inner;
    }
    let (found, _) = table.iter().find(|(known, _)| known.get_ref() == last)?;
    Some(text.get(..found.span().start)?.matches('\n').count() + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A directory with these files, and what they say together.
    fn read(files: &[(&str, &str)]) -> Result<Config, Error> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join(DIR)).unwrap();
        for (name, text) in files {
            std::fs::write(dir.path().join(name), text).unwrap();
        }
        Sources::read(&dir.path().join(files[0].0))?.config()
    }

    #[test]
    fn files_are_merged_whatever_their_order() {
        let whole = "observe = false\nfinal_domains = [\"a.example\"]\n[policy]\ninvalid = \"quarantine\"\n[policies.ours]\nmodule = \"mark\"\n";
        let parts = [
            "observe = false\n",
            "final_domains = [\"a.example\"]\n",
            "[policy]\ninvalid = \"quarantine\"\n",
            "policies.ours.module = \"mark\"\n",
        ];
        let meant = Config::parse(whole, Path::new("x")).unwrap();
        for turn in 0..parts.len() {
            let text = |n: usize| parts[(n + turn) % parts.len()];
            let files = [
                (MAIN, text(0)),
                ("conf.d/90-last.toml", text(1)),
                ("conf.d/10-first.toml", text(2)),
                ("conf.d/x.toml", text(3)),
            ];
            assert_eq!(read(&files).unwrap(), meant, "{turn}");
        }
    }

    #[test]
    fn what_is_no_part_is_left_alone() {
        let wrong = "observe = 7\n";
        let files = [
            (MAIN, "observe = false\n"),
            ("conf.d/x.toml.dpkg-dist", wrong),
            ("conf.d/.x.toml", wrong),
            ("conf.d/x.toml~", wrong),
        ];
        assert!(!read(&files).unwrap().observe.0);
        // Another file has none beside it.
        assert!(!read(&[("authority.toml", "observe = false\n"), ("conf.d/x.toml", wrong)]).unwrap().observe.0);
    }

    #[test]
    fn a_key_set_twice_is_refused_with_both_places() {
        for (one, other, key, lines) in [
            ("observe = true\n", "# ours\n\nobserve = true\n", "observe", [1, 3]),
            ("[policy]\nmixed = \"split\"\n", "policy.mixed = \"split\"\n", "policy.mixed", [2, 1]),
            (
                "[policy.domain.\"a.example\"]\nmissing = \"mark\"\n",
                "\n[policy.domain.\"a.example\"]\nmissing = \"accept\"\n",
                "policy.domain.a.example.missing",
                [2, 3],
            ),
            ("final_domains = [\"a.example\"]\n", "final_domains = [\"b.example\"]\n", "final_domains", [1, 1]),
        ] {
            let error = read(&[(MAIN, one), ("conf.d/x.toml", other)]).unwrap_err().to_string();
            let [first, second] = lines.map(|line| format!("toml line {line}"));
            assert!(
                error.contains(&format!("{key} is set twice")) && error.contains(&format!("{MAIN} line {}", lines[0])),
                "{error}"
            );
            assert!(
                error.find(&first) <= error.rfind(&second) && error.contains(&format!("x.toml line {}", lines[1])),
                "{error}"
            );
        }
    }

    #[test]
    fn a_part_that_is_wrong_is_refused_by_its_name_and_line() {
        for (text, words) in
            [("\nobserver = true\n", "observer"), ("\nobserve = 7\n", "observe"), ("\nobserve = \n", "line 2")]
        {
            let error = read(&[(MAIN, "observe = false\n"), ("conf.d/50-x.toml", text)]).unwrap_err().to_string();
            assert!(error.contains("50-x.toml") && error.contains("line 2") && error.contains(words), "{error}");
        }
        let unfit = read(&[(MAIN, "policy.mark = \"folder\"\n"), ("conf.d/x.toml", "observe = false\n")]).unwrap_err();
        assert!(unfit.to_string().contains("policy.spam_folder"), "{unfit}");
    }

    #[test]
    fn too_many_files_are_refused() {
        let most = Limits::default().files.configs;
        let names: Vec<String> = (0..=most).map(|n| format!("conf.d/{n}.toml")).collect();
        let mut files = vec![(MAIN, "")];
        files.extend(names.iter().take(most).map(|name| (name.as_str(), "")));
        assert!(read(&files).is_ok());
        files.push((&names[most], ""));
        assert!(matches!(read(&files), Err(Error::Meaning(_))));
    }
}
