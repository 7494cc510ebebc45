//! Reads a component: its core modules, how their instances are wired, and which core functions are its exports.
//!
//! Indices are trusted, since the component was validated; a definition that is looked up and not there is an error
//! all the same.

use std::collections::HashMap;

use wasmparser::{
    CanonicalFunction, CanonicalOption, Chunk, ComponentAlias, ComponentExternalKind,
    ComponentInstance, ComponentOuterAliasKind, ComponentTypeRef, ExternalKind, Instance, Parser,
    Payload, Validator,
};

use crate::ComponentError;

/// What is imported by or exported from a core instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Item {
    /// A function, by its index among the component's core functions.
    Function(u32),
    /// A table, by its index among the component's core tables; so for the others.
    Table(u32),
    Memory(u32),
    Global(u32),
    Tag(u32),
}

/// A definition in a core index space, from which other instances get it.
#[derive(Clone, Debug)]
pub(crate) enum Core<'a> {
    /// An export of a core instance.
    Export(u32, &'a str),
    /// A function that is imported, or an operation of a resource that is: the interface and the name.
    Lowered {
        interface: &'a str,
        name: String,
        realloc: Option<u32>,
    },
    /// A function of the component's own that no core instance may call.
    Unsupported(&'static str),
}

/// A core instance.
#[derive(Clone, Debug)]
pub(crate) enum CoreInstance<'a> {
    /// A module, and the instance for each module name that it imports from.
    Module(u32, HashMap<&'a str, u32>),
    /// A bundle of items.
    Items(HashMap<&'a str, Item>),
}

/// An exported function.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lift {
    pub(crate) function: u32,
    pub(crate) realloc: Option<u32>,
    pub(crate) post_return: Option<u32>,
}

/// What a component consists of.
#[derive(Debug, Default)]
pub(crate) struct Graph<'a> {
    pub(crate) modules: Vec<&'a [u8]>,
    pub(crate) instances: Vec<CoreInstance<'a>>,
    pub(crate) functions: Vec<Core<'a>>,
    pub(crate) tables: Vec<Core<'a>>,
    pub(crate) memories: Vec<Core<'a>>,
    pub(crate) globals: Vec<Core<'a>>,
    pub(crate) tags: Vec<Core<'a>>,
    pub(crate) exports: HashMap<&'a str, Lift>,
    /// Custom sections of the component itself whose names begin with `exuvia.`.
    pub(crate) sections: Vec<(&'a str, &'a [u8])>,
}

/// A function of the component's own index space.
#[derive(Clone, Debug)]
enum Function<'a> {
    Imported(&'a str, &'a str),
    Lifted(Lift),
    Other,
}

/// The component index spaces, of which the graph needs the names only.
#[derive(Default)]
struct Reader<'a> {
    graph: Graph<'a>,
    functions: Vec<Function<'a>>,
    /// The name of the import that an instance is.
    instances: Vec<Option<&'a str>>,
    /// The interface and name of a type that is one of an import.
    types: Vec<Option<(&'a str, &'a str)>>,
}

/// Reads a component.
pub(crate) fn read(wasm: &[u8]) -> Result<Graph<'_>, ComponentError> {
    Validator::new().validate_all(wasm)?;
    let mut reader = Reader::default();
    let mut parser = Parser::new(0);
    let mut rest = wasm;
    while let Chunk::Parsed { consumed, payload } = parser.parse(rest, true)? {
        rest = rest.get(consumed..).unwrap_or_default();
        match payload {
            // What is nested is not looked into: a module is read when it is merged, and a component cannot be.
            Payload::ModuleSection {
                unchecked_range, ..
            } => {
                let bytes = wasm.get(unchecked_range.clone()).unwrap_or_default();
                reader.graph.modules.push(bytes);
                rest = rest.get(unchecked_range.len()..).unwrap_or_default();
            }
            Payload::ComponentSection {
                unchecked_range, ..
            } => rest = rest.get(unchecked_range.len()..).unwrap_or_default(),
            Payload::End(_) => break,
            other => reader.section(other)?,
        }
    }
    Ok(reader.graph)
}

impl<'a> Reader<'a> {
    fn section(&mut self, section: Payload<'a>) -> Result<(), ComponentError> {
        match section {
            Payload::InstanceSection(section) => {
                for instance in section {
                    self.core_instance(instance?);
                }
            }
            Payload::ComponentInstanceSection(section) => {
                for instance in section {
                    // An instance of a nested component cannot be followed; of types alone it does not matter.
                    let (ComponentInstance::Instantiate { .. } | ComponentInstance::FromExports(_)) =
                        instance?;
                    self.instances.push(None);
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section {
                    self.alias(alias?);
                }
            }
            Payload::ComponentTypeSection(section) => {
                self.types.extend((0..section.count()).map(|_| None));
            }
            Payload::ComponentCanonicalSection(section) => {
                for function in section {
                    self.canonical(function?);
                }
            }
            Payload::ComponentImportSection(section) => {
                for import in section {
                    let import = import?;
                    let name = import.name.name;
                    match import.ty {
                        ComponentTypeRef::Func(_) => {
                            self.functions.push(Function::Imported("", name));
                        }
                        ComponentTypeRef::Instance(_) => self.instances.push(Some(name)),
                        ComponentTypeRef::Type(_) => self.types.push(Some(("", name))),
                        _ => {
                            let reason = "an actor imports functions and types only";
                            return Err(ComponentError::Import(name.to_owned(), reason));
                        }
                    }
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section {
                    let export = export?;
                    match export.kind {
                        ComponentExternalKind::Func => {
                            let function = at(&self.functions, export.index)?.clone();
                            if let Function::Lifted(lift) = function {
                                self.graph.exports.insert(export.name.name, lift);
                            }
                            self.functions.push(function);
                        }
                        ComponentExternalKind::Instance => {
                            self.instances.push(*at(&self.instances, export.index)?);
                        }
                        ComponentExternalKind::Type => {
                            self.types.push(*at(&self.types, export.index)?);
                        }
                        ComponentExternalKind::Module => {
                            let module = *at(&self.graph.modules, export.index)?;
                            self.graph.modules.push(module);
                        }
                        ComponentExternalKind::Component | ComponentExternalKind::Value => {}
                    }
                }
            }
            Payload::ComponentStartSection { .. } => {
                return Err(ComponentError::Unsupported("a start function".to_owned()));
            }
            Payload::CustomSection(section) if section.name().starts_with("exuvia.") => {
                self.graph.sections.push((section.name(), section.data()));
            }
            _ => {}
        }
        Ok(())
    }

    fn core_instance(&mut self, instance: Instance<'a>) {
        self.graph.instances.push(match instance {
            Instance::Instantiate { module_index, args } => {
                let instances = args.iter().map(|one| (one.name, one.index));
                CoreInstance::Module(module_index, instances.collect())
            }
            Instance::FromExports(exports) => {
                let items = exports.iter().map(|one| {
                    let item = match one.kind {
                        ExternalKind::Func | ExternalKind::FuncExact => Item::Function(one.index),
                        ExternalKind::Table => Item::Table(one.index),
                        ExternalKind::Memory => Item::Memory(one.index),
                        ExternalKind::Global => Item::Global(one.index),
                        ExternalKind::Tag => Item::Tag(one.index),
                    };
                    (one.name, item)
                });
                CoreInstance::Items(items.collect())
            }
        });
    }

    fn alias(&mut self, alias: ComponentAlias<'a>) {
        match alias {
            ComponentAlias::CoreInstanceExport {
                kind,
                instance_index,
                name,
            } => {
                let graph = &mut self.graph;
                let space = match kind {
                    ExternalKind::Func | ExternalKind::FuncExact => &mut graph.functions,
                    ExternalKind::Table => &mut graph.tables,
                    ExternalKind::Memory => &mut graph.memories,
                    ExternalKind::Global => &mut graph.globals,
                    ExternalKind::Tag => &mut graph.tags,
                };
                space.push(Core::Export(instance_index, name));
            }
            ComponentAlias::InstanceExport {
                kind,
                instance_index,
                name,
            } => {
                let interface = self.instances.get(instance_index as usize).copied();
                let interface = interface.flatten();
                match kind {
                    ComponentExternalKind::Func => self.functions.push(match interface {
                        Some(interface) => Function::Imported(interface, name),
                        None => Function::Other,
                    }),
                    ComponentExternalKind::Type => {
                        self.types
                            .push(interface.map(|interface| (interface, name)));
                    }
                    ComponentExternalKind::Instance => self.instances.push(None),
                    // What it is cannot be known; an instance of it is an error.
                    ComponentExternalKind::Module => self.graph.modules.push(&[]),
                    ComponentExternalKind::Component | ComponentExternalKind::Value => {}
                }
            }
            // From this component itself, as there is none around it.
            ComponentAlias::Outer { kind, index, .. } => {
                let index = index as usize;
                match kind {
                    ComponentOuterAliasKind::Type => {
                        self.types.push(self.types.get(index).copied().flatten());
                    }
                    ComponentOuterAliasKind::CoreModule => {
                        let modules = &mut self.graph.modules;
                        modules.push(modules.get(index).copied().unwrap_or_default());
                    }
                    ComponentOuterAliasKind::CoreType | ComponentOuterAliasKind::Component => {}
                }
            }
        }
    }

    fn canonical(&mut self, function: CanonicalFunction) {
        let (mut realloc, mut post_return, mut unsupported) = (None, None, None);
        let mut read = |options: &[CanonicalOption]| {
            for option in options {
                match option {
                    CanonicalOption::Realloc(function) => realloc = Some(*function),
                    CanonicalOption::PostReturn(function) => post_return = Some(*function),
                    CanonicalOption::UTF8 | CanonicalOption::Memory(_) => {}
                    CanonicalOption::UTF16 | CanonicalOption::CompactUTF16 => {
                        unsupported = Some("text in UTF-16");
                    }
                    _ => unsupported = Some("functions of the asynchronous ABI"),
                }
            }
        };
        let core = match function {
            CanonicalFunction::Lift {
                core_func_index,
                options,
                ..
            } => {
                read(&options);
                self.functions.push(match unsupported {
                    Some(_) => Function::Other,
                    None => Function::Lifted(Lift {
                        function: core_func_index,
                        realloc,
                        post_return,
                    }),
                });
                return;
            }
            CanonicalFunction::Lower {
                func_index,
                options,
            } => {
                read(&options);
                match self.functions.get(func_index as usize) {
                    _ if unsupported.is_some() => {
                        Core::Unsupported(unsupported.unwrap_or_default())
                    }
                    Some(Function::Imported(interface, name)) => Core::Lowered {
                        interface,
                        name: (*name).to_owned(),
                        realloc,
                    },
                    _ => Core::Unsupported("a call of a function of its own"),
                }
            }
            CanonicalFunction::ResourceDrop { resource } => {
                match self.types.get(resource as usize) {
                    Some(Some((interface, name))) => Core::Lowered {
                        interface,
                        name: format!("[resource-drop]{name}"),
                        realloc: None,
                    },
                    _ => Core::Unsupported("resources of its own"),
                }
            }
            CanonicalFunction::ResourceNew { .. } | CanonicalFunction::ResourceRep { .. } => {
                Core::Unsupported("resources of its own")
            }
            _ => Core::Unsupported("functions of the asynchronous ABI"),
        };
        self.graph.functions.push(core);
    }
}

/// An entry of an index space.
pub(crate) fn at<T>(space: &[T], index: u32) -> Result<&T, ComponentError> {
    space
        .get(index as usize)
        .ok_or_else(|| ComponentError::Invalid(format!("no definition with the index {index}")))
}
