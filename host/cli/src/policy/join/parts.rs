//! What a component says of its core modules: which there are, how they are instantiated, and what their names mean.

use std::collections::BTreeMap;

use wasmparser::{
    CanonicalFunction, CanonicalOption, ComponentAlias, ComponentTypeRef, Encoding, ExternalKind, Instance, Parser,
    Payload,
};

use super::Odd;

/// The core side of one component, without those inside of it.
#[derive(Default)]
pub(super) struct Parts<'a> {
    /// The octets of each module.
    pub(super) modules: Vec<&'a [u8]>,
    pub(super) instances: Vec<CoreInstance<'a>>,
    functions: Vec<Item<'a>>,
    tables: Vec<Item<'a>>,
    memories: Vec<Item<'a>>,
    globals: Vec<Item<'a>>,
    pub(super) lifted: Vec<Lifted>,
}

/// An instance of a module, or names for what others have.
pub(super) enum CoreInstance<'a> {
    Of { module: usize, arguments: BTreeMap<&'a str, usize> },
    Names(BTreeMap<&'a str, (ExternalKind, usize)>),
}

/// What stands in an index space of the core side.
#[derive(Clone, Copy)]
pub(super) enum Item<'a> {
    /// What an instance exports.
    Of { instance: usize, name: &'a str },
    /// A function from outside of the modules.
    Outside,
}

/// A function that the component makes one of its own.
pub(super) struct Lifted {
    pub(super) function: usize,
    pub(super) memory: Option<usize>,
    pub(super) realloc: Option<usize>,
}

/// A component that is still read.
struct Open<'a> {
    parts: Parts<'a>,
    is_component: bool,
}

/// The components of these octets that lift a function, the inner ones first.
pub(super) fn read(octets: &[u8]) -> Result<Vec<Parts<'_>>, Odd> {
    let (mut open, mut done): (Vec<Open<'_>>, Vec<Parts<'_>>) = (Vec::new(), Vec::new());
    for payload in Parser::new(0).parse_all(octets) {
        match payload? {
            Payload::Version { encoding, .. } => {
                open.push(Open { parts: Parts::default(), is_component: encoding == Encoding::Component });
            }
            Payload::End(_) => {
                done.extend(open.pop().map(|open| open.parts).filter(|parts| !parts.lifted.is_empty()));
            }
            other => {
                if let Some(Open { parts, is_component: true }) = open.last_mut() {
                    parts.take(other, octets)?;
                }
            }
        }
    }
    Ok(done)
}

impl<'a> Parts<'a> {
    /// What stands at this place of an index space.
    pub(super) fn item(&self, kind: ExternalKind, index: usize) -> Result<Item<'a>, Odd> {
        let space = match kind {
            ExternalKind::Func => &self.functions,
            ExternalKind::Table => &self.tables,
            ExternalKind::Memory => &self.memories,
            ExternalKind::Global => &self.globals,
            _ => return Err(Odd::New("tags")),
        };
        space.get(index).copied().ok_or(Odd::New("an index beyond its space"))
    }

    fn take(&mut self, payload: Payload<'a>, octets: &'a [u8]) -> Result<(), Odd> {
        match payload {
            Payload::ModuleSection { unchecked_range, .. } => {
                let place = usize::try_from(unchecked_range.start).ok().zip(usize::try_from(unchecked_range.end).ok());
                let module = place.and_then(|(start, end)| octets.get(start..end));
                self.modules.push(module.ok_or(Odd::New("a module that is cut off"))?);
            }
            Payload::InstanceSection(instances) => {
                for instance in instances {
                    self.instances.push(read_instance(instance?));
                }
            }
            Payload::ComponentAliasSection(aliases) => {
                for alias in aliases {
                    self.alias(&alias?)?;
                }
            }
            Payload::ComponentCanonicalSection(functions) => {
                for function in functions {
                    self.canonical(function?)?;
                }
            }
            Payload::ComponentImportSection(imports) => {
                for import in imports {
                    if matches!(import?.ty, ComponentTypeRef::Module(_)) {
                        return Err(Odd::New("modules from outside"));
                    }
                }
            }
            Payload::ComponentStartSection { .. } => return Err(Odd::New("a start function of the component")),
            _ => {}
        }
        Ok(())
    }

    fn alias(&mut self, alias: &ComponentAlias<'a>) -> Result<(), Odd> {
        match alias {
            ComponentAlias::CoreInstanceExport { kind, instance_index, name } => {
                let space = match kind {
                    ExternalKind::Func | ExternalKind::FuncExact => &mut self.functions,
                    ExternalKind::Table => &mut self.tables,
                    ExternalKind::Memory => &mut self.memories,
                    ExternalKind::Global => &mut self.globals,
                    ExternalKind::Tag => return Err(Odd::New("tags")),
                };
                space.push(Item::Of { instance: *instance_index as usize, name });
                Ok(())
            }
            ComponentAlias::Outer { kind: wasmparser::ComponentOuterAliasKind::CoreModule, .. } => {
                Err(Odd::New("modules of a component around it"))
            }
            _ => Ok(()),
        }
    }

    fn canonical(&mut self, function: CanonicalFunction) -> Result<(), Odd> {
        match function {
            CanonicalFunction::Lift { core_func_index, options, .. } => {
                let (mut memory, mut realloc) = (None, None);
                for option in options {
                    match option {
                        CanonicalOption::UTF8 | CanonicalOption::PostReturn(_) => {}
                        CanonicalOption::Memory(index) => memory = Some(index as usize),
                        CanonicalOption::Realloc(index) => realloc = Some(index as usize),
                        _ => return Err(Odd::New("functions that are lifted in another way")),
                    }
                }
                self.lifted.push(Lifted { function: core_func_index as usize, memory, realloc });
            }
            // Each of the others makes a core function of something that is not there without an import.
            _ => self.functions.push(Item::Outside),
        }
        Ok(())
    }
}

fn read_instance(instance: Instance<'_>) -> CoreInstance<'_> {
    match instance {
        Instance::Instantiate { module_index, args } => {
            let arguments = args.iter().map(|argument| (argument.name, argument.index as usize)).collect();
            CoreInstance::Of { module: module_index as usize, arguments }
        }
        Instance::FromExports(exports) => CoreInstance::Names(
            exports.iter().map(|export| (export.name, (export.kind, export.index as usize))).collect(),
        ),
    }
}
