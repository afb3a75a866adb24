//! Policies by the names that are given on the command line, loaded to be looked at.

use std::cell::OnceCell;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::new::text::Text;
use super::{Error, Setting};
use crate::{CONFIG_FILE, Context, ledger, named, trial};
use addrauth::case::{Recipient, Wish};
use addrauth::config::{Config, Limits, Sources};
use addrauth::policy::rehearse::{self, Component, Located, Samples, Stage, Subject, Suite, WrittenFacts};
use addrauth::policy::{Origin, Policies, Trial, candidate_of};

/// What the verbs of the workshop share: a sandbox, the configuration where somebody asks for it, and the bounds.
pub(super) struct Workshop {
    context: Context,
    config: OnceCell<Config>,
    stage: OnceCell<Stage>,
    pub(super) trial: Trial,
    pub(super) limits: Arc<Limits>,
}

/// A policy that was found by its name and loaded.
pub(super) struct Named {
    pub(super) located: Located,
    pub(super) component: Arc<Component>,
    /// The settings of the configuration and of the command line.
    pub(super) given: BTreeMap<String, toml::Value>,
    /// The file that its settings stand in, where it was named by that or by its folder.
    file: Option<PathBuf>,
}

impl Workshop {
    pub(super) fn new(context: &Context) -> Workshop {
        let limits = Arc::new(Limits::default());
        Workshop { context: context.clone(), config: OnceCell::new(), stage: OnceCell::new(), trial: trial(), limits }
    }

    /// The same with room for every combination.
    pub(super) fn exhaustive(self) -> Workshop {
        let limits = Limits::default().with(|limits| limits.policy.rows = limits.policy.rows_exhaustive);
        Workshop { limits: Arc::new(limits), ..self }
    }

    /// The configuration; read once.
    pub(super) fn config(&self) -> Result<&Config, Error> {
        if self.config.get().is_none() {
            let config = self.context.read_config().map(named)?;
            // Nobody else sets it.
            let _ = self.config.set(config);
        }
        self.config.get().ok_or(Error::Nothing)
    }

    fn stage(&self) -> Result<&Stage, Error> {
        if self.stage.get().is_none() {
            let mut limits = Limits::clone(&self.limits);
            // A configuration that cannot be read is told of where it is needed.
            limits.policy.interpreter = self.config().is_ok_and(|config| config.policy.interpreter);
            let stage = Stage::new(&Arc::new(limits)).map_err(Error::Setup)?;
            let _ = self.stage.set(stage);
        }
        self.stage.get().ok_or(Error::Nothing)
    }

    /// Finds a policy; the configuration is read only where the word names no place.
    pub(super) fn locate(&self, word: &str) -> Result<Located, Error> {
        if let Some(text) = Text::at(Path::new(word))?
            && let Some(located) = text.located()
        {
            self.note_namesake(word, &located);
            return Ok(located);
        }
        if let Some(located) = rehearse::locate_path(Path::new(word), &self.limits)? {
            self.note_namesake(word, &located);
            return Ok(located);
        }
        let config = self.config()?;
        Ok(rehearse::locate(word, &config.policy, &config.policies, &self.limits)?)
    }

    /// Says where a word is a folder here, and the id of something else in the configuration.
    fn note_namesake(&self, word: &str, located: &Located) {
        let Ok(config) = self.config() else { return };
        let Ok(other) = rehearse::locate_id(word, &config.policy, &config.policies, &self.limits) else { return };
        if (&other.digest, &other.settings) != (&located.digest, &located.settings) {
            eprintln!(
                "note: `{word}` is the folder here. The configuration has another policy of this id: run this in another directory for that one"
            );
        }
    }

    /// Finds and loads a policy, with these settings above those of the configuration.
    pub(super) fn load(&self, word: &str, set: &[Setting]) -> Result<Named, Error> {
        let named = self.load_located(self.locate(word)?, set)?;
        let text = Text::at(Path::new(word))?;
        Ok(Named { file: text.map(|text| text.file), ..named })
    }

    /// The candidate beside a policy of the configuration, where there is one that can be loaded.
    pub(super) fn candidate(&self, id: &str) -> Option<Named> {
        let config = self.config().ok()?;
        let module = config.policies.get(id)?;
        let candidate = candidate_of(id, &config.policy.dir, module, module.shadow.as_ref()?).ok()?;
        let located = rehearse::locate(id, &config.policy, &[(id.to_owned(), candidate)].into(), &self.limits).ok()?;
        self.load_located(located, &[]).ok()
    }

    fn load_located(&self, located: Located, set: &[Setting]) -> Result<Named, Error> {
        let component = self.open(&located)?.assuming(located.settings.clone());
        let mut given = located.settings.clone();
        given.extend(set.iter().map(|Setting(name, value)| (name.clone(), value.clone())));
        Ok(Named { located, component: Arc::new(component), given, file: None })
    }

    /// Loads a component.
    pub(super) fn open(&self, located: &Located) -> Result<Component, Error> {
        // What ships is part of this program.
        let waived = Trial::waived();
        let trial = if located.origin == Origin::Shipped { &waived } else { &self.trial };
        self.stage()?
            .load_as(&located.octets, located.size, trial)
            .map_err(|why| Error::Unfit { path: place(located), why: Box::new(why) })
    }

    /// Finds a component by its place, or by its id in the configuration, whoever signed it or nobody.
    pub(super) fn located(&self, word: &str) -> Result<Located, Error> {
        if let Some(located) = rehearse::locate_path(Path::new(word), &self.limits)? {
            self.note_namesake(word, &located);
            return Ok(located);
        }
        let config = self.config()?;
        Ok(rehearse::locate_id(word, &config.policy, &config.policies, &self.limits)?)
    }

    /// The same of a component that comes from a file.
    pub(super) fn component_file(&self, word: &str) -> Result<(Located, PathBuf), Error> {
        let located = self.located(word)?;
        match located.origin.clone() {
            Origin::File(path) => Ok((located, path)),
            _ => Err(Error::Ships(word.to_owned())),
        }
    }

    /// The files of the configuration, and their texts.
    pub(super) fn sources(&self) -> Result<Sources, Error> {
        let path = self.context.config.clone().unwrap_or_else(|| CONFIG_FILE.into());
        Ok(Sources::read(&path)?)
    }

    /// All that the configuration binds and the recipient chose, for mail to this recipient from senders that are on no list; none:
    /// for recipients without lines and choices of their own.
    pub(super) fn site(&self, recipient: Option<&str>) -> Result<Subject, Error> {
        let config = self.config()?;
        let policies = Policies::load(&config.policy, &config.policies, &self.limits, &self.trial)?;
        let name = recipient.unwrap_or("the bindings");
        let path = format!("<{}>", recipient.unwrap_or("nobody@nowhere.invalid"));
        let rcpt = Recipient::new(path.as_bytes());
        let wish = if recipient.is_some() { wish(config, &rcpt)? } else { Wish::default() };
        Ok(Subject::site(name, &Arc::new(policies), rcpt, wish))
    }

    /// Takes the facts of a case from a message.
    pub(super) fn message(&self, path: &Path, given: &WrittenFacts) -> Result<WrittenFacts, String> {
        let config = self.config().map_err(|e| e.to_string())?;
        super::mail::facts(path, given, config, &self.limits)
    }
}

/// What this recipient chose.
fn wish(config: &Config, recipient: &Recipient) -> Result<Wish, Error> {
    // A thread of its own, where nobody else waits.
    let read = tokio::runtime::Handle::current().block_on(async {
        let Some(ledger) = ledger(config).await? else { return Ok(Wish::default()) };
        let wishes = ledger.wishes(&[recipient.mailbox()], None).await;
        ledger.close().await;
        Ok(wishes?.into_iter().next().unwrap_or_default())
    });
    read.map_err(Error::Choices)
}

/// Where a component comes from, for a text.
fn place(located: &Located) -> PathBuf {
    match &located.origin {
        Origin::File(path) => path.clone(),
        _ => PathBuf::from(&located.name),
    }
}

impl Named {
    /// The component under its settings.
    pub(super) fn subject(&self) -> Result<Subject, Error> {
        let name = &self.located.name;
        let unfit = |text: String| match &self.file {
            Some(file) => Error::Text { file: file.clone(), text: text.trim_start_matches("refused: ").to_owned() },
            None => Error::Settings { name: name.clone(), text },
        };
        let settings = self.component.fit(&self.given).map_err(unfit)?;
        self.component.under(name, settings).map_err(|why| unfit(why.to_string()))
    }

    /// The cases beside it, where there are any.
    pub(super) fn suite(&self, limits: &Limits) -> Result<Option<Suite>, Error> {
        self.located.cases.as_deref().map(|path| suite(path, limits)).transpose()
    }

    /// The constants that the cases beside it name.
    pub(super) fn samples(&self, workshop: &Workshop) -> Result<Samples, Error> {
        let messages = |path: &Path, facts: &WrittenFacts| workshop.message(path, facts);
        let suite = self.suite(&workshop.limits)?;
        Ok(suite.map(|suite| suite.samples(&self.component, &self.given, &messages)).unwrap_or_default())
    }
}

/// Reads a file of cases.
pub(super) fn suite(path: &Path, limits: &Limits) -> Result<Suite, Error> {
    let text = addrauth::files::read_text(path, limits.policy.cases_octets)
        .map_err(|e| Error::Read { path: path.to_owned(), source: e.into() })?;
    Ok(Suite::read(&text, path)?)
}
