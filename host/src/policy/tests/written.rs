//! Components written as WebAssembly text: what no compiler of an honest language would make.

use std::path::PathBuf;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::{PackageId, Resolve};

/// A core module's three functions as text, and what they lean on. As it stands it wants nothing and accepts.
///
/// The memory below 1024 is zero, so every address there is an empty description, a good check that wants nothing, and an
/// acceptance.
pub(super) struct Written {
    /// The version of the contract that it speaks.
    pub(super) version: &'static str,
    /// Tables, globals, data and a start function.
    pub(super) items: String,
    /// Leaves the address of a description.
    pub(super) describe: String,
    /// Leaves the address of what it wants, or of an error.
    pub(super) check: String,
    /// Leaves the address of a decision; `$facts` is that of the facts.
    pub(super) decide: String,
}

impl Default for Written {
    fn default() -> Written {
        Written {
            version: "0.2.0",
            items: String::new(),
            describe: "(i32.const 64)".into(),
            check: "(i32.const 256)".into(),
            decide: "(i32.const 128)".into(),
        }
    }
}

impl Written {
    /// Decides so.
    pub(super) fn deciding(decide: &str) -> Written {
        Written { decide: decide.into(), ..Written::default() }
    }

    /// Describes itself so.
    pub(super) fn describing(describe: &str) -> Written {
        Written { describe: describe.into(), ..Written::default() }
    }

    /// Wants these facts.
    pub(super) fn wanting(wants: u16) -> Written {
        // Canonical ABI: what `check-settings` wants is at 4 behind the mark that all is well, its facts first, and its headers
        // at 4 behind these.
        let check = format!("(i32.store16 (i32.const 260) (i32.const {wants})) (i32.const 256)");
        Written { check, ..Written::default() }
    }

    /// Wants the recipient, and says his local part.
    pub(super) fn echo() -> Written {
        // Canonical ABI: the text of a recipient's local part is at 28 in the facts, a reason at 4 in a decision.
        Written {
            decide:
                "(i64.store (i32.const 132) (i64.load (i32.add (local.get $facts) (i32.const 28)))) (i32.const 128)"
                    .into(),
            ..Written::wanting(4)
        }
    }

    /// Wants these facts, and says octets of the facts as digits, from this place on.
    pub(super) fn telling(wants: u16, place: u32, octets: u32) -> Written {
        let digit = |n: u32| {
            let (to, from) = (2048 + n, place + n);
            let octet = format!("(i32.load8_u (i32.add (local.get $facts) (i32.const {from})))");
            format!("(i32.store8 (i32.const {to}) (i32.add (i32.const 48) {octet}))")
        };
        let digits: String = (0..octets).map(digit).collect();
        Written {
            decide: format!(
                "{digits} (i32.store (i32.const 132) (i32.const 2048)) (i32.store (i32.const 136) (i32.const {octets})) \
                 (i32.const 128)"
            ),
            ..Written::wanting(wants)
        }
    }

    /// Wants these facts, and says the six octets of mail-auth as digits: whether it is there, then its members.
    pub(super) fn telling_mail_auth(wants: u16) -> Written {
        // Canonical ABI: mail-auth, an option of five octets, is at 122 in the facts.
        Written::telling(wants, 122, 6)
    }

    /// Wants nothing but this header field.
    pub(super) fn asking_for(field: &str) -> Written {
        Written {
            items: format!("(data (i32.const 1024) \"{field}\")"),
            // A list of one text: its address and count at 264.
            check: format!(
                "(i32.store (i32.const 512) (i32.const 1024)) (i32.store (i32.const 516) (i32.const {}))
                 (i32.store (i32.const 264) (i32.const 512)) (i32.store (i32.const 268) (i32.const 1)) (i32.const 256)",
                field.len()
            ),
            ..Written::default()
        }
    }

    /// The component.
    pub(super) fn component(&self) -> Vec<u8> {
        let mut resolve = Resolve::default();
        let package = self.contract(&mut resolve);
        built(&self.items, &self.functions(), resolve, package, "guest")
    }

    /// A component that exports what both of these export. The first one's items count.
    pub(super) fn with(&self, other: &Written) -> Vec<u8> {
        let mut resolve = Resolve::default();
        self.contract(&mut resolve);
        other.contract(&mut resolve);
        let export = |written: &Written| format!("export addrauth:policy/policy@{};", written.version);
        let both = format!("package test:both; world both {{ {} {} }}", export(self), export(other));
        let package = resolve.push_str("both.wit", &both).unwrap();
        built(&self.items, &(self.functions() + &other.functions()), resolve, package, "both")
    }

    /// The contract of its version; of one that does not exist: the newest by another name.
    fn contract(&self, resolve: &mut Resolve) -> PackageId {
        let text = match self.version {
            "0.1.0" => include_str!("../../../wit/0.1/policy.wit").to_owned(),
            version => include_str!("../../../wit/policy.wit").replace("policy@0.2.0", &format!("policy@{version}")),
        };
        resolve.push_str("policy.wit", &text).unwrap()
    }

    fn functions(&self) -> String {
        let Written { version, items: _, describe, check, decide } = self;
        format!(
            r#"(func (export "addrauth:policy/policy@{version}#describe") (result i32) {describe})
               (func (export "addrauth:policy/policy@{version}#check-settings") (param i32 i32) (result i32) {check})
               (func (export "addrauth:policy/policy@{version}#decide") (param $facts i32) (result i32) {decide})"#
        )
    }
}

fn built(items: &str, functions: &str, resolve: Resolve, package: PackageId, world: &str) -> Vec<u8> {
    let text = format!(
        r#"(module
            (memory (export "memory") 1)
            (global $next (mut i32) (i32.const 4096))
            {items}
            (func (export "cabi_realloc") (param i32 i32 i32 i32) (result i32)
                (local $at i32)
                (local.set $at (i32.and (i32.add (global.get $next) (i32.const 7)) (i32.const -8)))
                (global.set $next (i32.add (local.get $at) (local.get 3)))
                (local.get $at))
            {functions})"#
    );
    let mut module = wat::parse_str(text).unwrap();
    let world = resolve.select_world(&[package], Some(world)).unwrap();
    embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
    ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
}

/// A directory for `policy.dir` that holds these octets as `x.wasm`; it goes with the first value.
pub(super) fn shelf_with(octets: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("x.wasm"), octets).unwrap();
    let path = dir.path().to_owned();
    (dir, path)
}
