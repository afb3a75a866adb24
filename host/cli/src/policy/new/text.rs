//! A policy that is written as text: a folder with NAME.toml, which the shipped policy `rules` reads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::Error;
use addrauth::config::{Config, Limits};
use addrauth::policy::rehearse::{self, Located};

/// The shipped policy that reads it.
pub(in crate::policy) const READER: &str = "rules";

/// The cases beside it.
const CASES: &str = "cases.toml";

/// A policy as text.
pub(in crate::policy) struct Text {
    /// Its id.
    pub(in crate::policy) name: String,
    /// The file that it stands in.
    pub(in crate::policy) file: PathBuf,
    /// The settings of `[policies.NAME]`.
    settings: BTreeMap<String, toml::Value>,
}

/// The text of such a folder and its cases, where there is a text and nothing that would be built; whether they can be read is open.
pub(in crate::policy) fn files(dir: &Path) -> Option<[PathBuf; 2]> {
    let name = dir.canonicalize().ok().filter(|_| dir.is_dir())?;
    let name = name.file_name()?.to_str()?;
    let built = [format!("{name}.wasm"), "Cargo.toml".into()].iter().any(|file| dir.join(file).exists());
    let text = dir.join(format!("{name}.toml"));
    (!built && text.exists()).then(|| [text, dir.join(CASES)])
}

impl Text {
    /// The policy of a folder; none where it is no such folder.
    pub(in crate::policy) fn read(dir: &Path) -> Result<Option<Text>, Error> {
        let Some([file, _]) = files(dir) else { return Ok(None) };
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let text = addrauth::files::read_text(&file, Limits::default().policy.cases_octets)
            .map_err(|e| Error::Read { path: file.clone(), source: e.into() })?;
        let mut config = Config::parse(&text, &file)?;
        let module = config.policies.remove(&name);
        match module.filter(|module| module.module.as_deref() == Some(Path::new(READER))) {
            Some(module) => Ok(Some(Text { name, file, settings: module.settings })),
            None => {
                let text = format!(
                    "there is no [policies.{name}] with module = \"{READER}\": the folder's name is the policy's id"
                );
                Err(Error::Syntax { path: file, text })
            }
        }
    }

    /// The shipped policy that reads it, under its id and settings; none where this program has none.
    pub(in crate::policy) fn located(self) -> Option<Located> {
        let mut located = rehearse::locate_shipped(READER)?;
        located.cases = Some(self.file.with_file_name(CASES)).filter(|cases| cases.is_file());
        (located.name, located.settings) = (self.name, self.settings);
        Some(located)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(name: &str, text: &str) -> Result<Option<Text>, Error> {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().join("ours");
        std::fs::create_dir(&dir).unwrap();
        std::fs::write(dir.join(name), text).unwrap();
        Text::read(&dir)
    }

    #[test]
    fn a_folder_with_its_own_text_is_a_policy_and_no_other_is() {
        let text = "[policies.ours]\nmodule = \"rules\"\nsettings.rules = [\"otherwise accept\"]\n";
        let ours = read("ours.toml", text).unwrap().unwrap();
        assert_eq!((ours.name.as_str(), ours.settings.len()), ("ours", 1));
        assert!(read("other.toml", text).unwrap().is_none());
        assert!(Text::read(Path::new("/nowhere")).unwrap().is_none());
    }

    #[test]
    fn a_text_of_another_name_or_for_another_reader_or_that_is_no_configuration_is_told() {
        let said = |text: &str| read("ours.toml", text).err().unwrap().to_string();
        assert!(said("[policies.theirs]\nmodule = \"rules\"\n").contains("no [policies.ours]"));
        assert!(said("[policies.ours]\nmodule = \"mark\"\n").contains("module = \"rules\""));
        assert!(said("[policies.ours]\nmodul = \"rules\"\n").contains("modul"));
    }
}
