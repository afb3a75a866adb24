//! O: where a From value is taken, Python's readers of mail show the address that was taken and no other.
//!
//! The values are made by a grammar that puts a second address, specials, folds, comments, encoded words and 8-bit octets wherever
//! they can stand. Sixteen readers were compared by such values; Python's three are the ones that every Debian has.

use std::io::Write;
use std::process::{Command, Stdio};

use addrauth::proto::address::Address;
use serde::Deserialize;

/// Values that are made; a few of a hundred are taken.
const VALUES: usize = 30_000;

/// What each of Python's readers shows of values, a JSON array of octets a line: an array of addresses for each reader.
const PYTHON: &str = r#"
import email, email.policy, email.utils, json, sys
for line in sys.stdin:
    raw = b"From:" + bytes(json.loads(line)) + b"\r\nSubject: x\r\n\r\nx\r\n"
    value = str(email.message_from_bytes(raw)["From"])
    shown = [[email.utils.parseaddr(value)[1]], [address for _, address in email.utils.getaddresses([value])]]
    try:
        new = email.message_from_bytes(raw, policy=email.policy.default)["From"]
        shown.append([address.addr_spec for address in new.addresses])
    except Exception:
        shown.append([])
    print(json.dumps(shown))
"#;

#[derive(Deserialize)]
#[serde(transparent)]
struct Shown(Vec<Vec<String>>);

/// A small generator of numbers (xorshift64): the same values in every run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).unwrap() % bound
    }

    fn one(&mut self, of: &[&str]) -> Vec<u8> {
        octets(of[self.below(of.len())])
    }

    /// Whether this happens, in so many of a hundred.
    fn is(&mut self, of_hundred: usize) -> bool {
        self.below(100) < of_hundred
    }
}

/// A text in Latin-1: each letter is one octet.
fn octets(text: &str) -> Vec<u8> {
    text.chars().map(|c| u8::try_from(u32::from(c)).unwrap()).collect()
}

const ATOMS: [&str; 14] =
    ["Alice", "Doe", "x", "O'Neil", "a-b", "J.", ".x", "B.C", "=?", "?=", "eve=evil.test", "...", "via", "-"];
const EVIL: [&str; 9] = [
    "eve@evil.test",
    "<eve@evil.test>",
    ",eve@evil.test",
    "eve@evil.test,",
    "@evil.test",
    "eve@",
    "<eve@evil.test",
    "a@x.test",
    "eve@evil.test>",
];
const SPECIALS: [&str; 16] = ["<", ">", "(", ")", ",", ";", ":", "@", "[", "]", ".", "\"", "\\\"", "\\\\", "\\(", "\\"];
const ENCODED: [&str; 6] = [
    "=?utf-8?Q?Al=C3=ADce?=",
    "=?utf-8?Q?eve=40evil.test?=",
    "=?utf-8?Q?=3Ceve=40evil.test=3E?=",
    "=?utf-8?Q?=28?=",
    "=?us-ascii?Q?a=22_=3Ceve=40evil.test=3E?=",
    "=?utf-8?Q?a=2C_b?=",
];
const EIGHT_BIT: [&str; 9] = [
    "\u{c3}\u{a9}",
    "\u{e9}",
    "\u{b1}\u{b3}\u{c0}\u{b0}",
    "\u{83}\\",
    "\u{81}@",
    "\u{83}<",
    "\u{ff}",
    "\u{a4}@",
    "\u{c2}\u{a0}",
];
const BLANKS: [&str; 6] = ["", " ", " ", " ", "\t", "\r\n "];

fn piece(dice: &mut Dice) -> Vec<u8> {
    match dice.below(10) {
        0..=2 => dice.one(&ATOMS),
        3 | 4 => dice.one(&EVIL),
        5 => dice.one(&SPECIALS),
        6 => dice.one(&EIGHT_BIT),
        7 => dice.one(&ENCODED),
        8 => dice.one(&BLANKS),
        _ => Vec::new(),
    }
}

fn pieces(dice: &mut Dice, most: usize) -> Vec<u8> {
    (0..dice.below(most + 1)).flat_map(|_| piece(dice)).collect()
}

fn quoted(dice: &mut Dice) -> Vec<u8> {
    let mut inside = pieces(dice, 4);
    if dice.is(80) {
        inside.retain(|octet| !matches!(octet, b'"' | b'\\'));
    }
    if dice.is(70) {
        inside.retain(|octet| !matches!(octet, b'\r' | b'\n'));
    }
    [b"\"", inside.as_slice(), b"\""].concat()
}

fn comment(dice: &mut Dice) -> Vec<u8> {
    let mut inside = pieces(dice, 3);
    if dice.is(60) {
        inside.retain(|octet| !b"<>,;:@\"\\()\r\n".contains(octet));
    }
    [b"(", inside.as_slice(), b")"].concat()
}

fn word(dice: &mut Dice) -> Vec<u8> {
    match dice.below(10) {
        0..=3 => dice.one(&ATOMS),
        4..=6 => quoted(dice),
        7 => comment(dice),
        8 => dice.one(&EIGHT_BIT),
        _ => piece(dice),
    }
}

fn address(dice: &mut Dice) -> Vec<u8> {
    let local = dice.one(&[
        "a",
        "alice",
        "a.b",
        "a+t",
        "o'x",
        "a=b",
        "a%evil.test",
        "!a",
        "eve=evil",
        "\"a\"",
        "\"a b\"",
        "\"eve@evil.test\"",
        "\"<\"",
        "\"a..b\"",
        "\"a,b\"",
        "\"a\\\"b\"",
        "a..b",
        "a(c)",
    ]);
    let domain =
        dice.one(&["x.test", "X.Test", "one.test", "sub.x.test", "x.test", "x.test.", "x .test", "[127.0.0.1]"]);
    [local, octets("@"), domain].concat()
}

fn value(dice: &mut Dice) -> Vec<u8> {
    let address = address(dice);
    let mut value = dice.one(&BLANKS);
    if dice.is(25) {
        value.extend(address);
        value.extend(dice.one(&BLANKS));
        value.extend(if dice.is(60) { comment(dice) } else { Vec::new() });
        return value;
    }
    for _ in 0..dice.below(4) {
        value.extend(word(dice));
        value.extend(if dice.is(85) { dice.one(&BLANKS) } else { Vec::new() });
    }
    let again = dice.is(5);
    value.extend(if again { [address.as_slice(), b" "].concat() } else { Vec::new() });
    let pad = |dice: &mut Dice| if dice.is(10) { dice.one(&[" ", "\t", "(c)"]) } else { Vec::new() };
    value.push(b'<');
    value.extend(pad(dice));
    value.extend(address);
    value.extend(pad(dice));
    value.push(b'>');
    value.extend(if dice.is(30) { [b" ", comment(dice).as_slice()].concat() } else { Vec::new() });
    value
}

/// An address without what readers differ in: quotes, escapes, letter case.
fn plain(address: &str) -> String {
    address.replace(['"', '\\'], "").trim().to_lowercase()
}

#[test]
fn o_python_shows_the_address_that_was_taken_and_no_other() {
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    let values: Vec<Vec<u8>> = (0..VALUES).map(|_| value(&mut dice)).collect();
    let taken: Vec<(&Vec<u8>, Address)> =
        (values.iter()).filter_map(|value| Some((value, Address::from_field(value, false).ok()?))).collect();
    assert!(taken.len() > VALUES / 20, "{} of {VALUES} are taken", taken.len());
    assert!(taken.len() < VALUES / 2, "{} of {VALUES} are taken", taken.len());

    let mut python = Command::new("python3");
    python.args(["-c", PYTHON]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = match python.spawn() {
        Ok(child) => child,
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            println!("skipped: there is no python3");
            return;
        }
        Err(e) => panic!("python3: {e}"),
    };
    let lines: String = taken.iter().map(|(value, _)| serde_json::to_string(value).unwrap() + "\n").collect();
    let mut input = child.stdin.take().unwrap();
    let writing = std::thread::spawn(move || input.write_all(lines.as_bytes()));
    let output = child.wait_with_output().unwrap();
    writing.join().unwrap().unwrap();
    let shown: Vec<Shown> =
        output.stdout.split(|octet| *octet == b'\n').filter_map(|line| serde_json::from_slice(line).ok()).collect();
    assert_eq!(shown.len(), taken.len());
    let mut silent = 0;
    for ((value, address), Shown(readers)) in taken.iter().zip(shown) {
        assert_eq!(readers.len(), 3);
        for addresses in readers {
            // A reader that shows nothing shows no other.
            silent += usize::from(addresses.iter().all(String::is_empty));
            for other in addresses.iter().filter(|other| !other.is_empty()) {
                assert_eq!(plain(other), plain(&address.to_string()), "{}", value.escape_ascii());
            }
        }
    }
    assert!(silent < taken.len() / 5, "{silent} of {} show nothing", 3 * taken.len());
}
