//! One core module as it is read: what it has, what it needs, and what its names mean.

use std::collections::BTreeMap;

use wasmparser::{
    DataSectionReader, ElementSectionReader, ExternalKind, FunctionBody, FunctionSectionReader, Global,
    MemorySectionReader, Parser, Payload, TableSectionReader, TypeRef, TypeSectionReader,
};

use super::Odd;

/// The kinds of what modules hand each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Function,
    Table,
    Memory,
    Global,
}

impl Kind {
    pub(super) const ALL: [Kind; 4] = [Kind::Function, Kind::Table, Kind::Memory, Kind::Global];

    pub(super) fn of(kind: ExternalKind) -> Result<Kind, Odd> {
        match kind {
            ExternalKind::Func | ExternalKind::FuncExact => Ok(Kind::Function),
            ExternalKind::Table => Ok(Kind::Table),
            ExternalKind::Memory => Ok(Kind::Memory),
            ExternalKind::Global => Ok(Kind::Global),
            ExternalKind::Tag => Err(Odd::New("tags")),
        }
    }

    pub(super) fn external(self) -> ExternalKind {
        match self {
            Kind::Function => ExternalKind::Func,
            Kind::Table => ExternalKind::Table,
            Kind::Memory => ExternalKind::Memory,
            Kind::Global => ExternalKind::Global,
        }
    }
}

/// What a module needs of another one.
pub(super) struct Import<'a> {
    pub(super) module: &'a str,
    pub(super) name: &'a str,
    /// Of a function, its type in this module.
    pub(super) signature: u32,
}

/// A module.
#[derive(Default)]
pub(super) struct Unit<'a> {
    imports: [Vec<Import<'a>>; 4],
    defined: [u32; 4],
    pub(super) exports: BTreeMap<&'a str, (Kind, u32)>,
    pub(super) start: Option<u32>,
    pub(super) bodies: Vec<FunctionBody<'a>>,
    pub(super) types: Option<TypeSectionReader<'a>>,
    pub(super) functions: Option<FunctionSectionReader<'a>>,
    pub(super) tables: Option<TableSectionReader<'a>>,
    pub(super) memories: Option<MemorySectionReader<'a>>,
    pub(super) globals: Vec<Global<'a>>,
    pub(super) elements: Option<ElementSectionReader<'a>>,
    pub(super) data: Option<DataSectionReader<'a>>,
}

impl<'a> Unit<'a> {
    pub(super) fn read(octets: &'a [u8]) -> Result<Unit<'a>, Odd> {
        let mut unit = Unit::default();
        for payload in Parser::new(0).parse_all(octets) {
            unit.take(payload?)?;
        }
        Ok(unit)
    }

    /// What it needs of this kind, in order.
    pub(super) fn imports(&self, kind: Kind) -> &[Import<'a>] {
        &self.imports[kind as usize]
    }

    /// How many of this kind it has itself.
    pub(super) fn defined(&self, kind: Kind) -> u32 {
        self.defined[kind as usize]
    }

    fn take(&mut self, payload: Payload<'a>) -> Result<(), Odd> {
        match payload {
            Payload::TypeSection(section) => self.types = Some(section),
            Payload::ImportSection(section) => {
                for import in section.into_imports() {
                    self.import(import?)?;
                }
            }
            Payload::FunctionSection(section) => {
                self.defined[Kind::Function as usize] = section.count();
                self.functions = Some(section);
            }
            Payload::TableSection(section) => {
                self.defined[Kind::Table as usize] = section.count();
                self.tables = Some(section);
            }
            Payload::MemorySection(section) => {
                self.defined[Kind::Memory as usize] = section.count();
                self.memories = Some(section);
            }
            Payload::GlobalSection(section) => {
                self.defined[Kind::Global as usize] = section.count();
                self.globals = section.into_iter().collect::<Result<_, _>>()?;
            }
            Payload::ExportSection(section) => {
                for export in section {
                    let export = export?;
                    self.exports.insert(export.name, (Kind::of(export.kind)?, export.index));
                }
            }
            Payload::StartSection { func, .. } => self.start = Some(func),
            Payload::ElementSection(section) => self.elements = Some(section),
            Payload::DataSection(section) => self.data = Some(section),
            Payload::CodeSectionEntry(body) => self.bodies.push(body),
            Payload::TagSection(_) => return Err(Odd::New("tags")),
            _ => {}
        }
        Ok(())
    }

    fn import(&mut self, import: wasmparser::Import<'a>) -> Result<(), Odd> {
        let (kind, signature) = match import.ty {
            TypeRef::Func(signature) | TypeRef::FuncExact(signature) => (Kind::Function, signature),
            TypeRef::Table(_) => (Kind::Table, 0),
            TypeRef::Memory(_) => (Kind::Memory, 0),
            TypeRef::Global(_) => (Kind::Global, 0),
            TypeRef::Tag(_) => return Err(Odd::New("tags")),
        };
        self.imports[kind as usize].push(Import { module: import.module, name: import.name, signature });
        Ok(())
    }
}
