//! Writes the merged module.

use wasm_encoder::reencode::Reencode;
use wasm_encoder::{
    CodeSection, CustomSection, DataCountSection, DataSection, ElementSection, EntityType,
    ExportKind, ExportSection, Function, FunctionSection, GlobalSection, ImportSection,
    MemorySection, NameMap, NameSection, StartSection, TableSection, TagSection, TypeSection,
};
use wasmparser::ExternalKind;

use super::{ADAPTER, Made, Signature, Wiring, unknown};
use crate::ComponentError;
use crate::adapter;
use crate::graph::at;
use crate::merge::{Indices, Number};

impl Wiring<'_> {
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
    pub(super) fn write(mut self) -> Result<Vec<u8>, ComponentError> {
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
            Made::Constant(number) => {
                sink.i64_const(*number);
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
