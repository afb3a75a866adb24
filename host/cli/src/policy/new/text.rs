//! A policy that is written as text: a folder with NAME.toml, which the shipped policy `rules` reads.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use super::super::Error;
use addrauth::config::{Config, Limits, Module};
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
    /// The policy of a folder, or of a file NAME.toml such as a candidate's; none where it is neither.
    pub(in crate::policy) fn at(path: &Path) -> Result<Option<Text>, Error> {
        if !(path.extension().is_some_and(|extension| extension == "toml") && path.is_file()) {
            return Text::read(path);
        }
        let mut config = Text::config(path)?;
        let ids: Vec<String> = config.policies.keys().cloned().collect();
        let [id] = ids.as_slice() else {
            let text = format!("it holds {} policies: name a file with one [policies.ID]", ids.len());
            return Err(Error::Syntax { path: path.to_owned(), text });
        };
        let module = config.policies.remove(id);
        Text::of(id.clone(), path.to_owned(), module).map(Some)
    }

    fn config(file: &Path) -> Result<Config, Error> {
        let text = addrauth::files::read_text(file, Limits::default().policy.cases_octets)
            .map_err(|e| Error::Read { path: file.to_owned(), source: e.into() })?;
        Ok(Config::parse(&text, file)?)
    }

    fn of(name: String, file: PathBuf, module: Option<Module>) -> Result<Text, Error> {
        match module.filter(|module| module.module.as_deref() == Some(Path::new(READER))) {
            Some(module) => Ok(Text { name, file, settings: module.settings }),
            None => {
                let text = format!(
                    "there is no [policies.{name}] with module = \"{READER}\": the folder's name is the policy's id"
                );
                Err(Error::Syntax { path: file, text })
            }
        }
    }

    /// The policy of a folder; none where it is no such folder.
    pub(in crate::policy) fn read(dir: &Path) -> Result<Option<Text>, Error> {
        let Some([file, _]) = files(dir) else { return Ok(None) };
        let name = file.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let module = Text::config(&file)?.policies.remove(&name);
        Text::of(name, file, module).map(Some)
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
    fn a_file_with_one_policy_is_that_policy_whatever_the_file_is_called() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("boss.next.toml");
        let told = |text: &str| {
            std::fs::write(&path, text).unwrap();
            Text::at(&path).map(|text| text.map(|text| text.name))
        };
        let one = "[policies.boss]\nmodule = \"rules\"\nsettings.rules = [\"otherwise accept\"]\n";
        assert_eq!(told(one).unwrap().as_deref(), Some("boss"));
        assert!(told("hostname = \"mx.test\"\n").is_err_and(|e| e.to_string().contains("0 policies")));
        assert!(told(&format!("{one}[policies.other]\nmodule = \"rules\"\n")).is_err());
        assert!(told("[policies.boss]\nmodule = \"mark\"\n").is_err_and(|e| e.to_string().contains("rules")));
        assert!(Text::at(&dir.path().join("absent.toml")).unwrap().is_none());
    }

    #[test]
    fn a_text_of_another_name_or_for_another_reader_or_that_is_no_configuration_is_told() {
        let said = |text: &str| read("ours.toml", text).err().unwrap().to_string();
        assert!(said("[policies.theirs]\nmodule = \"rules\"\n").contains("no [policies.ours]"));
        assert!(said("[policies.ours]\nmodule = \"mark\"\n").contains("module = \"rules\""));
        assert!(said("[policies.ours]\nmodul = \"rules\"\n").contains("modul"));
    }
}
