//! Wires the core modules of a component and the adapter, and writes the module.

use std::collections::HashMap;

use wasm_encoder::reencode::Reencode;
use wasm_encoder::{
    CodeSection, CustomSection, DataCountSection, DataSection, ElementSection, EntityType,
    ExportKind, ExportSection, Function, FunctionSection, GlobalSection, ImportSection,
    MemorySection, NameMap, NameSection, StartSection, TableSection, TagSection, TypeSection,
    ValType,
};
use wasmparser::{ExternalKind, FuncType, MemoryType, TypeRef};

use crate::ComponentError;
use crate::adapter::{self, COMPONENT};
use crate::graph::{self, Core, CoreInstance, Graph, Item, at};
use crate::merge::{Indices, Number, Part};
use crate::module::Module;

/// The part that the adapter is.
const ADAPTER: usize = 0;
/// The bytes that the modules of all instances may have together: a module may be instantiated often.
const MOST_BYTES: usize = 128 << 20;
/// What ends a process that calls a function of WASI which an actor does not have.
const MISSING: &str = "an actor does not have this function of WASI: ";

/// The bytes that the adapter's area has for such a text.
const MOST_TEXT: usize = 128;

/// Makes one core module of a component of the world `exuvia:actor`.
///
/// # Errors
///
/// Returns an error that names what is in the way: the bytes are no valid component, an export of the world is missing
/// or has another type, an import is none that an actor has, or the component uses resources of its own, asynchronous
/// functions or several memories.
pub fn fuse(wasm: &[u8]) -> Result<Vec<u8>, ComponentError> {
    let graph = graph::read(wasm)?;
    let mut wiring = Wiring::new(&graph)?;
    wiring.find_reallocs()?;
    wiring.connect()?;
    wiring.connect_adapter()?;
    wiring.write()
}

/// A function that is in none of the modules.
enum Made {
    /// A function of the adapter, for a caller with another `realloc` than others.
    Lowered { function: u32, realloc: i32 },
    /// A function that an actor does not have: the process ends.
    Missing(String),
    /// The `realloc` that is current, of those given.
    Realloc(Vec<u32>),
    /// Does nothing.
    Nothing,
    /// Calls all functions.
    Starts(Vec<u32>),
}

/// A signature that functions are made of.
struct Signature {
    parameters: Vec<ValType>,
    results: Vec<ValType>,
}

struct Wiring<'a> {
    graph: &'a Graph<'a>,
    parts: Vec<Part<'a>>,
    /// The part that a core instance is, unless it is a bundle.
    part_of: Vec<Option<usize>>,
    /// The host's functions: module, name, and the adapter's type.
    host: Vec<(&'a str, &'a str, u32)>,
    memory: MemoryType,
    /// The part that brings the memory.
    main: usize,
    constants: Vec<Option<Number>>,
    /// The functions that serve as `realloc`, by where they are defined: first that of the exports.
    reallocs: Vec<(usize, u32)>,
    /// The merged index of the first function that is made.
    first_made: u32,
    made: Vec<(Signature, String, Made)>,
    /// What a lowered function, by its index among the core functions, was made.
    lowered: HashMap<u32, u32>,
}

impl<'a> Wiring<'a> {
    /// Reads the modules, and counts what they define, so that all indices are known.
    fn new(graph: &'a Graph<'a>) -> Result<Wiring<'a>, ComponentError> {
        let mut parts = vec![Part {
            module: Module::read(adapter::bytes())?,
            ..Part::default()
        }];
        let mut part_of = Vec::new();
        let mut bytes = 0;
        for instance in &graph.instances {
            part_of.push(match instance {
                CoreInstance::Module(module, _) => {
                    let wasm = at(&graph.modules, *module)?;
                    bytes += wasm.len();
                    if bytes > MOST_BYTES {
                        let what = format!("more than {MOST_BYTES} bytes of instances");
                        return Err(ComponentError::Unsupported(what));
                    }
                    parts.push(Part {
                        module: Module::read(wasm)?,
                        ..Part::default()
                    });
                    Some(parts.len() - 1)
                }
                CoreInstance::Items(_) => None,
            });
        }
        let memories = parts.iter().enumerate();
        let memories: Vec<_> = memories
            .flat_map(|(part, one)| one.module.memories.iter().map(move |of| (part, *of)))
            .collect();
        let &[(main, memory)] = &memories[..] else {
            let count = memories.len();
            return Err(ComponentError::Unsupported(format!("{count} memories")));
        };
        let mut host = Vec::new();
        for import in &parts[ADAPTER].module.imports {
            if let (TypeRef::Func(of), true) = (import.ty, import.module != COMPONENT) {
                host.push((import.module, import.name, of));
            }
        }
        let mut first_made = host.len() as u32;
        let (mut types, mut elements, mut data) = (0, 0, 0);
        for part in &mut parts {
            let module = &part.module;
            first_made += module.functions.len() as u32;
            (part.types, part.elements, part.data) = (types, elements, data);
            types += module.signatures.len() as u32;
            elements += module
                .elements
                .as_ref()
                .map_or(0, |section| section.count());
            data += module.data.as_ref().map_or(0, |section| section.count());
        }
        Ok(Wiring {
            graph,
            parts,
            part_of,
            host,
            memory,
            main,
            constants: Vec::new(),
            reallocs: Vec::new(),
            first_made,
            made: Vec::new(),
            lowered: HashMap::new(),
        })
    }

    /// Finds all functions that serve as `realloc`.
    fn find_reallocs(&mut self) -> Result<(), ComponentError> {
        let graph = self.graph;
        for lift in graph.exports.values() {
            if let Some(realloc) = lift.realloc {
                self.add_realloc(realloc)?;
            }
        }
        if self.reallocs.len() > 1 {
            let what = "exports with different `realloc`".to_owned();
            return Err(ComponentError::Unsupported(what));
        }
        for function in &graph.functions {
            if let Core::Lowered {
                realloc: Some(realloc),
                ..
            } = function
            {
                self.add_realloc(*realloc)?;
            }
        }
        Ok(())
    }

    fn add_realloc(&mut self, function: u32) -> Result<(), ComponentError> {
        let realloc = self.core_definition(function)?;
        if !self.reallocs.contains(&realloc) {
            self.reallocs.push(realloc);
        }
        Ok(())
    }

    /// Finds the merged index of everything that each module imports and defines, in the order of the instances: an
    /// instance imports from earlier ones only.
    fn connect(&mut self) -> Result<(), ComponentError> {
        let mut function = self.host.len() as u32;
        let (mut table, mut tag) = (0, 0);
        let next = |counter: &mut u32, map: &mut Vec<u32>, count: u32| {
            map.extend(*counter..*counter + count);
            *counter += count;
        };
        let instances = self.part_of.iter().enumerate();
        let mut instance_of = vec![None; self.parts.len()];
        for (instance, part) in instances {
            if let Some(part) = part {
                instance_of[*part] = Some(instance);
            }
        }
        for (index, instance) in instance_of.into_iter().enumerate() {
            let imports = self.parts[index].module.imports.clone();
            for import in imports {
                let Some(instance) = instance else {
                    // The adapter's own are known when all others are.
                    if let TypeRef::Func(_) = import.ty {
                        let functions = &mut self.parts[ADAPTER].functions;
                        functions.push(
                            self.host
                                .iter()
                                .position(|(module, name, _)| {
                                    (*module, *name) == (import.module, import.name)
                                })
                                .map_or(u32::MAX, |at| at as u32),
                        );
                    }
                    continue;
                };
                let CoreInstance::Module(_, arguments) = &self.graph.instances[instance] else {
                    continue;
                };
                let from = arguments.get(import.module).copied();
                let from = from.ok_or_else(|| unknown(import.module))?;
                match import.ty {
                    TypeRef::Func(of) | TypeRef::FuncExact(of) => {
                        let merged = self.exported_function(from, import.name, index, of)?;
                        self.parts[index].functions.push(merged);
                    }
                    TypeRef::Table(_) => {
                        let merged = self.exported(from, import.name, ExternalKind::Table)?;
                        self.parts[index].tables.push(merged);
                    }
                    TypeRef::Global(_) => {
                        let merged = self.exported(from, import.name, ExternalKind::Global)?;
                        self.parts[index].globals.push(merged);
                    }
                    TypeRef::Tag(_) => {
                        let merged = self.exported(from, import.name, ExternalKind::Tag)?;
                        self.parts[index].tags.push(merged);
                    }
                    TypeRef::Memory(_) => {}
                }
            }
            let part = &mut self.parts[index];
            let module = &part.module;
            next(
                &mut function,
                &mut part.functions,
                module.functions.len() as u32,
            );
            let tables = module.tables.as_ref().map_or(0, |section| section.count());
            next(&mut table, &mut part.tables, tables);
            let tags = module.tags.as_ref().map_or(0, |section| section.count());
            next(&mut tag, &mut part.tags, tags);
            if let Some(section) = module.globals.clone() {
                for global in section {
                    let global = global?;
                    let indices = Indices {
                        part: &self.parts[index],
                        constants: &self.constants,
                        referenced: Vec::new(),
                    };
                    let number = indices.number(&global.init_expr);
                    let number = number.filter(|_| !global.ty.mutable);
                    self.parts[index].globals.push(self.constants.len() as u32);
                    self.constants.push(number);
                }
            }
        }
        Ok(())
    }

    /// Gives the adapter what it imports from the component.
    fn connect_adapter(&mut self) -> Result<(), ComponentError> {
        let imports = self.parts[ADAPTER].module.imports.clone();
        let functions = imports.iter().filter_map(|import| match import.ty {
            TypeRef::Func(of) => Some((import.module, import.name, of)),
            _ => None,
        });
        for (index, (module, name, of)) in functions.enumerate() {
            if module != COMPONENT {
                continue;
            }
            let merged = match name.split_once('#') {
                None if name == "realloc" => self.realloc(of)?,
                None => {
                    let lift = self.lift(name)?;
                    self.checked(self.core_definition(lift.function)?, name, of)?
                }
                Some((export, _)) => match self.lift(export)?.post_return {
                    Some(function) => self.checked(self.core_definition(function)?, name, of)?,
                    None => self.make(ADAPTER, of, name.to_owned(), Made::Nothing)?,
                },
            };
            self.parts[ADAPTER].functions[index] = merged;
        }
        Ok(())
    }

    fn lift(&self, name: &str) -> Result<graph::Lift, ComponentError> {
        let found = self.graph.exports.get(name).copied();
        found.ok_or_else(|| ComponentError::NoExport(name.to_owned()))
    }

    /// A core function of the component that has the type that the adapter expects.
    fn checked(
        &self,
        (part, own): (usize, u32),
        name: &str,
        of: u32,
    ) -> Result<u32, ComponentError> {
        let expected = self.signature(ADAPTER, of)?.clone();
        let found = self.parts[part].module.signature(own);
        if found != Some(&expected) {
            return Err(ComponentError::ExportType {
                name: name.to_owned(),
                found: found.map_or_else(String::new, text),
                expected: text(&expected),
            });
        }
        at(&self.parts[part].functions, own).copied()
    }

    /// Where a core function is defined.
    fn core_definition(&self, function: u32) -> Result<(usize, u32), ComponentError> {
        match at(&self.graph.functions, function)? {
            Core::Export(instance, name) => self.definition(*instance, name),
            _ => Err(ComponentError::Unsupported(
                "an import among its exports".to_owned(),
            )),
        }
    }

    /// Where the core function that an instance exports is defined or imported: the part, and its index there.
    fn definition(&self, instance: u32, name: &str) -> Result<(usize, u32), ComponentError> {
        match at(&self.graph.instances, instance)? {
            CoreInstance::Module(..) => {
                let part = self.part_of[instance as usize].unwrap_or_default();
                match self.parts[part].module.exports.get(name) {
                    Some((ExternalKind::Func, index)) => Ok((part, *index)),
                    _ => Err(unknown(name)),
                }
            }
            CoreInstance::Items(items) => match items.get(name) {
                Some(Item::Function(function)) => self.core_definition(*function),
                _ => Err(unknown(name)),
            },
        }
    }

    /// The `realloc` that is current.
    fn realloc(&mut self, of: u32) -> Result<u32, ComponentError> {
        let reallocs = self.reallocs.clone();
        let merged = reallocs.iter().map(|one| self.checked(*one, "realloc", of));
        let merged = merged.collect::<Result<Vec<_>, _>>()?;
        match merged[..] {
            [] => Err(ComponentError::Unsupported(
                "no function `cabi_realloc`".to_owned(),
            )),
            [one] => Ok(one),
            _ => self.make(ADAPTER, of, "realloc".to_owned(), Made::Realloc(merged)),
        }
    }

    /// The merged index of a function that an instance exports, for a part that imports it with one of its types.
    fn exported_function(
        &mut self,
        instance: u32,
        name: &str,
        part: usize,
        of: u32,
    ) -> Result<u32, ComponentError> {
        match at(&self.graph.instances, instance)? {
            CoreInstance::Module(..) => self.exported(instance, name, ExternalKind::Func),
            CoreInstance::Items(items) => match items.get(name) {
                Some(Item::Function(function)) => self.core_function(*function, part, of),
                _ => Err(unknown(name)),
            },
        }
    }

    fn core_function(
        &mut self,
        function: u32,
        part: usize,
        of: u32,
    ) -> Result<u32, ComponentError> {
        let graph = self.graph;
        let (interface, name, realloc) = match at(&graph.functions, function)? {
            Core::Export(instance, name) => {
                return self.exported_function(*instance, name, part, of);
            }
            Core::Unsupported(what) => {
                return Err(ComponentError::Unsupported((*what).to_owned()));
            }
            Core::Lowered {
                interface,
                name,
                realloc,
            } => (*interface, name, *realloc),
        };
        if let Some(merged) = self.lowered.get(&function) {
            return Ok(*merged);
        }
        let wanted = self.signature(part, of)?.clone();
        let export = adapter::export(interface, name);
        let adapted = match self.parts[ADAPTER].module.exports.get(&export[..]) {
            None if name.starts_with("[resource-drop]") => {
                self.parts[ADAPTER].module.exports.get(adapter::DROP)
            }
            found => found,
        };
        let adapted = adapted.map(|(_, index)| *index);
        let merged = match adapted {
            Some(own) => {
                let expected = self.parts[ADAPTER].module.signature(own);
                if expected != Some(&wanted) {
                    return Err(ComponentError::ImportType {
                        name: format!("{interface} {name}"),
                        found: text(&wanted),
                        expected: expected.map_or_else(String::new, text),
                    });
                }
                let function = *at(&self.parts[ADAPTER].functions, own)?;
                let realloc = realloc.map(|one| self.core_definition(one)).transpose()?;
                match realloc.and_then(|one| self.reallocs.iter().position(|of| *of == one)) {
                    Some(number) if self.reallocs.len() > 1 => {
                        let realloc = number as i32;
                        self.make(part, of, export, Made::Lowered { function, realloc })?
                    }
                    _ => function,
                }
            }
            None if interface.starts_with("wasi:") => {
                let mut missing = format!("{MISSING}{export}");
                while missing.len() > MOST_TEXT {
                    missing.pop();
                }
                self.make(part, of, export, Made::Missing(missing))?
            }
            None => {
                let advice = "the interfaces are those of exuvia:actor (guest-sdk/component/wit) and of WASI 0.2";
                return Err(ComponentError::Import(
                    format!("{interface} {name}"),
                    advice,
                ));
            }
        };
        self.lowered.insert(function, merged);
        Ok(merged)
    }

    /// The merged index of what an instance exports.
    fn exported(
        &self,
        instance: u32,
        name: &str,
        kind: ExternalKind,
    ) -> Result<u32, ComponentError> {
        match at(&self.graph.instances, instance)? {
            CoreInstance::Module(..) => {
                let part = &self.parts[self.part_of[instance as usize].unwrap_or_default()];
                let (_, index) = part.module.exports.get(name).ok_or_else(|| unknown(name))?;
                let map = match kind {
                    ExternalKind::Table => &part.tables,
                    ExternalKind::Global => &part.globals,
                    ExternalKind::Tag => &part.tags,
                    _ => &part.functions,
                };
                at(map, *index).copied()
            }
            CoreInstance::Items(items) => {
                let graph = self.graph;
                let core = match items.get(name) {
                    Some(Item::Table(index)) => at(&graph.tables, *index)?,
                    Some(Item::Global(index)) => at(&graph.globals, *index)?,
                    Some(Item::Tag(index)) => at(&graph.tags, *index)?,
                    _ => return Err(unknown(name)),
                };
                match core {
                    Core::Export(instance, name) => self.exported(*instance, name, kind),
                    _ => Err(unknown(name)),
                }
            }
        }
    }

    fn signature(&self, part: usize, of: u32) -> Result<&FuncType, ComponentError> {
        let signatures = &self.parts[part].module.signatures;
        let found = signatures.get(of as usize).and_then(Option::as_ref);
        found.ok_or_else(|| unknown("a type"))
    }

    /// Adds a function of a type of a part, and returns its merged index.
    fn make(
        &mut self,
        part: usize,
        of: u32,
        name: String,
        made: Made,
    ) -> Result<u32, ComponentError> {
        let signature = self.signature(part, of)?.clone();
        let indices = &mut Indices {
            part: &self.parts[part],
            constants: &[],
            referenced: Vec::new(),
        };
        let mut types = |types: &[wasmparser::ValType]| -> Result<Vec<ValType>, ComponentError> {
            let types = types.iter().map(|one| indices.val_type(*one));
            Ok(types.collect::<Result<_, _>>()?)
        };
        let signature = Signature {
            parameters: types(signature.params())?,
            results: types(signature.results())?,
        };
        self.made.push((signature, name, made));
        Ok(self.first_made + self.made.len() as u32 - 1)
    }

    /// The merged index of a function of the adapter.
    fn adapter_export(&self, name: &str) -> Result<(ExternalKind, u32), ComponentError> {
        let part = &self.parts[ADAPTER];
        let (kind, own) = part.module.exports.get(name).ok_or_else(|| unknown(name))?;
        let map = if *kind == ExternalKind::Global {
            &part.globals
        } else {
            &part.functions
        };
        Ok((*kind, *at(map, *own)?))
    }

    /// Writes the module.
    fn write(mut self) -> Result<Vec<u8>, ComponentError> {
        let start = self.start();
        let mut types = TypeSection::new();
        let mut functions = FunctionSection::new();
        let mut tables = TableSection::new();
        let mut tags = TagSection::new();
        let mut globals = GlobalSection::new();
        let mut elements = ElementSection::new();
        let mut code = CodeSection::new();
        let mut data = DataSection::new();
        let mut names: Vec<(u32, String)> = Vec::new();
        let mut referenced = Vec::new();
        let dead = self.dead_stack().unwrap_or_default();
        for part in &self.parts {
            let indices = &mut Indices {
                part,
                constants: &self.constants,
                referenced: Vec::new(),
            };
            let module = &part.module;
            if let Some(section) = module.types.clone() {
                indices.parse_type_section(&mut types, section)?;
            }
            for of in &module.functions {
                functions.function(part.types + of);
            }
            if let Some(section) = module.tables.clone() {
                indices.parse_table_section(&mut tables, section)?;
            }
            if let Some(section) = module.tags.clone() {
                indices.parse_tag_section(&mut tags, section)?;
            }
            if let Some(section) = module.globals.clone() {
                indices.parse_global_section(&mut globals, section)?;
            }
            if let Some(section) = module.elements.clone() {
                indices.parse_element_section(&mut elements, section)?;
            }
            for body in &module.bodies {
                indices.parse_function_body(&mut code, body.clone())?;
            }
            if let Some(section) = module.data.clone() {
                for segment in section {
                    add_data(indices, &mut data, segment?, dead)?;
                }
            }
            referenced.append(&mut indices.referenced);
            let imported = part.functions.len() - module.functions.len();
            names.extend(module.names.iter().filter_map(|(own, name)| {
                let own = *own as usize;
                (own >= imported).then_some(())?;
                Some((*part.functions.get(own)?, (*name).to_owned()))
            }));
        }
        for (index, (signature, name, made)) in self.made.iter().enumerate() {
            let of = types.len();
            let (parameters, results) = (&signature.parameters, &signature.results);
            types
                .ty()
                .function(parameters.iter().copied(), results.iter().copied());
            functions.function(of);
            let segment = data.len();
            if let Made::Missing(text) = made {
                data.passive(text.bytes());
            }
            code.function(&self.body(signature, made, segment)?);
            names.push((self.first_made + index as u32, name.clone()));
        }
        // A function that code refers to must be declared: what a module exported was, and is exported no more.
        if !referenced.is_empty() {
            referenced.sort_unstable();
            referenced.dedup();
            elements.declared(wasm_encoder::Elements::Functions(referenced.into()));
        }
        let mut imports = ImportSection::new();
        for (index, (module, name, of)) in self.host.iter().enumerate() {
            imports.import(module, name, EntityType::Function(*of));
            names.push((index as u32, (*name).to_owned()));
        }
        let mut memories = MemorySection::new();
        let adapter = &mut Indices {
            part: &self.parts[ADAPTER],
            constants: &[],
            referenced: Vec::new(),
        };
        memories.memory(adapter.memory_type(self.memory)?);

        let mut module = wasm_encoder::Module::new();
        module.section(&types).section(&imports).section(&functions);
        if !tables.is_empty() {
            module.section(&tables);
        }
        module.section(&memories);
        if !tags.is_empty() {
            module.section(&tags);
        }
        module.section(&globals).section(&self.exports()?);
        if let Some(function_index) = start {
            module.section(&StartSection { function_index });
        }
        if !elements.is_empty() {
            module.section(&elements);
        }
        module
            .section(&DataCountSection { count: data.len() })
            .section(&code)
            .section(&data);
        for (name, bytes) in &self.graph.sections {
            module.section(&CustomSection {
                name: (*name).into(),
                data: (*bytes).into(),
            });
        }
        names.sort_by_key(|(index, _)| *index);
        names.dedup_by_key(|(index, _)| *index);
        let mut map = NameMap::new();
        for (index, name) in &names {
            map.append(*index, name);
        }
        let mut section = NameSection::new();
        section.functions(&map);
        module.section(&section);
        Ok(module.finish())
    }

    /// The function that runs the start functions of all modules, in the order of the instances.
    fn start(&mut self) -> Option<u32> {
        let starts = self.parts.iter().filter_map(|part| {
            let own = part.module.start?;
            part.functions.get(own as usize).copied()
        });
        let starts: Vec<u32> = starts.collect();
        if starts.len() <= 1 {
            return starts.first().copied();
        }
        let signature = Signature {
            parameters: Vec::new(),
            results: Vec::new(),
        };
        let name = "start".to_owned();
        self.made.push((signature, name, Made::Starts(starts)));
        Some(self.first_made + self.made.len() as u32 - 1)
    }

    /// The end of the memory, from 0 on, that is the stack of all modules and of which nothing is in use: the linker of
    /// modules that share a memory (`wit_component::Linker`) says where the stack is.
    fn dead_stack(&self) -> Option<i32> {
        let main = &self.parts[self.main];
        let first = main.globals.len() as u32 - main.module.globals.as_ref()?.count();
        let value = |name| {
            let (_, own) = main.module.exports.get(name)?;
            let globals = main.module.globals.clone()?;
            let global = globals.into_iter().nth(own.checked_sub(first)? as usize)?;
            let indices = Indices {
                part: main,
                constants: &self.constants,
                referenced: Vec::new(),
            };
            match indices.number(&global.ok()?.init_expr) {
                Some(Number::I32(value)) => Some(value),
                _ => None,
            }
        };
        let high = value("__stack_high")?;
        let is_all = value("__stack_low")? == 0 && value("__stack_pointer")? == high;
        is_all.then_some(high)
    }

    fn exports(&self) -> Result<ExportSection, ComponentError> {
        let mut exports = ExportSection::new();
        exports.export("memory", ExportKind::Memory, 0);
        for name in adapter::EXPORTS {
            let (kind, merged) = self.adapter_export(name)?;
            let kind = if kind == ExternalKind::Global {
                ExportKind::Global
            } else {
                ExportKind::Func
            };
            exports.export(name, kind, merged);
        }
        // So that the dead stack is known.
        let main = &self.parts[self.main];
        let exported = main.module.exports.get("__stack_pointer");
        let exported = exported.filter(|(kind, _)| *kind == ExternalKind::Global);
        let own = exported.map(|(_, own)| *own).or(main.module.stack_pointer);
        if let Some(merged) = own.and_then(|own| main.globals.get(own as usize)) {
            exports.export("__stack_pointer", ExportKind::Global, *merged);
        }
        Ok(exports)
    }

    fn body(
        &self,
        signature: &Signature,
        made: &Made,
        segment: u32,
    ) -> Result<Function, ComponentError> {
        let parameters = signature.parameters.len() as u32;
        let mut function = Function::new([]);
        let mut sink = function.instructions();
        let (_, current) = self.adapter_export(adapter::CURRENT)?;
        match made {
            Made::Lowered {
                function: adapted,
                realloc,
            } => {
                sink.i32_const(*realloc).global_set(current);
                for parameter in 0..parameters {
                    sink.local_get(parameter);
                }
                sink.call(*adapted);
            }
            Made::Realloc(reallocs) => {
                for (number, realloc) in reallocs.iter().enumerate() {
                    sink.global_get(current)
                        .i32_const(number as i32)
                        .i32_eq()
                        .if_(wasm_encoder::BlockType::Empty);
                    for parameter in 0..parameters {
                        sink.local_get(parameter);
                    }
                    sink.call(*realloc).return_().end();
                }
                sink.unreachable();
            }
            Made::Missing(text) => {
                let (_, missing) = self.adapter_export("missing")?;
                let length = text.len() as i32;
                sink.call(missing)
                    .i32_const(0)
                    .i32_const(length)
                    .memory_init(0, segment)
                    .i32_const(length);
                let (_, end) = self.adapter_export("end")?;
                sink.call(end).unreachable();
            }
            Made::Nothing => {
                if !signature.results.is_empty() {
                    sink.unreachable();
                }
            }
            Made::Starts(starts) => {
                for start in starts {
                    sink.call(*start);
                }
            }
        }
        sink.end();
        Ok(function)
    }
}

/// Adds a data segment, without what is below the end of the dead stack: a tool that has run the component and kept its
/// memory keeps that too.
fn add_data(
    indices: &mut Indices<'_>,
    data: &mut DataSection,
    mut segment: wasmparser::Data<'_>,
    dead: i32,
) -> Result<(), ComponentError> {
    if let wasmparser::DataKind::Active { offset_expr, .. } = &segment.kind
        && let Some(Number::I32(offset)) = indices.number(offset_expr)
        && offset >= 0
        && offset < dead
    {
        segment.data = segment
            .data
            .get((dead - offset) as usize..)
            .unwrap_or_default();
        data.active(
            0,
            &wasm_encoder::ConstExpr::i32_const(dead),
            segment.data.iter().copied(),
        );
        return Ok(());
    }
    Ok(indices.parse_data(data, segment)?)
}

fn unknown(name: &str) -> ComponentError {
    ComponentError::Invalid(format!("`{name}` is not defined"))
}

/// A signature as text.
fn text(signature: &FuncType) -> String {
    let list = |types: &[wasmparser::ValType]| {
        let types: Vec<String> = types.iter().map(ToString::to_string).collect();
        types.join(" ")
    };
    format!(
        "({}) -> ({})",
        list(signature.params()),
        list(signature.results())
    )
}
