//! Components written as WebAssembly text: what no compiler of an honest language would make.

use std::path::PathBuf;

use wit_component::{ComponentEncoder, StringEncoding, embed_component_metadata};
use wit_parser::Resolve;

/// A core module's three functions as text, and what they lean on. As it stands it wants nothing and accepts.
///
/// The memory below 1024 is zero, so every address there is an empty description, a good check and an acceptance.
pub(super) struct Written {
    /// Tables, globals, data and a start function.
    pub(super) items: String,
    /// Leaves the address of a description.
    pub(super) describe: String,
    /// Leaves the address of a decision; `$facts` is that of the facts.
    pub(super) decide: String,
}

impl Default for Written {
    fn default() -> Written {
        Written { items: String::new(), describe: "(i32.const 64)".into(), decide: "(i32.const 128)".into() }
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

    /// Wants the recipient, and says his local part.
    pub(super) fn echo() -> Written {
        // Canonical ABI: `wants` is at 24 in a description, the text of a recipient's local part at 28 in the facts, a
        // reason at 4 in a decision.
        Written {
            describe: "(i32.store16 (i32.const 88) (i32.const 4)) (i32.const 64)".into(),
            decide:
                "(i64.store (i32.const 132) (i64.load (i32.add (local.get $facts) (i32.const 28)))) (i32.const 128)"
                    .into(),
            ..Written::default()
        }
    }

    /// Wants these facts, and says the six octets of mail-auth as digits: whether it is there, then its members.
    pub(super) fn telling_mail_auth(wants: u16) -> Written {
        // Canonical ABI: mail-auth, an option of five octets, is at 122 in the facts.
        let digit = |n: u32| {
            let (to, from) = (2048 + n, 122 + n);
            let octet = format!("(i32.load8_u (i32.add (local.get $facts) (i32.const {from})))");
            format!("(i32.store8 (i32.const {to}) (i32.add (i32.const 48) {octet}))")
        };
        let digits: String = (0..6).map(digit).collect();
        Written {
            describe: format!("(i32.store16 (i32.const 88) (i32.const {wants})) (i32.const 64)"),
            decide: format!(
                "{digits} (i32.store (i32.const 132) (i32.const 2048)) (i32.store (i32.const 136) (i32.const 6)) \
                 (i32.const 128)"
            ),
            ..Written::default()
        }
    }

    /// Wants nothing but this header field.
    pub(super) fn asking_for(field: &str) -> Written {
        Written {
            items: format!("(data (i32.const 1024) \"{field}\")"),
            // A list of one text: its address and count at 28 in the description.
            describe: format!(
                "(i32.store (i32.const 512) (i32.const 1024)) (i32.store (i32.const 516) (i32.const {}))
                 (i32.store (i32.const 92) (i32.const 512)) (i32.store (i32.const 96) (i32.const 1)) (i32.const 64)",
                field.len()
            ),
            ..Written::default()
        }
    }

    /// The component.
    pub(super) fn component(&self) -> Vec<u8> {
        let Written { items, describe, decide } = self;
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
                (func (export "addrauth:policy/policy@0.1.0#describe") (result i32) {describe})
                (func (export "addrauth:policy/policy@0.1.0#check-settings") (param i32 i32) (result i32) (i32.const 0))
                (func (export "addrauth:policy/policy@0.1.0#decide") (param $facts i32) (result i32) {decide}))"#
        );
        let mut module = wat::parse_str(text).unwrap();
        let mut resolve = Resolve::default();
        let package = resolve.push_str("policy.wit", include_str!("../../../../wit/policy.wit")).unwrap();
        let world = resolve.select_world(&[package], Some("guest")).unwrap();
        embed_component_metadata(&mut module, &resolve, world, StringEncoding::UTF8, false).unwrap();
        ComponentEncoder::default().validate(true).module(&module).unwrap().encode().unwrap()
    }
}

/// A directory for `policy.dir` that holds these octets as `x.wasm`; it goes with the first value.
pub(super) fn shelf_with(octets: &[u8]) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("x.wasm"), octets).unwrap();
    let path = dir.path().to_owned();
    (dir, path)
}
