//! One message between the MTA and the next hop: its plan, the copy that is being brought, and what is said in the end.

use std::collections::VecDeque;

use tokio::time::{Instant, sleep_until, timeout_at};

use super::door::Door;
use super::header::Cut;
use super::hop::{Envelope, Fault, Hop, Open};
use super::plan::{Group, Plan, To};
use super::reply::Reply;
use super::spool::Spool;
use crate::case::{Case, Mail, NewKey};
use crate::mta::reception::Admitted;
use crate::mta::{FOR_NOW, Judge, NO_ROOM, Refused};

/// The message in flight.
pub(super) struct Message<J> {
    admitted: Admitted<J>,
    /// What examining gave, and the header.
    judged: Option<(Case, Cut)>,
    /// What is said of each recipient, as far as it is known.
    said: Vec<Option<Vec<u8>>>,
    /// The copy that the next hop takes in now.
    open: Option<Open>,
    /// Copies that are brought once the message is over.
    waiting: VecDeque<Group>,
    /// The body for these.
    spool: Option<Spool>,
    /// What is said of all recipients, where nothing comes of the message.
    failed: Option<&'static str>,
    /// When the MTA stops waiting, once the message is over. One time for all that is left, however many copies there are.
    until: Option<Instant>,
}

impl<J: Judge> Message<J> {
    pub(super) fn new(admitted: Admitted<J>) -> Message<J> {
        Message {
            admitted,
            judged: None,
            said: Vec::new(),
            open: None,
            waiting: VecDeque::new(),
            spool: None,
            failed: None,
            until: None,
        }
    }

    /// It is over: the MTA waits for the first answer from now on.
    pub(super) fn is_over(&mut self, door: &Door<J>) -> Instant {
        *self.until.get_or_insert_with(|| Instant::now() + door.reception.limits().mta.next_hop_end)
    }

    /// Whether it holds the connection to the next hop in the middle of a copy.
    pub(super) fn is_open(&self) -> bool {
        self.open.is_some()
    }

    /// Nothing comes of it any more. Where a copy was begun, the connection to the next hop must not be used any more.
    pub(super) fn fail(&mut self, reply: &'static str) {
        self.failed.get_or_insert(reply);
        self.open = None;
        self.waiting.clear();
        self.spool = None;
    }

    /// Has it examined, and begins the first copy.
    pub(super) async fn begin(
        &mut self,
        door: &Door<J>,
        mail: Mail,
        cut: Cut,
        envelope: Envelope<'_>,
        hop: &mut Option<Hop>,
    ) -> Result<(), Refused> {
        let case = self.admitted.examine(mail, door.reception.due()).await?;
        let plan = Plan::of(&case.reply, &case.mail.recipients, &cut)?;
        // A new key may turn out to be an old one when it is kept, and then it is not delivered.
        let learns = case.finding.found().is_some_and(|found| matches!(found.new_key, Some(NewKey::Proven(_))));
        self.judged = Some((case, cut));
        self.take(plan);
        if !learns {
            self.next(door, envelope, hop, false).await;
        }
        if !self.waiting.is_empty() {
            self.spool = Some(Spool::new(&door.room, door.reception.limits()));
        }
        Ok(())
    }

    fn take(&mut self, plan: Plan) {
        self.said = plan.said.into_iter().map(|said| said.map(String::into_bytes)).collect();
        self.waiting = plan.groups.into();
    }

    /// A piece of its body.
    pub(super) async fn piece(&mut self, door: &Door<J>, piece: &[u8], hop: &mut Option<Hop>) {
        if self.failed.is_some() {
            return;
        }
        if self.judged.as_ref().is_some_and(|(case, _)| case.reply.wants_body())
            && let Err(refused) = self.admitted.collect(piece)
        {
            self.refuse(&refused, hop);
            return;
        }
        if let Some(spool) = &mut self.spool
            && let Err(fault) = spool.add(piece).await
        {
            tracing::warn!("a copy cannot wait: {fault}");
            self.spool = None;
            for group in std::mem::take(&mut self.waiting) {
                self.say(&group.to, NO_ROOM.as_bytes());
            }
        }
        if let (Some(open), Some(connection)) = (&mut self.open, hop.as_mut()) {
            let brought = tokio::select! {
                biased;
                () = door.reception.closed().cancelled() => Err(Fault::Stopping),
                brought = connection.piece(open, piece) => brought,
            };
            if let Err(fault) = brought {
                self.lose(fault, hop);
            }
        }
    }

    /// Nothing comes of it, by a fault of this door.
    pub(super) fn refuse(&mut self, refused: &Refused, hop: &mut Option<Hop>) {
        let id = self.judged.as_ref().and_then(|(case, _)| case.mail.queue_id.clone()).unwrap_or_default();
        tracing::warn!(queue_id = %id.escape_default(), "the message is refused for now: {refused}");
        if self.is_open() {
            *hop = None;
        }
        self.fail(refused.reply_behind_queue());
    }

    /// The copy that was being brought is lost with the connection.
    fn lose(&mut self, fault: Fault, hop: &mut Option<Hop>) {
        tracing::warn!("{fault}");
        *hop = None;
        if let Some(open) = self.open.take() {
            self.say(&open.to, fault.reply().as_bytes());
        }
    }

    /// It is over: what is owed is kept, each copy is brought to its end, and there is an answer for each recipient.
    pub(super) async fn end(
        mut self,
        door: &Door<J>,
        envelope: Envelope<'_>,
        recipients: usize,
        hop: &mut Option<Hop>,
    ) -> Vec<Vec<u8>> {
        let until = self.is_over(door);
        if self.failed.is_none()
            && let Err(refused) = self.keep(door, hop).await
        {
            self.refuse(&refused, hop);
        }
        while self.failed.is_none() && (self.is_open() || !self.waiting.is_empty()) {
            self.finish(door, until, hop).await;
            self.next(door, envelope, hop, true).await;
        }
        let failed = self.failed.unwrap_or(FOR_NOW);
        let all = self.failed.is_some();
        self.said.resize(recipients, None);
        let said = self.said.into_iter().map(|said| if all { None } else { said });
        said.map(|said| said.unwrap_or_else(|| failed.as_bytes().to_vec())).collect()
    }

    /// Has what is owed made durable.
    async fn keep(&mut self, door: &Door<J>, hop: &mut Option<Hop>) -> Result<(), Refused> {
        let (case, cut) = self.judged.take().ok_or(Refused::Panicked("keeping"))?;
        let planned = case.reply.clone();
        let can_say = |case: &Case| Plan::of(&case.reply, &case.mail.recipients, &cut).map(drop);
        let case = self.admitted.keep(case, b"", door.reception.due(), can_say).await?;
        if case.reply != planned {
            let plan = Plan::of(&case.reply, &case.mail.recipients, &cut)?;
            if !plan.groups.is_empty() && self.spool.is_none() {
                return Err(Refused::Edit);
            }
            if self.open.take().is_some() {
                *hop = None;
            }
            self.take(plan);
        }
        self.judged = Some((case, cut));
        Ok(())
    }

    /// Begins the next copy that the next hop wants for anybody. Behind the first (`waited`) its body is what waited.
    async fn next(&mut self, door: &Door<J>, envelope: Envelope<'_>, hop: &mut Option<Hop>, waited: bool) {
        let until = self.until;
        while !self.is_open()
            && let Some(group) = self.waiting.pop_front()
        {
            if until.is_some_and(|until| Instant::now() >= until) {
                self.say(&group.to, Fault::Silent.reply().as_bytes());
                continue;
            }
            let beginning = begin(door, envelope, &group, hop);
            let begun = match until {
                Some(until) => timeout_at(until, beginning).await.unwrap_or(Err(Fault::Silent)),
                None => beginning.await,
            };
            match begun {
                Ok((open, refused)) => {
                    for (to, reply) in refused {
                        self.say(&[to], &reply.line());
                    }
                    self.open = open;
                }
                Err(fault) => {
                    tracing::warn!("{fault}");
                    *hop = None;
                    self.say(&group.to, fault.reply().as_bytes());
                }
            }
            if let Some(until) = until
                && self.is_open()
                && waited
            {
                tokio::select! {
                    biased;
                    () = door.reception.closed().cancelled() => self.lose(Fault::Stopping, hop),
                    () = sleep_until(until) => self.lose(Fault::Silent, hop),
                    () = self.replay(hop) => {}
                }
            }
        }
    }

    /// Brings the body that waited.
    async fn replay(&mut self, hop: &mut Option<Hop>) {
        let (Some(open), Some(connection), Some(spool)) = (&mut self.open, hop.as_mut(), &mut self.spool) else {
            return self.lose(Fault::Nonsense, hop);
        };
        let mut reading = match spool.rewind().await {
            Ok(reading) => reading,
            Err(fault) => return self.lose(Fault::Broke(std::io::Error::other(fault)), hop),
        };
        loop {
            let brought = match reading.next().await {
                Ok(piece) if piece.is_empty() => return,
                Ok(piece) => connection.piece(open, &piece).await,
                Err(fault) => Err(Fault::Broke(std::io::Error::other(fault))),
            };
            if let Err(fault) = brought {
                return self.lose(fault, hop);
            }
        }
    }

    /// Ends the copy that is open: the next hop's word about each recipient of it.
    async fn finish(&mut self, door: &Door<J>, until: Instant, hop: &mut Option<Hop>) {
        let Some(open) = self.open.take() else { return };
        let (to, mut said) = (open.to.clone(), Vec::new());
        let ended = match hop.as_mut() {
            Some(connection) => tokio::select! {
                biased;
                () = door.reception.closed().cancelled() => Err(Fault::Stopping),
                ended = connection.end(open, until, &mut said) => ended,
            },
            None => Err(Fault::Closed),
        };
        if let Err(fault) = ended {
            tracing::warn!("{fault}");
            *hop = None;
            self.say(&to, fault.reply().as_bytes());
        }
        // Whom the next hop has answered has the copy, or has none, whatever became of the connection then.
        said.into_iter().for_each(|(to, reply)| self.say(&[to], &reply.line()));
    }

    fn say(&mut self, to: &[To], line: &[u8]) {
        for to in to {
            if let Some(said) = self.said.get_mut(to.recipient) {
                *said = Some(line.to_vec());
            }
        }
    }
}

/// What the next hop wants of a group, and whom it refused.
type Wanted = (Option<Open>, Vec<(To, Reply)>);

/// Begins a copy, on another connection where the one that is there had ended.
async fn begin<J: Judge>(
    door: &Door<J>,
    envelope: Envelope<'_>,
    group: &Group,
    hop: &mut Option<Hop>,
) -> Result<Wanted, Fault> {
    let beginning = async {
        // Behind BDAT each word is a 250, so that one too many would pass for the next: no connection has two such copies.
        if envelope.by_chunks && hop.as_ref().is_some_and(Hop::is_used) {
            *hop = None;
        }
        // What has come in by now is seen then.
        tokio::task::yield_now().await;
        if hop.as_mut().is_some_and(|connection| !connection.is_quiet()) {
            tracing::warn!("the next hop said what it was not asked for, or closed: the connection is not used again");
            *hop = None;
        }
        if let Some(connection) = hop.as_mut() {
            match connection.begin(envelope, group).await {
                Ok(begun) => return Ok((begun.open, begun.refused)),
                Err(fault) if connection.was_stale(&fault) => *hop = None,
                Err(fault) => return Err(fault),
            }
        }
        let connection = hop.insert(door.connect().await?);
        let begun = connection.begin(envelope, group).await?;
        Ok((begun.open, begun.refused))
    };
    tokio::select! {
        biased;
        () = door.reception.closed().cancelled() => Err(Fault::Stopping),
        begun = beginning => begun,
    }
}
