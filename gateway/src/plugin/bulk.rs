//! Bulk memory instructions in pieces. WebAssembly fills and copies any number of bytes with one instruction, which no tick of the
//! epoch interrupts: here each becomes a loop over pieces, and a guest that moves much gives way like one that computes.
//!
//! Nobody sees the difference: an instruction out of bounds traps before it has written anything and a loop after some of it, but the
//! instance is gone in either case.

use std::collections::{HashMap, hash_map::Entry};

use wasm_encoder::{
    BlockType, CodeSection, Component, CustomSection, Function, FunctionSection, Instruction, Module, ModuleSection,
    TypeSection, ValType,
    reencode::{Error, Reencode, ReencodeComponent, utils},
};
use wasmparser::{Operator, Parser, Payload};

/// Bytes that are moved at once, in some microseconds.
const PIECE: i32 = 64 << 10;

/// Components in components.
const MAX_DEPTH: usize = 50;

/// An instruction that takes three numbers and moves as many bytes as the last says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
enum Bulk {
    Fill,
    Copy,
    /// From a data segment.
    Init(u32),
}

/// What one core module becomes: each of these is a call of a function behind its own ones.
#[derive(Debug, Default)]
struct Pieces {
    used: Vec<Bulk>,
    /// Where each of them is there.
    at: HashMap<Bulk, u32>,
    /// How many types and functions there are without ours.
    types: u32,
    functions: u32,
}

/// The same component with bulk memory instructions in pieces, in every core module that it has.
///
/// # Errors
///
/// It is not well formed.
pub(super) fn in_pieces(component: &[u8]) -> Result<Vec<u8>, String> {
    check_depth(component)?;
    let mut rewritten = Component::new();
    let whole = Pieces::default().parse_component(&mut rewritten, Parser::new(0), component);
    whole.map_err(|error| error.to_string())?;
    Ok(rewritten.finish())
}

/// Components are rewritten by recursion, which hostile ones must not exhaust.
fn check_depth(component: &[u8]) -> Result<(), String> {
    let mut depth = 0_usize;
    for payload in Parser::new(0).parse_all(component) {
        match payload.map_err(|error| error.to_string())? {
            Payload::ModuleSection { .. } | Payload::ComponentSection { .. } => depth += 1,
            Payload::End(_) => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > MAX_DEPTH {
            return Err(format!("its components are nested more than {MAX_DEPTH} deep"));
        }
    }
    Ok(())
}

impl Pieces {
    /// Looks through a core module.
    fn of(parser: Parser, module: &[u8]) -> Result<Self, Error> {
        let mut pieces = Self::default();
        for payload in parser.parse_all(module) {
            match payload? {
                Payload::TypeSection(section) => {
                    for group in section {
                        let count = group?.types().len();
                        pieces.types += u32::try_from(count).unwrap_or(u32::MAX);
                    }
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let is_function =
                            matches!(import?.ty, wasmparser::TypeRef::Func(_) | wasmparser::TypeRef::FuncExact(_));
                        pieces.functions += u32::from(is_function);
                    }
                }
                Payload::FunctionSection(section) => pieces.functions += section.count(),
                Payload::CodeSectionEntry(body) => {
                    for operator in body.get_operators_reader()? {
                        let Some(bulk) = Bulk::of(&operator?) else { continue };
                        let next = u32::try_from(pieces.used.len()).unwrap_or(u32::MAX);
                        if let Entry::Vacant(entry) = pieces.at.entry(bulk) {
                            entry.insert(next);
                            pieces.used.push(bulk);
                        }
                    }
                }
                _ => {}
            }
        }
        Ok(pieces)
    }
}

impl Bulk {
    fn of(operator: &Operator<'_>) -> Option<Self> {
        match operator {
            Operator::MemoryFill { .. } => Some(Self::Fill),
            Operator::MemoryCopy { .. } => Some(Self::Copy),
            Operator::MemoryInit { data_index, .. } => Some(Self::Init(*data_index)),
            _ => None,
        }
    }

    fn instruction(self) -> Instruction<'static> {
        match self {
            Self::Fill => Instruction::MemoryFill(0),
            Self::Copy => Instruction::MemoryCopy { src_mem: 0, dst_mem: 0 },
            Self::Init(data_index) => Instruction::MemoryInit { mem: 0, data_index },
        }
    }

    /// A function (to, from or value, bytes) that does it piece by piece.
    fn function(self) -> Function {
        let mut function = Function::new([]);
        // What overlaps is copied from its end if it moves up.
        if self == Self::Copy {
            function.instructions().local_get(0).local_get(1).i32_gt_u().if_(BlockType::Empty);
            self.pieces(&mut function, true);
            function.instructions().else_();
            self.pieces(&mut function, false);
            function.instructions().end();
        } else {
            self.pieces(&mut function, false);
        }
        // The rest, which is all of it mostly.
        function.instructions().local_get(0).local_get(1).local_get(2);
        function.instruction(&self.instruction());
        function.instructions().end();
        function
    }

    /// Whole pieces for as long as there are more than one left, from the beginning or from the end.
    fn pieces(self, function: &mut Function, from_end: bool) {
        let (to, from, left) = (0, 1, 2);
        function.instructions().block(BlockType::Empty).loop_(BlockType::Empty);
        function.instructions().local_get(left).i32_const(PIECE).i32_le_u().br_if(1);
        function.instructions().local_get(left).i32_const(PIECE).i32_sub().local_set(left);
        if from_end {
            function.instructions().local_get(to).local_get(left).i32_add();
            function.instructions().local_get(from).local_get(left).i32_add();
        } else {
            function.instructions().local_get(to).local_get(from);
        }
        function.instructions().i32_const(PIECE);
        function.instruction(&self.instruction());
        if !from_end {
            function.instructions().local_get(to).i32_const(PIECE).i32_add().local_set(to);
        }
        if !from_end && self != Self::Fill {
            function.instructions().local_get(from).i32_const(PIECE).i32_add().local_set(from);
        }
        function.instructions().br(0).end().end();
    }
}

impl Reencode for Pieces {
    type Error = std::convert::Infallible;

    fn parse_type_section(
        &mut self,
        types: &mut TypeSection,
        section: wasmparser::TypeSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_type_section(self, types, section)?;
        if !self.used.is_empty() {
            types.ty().function([ValType::I32; 3], []);
        }
        Ok(())
    }

    fn parse_function_section(
        &mut self,
        functions: &mut FunctionSection,
        section: wasmparser::FunctionSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_function_section(self, functions, section)?;
        for _ in &self.used {
            functions.function(self.types);
        }
        Ok(())
    }

    fn parse_code_section(
        &mut self,
        code: &mut CodeSection,
        section: wasmparser::CodeSectionReader<'_>,
    ) -> Result<(), Error> {
        utils::parse_code_section(self, code, section)?;
        for bulk in &self.used {
            code.function(&bulk.function());
        }
        Ok(())
    }

    /// As it is: names and the like are of functions whose numbers stay, and wrong ones are no mistake.
    fn parse_custom_section(
        &mut self,
        module: &mut Module,
        section: wasmparser::CustomSectionReader<'_>,
    ) -> Result<(), Error> {
        module.section(&CustomSection { name: section.name().into(), data: section.data().into() });
        Ok(())
    }

    fn instruction<'a>(&mut self, operator: Operator<'a>) -> Result<Instruction<'a>, Error> {
        match Bulk::of(&operator).and_then(|bulk| self.at.get(&bulk)) {
            Some(at) => Ok(Instruction::Call(self.functions + at)),
            None => utils::instruction(self, operator),
        }
    }
}

impl ReencodeComponent for Pieces {
    fn parse_component_submodule(
        &mut self,
        component: &mut Component,
        parser: Parser,
        module: &[u8],
    ) -> Result<(), Error> {
        let mut pieces = Self::of(parser.clone(), module)?;
        let mut rewritten = Module::new();
        utils::parse_core_module(&mut pieces, &mut rewritten, parser, module)?;
        component.section(&ModuleSection(&rewritten));
        Ok(())
    }

    fn parse_component_custom_section(
        &mut self,
        component: &mut Component,
        section: wasmparser::CustomSectionReader<'_>,
    ) -> Result<(), Error> {
        component.section(&CustomSection { name: section.name().into(), data: section.data().into() });
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use wasm_encoder::RawSection;
    use wasmtime::{Engine, Instance, Store, component::Component as Compiled};

    use super::*;

    /// All three, on a memory of four pieces of 64 KiB, and a table beside them.
    const MODULE: &str = r#"(module
        (type $other (func (result i32)))
        (import "m" "f" (func $import (type $other)))
        (memory (export "memory") 4)
        (data $data "@@@")
        (func (export "fill") (param i32 i32 i32) (memory.fill (local.get 0) (local.get 1) (local.get 2)))
        (func (export "copy") (param i32 i32 i32) (memory.copy (local.get 0) (local.get 1) (local.get 2)))
        (func (export "init") (param i32 i32 i32) (memory.init $data (local.get 0) (local.get 1) (local.get 2)))
        (func (export "same") (result i32) (call $import)))"#;
    const MEMORY: usize = 4 << 16;

    /// A module, and the same in pieces.
    fn both() -> (Vec<u8>, Vec<u8>) {
        let letters = (0..200_000_u32).map(|n| char::from(b'a' + u8::try_from(n % 251 % 26).expect("a letter")));
        let segment: String = letters.collect();
        let module = wat::parse_str(MODULE.replace("@@@", &segment)).expect("a module");
        let mut pieces = Pieces::of(Parser::new(0), &module).expect("it is well formed");
        let mut rewritten = Module::new();
        utils::parse_core_module(&mut pieces, &mut rewritten, Parser::new(0), &module).expect("it is well formed");
        (module, rewritten.finish())
    }

    /// What is in memory after this instruction, or nothing if it traps.
    fn memory_after(engine: &Engine, module: &[u8], name: &str, operands: (i32, i32, i32)) -> Option<Vec<u8>> {
        let module = wasmtime::Module::new(engine, module).expect("it is valid");
        let mut store = Store::new(engine, ());
        let import = wasmtime::Func::wrap(&mut store, || 7);
        let instance = Instance::new(&mut store, &module, &[import.into()]).expect("an instance");
        let same = instance.get_typed_func::<(), i32>(&mut store, "same").expect("a function");
        assert_eq!(same.call(&mut store, ()).expect("it returns"), 7);
        let memory = instance.get_memory(&mut store, "memory").expect("a memory");
        for (at, byte) in memory.data_mut(&mut store).iter_mut().enumerate() {
            *byte = u8::try_from(at * 31 % 251).expect("a byte");
        }
        let bulk = instance.get_typed_func::<(i32, i32, i32), ()>(&mut store, name).expect("a function");
        bulk.call(&mut store, operands).ok()?;
        Some(memory.data(&store).to_vec())
    }

    /// To, from and how many, mostly within bounds.
    fn operands() -> impl Strategy<Value = (i32, i32, i32)> {
        let length = prop_oneof![0..100_i32, 65_530..65_550_i32, 65_000..200_000_i32];
        length.prop_flat_map(|length| {
            let at = 0..i32::try_from(MEMORY).expect("a small number") + 100 - length;
            (at.clone(), at, Just(length))
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::with_cases(100) })]
        #[test]
        fn pieces_do_what_the_instruction_does(
            name in prop::sample::select(vec!["fill", "copy", "copy", "init"]),
            operands in operands(),
        ) {
            let engine = Engine::default();
            let (module, pieces) = both();
            let expected = memory_after(&engine, &module, name, operands);
            prop_assert!(memory_after(&engine, &pieces, name, operands) == expected);
        }
    }

    #[test]
    fn what_goes_beyond_all_numbers_traps() {
        let engine = Engine::default();
        let (module, pieces) = both();
        for name in ["fill", "copy", "init"] {
            for operands in [(-1, 0, 2), (0, -1, 2), (100, 0, -1), (-65_536, 0, 131_072), (0, -65_536, 131_072)] {
                let expected = memory_after(&engine, &module, name, operands);
                assert_eq!(memory_after(&engine, &pieces, name, operands), expected, "{name} {operands:?}");
            }
        }
    }

    #[test]
    fn every_core_module_of_a_component_is_rewritten() {
        let text = r#"(component
            (core module $plain (func (export "f")))
            (component
                (core module $m (memory 1)
                    (func (export "f") (memory.fill (i32.const 0) (i32.const 1) (i32.const 2))))
                (core instance $i (instantiate $m))
                (func (export "f") (canon lift (core func $i "f")))))"#;
        let rewritten = in_pieces(&wat::parse_str(text).expect("a component")).expect("it is well formed");
        Compiled::new(&Engine::default(), &rewritten).expect("it is valid");
        let functions =
            Parser::new(0).parse_all(&rewritten).filter_map(|payload| match payload.expect("well formed") {
                Payload::FunctionSection(section) => Some(section.count()),
                _ => None,
            });
        assert_eq!(functions.collect::<Vec<_>>(), [1, 2]);
        assert!(in_pieces(b"\0asm\x0d\0\x01\0\xff").is_err());
    }

    #[test]
    fn nesting_has_an_end() {
        let nested = |depth: usize| {
            let around = |inner: Vec<u8>| {
                let mut component = Component::new();
                component.section(&RawSection { id: 4, data: &inner });
                component.finish()
            };
            (0..depth).fold(Component::new().finish(), |inner, _| around(inner))
        };
        let rewritten = |depth| in_pieces(&nested(depth));
        assert!(rewritten(40).is_ok());
        let refused = rewritten(5000).expect_err("it is too deep");
        assert_eq!(refused, "its components are nested more than 50 deep");
    }

    #[test]
    fn names_that_are_wrong_are_no_mistake() {
        let mut module = wat::parse_str("(module (func))").expect("a module");
        module.extend_from_slice(&[0, 7, 4, b'n', b'a', b'm', b'e', 1, 0xff]);
        let mut rewritten = Module::new();
        let whole = utils::parse_core_module(&mut Pieces::default(), &mut rewritten, Parser::new(0), &module);
        whole.expect("custom sections are nobody's business");
        wasmtime::Module::new(&Engine::default(), rewritten.finish()).expect("it is valid");
    }
}
