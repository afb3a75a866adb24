//! What a bench sets beside ours: the least milter and the least UDP server, built from C, and opendkim, rspamd and NSD where
//! they are installed.

use std::fmt::Write as _;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpStream, UdpSocket};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::bench::site::address;
use crate::courier::OFFER;
use crate::probe::frame;

/// How long a program may take until it listens.
const PATIENCE: Duration = Duration::from_secs(60);
/// A type and class of DNS: TXT, IN.
const TXT: [u8; 4] = [0, 16, 0, 1];

/// A running program; dropped, it is ended by its process id.
#[derive(Debug)]
pub struct Peer {
    child: Child,
}

/// A program that is not there or does not run: which, and why.
#[derive(Clone, Debug)]
pub struct Skipped(pub String);

impl Peer {
    /// Its process id; it may have children.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn start(command: &mut Command, log: &Path, mut ready: impl FnMut() -> bool) -> Result<Peer, Skipped> {
        let program = command.get_program().to_string_lossy().into_owned();
        let file = fs::File::create(log).map_err(|e| Skipped(format!("{}: {e}", log.display())))?;
        let also = file.try_clone().map_err(|e| Skipped(format!("{}: {e}", log.display())))?;
        let started = command.stdin(Stdio::null()).stdout(file).stderr(also).spawn();
        let child = started.map_err(|e| Skipped(format!("{program}: not installed ({e})")))?;
        let mut peer = Peer { child };
        let begin = Instant::now();
        while !ready() {
            let ended = peer.child.try_wait().ok().flatten();
            if ended.is_some() || begin.elapsed() > PATIENCE {
                let words = fs::read_to_string(log).unwrap_or_default();
                let how = ended.map_or("does not listen".into(), |status| format!("ended, {status}"));
                return Err(Skipped(format!("{program}: {how}: {}", words.trim())));
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(peer)
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        if !matches!(self.child.try_wait(), Ok(None)) {
            return;
        }
        // rspamd and NSD end their children where they are asked to end.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let begin = Instant::now();
        while matches!(self.child.try_wait(), Ok(None)) && begin.elapsed() < Duration::from_secs(5) {
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A program of Debian's, which may stand where PATH of an ordinary user does not look.
fn program(name: &str) -> Command {
    let paths = ["/usr/sbin", "/usr/bin"].map(|folder| Path::new(folder).join(name));
    Command::new(paths.into_iter().find(|path| path.exists()).unwrap_or_else(|| PathBuf::from(name)))
}

/// Builds `tests/bench/NAME.c` into this folder.
fn build(name: &str, folder: &Path) -> Result<PathBuf, Skipped> {
    let program = folder.join(name);
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("bench").join(name).with_extension("c");
    let built = Command::new("cc").args(["-O2", "-Wall", "-Wextra", "-o"]).arg(&program).arg(source).status();
    match built {
        Ok(status) if status.success() => Ok(program),
        _ => Err(Skipped(format!("{name}: the C compiler does not build bench/{name}.c"))),
    }
}

/// Whether something takes connections at this place, as `milter.listen` spells it.
fn listens(milter: &str) -> bool {
    match milter.strip_prefix("unix:") {
        Some(path) => UnixStream::connect(path).is_ok(),
        None => TcpStream::connect(milter.trim_start_matches("inet:")).is_ok(),
    }
}

/// What the milter there answers to Postfix's offer, in hexadecimal.
pub fn terms(milter: &str) -> String {
    let answer = match milter.strip_prefix("unix:") {
        Some(path) => negotiate(UnixStream::connect(path).unwrap()),
        None => negotiate(TcpStream::connect(milter.trim_start_matches("inet:")).unwrap()),
    };
    answer.iter().fold(String::new(), |mut text, octet| {
        let _ = write!(text, "{octet:02x}");
        text
    })
}

fn negotiate(mut stream: impl Read + Write) -> Vec<u8> {
    stream.write_all(&frame(b'O', &OFFER.map(u32::to_be_bytes).concat())).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).unwrap();
    let mut answer = vec![0; usize::try_from(u32::from_be_bytes(length)).unwrap()];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(answer[0], b'O', "a milter answers an offer by its terms");
    answer.split_off(1)
}

/// The least milter at this place, on terms as [`terms`] tells them.
pub fn floor(folder: &Path, milter: &str, terms: &str) -> Result<Peer, Skipped> {
    let program = build("floor", folder)?;
    let place = milter.strip_prefix("unix:").or(milter.strip_prefix("inet:127.0.0.1:")).unwrap_or(milter);
    let mut command = Command::new(program);
    Peer::start(command.arg(place).arg(terms), &folder.join("floor.log"), || listens(milter))
}

/// opendkim at this place: it looks for signatures, finds none, and says so in a field.
pub fn opendkim(folder: &Path, milter: &str) -> Result<Peer, Skipped> {
    let (conf, others) = (folder.join("opendkim.conf"), folder.join("others"));
    // What comes from its own networks it would sign; Postfix's client here is on loopback.
    fs::write(&others, "192.0.2.1\n").unwrap();
    let socket = match milter.strip_prefix("unix:") {
        Some(path) => format!("local:{path}"),
        None => format!("inet:{}@127.0.0.1", milter.rsplit(':').next().unwrap_or_default()),
    };
    let text = format!(
        "Mode v\nSocket {socket}\nUMask 000\nSyslog no\nAuthservID opendkim.test\nAlwaysAddARHeader yes\nInternalHosts {}\n",
        others.display()
    );
    fs::write(&conf, text).unwrap();
    let mut command = program("opendkim");
    Peer::start(command.arg("-f").arg("-x").arg(conf), &folder.join("opendkim.log"), || listens(milter))
}

/// rspamd at this place, with one rule, which inserts a field.
pub fn rspamd(folder: &Path, milter: &str) -> Result<Peer, Skipped> {
    let socket = match milter.strip_prefix("unix:") {
        Some(path) => format!("{path} mode=0666"),
        None => milter.trim_start_matches("inet:").to_owned(),
    };
    let (conf, rule) = (folder.join("rspamd.conf"), folder.join("rule.lua"));
    fs::write(&rule, RULE).unwrap();
    // It takes half a minute to compile Debian's list of top-level domains.
    fs::write(folder.join("tlds"), "test\n").unwrap();
    let text = format!(
        "options {{ url_tld = \"{0}/tlds\"; filters = \"\"; tempdir = \"{0}\"; rrd = \"\"; stats_file = \"{0}/stats\"; hs_cache_dir = \"{0}\";\n  \
         dns {{ nameserver = [\"127.0.0.1:9\"]; }} }}\n\
         logging {{ type = \"console\"; level = \"error\"; }}\nlua = \"{1}\";\n\
         actions {{ reject = 1000; add_header = 999; greylist = 998; }}\n\
         worker \"rspamd_proxy\" {{ bind_socket = \"{socket}\"; count = 1; milter = yes; timeout = 60s;\n  \
         upstream \"local\" {{ default = yes; self_scan = yes; }} }}\n",
        folder.display(),
        rule.display()
    );
    fs::write(&conf, text).unwrap();
    let mut command = program("rspamd");
    command.args(["-f", "-i", "-c"]).arg(conf);
    Peer::start(&mut command, &folder.join("rspamd.log"), || listens(milter))
}

const RULE: &str = r#"rspamd_config.ONE = { score = 0, callback = function(task)
  task:set_milter_reply({ add_headers = { ['Authentication-Results'] = { value = 'rspamd.test; none', order = 0 } } })
  return true
end }
"#;

/// The least UDP server on this port; it sleeps so long between a batch of questions and their answers.
pub fn echo(folder: &Path, port: u16, hold: Duration) -> Result<Peer, Skipped> {
    let program = build("echo", folder)?;
    let ready = || answers(port, b"x");
    let hold = hold.as_micros().to_string();
    Peer::start(Command::new(program).arg(port.to_string()).arg(&hold), &folder.join(format!("echo-{hold}.log")), ready)
}

/// NSD on this port, with a TXT record for each of the first addresses, as long as an answer of VERIFY.
pub fn nsd(folder: &Path, port: u16, addresses: usize) -> Result<Peer, Skipped> {
    let (conf, zone) = (folder.join("nsd.conf"), folder.join("zone"));
    let mut text =
        String::from("$ORIGIN example.com.\n$TTL 60\n@ SOA ns root 1 3600 600 86400 60\n@ NS ns\nns A 127.0.0.1\n");
    for n in 0..addresses {
        let _ = writeln!(text, "{} TXT \"{}\"", local_part(n), "r".repeat(48));
    }
    fs::write(&zone, text).unwrap();
    let text = format!(
        "server:\n  ip-address: 127.0.0.1@{port}\n  server-count: 1\n  username: \"\"\n  zonesdir: \"{0}\"\n  \
         pidfile: \"{0}/nsd.pid\"\n  xfrdfile: \"{0}/xfrd\"\n  zonelistfile: \"{0}/zones\"\n  xfrdir: \"{0}\"\n  database: \"\"\n  \
         rrl-ratelimit: 0\n  minimal-responses: yes\nremote-control:\n  control-enable: no\nzone:\n  name: example.com\n  zonefile: zone\n",
        folder.display()
    );
    fs::write(&conf, text).unwrap();
    let question = txt_questions(1, 1, 0).remove(0);
    let mut command = program("nsd");
    Peer::start(command.arg("-d").arg("-c").arg(conf), &folder.join("nsd.log"), || answers(port, &question))
}

fn local_part(n: usize) -> String {
    let address = address(n);
    address.split_once('@').map_or(address.clone(), |(local, _)| local.to_owned())
}

/// Questions of DNS for the TXT records of the same addresses as [`questions`](crate::bench::site::questions) asks about.
pub fn txt_questions(count: usize, addresses: usize, salt: usize) -> Vec<Vec<u8>> {
    let one = |n: usize| {
        let who = n.wrapping_mul(7_919).wrapping_add(salt * 104_729) % addresses;
        let mut question = u16::try_from(n % 65_536).unwrap_or_default().to_be_bytes().to_vec();
        question.extend([0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        for label in [local_part(who).as_str(), "example", "com"] {
            question.push(u8::try_from(label.len()).unwrap());
            question.extend(label.as_bytes());
        }
        question.push(0);
        question.extend(TXT);
        question
    };
    (0..count).map(one).collect()
}

fn answers(port: u16, question: &[u8]) -> bool {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    socket.connect((Ipv4Addr::LOCALHOST, port)).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    socket.send(question).is_ok() && socket.recv(&mut [0; 1024]).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::courier::{Answer, Courier, Parcel};
    use crate::ports::claim_place;

    #[test]
    fn a_program_that_is_not_there_is_skipped_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("/nonexistent/milter");
        let Skipped(why) = Peer::start(&mut command, &folder.path().join("log"), || true).unwrap_err();
        assert!(why.starts_with("/nonexistent/milter: not installed"), "{why}");
        let mut command = Command::new("false");
        let Skipped(why) = Peer::start(&mut command, &folder.path().join("log"), || false).unwrap_err();
        assert!(why.starts_with("false: ended"), "{why}");
    }

    #[tokio::test]
    async fn the_floor_agrees_to_what_it_is_told_inserts_one_field_and_accepts() {
        let (folder, place) = (tempfile::tempdir().unwrap(), claim_place());
        let milter = format!("inet:{place}");
        // What the filter takes of Postfix's offer, and macros behind it.
        let told = "000000060000013d0015b580000000026900";
        let _floor = floor(folder.path(), &milter, told).unwrap();
        assert_eq!(terms(&milter), told);
        let mut courier = Courier::connect(place).await.unwrap();
        let fields = vec![("From".into(), "alice@send.test".into())];
        let parcel =
            Parcel { to: vec!["bob@recv.test".into()], fields, body: b"text\r\n".to_vec(), ..Parcel::default() };
        for _ in 0..2 {
            let told = courier.bring(&parcel).await;
            assert_eq!(told.answer, Answer::Deliver);
            assert_eq!(told.inserted, [("Authentication-Results".into(), " mx.floor.test; none".into())]);
        }
    }

    #[test]
    fn a_question_of_dns_names_the_address() {
        let question = txt_questions(3, 1_000, 0).remove(1);
        assert_eq!(question[..12], [0, 1, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0]);
        assert_eq!(question[12..], *b"\x07user919\x07example\x03com\x00\x00\x10\x00\x01");
    }
}
