//! Wires the core modules of a component and the adapter.

mod write;

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use wasm_encoder::ValType;
use wasm_encoder::reencode::Reencode;
use wasmparser::{ExternalKind, FuncType, MemoryType, TypeRef};

use crate::ComponentError;
use crate::adapter::{self, COMPONENT};
use crate::graph::{self, Core, CoreInstance, Graph, Item, at};
use crate::merge::{Indices, Number, Part};
use crate::module::Module;

/// The part that the adapter is.
const ADAPTER: usize = 0;
/// Bytes of a page, and how many a memory of 32 bits has.
const PAGE: u64 = 1 << 16;
const MOST_PAGES: u64 = 1 << 16;
/// The bytes that the modules of all instances may have together: a module may be instantiated often.
const MOST_BYTES: usize = 128 << 20;
/// The definitions and imports of one kind that they may have together: what is read takes more memory than it has bytes.
const MOST_ITEMS: usize = 200_000;
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
    /// Returns a number.
    Constant(i64),
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
    /// The number of each.
    realloc_numbers: HashMap<(usize, u32), i32>,
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
        let (mut bytes, mut items) = (0, 0);
        for instance in &graph.instances {
            part_of.push(match instance {
                CoreInstance::Module(module, _) => {
                    let wasm = at(&graph.modules, *module)?;
                    bytes += wasm.len();
                    if bytes > MOST_BYTES {
                        let what = format!("more than {MOST_BYTES} bytes of instances");
                        return Err(ComponentError::Unsupported(what));
                    }
                    let module = Module::read(wasm)?;
                    items += module.items();
                    if items > MOST_ITEMS {
                        let what = format!("more than {MOST_ITEMS} definitions");
                        return Err(ComponentError::Unsupported(what));
                    }
                    parts.push(Part {
                        module,
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
            realloc_numbers: HashMap::new(),
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
        let next = self.reallocs.len() as i32;
        if let Entry::Vacant(new) = self.realloc_numbers.entry(realloc) {
            new.insert(next);
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
                None if name == "maximum" => {
                    let pages = self.memory.maximum.unwrap_or(MOST_PAGES).min(MOST_PAGES);
                    let bytes = i64::try_from(pages * PAGE).unwrap_or(i64::MAX);
                    self.make(ADAPTER, of, name.to_owned(), Made::Constant(bytes))?
                }
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
                match realloc.and_then(|one| self.realloc_numbers.get(&one)) {
                    Some(&realloc) if self.reallocs.len() > 1 => {
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
