//! A stand-in milter spoken by hand: it writes down what the MTA sends and answers what the test wants.

use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::net::UnixListener;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::thread;

use crate::postfix::number_of;

/// Actions asked for: add, change and delete headers, delete and add recipients, quarantine.
const ACTIONS: u32 = 0x01 | 0x10 | 0x04 | 0x08 | 0x20;
/// `SMFIP_HDR_LEADSPC`: values keep their leading blank.
const LEADING_SPACE: u32 = 0x10_0000;

/// A packet of the MTA: its command and what follows.
pub type Packet = (u8, Vec<u8>);
/// Chooses the answer to the end of a message from its packets.
pub type Answer = dyn Fn(&[Packet]) -> Vec<u8> + Send + Sync;

/// The stand-in; it listens until the process ends.
#[derive(Clone, Debug, Default)]
pub struct Probe {
    messages: Arc<Mutex<Vec<Vec<Packet>>>>,
}

/// One frame: its length, its command, its octets.
pub fn frame(command: u8, octets: &[u8]) -> Vec<u8> {
    let length = u32::try_from(octets.len() + 1).unwrap();
    [&length.to_be_bytes()[..], &[command], octets].concat()
}

/// The frame that deletes (`value` empty) or replaces the `index`th field of this name.
pub fn change(name: &str, index: u32, value: &str) -> Vec<u8> {
    frame(b'm', &[&index.to_be_bytes()[..], name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat())
}

/// The frame that inserts a field at `index`.
pub fn insert(index: u32, name: &str, value: &str) -> Vec<u8> {
    frame(b'i', &[&index.to_be_bytes()[..], name.as_bytes(), b"\0", value.as_bytes(), b"\0"].concat())
}

/// The frame that accepts the message.
pub fn accept() -> Vec<u8> {
    frame(b'a', &[])
}

impl Probe {
    /// Listens on a port of loopback.
    pub fn inet(port: u16, answer: impl Fn(&[Packet]) -> Vec<u8> + Send + Sync + 'static) -> Probe {
        let (probe, answer) = (Probe::default(), Arc::new(answer));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
        let ours = probe.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                stream.set_nodelay(true).unwrap();
                let (probe, answer) = (ours.clone(), Arc::clone(&answer));
                thread::spawn(move || probe.serve(stream, &*answer));
            }
        });
        probe
    }

    /// Listens on a unix socket of group postfix and mode 0660, as the daemon's is to be.
    pub fn unix(path: &Path, answer: impl Fn(&[Packet]) -> Vec<u8> + Send + Sync + 'static) -> Probe {
        let (probe, answer) = (Probe::default(), Arc::new(answer));
        let listener = UnixListener::bind(path).unwrap();
        chown(path, None, Some(number_of("-g"))).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o660)).unwrap();
        let ours = probe.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let (probe, answer) = (ours.clone(), Arc::clone(&answer));
                thread::spawn(move || probe.serve(stream, &*answer));
            }
        });
        probe
    }

    /// The packets of each message that came to its end, in order.
    pub fn messages(&self) -> Vec<Vec<Packet>> {
        self.messages.lock().unwrap().clone()
    }

    fn serve(&self, mut stream: impl Read + Write, answer: &Answer) -> Option<()> {
        let mut packets: Vec<Packet> = Vec::new();
        loop {
            let (command, octets) = packet(&mut stream)?;
            let reply = match command {
                b'O' => offer(&octets)?,
                b'D' => {
                    packets.push((command, octets));
                    Vec::new()
                }
                b'A' => {
                    packets.clear();
                    Vec::new()
                }
                b'Q' => return None,
                b'E' => {
                    let reply = answer(&packets);
                    self.messages.lock().unwrap().push(std::mem::take(&mut packets));
                    reply
                }
                _ => {
                    packets.push((command, octets));
                    frame(b'c', &[])
                }
            };
            stream.write_all(&reply).ok()?;
        }
    }
}

/// The answer to the MTA's offer: version 6, our actions, values with their leading blank.
fn offer(octets: &[u8]) -> Option<Vec<u8>> {
    let offered = |at: usize| Some(u32::from_be_bytes(octets.get(at..at + 4)?.try_into().ok()?));
    let (actions, protocol) = (offered(4)? & ACTIONS, offered(8)? & LEADING_SPACE);
    Some(frame(b'O', &[6u32.to_be_bytes(), actions.to_be_bytes(), protocol.to_be_bytes()].concat()))
}

fn packet(stream: &mut impl Read) -> Option<Packet> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).ok()?;
    let length = usize::try_from(u32::from_be_bytes(length)).ok().filter(|l| (1..=1 << 20).contains(l))?;
    let mut octets = vec![0; length];
    stream.read_exact(&mut octets).ok()?;
    let command = octets.remove(0);
    Some((command, octets))
}

/// The header fields of a message's packets as name and value.
pub fn fields(packets: &[Packet]) -> Vec<(String, Vec<u8>)> {
    let pair = |octets: &Vec<u8>| {
        let mut parts = octets.splitn(2, |&b| b == 0);
        let name = String::from_utf8_lossy(parts.next().unwrap_or_default()).into_owned();
        let value = parts.next().unwrap_or_default();
        (name, value.strip_suffix(&[0]).unwrap_or(value).to_vec())
    };
    packets.iter().filter(|(command, _)| *command == b'L').map(|(_, octets)| pair(octets)).collect()
}

/// The body as the MTA handed it over.
pub fn body(packets: &[Packet]) -> Vec<u8> {
    packets.iter().filter(|(command, _)| *command == b'B').flat_map(|(_, octets)| octets.clone()).collect()
}
