//! A policy's core module in wasmi: facts and settings written into its memory as `addrauth_policy.h` says, decisions read there.

use serde_json::Value;
use wasmi::{Engine, Linker, Memory, Module, Store, TypedFunc};

const NAME: &str = "addrauth:policy/policy@0.2.0#";
const STATUS: [&str; 6] = ["valid", "invalid", "missing", "none", "unverified", "unusable"];
const WHY: [&str; 13] = [
    "wrong",
    "expired",
    "no-from",
    "several-from",
    "bad-address",
    "several-keys",
    "bad-key",
    "malformed-header",
    "dns",
    "timeout",
    "limit",
    "no-proof",
    "other",
];
const CLAIM: [&str; 3] = ["testing", "some", "all"];
const TRAIL: [&str; 5] = ["mailing-list", "forwarded", "resent", "automatic", "bounce"];
const RESULT: [&str; 8] = ["none", "pass", "fail", "softfail", "neutral", "policy", "temperror", "permerror"];
const DISPOSITION: [&str; 5] = ["accept", "mark", "quarantine", "reject", "defer"];

/// A module that is compiled.
pub struct Core {
    engine: Engine,
    module: Module,
}

/// An instance for one decision.
struct Instance {
    store: Store<()>,
    memory: Memory,
    realloc: TypedFunc<(i32, i32, i32, i32), i32>,
    check: TypedFunc<(i32, i32), i32>,
    decide: TypedFunc<i32, i32>,
}

impl Core {
    pub fn new(octets: &[u8]) -> Core {
        let engine = Engine::default();
        let module = Module::new(&engine, octets).unwrap();
        assert_eq!(module.imports().count(), 0, "it imports nothing");
        Core { engine, module }
    }

    fn instance(&self) -> Instance {
        let mut store = Store::new(&self.engine, ());
        let instance = Linker::new(&self.engine).instantiate_and_start(&mut store, &self.module).unwrap();
        Instance {
            memory: instance.get_memory(&store, "memory").unwrap(),
            realloc: instance.get_typed_func(&store, "cabi_realloc").unwrap(),
            check: instance.get_typed_func(&store, &format!("{NAME}check-settings")).unwrap(),
            decide: instance.get_typed_func(&store, &format!("{NAME}decide")).unwrap(),
            store,
        }
    }

    /// The decision on these facts, of which `headers` are wanted by these names: disposition, who is told, reason.
    pub fn decide(&self, facts: &Value, headers: &[String], settings: &[Value]) -> Value {
        let mut instance = self.instance();
        let asked = instance.room(8, 160);
        instance.facts(asked, facts, headers);
        let settings = instance.settings(settings);
        instance.list(asked + 152, settings);
        let place = instance.decide.clone().call(&mut instance.store, asked).unwrap();
        let [disposition, notify] = [0, 1].map(|at| instance.octets(place + at, 1)[0]);
        let reason = instance.text(place + 4);
        serde_json::json!({
            "disposition": DISPOSITION[usize::from(disposition)],
            "notify": { "sender": notify & 1 != 0, "recipient": notify & 2 != 0 },
            "reason": reason,
        })
    }

    /// What is wanted under these settings, as the bits of the header's `addrauth_wants`, or why they are not taken.
    pub fn check(&self, settings: &[Value]) -> Result<u16, String> {
        let mut instance = self.instance();
        let (place, count) = instance.settings(settings);
        let place = instance.check.clone().call(&mut instance.store, (place, count)).unwrap();
        match instance.octets(place, 1)[0] {
            0 => Ok(u16::from_le_bytes(instance.octets(place + 4, 2).try_into().unwrap())),
            _ => Err(instance.text(place + 4)),
        }
    }
}

impl Instance {
    fn room(&mut self, align: i32, octets: usize) -> i32 {
        let octets = i32::try_from(octets).unwrap();
        let place = self.realloc.clone().call(&mut self.store, (0, 0, align, octets)).unwrap();
        self.write(place, &vec![0; usize::try_from(octets).unwrap()]);
        place
    }

    fn write(&mut self, place: i32, octets: &[u8]) {
        self.memory.write(&mut self.store, usize::try_from(place).unwrap(), octets).unwrap();
    }

    fn octets(&self, place: i32, count: usize) -> Vec<u8> {
        let place = usize::try_from(place).unwrap();
        self.memory.data(&self.store)[place..place + count].to_vec()
    }

    fn number(&self, place: i32) -> i32 {
        i32::from_le_bytes(self.octets(place, 4).try_into().unwrap())
    }

    fn text(&self, place: i32) -> String {
        let (at, count) = (self.number(place), self.number(place + 4));
        String::from_utf8(self.octets(at, usize::try_from(count).unwrap())).unwrap()
    }

    fn list(&mut self, place: i32, (at, count): (i32, i32)) {
        self.write(place, &at.to_le_bytes());
        self.write(place + 4, &count.to_le_bytes());
    }

    fn string(&mut self, place: i32, text: &str) {
        let at = self.room(1, text.len());
        self.write(at, text.as_bytes());
        self.list(place, (at, i32::try_from(text.len()).unwrap()));
    }

    fn strings(&mut self, texts: &Value) -> (i32, i32) {
        let texts = texts.as_array().unwrap();
        let at = self.room(4, texts.len() * 8);
        for (number, text) in (0..).zip(texts) {
            self.string(at + number * 8, text.as_str().unwrap());
        }
        (at, i32::try_from(texts.len()).unwrap())
    }

    fn settings(&mut self, settings: &[Value]) -> (i32, i32) {
        let at = self.room(8, settings.len() * 16);
        for (number, setting) in (0..).zip(settings) {
            let place = at + number * 16;
            let (tag, value) = (setting["tag"].as_str().unwrap(), &setting["val"]);
            let tags = ["text", "number", "flag", "texts"];
            self.write(place, &[u8::try_from(tags.iter().position(|known| *known == tag).unwrap()).unwrap()]);
            match tag {
                "text" => self.string(place + 8, value.as_str().unwrap()),
                "number" => self.write(place + 8, &value.as_i64().unwrap().to_le_bytes()),
                "flag" => self.write(place + 8, &[u8::from(value.as_bool().unwrap())]),
                _ => {
                    let list = self.strings(value);
                    self.list(place + 8, list);
                }
            }
        }
        (at, i32::try_from(settings.len()).unwrap())
    }

    fn facts(&mut self, at: i32, facts: &Value, headers: &[String]) {
        self.write(at, &[word(&STATUS, &facts["status"])]);
        self.option(at + 1, &facts["why"], |value| vec![word(&WHY, value)]);
        for (place, name) in [(4, "sender"), (24, "recipient"), (44, "envelope-sender")] {
            if let Some((local, domain)) = facts[name].as_str().and_then(|text| text.rsplit_once('@')) {
                self.write(at + place, &[1]);
                self.string(at + place + 4, local);
                self.string(at + place + 12, domain);
            }
        }
        if let Some(client) = facts["client"].as_object() {
            self.write(at + 64, &[1]);
            self.string(at + 68, client["ip"].as_str().unwrap());
            if let Some(name) = client["name"].as_str() {
                self.write(at + 76, &[1]);
                self.string(at + 80, name);
            }
            self.string(at + 88, client["helo"].as_str().unwrap());
            self.write(at + 96, &[u8::from(client["tls"].as_bool().unwrap())]);
        }
        if let Some(size) = facts["size"].as_u64() {
            self.write(at + 104, &[1]);
            self.write(at + 112, &size.to_le_bytes());
        }
        let bits = |value: &Value| value.as_array().unwrap().iter().fold(0, |all, name| all | 1 << word(&TRAIL, name));
        self.option(at + 120, &facts["trail"], |value| vec![bits(value)]);
        self.option(at + 122, &facts["mail-auth"], |value| {
            let aligned = |name: &str| u8::from(value[name].as_bool().unwrap());
            let [spf, dkim, dmarc] = ["spf", "dkim", "dmarc"].map(|name| word(&RESULT, &value[name]));
            vec![spf, aligned("spf-aligned"), dkim, aligned("dkim-aligned"), dmarc]
        });
        self.option(at + 128, &facts["claim"], |value| vec![word(&CLAIM, value)]);
        if let Some(days) = facts["last-valid"].as_u64() {
            self.write(at + 132, &[1]);
            self.write(at + 136, &u32::try_from(days).unwrap().to_le_bytes());
        }
        let rows = self.room(4, headers.len() * 8);
        for (number, name) in (0..).zip(headers) {
            let none = Value::Array(Vec::new());
            let list = self.strings(facts["headers"].get(name).unwrap_or(&none));
            self.list(rows + number * 8, list);
        }
        self.list(at + 140, (rows, i32::try_from(headers.len()).unwrap()));
    }

    fn option(&mut self, place: i32, value: &Value, octets: impl FnOnce(&Value) -> Vec<u8>) {
        if !value.is_null() {
            self.write(place, &[&[1], octets(value).as_slice()].concat());
        }
    }
}

/// The number of a word.
fn word(words: &[&str], value: &Value) -> u8 {
    let found = words.iter().position(|word| Some(*word) == value.as_str());
    u8::try_from(found.unwrap_or_else(|| panic!("{value} is none of {words:?}"))).unwrap()
}
