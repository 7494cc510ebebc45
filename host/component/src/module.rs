//! A core module, as far as it is needed to merge it with others.

use std::collections::HashMap;

use wasmparser::{
    CompositeInnerType, DataSectionReader, ElementSectionReader, ExternalKind, FuncType,
    FunctionBody, GlobalSectionReader, Import, KnownCustom, MemoryType, Name, Parser, Payload,
    TableSectionReader, TagSectionReader, TypeSectionReader,
};

use crate::ComponentError;

/// The sections of a core module. Indices in them are the module's own.
#[derive(Default)]
pub(crate) struct Module<'a> {
    pub(crate) types: Option<TypeSectionReader<'a>>,
    /// The function types; `None`: another type.
    pub(crate) signatures: Vec<Option<FuncType>>,
    pub(crate) imports: Vec<Import<'a>>,
    /// The types of the functions it defines.
    pub(crate) functions: Vec<u32>,
    pub(crate) tables: Option<TableSectionReader<'a>>,
    pub(crate) memories: Vec<MemoryType>,
    pub(crate) tags: Option<TagSectionReader<'a>>,
    pub(crate) globals: Option<GlobalSectionReader<'a>>,
    pub(crate) exports: HashMap<&'a str, (ExternalKind, u32)>,
    pub(crate) start: Option<u32>,
    pub(crate) elements: Option<ElementSectionReader<'a>>,
    pub(crate) data: Option<DataSectionReader<'a>>,
    pub(crate) bodies: Vec<FunctionBody<'a>>,
    /// The names of functions.
    pub(crate) names: Vec<(u32, &'a str)>,
    /// The global that its name section calls `__stack_pointer`.
    pub(crate) stack_pointer: Option<u32>,
}

impl<'a> Module<'a> {
    /// Reads a module that has been validated.
    pub(crate) fn read(wasm: &'a [u8]) -> Result<Module<'a>, ComponentError> {
        let mut module = Module::default();
        for payload in Parser::new(0).parse_all(wasm) {
            match payload? {
                Payload::TypeSection(section) => {
                    for group in section.clone() {
                        for one in group?.types() {
                            module.signatures.push(match &one.composite_type.inner {
                                CompositeInnerType::Func(signature) => Some(signature.clone()),
                                _ => None,
                            });
                        }
                    }
                    module.types = Some(section);
                }
                Payload::ImportSection(section) => {
                    module.imports = section.into_imports().collect::<Result<_, _>>()?;
                }
                Payload::FunctionSection(section) => {
                    module.functions = section.into_iter().collect::<Result<_, _>>()?;
                }
                Payload::TableSection(section) => module.tables = Some(section),
                Payload::MemorySection(section) => {
                    module.memories = section.into_iter().collect::<Result<_, _>>()?;
                }
                Payload::TagSection(section) => module.tags = Some(section),
                Payload::GlobalSection(section) => module.globals = Some(section),
                Payload::ExportSection(section) => {
                    for export in section {
                        let export = export?;
                        module
                            .exports
                            .insert(export.name, (export.kind, export.index));
                    }
                }
                Payload::StartSection { func, .. } => module.start = Some(func),
                Payload::ElementSection(section) => module.elements = Some(section),
                Payload::DataSection(section) => module.data = Some(section),
                Payload::CodeSectionEntry(body) => module.bodies.push(body),
                Payload::CustomSection(section) => {
                    if let KnownCustom::Name(names) = section.as_known() {
                        module.read_names(names);
                    }
                }
                _ => {}
            }
        }
        Ok(module)
    }

    /// Reads the names of functions, and which global is the stack pointer. A section that cannot be read names nothing.
    fn read_names(&mut self, names: wasmparser::NameSectionReader<'a>) {
        for subsection in names {
            match subsection {
                Ok(Name::Function(map)) => {
                    // One for each function, whatever the section says.
                    let most = self.imports.len() + self.functions.len();
                    let names = map.into_iter().flatten().take(most);
                    self.names.extend(names.map(|one| (one.index, one.name)));
                }
                Ok(Name::Global(map)) => {
                    let mut names = map.into_iter().flatten();
                    let found = names.find(|one| one.name == "__stack_pointer");
                    self.stack_pointer = found.map(|one| one.index);
                }
                _ => {}
            }
        }
    }

    /// How many things it defines, imports or names.
    pub(crate) fn items(&self) -> usize {
        let sections = [
            self.tables.as_ref().map(|section| section.count()),
            self.tags.as_ref().map(|section| section.count()),
            self.globals.as_ref().map(|section| section.count()),
            self.elements.as_ref().map(|section| section.count()),
            self.data.as_ref().map(|section| section.count()),
        ];
        let counted: usize = sections.iter().flatten().map(|count| *count as usize).sum();
        counted
            + self.signatures.len()
            + self.imports.len()
            + self.functions.len()
            + self.exports.len()
    }

    /// The signature of a function that it imports or defines.
    pub(crate) fn signature(&self, function: u32) -> Option<&FuncType> {
        let imports = self.imports.iter().filter_map(|one| match one.ty {
            wasmparser::TypeRef::Func(of) | wasmparser::TypeRef::FuncExact(of) => Some(of),
            _ => None,
        });
        let of = imports
            .chain(self.functions.iter().copied())
            .nth(function as usize)?;
        self.signatures.get(of as usize)?.as_ref()
    }
}
