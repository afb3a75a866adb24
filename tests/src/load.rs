//! Load on a port: clients that bring numbered messages until each is decided, and what each of them was told.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::smtp::{Reply, Session, stuffed};

/// How long one message may take to be decided, the filter being killed again and again meanwhile.
const PATIENCE: Duration = Duration::from_secs(60);
/// How long a client that was put off waits before it comes again.
const AGAIN: Duration = Duration::from_millis(40);

/// Numbers by chance, the same for the same seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// Begins at a seed.
    pub fn new(seed: u64) -> Chance {
        Chance(seed)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((mixed ^ (mixed >> 31)) % u64::try_from(end).unwrap()).unwrap()
    }

    /// One of these.
    pub fn pick<T: Copy>(&mut self, of: &[T]) -> T {
        of[self.below(of.len())]
    }

    /// Some of these, at least one and at most `most`, in their order.
    pub fn some<T: Copy>(&mut self, of: &[T], most: usize) -> Vec<T> {
        let mut left: Vec<usize> = (0..of.len()).collect();
        let mut taken: Vec<usize> = (0..=self.below(most)).map(|_| left.remove(self.below(left.len()))).collect();
        taken.sort_unstable();
        taken.into_iter().map(|at| of[at]).collect()
    }
}

/// `ADDRAUTH_SEED`, else one by the clock; printed, so that a run can be repeated.
pub fn seed() -> u64 {
    let given = std::env::var("ADDRAUTH_SEED").ok().and_then(|text| text.parse().ok());
    let clock = || u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap();
    let seed = given.unwrap_or_else(clock);
    println!("ADDRAUTH_SEED={seed}");
    seed
}

/// How many rounds a test goes: few in the usual run, many where `ADDRAUTH_LONG` is set, or what the variable `name` says.
pub fn rounds(name: &str, usual: usize, long: usize) -> usize {
    let given = std::env::var(name).ok().and_then(|text| text.parse().ok());
    given.unwrap_or(if std::env::var_os("ADDRAUTH_LONG").is_some() { long } else { usual })
}

/// A numbered message.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Its number.
    pub number: usize,
    /// What kind it is, in the test's words.
    pub kind: &'static str,
    /// The reverse-path.
    pub from: String,
    /// The local parts of its recipients, in RCPT's order.
    pub users: Vec<&'static str>,
    /// Its octets, CRLF line endings.
    pub octets: Vec<u8>,
}

/// A message and every reply that ended a try to bring it; the last one decided it.
#[derive(Clone, Debug)]
pub struct Sent {
    /// The message.
    pub letter: Letter,
    /// The replies, in order.
    pub replies: Vec<Reply>,
    /// How many of them put it off after its last octet.
    pub cut_off: usize,
}

impl Sent {
    /// The reply that decided it.
    pub fn decided(&self) -> &Reply {
        self.replies.last().expect("a message is brought at least once")
    }

    /// Postfix's name for it, where it was taken.
    pub fn queue_id(&self) -> Option<&str> {
        self.decided().text.split_once("queued as ").map(|(_, id)| id.trim())
    }
}

/// Clients at work, each bringing one message after the other.
pub struct Load {
    stop: Arc<AtomicBool>,
    decided: Arc<AtomicUsize>,
    clients: Vec<JoinHandle<Vec<Sent>>>,
}

impl Load {
    /// Starts them; `write` makes the message of a number, `domain` is its recipients'. Each client rests for `pause` after
    /// a message.
    pub fn start(
        (port, domain): (u16, &str),
        clients: usize,
        pause: Duration,
        write: impl Fn(usize) -> Letter + Send + Sync + 'static,
    ) -> Load {
        let (stop, next, write) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)), Arc::new(write));
        let decided = Arc::new(AtomicUsize::new(0));
        let client = |_| {
            let (stop, next, write, domain) = (stop.clone(), next.clone(), write.clone(), domain.to_owned());
            let decided = decided.clone();
            std::thread::spawn(move || {
                let (mut session, mut sent) = (None, Vec::new());
                while !stop.load(Ordering::SeqCst) {
                    let letter = write(next.fetch_add(1, Ordering::SeqCst));
                    sent.push(bring(&mut session, port, letter, &domain));
                    decided.fetch_add(1, Ordering::SeqCst);
                    std::thread::sleep(pause);
                }
                sent
            })
        };
        let clients = (0..clients).map(client).collect();
        Load { stop, decided, clients }
    }

    /// How many messages are decided so far.
    pub fn decided(&self) -> usize {
        self.decided.load(Ordering::SeqCst)
    }

    /// Lets each client finish its message, and returns all by number.
    pub fn finish(self) -> Vec<Sent> {
        self.stop.store(true, Ordering::SeqCst);
        let mut all: Vec<Sent> = self.clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
        all.sort_by_key(|sent| sent.letter.number);
        all
    }
}

/// Brings a message until it is taken or refused for good, as a sending server does. A reply that puts it off ends the
/// session: Postfix asks a milter that broke off for nothing more in that one.
fn bring(session: &mut Option<Session>, port: u16, letter: Letter, domain: &str) -> Sent {
    let begin = Instant::now();
    let mut sent = Sent { letter, replies: Vec::new(), cut_off: 0 };
    loop {
        let (reply, at_end) = once(session.get_or_insert_with(|| Session::open(port)), &sent.letter, domain);
        let decided = reply.code / 100 != 4;
        sent.replies.push(reply);
        if decided {
            return sent;
        }
        sent.cut_off += usize::from(at_end);
        assert!(begin.elapsed() < PATIENCE, "never decided: {sent:?}");
        *session = None;
        std::thread::sleep(AGAIN);
    }
}

/// One transaction for all recipients: where one of them is put off, the message is. Whether the reply came after the message.
fn once(session: &mut Session, letter: &Letter, domain: &str) -> (Reply, bool) {
    let paths = letter.users.iter().map(|user| format!("RCPT TO:<{user}@{domain}>"));
    for line in std::iter::once(format!("MAIL FROM:<{}>", letter.from)).chain(paths) {
        let reply = session.say(&line);
        if reply.code != 250 {
            return (reply, false);
        }
    }
    let reply = session.say("DATA");
    if reply.code != 354 {
        return (reply, false);
    }
    session.write(&stuffed(&letter.octets));
    session.write(b".\r\n");
    (session.reply(), true)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_choices_and_some_are_never_none() {
        let choose = |seed| {
            let mut chance = Chance::new(seed);
            (0..50).map(|_| chance.some(&["a", "b", "c", "d"], 3)).collect::<Vec<_>>()
        };
        assert_eq!(choose(7), choose(7));
        assert_ne!(choose(7), choose(8));
        assert!(choose(7).iter().all(|some| (1..=3).contains(&some.len()) && some.is_sorted()));
    }
}
