//! Makes one core module of a component that a tool linked from many. A fresh instance for each decision is then one instance instead of
//! forty, and the sandbox allows no components within components. A trap takes the place of each function of WASI, as it does where the
//! tools themselves make a component without imports.

use std::collections::BTreeMap;

use wasm_encoder::reencode::{self, Reencode, utils};
use wasm_encoder::{
    CodeSection, ConstExpr, DataCountSection, DataSection, ElementSection, Encode as _, ExportKind, ExportSection,
    Function, FunctionSection, GlobalSection, Instruction, MemorySection, Module, StartSection, TableSection,
    TypeSection,
};
use wasmparser::{ExternalKind, Operator, Validator, WasmFeatures};

use parts::{CoreInstance, Item, Lifted, Parts};
use unit::{Kind, Unit};

mod parts;
mod unit;

/// Why there is no such module.
#[derive(Debug, thiserror::Error)]
pub(super) enum Odd {
    /// It has what no tool that is known makes.
    #[error("it has {0}")]
    New(&'static str),
    #[error("{0}")]
    Octets(#[from] wasmparser::BinaryReaderError),
    #[error("{0}")]
    Written(String),
}

impl From<reencode::Error<Odd>> for Odd {
    fn from(error: reencode::Error<Odd>) -> Odd {
        match error {
            reencode::Error::UserError(odd) => odd,
            other => Odd::Written(other.to_string()),
        }
    }
}

/// The core modules of a component as one, which exports its functions by the names that make a component of it again.
pub(super) fn one_module(component: &[u8]) -> Result<Vec<u8>, Odd> {
    Validator::new_with_features(WasmFeatures::all()).validate_all(component)?;
    for parts in parts::read(component)? {
        let whole = Whole::of(&parts)?;
        let exports = whole.exports()?;
        if !exports.is_empty() {
            return whole.write(&exports);
        }
    }
    Err(Odd::New("no function of the contract"))
}

/// Where something is, after all names are looked up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// The one of this number among those that the unit has itself.
    In { unit: usize, kind: Kind, number: u32 },
    /// A function that nobody has.
    Outside,
}

/// All modules beside each other.
struct Whole<'a> {
    parts: &'a Parts<'a>,
    units: Vec<Unit<'a>>,
    /// By instance of a module: its unit.
    unit_of: BTreeMap<usize, usize>,
    /// By unit: what its names of modules mean.
    arguments: Vec<&'a BTreeMap<&'a str, usize>>,
    /// By unit: where its types, elements and data begin.
    first: Vec<First>,
    /// By unit and kind: what each of its indices has become.
    indices: Vec<[Vec<u32>; 4]>,
    /// By type: the function that traps.
    traps: BTreeMap<u32, u32>,
}

#[derive(Clone, Copy, Default)]
struct First {
    types: u32,
    elements: u32,
    data: u32,
    defined: [u32; 4],
}

impl First {
    /// Where the next unit's begin.
    fn after(self, unit: &Unit<'_>) -> Result<First, Odd> {
        let types =
            unit.types.clone().into_iter().flatten().try_fold(0, |sum, group| {
                Ok::<_, Odd>(sum + u32::try_from(group?.types().len()).unwrap_or(u32::MAX))
            })?;
        Ok(First {
            types: self.types + types,
            elements: self.elements + unit.elements.as_ref().map_or(0, wasmparser::SectionLimited::count),
            data: self.data + unit.data.as_ref().map_or(0, wasmparser::SectionLimited::count),
            defined: Kind::ALL.map(|kind| self.defined[kind as usize] + unit.defined(kind)),
        })
    }
}

impl<'a> Whole<'a> {
    fn of(parts: &'a Parts<'a>) -> Result<Whole<'a>, Odd> {
        let mut whole = Whole {
            parts,
            units: Vec::new(),
            unit_of: BTreeMap::new(),
            arguments: Vec::new(),
            first: vec![First::default()],
            indices: Vec::new(),
            traps: BTreeMap::new(),
        };
        let mut end = First::default();
        for (number, instance) in parts.instances.iter().enumerate() {
            if let CoreInstance::Of { module, arguments } = instance {
                let unit = Unit::read(parts.modules.get(*module).ok_or(Odd::New("no such module"))?)?;
                end = end.after(&unit)?;
                whole.unit_of.insert(number, whole.units.len());
                whole.units.push(unit);
                whole.arguments.push(arguments);
                whole.first.push(end);
            }
        }
        for unit in 0..whole.units.len() {
            let mut indices: [Vec<u32>; 4] = Default::default();
            for kind in Kind::ALL {
                indices[kind as usize] = whole.indices_of(unit, kind, end)?;
            }
            whole.indices.push(indices);
        }
        Ok(whole)
    }

    /// What the indices of this kind in this unit become.
    fn indices_of(&mut self, unit: usize, kind: Kind, end: First) -> Result<Vec<u32>, Odd> {
        let mut indices = Vec::new();
        for number in 0..self.units[unit].imports(kind).len() {
            let index = match self.imported(unit, kind, number)? {
                place @ Place::In { .. } => self.index(place)?,
                Place::Outside => {
                    let signature = self.first[unit].types + self.units[unit].imports(kind)[number].signature;
                    let next = end.defined[kind as usize] + u32::try_from(self.traps.len()).unwrap_or(u32::MAX);
                    *self.traps.entry(signature).or_insert(next)
                }
            };
            indices.push(index);
        }
        let first = self.first[unit].defined[kind as usize];
        indices.extend(first..first + self.units[unit].defined(kind));
        Ok(indices)
    }

    /// The index of what a unit has itself.
    fn index(&self, place: Place) -> Result<u32, Odd> {
        match place {
            Place::In { unit, kind, number } => Ok(self.first[unit].defined[kind as usize] + number),
            Place::Outside => Err(Odd::New("an export that is an import")),
        }
    }

    /// Looks up what the unit imports under this number.
    fn imported(&self, unit: usize, kind: Kind, number: usize) -> Result<Place, Odd> {
        let import = &self.units[unit].imports(kind)[number];
        let instance = self.arguments[unit].get(import.module).ok_or(Odd::New("a module that is missing"))?;
        self.named(*instance, import.name)
    }

    /// Looks up what an instance exports under this name.
    fn named(&self, instance: usize, name: &str) -> Result<Place, Odd> {
        let missing = || Odd::New("a name that is missing");
        match self.parts.instances.get(instance).ok_or_else(missing)? {
            CoreInstance::Names(names) => {
                let (kind, index) = names.get(name).ok_or_else(missing)?;
                self.item(*kind, *index)
            }
            CoreInstance::Of { .. } => {
                let unit = *self.unit_of.get(&instance).ok_or_else(missing)?;
                let (kind, index) = *self.units[unit].exports.get(name).ok_or_else(missing)?;
                let imports = self.units[unit].imports(kind).len();
                match (index as usize).checked_sub(imports) {
                    Some(_) => Ok(Place::In { unit, kind, number: index - u32::try_from(imports).unwrap_or(u32::MAX) }),
                    None => self.imported(unit, kind, index as usize),
                }
            }
        }
    }

    fn item(&self, kind: ExternalKind, index: usize) -> Result<Place, Odd> {
        match self.parts.item(kind, index)? {
            Item::Of { instance, name } => self.named(instance, name),
            Item::Outside => Ok(Place::Outside),
        }
    }

    /// What the module exports: the contract's functions, what frees their results, and what gives them memory.
    fn exports(&self) -> Result<BTreeMap<String, (Kind, u32)>, Odd> {
        let mut exports = BTreeMap::new();
        for Lifted { function, memory, realloc } in &self.parts.lifted {
            let Item::Of { instance, name } = self.parts.item(ExternalKind::Func, *function)? else { continue };
            if !name.contains('#') {
                continue;
            }
            let mut export = |name: String, place: Place| {
                let Place::In { kind, .. } = place else { return Err(Odd::New("an export that is an import")) };
                let there = (kind, self.index(place)?);
                match exports.insert(name, there) {
                    Some(other) if other != there => Err(Odd::New("several memories, or ways to get some")),
                    _ => Ok(()),
                }
            };
            export(name.to_owned(), self.named(instance, name)?)?;
            let frees = format!("cabi_post_{name}");
            if let Ok(place) = self.named(instance, &frees) {
                export(frees, place)?;
            }
            if let Some(memory) = memory {
                export("memory".into(), self.item(ExternalKind::Memory, *memory)?)?;
            }
            if let Some(realloc) = realloc {
                export("cabi_realloc".into(), self.item(ExternalKind::Func, *realloc)?)?;
            }
        }
        Ok(exports)
    }

    fn write(&self, exports: &BTreeMap<String, (Kind, u32)>) -> Result<Vec<u8>, Odd> {
        let mut types = TypeSection::new();
        let (mut functions, mut code) = (FunctionSection::new(), CodeSection::new());
        let (mut tables, mut memories, mut globals) = (TableSection::new(), MemorySection::new(), GlobalSection::new());
        let (mut elements, mut data) = (ElementSection::new(), DataSection::new());
        let mut starts = Vec::new();
        for (number, unit) in self.units.iter().enumerate() {
            let mut moved = Moved { whole: self, unit: number };
            if let Some(section) = unit.types.clone() {
                utils::parse_type_section(&mut moved, &mut types, section)?;
            }
            if let Some(section) = unit.functions.clone() {
                utils::parse_function_section(&mut moved, &mut functions, section)?;
            }
            if let Some(section) = unit.tables.clone() {
                utils::parse_table_section(&mut moved, &mut tables, section)?;
            }
            if let Some(section) = unit.memories.clone() {
                utils::parse_memory_section(&mut moved, &mut memories, section)?;
            }
            for global in &unit.globals {
                utils::parse_global(&mut moved, &mut globals, global.clone())?;
            }
            if let Some(section) = unit.elements.clone() {
                utils::parse_element_section(&mut moved, &mut elements, section)?;
            }
            if let Some(section) = unit.data.clone() {
                utils::parse_data_section(&mut moved, &mut data, section)?;
            }
            for body in &unit.bodies {
                utils::parse_function_body(&mut moved, &mut code, body.clone())?;
            }
            if let Some(start) = unit.start {
                starts.push(moved.function_index(start)?);
            }
        }
        self.write_traps(&mut functions, &mut code);
        let start = write_start(&starts, &mut types, &mut functions, &mut code);
        let mut exported = ExportSection::new();
        for (name, (kind, index)) in exports {
            exported.export(name, ExportKind::from(kind.external()), *index);
        }
        let mut module = Module::new();
        module
            .section(&types)
            .section(&functions)
            .section(&tables)
            .section(&memories)
            .section(&globals)
            .section(&exported);
        if let Some(function_index) = start {
            module.section(&StartSection { function_index });
        }
        module.section(&elements).section(&DataCountSection { count: data.len() }).section(&code).section(&data);
        Ok(module.finish())
    }

    fn write_traps(&self, functions: &mut FunctionSection, code: &mut CodeSection) {
        let mut traps: Vec<(u32, u32)> = self.traps.iter().map(|(signature, index)| (*index, *signature)).collect();
        traps.sort_unstable();
        for (_, signature) in traps {
            functions.function(signature);
            let mut trap = Function::new([]);
            trap.instruction(&Instruction::Unreachable).instruction(&Instruction::End);
            code.function(&trap);
        }
    }
}

/// One start function that calls those of all units in the order in which these were instantiated.
fn write_start(
    starts: &[u32],
    types: &mut TypeSection,
    functions: &mut FunctionSection,
    code: &mut CodeSection,
) -> Option<u32> {
    if starts.len() < 2 {
        return starts.first().copied();
    }
    functions.function(types.len());
    types.ty().function([], []);
    let mut start = Function::new([]);
    for index in starts {
        start.instruction(&Instruction::Call(*index));
    }
    start.instruction(&Instruction::End);
    code.function(&start);
    Some(functions.len() - 1)
}

/// A unit as it is written: every index is the whole's.
struct Moved<'a> {
    whole: &'a Whole<'a>,
    unit: usize,
}

impl Moved<'_> {
    fn moved(&self, kind: Kind, index: u32) -> Result<u32, reencode::Error<Odd>> {
        let indices = self.whole.indices.get(self.unit).map(|indices| &indices[kind as usize]);
        let moved = indices.and_then(|indices| indices.get(index as usize)).copied();
        moved.ok_or(reencode::Error::UserError(Odd::New("an index beyond its space")))
    }

    /// What a global begins with.
    fn constant(&self, place: Place) -> Result<Vec<u8>, reencode::Error<Odd>> {
        let beyond = || reencode::Error::UserError(Odd::New("an index beyond its space"));
        let Place::In { unit, number, .. } = place else { return Err(beyond()) };
        let global =
            self.whole.units.get(unit).and_then(|unit| unit.globals.get(number as usize)).ok_or_else(beyond)?;
        let mut octets = Vec::new();
        Moved { whole: self.whole, unit }.const_expr(global.init_expr.clone())?.encode(&mut octets);
        // Without the end, which another one follows.
        octets.pop();
        Ok(octets)
    }

    fn first(&self) -> First {
        self.whole.first.get(self.unit).copied().unwrap_or_default()
    }
}

impl Reencode for Moved<'_> {
    type Error = Odd;

    fn function_index(&mut self, index: u32) -> Result<u32, reencode::Error<Odd>> {
        self.moved(Kind::Function, index)
    }

    fn table_index(&mut self, index: u32) -> Result<u32, reencode::Error<Odd>> {
        self.moved(Kind::Table, index)
    }

    fn memory_index(&mut self, index: u32) -> Result<u32, reencode::Error<Odd>> {
        self.moved(Kind::Memory, index)
    }

    fn global_index(&mut self, index: u32) -> Result<u32, reencode::Error<Odd>> {
        self.moved(Kind::Global, index)
    }

    fn type_index(&mut self, index: u32) -> Result<u32, reencode::Error<Odd>> {
        Ok(self.first().types + index)
    }

    fn element_index(&mut self, index: u32) -> Result<u32, reencode::Error<Odd>> {
        Ok(self.first().elements + index)
    }

    fn data_index(&mut self, index: u32) -> Result<u32, reencode::Error<Odd>> {
        Ok(self.first().data + index)
    }

    /// A constant of another module is written out: no constant may name a global that is not imported.
    fn const_expr(&mut self, constant: wasmparser::ConstExpr<'_>) -> Result<ConstExpr, reencode::Error<Odd>> {
        let imports = self.whole.units[self.unit].imports(Kind::Global).len();
        let mut operators = constant.get_operators_reader();
        let mut octets = Vec::new();
        while !operators.is_end_then_eof() {
            match operators.read()? {
                Operator::GlobalGet { global_index } if (global_index as usize) < imports => {
                    let place = self.whole.imported(self.unit, Kind::Global, global_index as usize);
                    octets.extend(self.constant(place.map_err(reencode::Error::UserError)?)?);
                }
                operator => self.instruction(operator)?.encode(&mut octets),
            }
        }
        Ok(ConstExpr::raw(octets))
    }
}

#[cfg(test)]
mod tests;
