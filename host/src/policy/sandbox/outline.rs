//! The cheap look at a component before anything is compiled: counts its parts without working on any of them.
//!
//! A policy is what `wit-component` makes of one core module: a few modules, and inner components that only give the
//! exported interface its types. What instantiates inside of an inner component multiplies: 6 KB of them are billions of
//! instances. Whether the rest can be compiled in bounded time is found out by a trial (`policy::trial`).

use wasmtime::wasmparser::{Encoding, Parser, Payload};

use super::Refused;
use crate::config::Limits;

/// What a component holds, summed over all of its parts.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Outline {
    parts: u32,
    instances: u32,
    types: u32,
    functions: u32,
    items: u32,
}

/// Says what of a component is not a policy's, in words that end the sentence "it …"; linear in its length.
pub(super) fn check(octets: &[u8], limits: &Limits) -> Result<Outline, Refused> {
    let mut outline = Outline::default();
    // For each part that is open, the outermost first: whether it is a component.
    let mut open = Vec::new();
    for payload in Parser::new(0).parse_all(octets) {
        let payload = payload.map_err(|e| Refused::Compile(e.message().to_owned()))?;
        let inner = open.len() > 1 && open.last() == Some(&true);
        let (count, most, what) = match &payload {
            Payload::Version { encoding, .. } => {
                open.push(*encoding == Encoding::Component);
                continue;
            }
            Payload::End(_) => {
                open.pop();
                continue;
            }
            Payload::ModuleSection { .. }
            | Payload::ComponentSection { .. }
            | Payload::InstanceSection(_)
            | Payload::ComponentInstanceSection(_)
            | Payload::ComponentStartSection { .. }
                if inner =>
            {
                return Err(Refused::Outline("nests components that hold or instantiate others".into()));
            }
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => {
                (add(&mut outline.parts, 1), limits.policy.outline.parts, "modules and components")
            }
            Payload::InstanceSection(list) => {
                (add(&mut outline.instances, list.count()), limits.policy.outline.instances, "instances")
            }
            Payload::ComponentInstanceSection(list) => {
                (add(&mut outline.instances, list.count()), limits.policy.outline.instances, "instances")
            }
            Payload::ComponentTypeSection(list) => {
                (add(&mut outline.types, list.count()), limits.policy.outline.types, "types")
            }
            Payload::CoreTypeSection(list) => {
                (add(&mut outline.types, list.count()), limits.policy.outline.types, "types")
            }
            Payload::TypeSection(list) => (add(&mut outline.types, list.count()), limits.policy.outline.types, "types"),
            Payload::FunctionSection(list) => {
                (add(&mut outline.functions, list.count()), limits.policy.outline.functions, "functions")
            }
            other => (
                add(&mut outline.items, listed(other)),
                limits.policy.outline.items,
                "imports, exports, globals and segments",
            ),
        };
        if count > most {
            return Err(Refused::Outline(format!("has {count} {what}, and may have {most}")));
        }
    }
    Ok(outline)
}

fn add(sum: &mut u32, more: u32) -> u32 {
    *sum = sum.saturating_add(more);
    *sum
}

/// The length of the list that this section is; 0 for what is no list.
fn listed(payload: &Payload<'_>) -> u32 {
    match payload {
        Payload::ImportSection(list) => list.count(),
        Payload::TableSection(list) => list.count(),
        Payload::MemorySection(list) => list.count(),
        Payload::GlobalSection(list) => list.count(),
        Payload::ExportSection(list) => list.count(),
        Payload::ElementSection(list) => list.count(),
        Payload::DataSection(list) => list.count(),
        Payload::ComponentAliasSection(list) => list.count(),
        Payload::ComponentCanonicalSection(list) => list.count(),
        Payload::ComponentImportSection(list) => list.count(),
        Payload::ComponentExportSection(list) => list.count(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> Vec<Vec<u8>> {
        let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
        let ids = crate::policy::shipped::ids().map(|id| format!("policies/{id}/{id}.wasm"));
        ids.chain(["tests/hostile/hostile.wasm".into()]).map(|file| std::fs::read(root.join(file)).unwrap()).collect()
    }

    #[test]
    fn a_policy_is_far_from_every_bound() {
        for octets in shipped() {
            let limits = Limits::default();
            let Outline { parts, instances, types, functions, items } = check(&octets, &limits).unwrap();
            let all = [
                (parts, limits.policy.outline.parts),
                (instances, limits.policy.outline.instances),
                (types, limits.policy.outline.types),
                (functions, limits.policy.outline.functions),
                (items, limits.policy.outline.items),
            ];
            assert!(all.iter().all(|(count, most)| (1..=most / 4).contains(count)), "{all:?}");
        }
    }

    #[test]
    fn what_is_cut_off_anywhere_is_refused_and_nothing_panics() {
        let [octets, ..] = &shipped()[..] else { panic!("none ships") };
        for length in (9..octets.len()).step_by(97) {
            let cut = check(&octets[..length], &Limits::default());
            // The names at the end may be cut off between two sections.
            assert!(length > octets.len() / 2 || matches!(cut, Err(Refused::Compile(_))), "{length}");
        }
    }

    #[test]
    fn one_beyond_each_bound_is_refused_and_what_lies_in_different_parts_is_summed() {
        let limits = Limits::default();
        let module = |functions: usize| format!("(core module {})", "(func)".repeat(functions));
        let most = usize::try_from(limits.policy.outline.functions).unwrap();
        let types = "(type u8)".repeat(usize::try_from(limits.policy.outline.types).unwrap());
        let parts = usize::try_from(limits.policy.outline.parts).unwrap();
        let component = "(component (type u8))";
        let cases = [
            (format!("{} {}", module(most - 1), module(1)), true),
            (format!("{} {}", module(most - 1), module(2)), false),
            (types.clone(), true),
            (format!("{types} (component (type u8))"), false),
            (component.repeat(parts), true),
            (format!("{} (core module)", component.repeat(parts)), false),
            ("(component (core module))".into(), false),
            ("(component (component))".into(), false),
            ("(component $c) (component (alias outer 1 $c (component $d)) (instance (instantiate $d)))".into(), false),
            (format!("(component $c) {}", "(instance (instantiate $c))".repeat(256)), true),
            (format!("(component $c) {}", "(instance (instantiate $c))".repeat(257)), false),
        ];
        for (text, good) in cases {
            let octets = wat::parse_str(format!("(component {text})")).unwrap();
            let shown: String = text.chars().take(80).collect();
            match check(&octets, &limits) {
                Ok(_) => assert!(good, "{shown}"),
                Err(Refused::Outline(_)) => assert!(!good, "{shown}"),
                Err(why) => panic!("{shown}: {why}"),
            }
        }
    }
}
