//! A message on its way in: its envelope, and its header until that is whole.

use zeroize::Zeroizing;

use super::header::Cut;
use crate::case::Mail;
use crate::config::Limits;
use crate::mta::Refused;
use crate::mta::intake::Intake;

/// Octets of a body among which a hidden key field is looked for: as many as a milter gets in the first piece.
const BODY_START: usize = 64 * 1024;
/// Octets from which on it is worth looking whether the header is whole.
const LOOK: usize = 16 * 1024;

/// A message on its way in.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) intake: Intake,
    pub(super) path: Vec<u8>,
    pub(super) parameters: Vec<Vec<u8>>,
    /// What each RCPT said besides its path; one for each recipient.
    pub(super) wishes: Vec<Vec<u8>>,
    pub(super) stage: Stage,
    /// The header and the beginning of the body, until it is examined; it may hold keys.
    pub(super) start: Zeroizing<Vec<u8>>,
    /// How many octets `start` is to have before it is looked at again.
    look: usize,
    pub(super) header: Option<Cut>,
    pub(super) by_chunks: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// MAIL is not answered yet.
    Asked,
    Envelope,
    /// The header, or the beginning of the body, is coming in.
    Start,
    Body,
}

/// A message whose header was read, and the beginning of its body.
pub(super) type Begun = (Box<Mail>, Vec<u8>);

impl Incoming {
    /// A message whose MAIL is not answered yet.
    pub(super) fn new(intake: Intake, path: &[u8], parameters: &[&[u8]]) -> Incoming {
        Incoming {
            intake,
            path: path.to_vec(),
            parameters: parameters.iter().map(|parameter| parameter.to_vec()).collect(),
            wishes: Vec::new(),
            stage: Stage::Asked,
            start: Zeroizing::default(),
            look: LOOK,
            header: None,
            by_chunks: false,
        }
    }

    /// Reads the header once it is whole and the body has begun, or the message is `over`: the mail, and the beginning of the
    /// body.
    pub(super) fn look_at(&mut self, over: bool, limits: &Limits) -> Option<Result<Begun, Refused>> {
        if !over && self.start.len() < self.look {
            return None;
        }
        let cut = match Cut::of(&self.start, limits.mta.lmtp_header) {
            Ok(cut) => cut,
            Err(refused) => return Some(Err(self.fail(refused))),
        };
        let body = self.start.get(cut.end()..).unwrap_or_default();
        if !over && (!cut.is_whole() || body.len() < BODY_START) {
            self.look = (self.start.len() * 2).min(cut.end().saturating_add(BODY_START)).max(self.start.len() + 1);
            return None;
        }
        self.stage = Stage::Body;
        let told = cut.tell(&mut self.intake).and_then(|()| {
            let mail = self.intake.finish(body.get(..BODY_START).unwrap_or(body))?;
            Ok((Box::new(mail), body.to_vec()))
        });
        let told = told.map_err(|refused| self.fail(refused));
        self.header = Some(cut);
        // Wiped: it may hold keys.
        self.start = Zeroizing::default();
        Some(told)
    }

    fn fail(&mut self, refused: Refused) -> Refused {
        self.stage = Stage::Body;
        self.start = Zeroizing::default();
        refused
    }
}
