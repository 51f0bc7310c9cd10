//! How much work a module is for the compiler, bounded before that begins: by counting, not by time. It compiles nothing.

use wasmparser::{FunctionBody, KnownCustom, Name, Operator, Parser, Payload};

use super::loader::LoadError;

/// What a module may be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Complexity {
    /// Bytes of a module or component.
    pub module_bytes: usize,
    /// Functions of all its core modules.
    pub functions: u32,
    /// Bytes of the body of one function.
    pub function_bytes: usize,
    /// Local variables of one function, its parameters excluded.
    pub function_locals: u32,
    /// Blocks, loops and branches of one function.
    pub function_blocks: u32,
    /// For each function its locals times its blocks, of all functions: the time to compile grows with it.
    pub function_values: u64,
}

impl Default for Complexity {
    fn default() -> Self {
        Self {
            module_bytes: 64 << 20,
            functions: 100_000,
            function_bytes: 1 << 20,
            function_locals: 10_000,
            function_blocks: 50_000,
            function_values: 50_000_000,
        }
    }
}

/// Where in a module a function is.
struct Place<'a> {
    /// The core module that has it.
    module: &'a [u8],
    /// Its number there, imported functions included.
    index: u32,
}

impl Complexity {
    pub(super) fn check_size(&self, bytes: usize) -> Result<(), LoadError> {
        let bound = self.module_bytes;
        if bytes > bound {
            Err(LoadError::TooComplex(format!(
                "it has {bytes} bytes, more than wasm.module_bytes allows, which is {bound}"
            )))
        } else {
            Ok(())
        }
    }

    /// Counts through all core modules of a well-formed module or component.
    pub(super) fn check(&self, bytes: &[u8]) -> Result<(), LoadError> {
        let invalid = |error: wasmparser::BinaryReaderError| LoadError::Invalid(error.to_string());
        let (mut functions, mut values) = (0_u64, 0_u64);
        let mut place = Place { module: bytes, index: 0 };
        for payload in Parser::new(0).parse_all(bytes) {
            match payload.map_err(invalid)? {
                Payload::ModuleSection { unchecked_range, .. } => {
                    place = Place { module: bytes.get(unchecked_range).unwrap_or_default(), index: 0 };
                }
                Payload::ImportSection(section) => {
                    for import in section.into_imports() {
                        let ty = import.map_err(invalid)?.ty;
                        let is_function =
                            matches!(ty, wasmparser::TypeRef::Func(_) | wasmparser::TypeRef::FuncExact(_));
                        place.index += u32::from(is_function);
                    }
                }
                Payload::FunctionSection(section) => {
                    functions += u64::from(section.count());
                    if functions > u64::from(self.functions) {
                        return Err(LoadError::TooComplex(format!(
                            "it has {functions} functions, more than wasm.functions allows, which is {}",
                            self.functions
                        )));
                    }
                }
                Payload::CodeSectionEntry(body) => {
                    values += self.check_function(&body, &place)?;
                    if values > self.function_values {
                        return Err(LoadError::TooComplex(format!(
                            "the locals times the blocks of its functions up to {} are {values} in all, more than \
                             wasm.function_values allows, which is {}",
                            place.name(),
                            self.function_values
                        )));
                    }
                    place.index += 1;
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Gives the locals times the blocks of one function.
    fn check_function(&self, body: &FunctionBody<'_>, place: &Place<'_>) -> Result<u64, LoadError> {
        let invalid = |error: wasmparser::BinaryReaderError| LoadError::Invalid(error.to_string());
        let mut locals = 0_u64;
        for local in body.get_locals_reader().map_err(invalid)? {
            locals += u64::from(local.map_err(invalid)?.0);
        }
        let mut blocks = 1_u64;
        for operator in body.get_operators_reader().map_err(invalid)? {
            blocks += blocks_of(&operator.map_err(invalid)?);
        }
        for (count, bound, of_what, key) in [
            (body.range().len() as u64, self.function_bytes as u64, "bytes", "function_bytes"),
            (locals, self.function_locals.into(), "locals", "function_locals"),
            (blocks, self.function_blocks.into(), "blocks", "function_blocks"),
        ] {
            if count > bound {
                return Err(LoadError::TooComplex(format!(
                    "{} has {count} {of_what}, more than wasm.{key} allows, which is {bound}",
                    place.name()
                )));
            }
        }
        Ok(locals.saturating_mul(blocks))
    }
}

/// Blocks that an instruction begins.
fn blocks_of(operator: &Operator<'_>) -> u64 {
    match operator {
        Operator::Block { .. } | Operator::Loop { .. } | Operator::TryTable { .. } | Operator::BrIf { .. } => 1,
        Operator::If { .. } => 2,
        Operator::BrTable { targets } => u64::from(targets.len()) + 1,
        _ => 0,
    }
}

impl Place<'_> {
    /// The function as people know it.
    fn name(&self) -> String {
        let numbered = format!("function {}", self.index);
        match self.known_name() {
            Some(name) => format!("{numbered} \"{}\"", name.chars().take(200).collect::<String>().escape_debug()),
            None => numbered,
        }
    }

    /// By the custom section for names, which comes last.
    fn known_name(&self) -> Option<String> {
        for payload in Parser::new(0).parse_all(self.module) {
            let Payload::CustomSection(section) = payload.ok()? else { continue };
            let KnownCustom::Name(names) = section.as_known() else { continue };
            for names in names {
                let Name::Function(functions) = names.ok()? else { continue };
                let named = functions.into_iter().flatten().find(|naming| naming.index == self.index);
                return named.map(|naming| naming.name.to_owned());
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SMALL: Complexity = Complexity {
        module_bytes: 1 << 20,
        functions: 4,
        function_bytes: 100,
        function_locals: 20,
        function_blocks: 10,
        function_values: 100,
    };

    fn refused(functions: &str) -> String {
        let module = format!("(module (import \"a\" \"b\" (func)) {functions})");
        let component = format!("(component (core module (func $first)) (core {})", &module[1..]);
        let refused = |text: &str| {
            let bytes = wat::parse_str(text).expect("it is well formed");
            SMALL.check(&bytes).expect_err("it is too much").to_string()
        };
        let (alone, within) = (refused(&module), refused(&component));
        // The component has one function more.
        assert!(alone == within || alone.contains("functions, more than"), "{alone}\n{within}");
        alone
    }

    #[test]
    fn each_bound_names_the_function_the_count_and_its_key() {
        for (functions, expected) in [
            (
                "(func) (func) (func) (func) (func)".to_owned(),
                "it has 5 functions, more than wasm.functions allows, which is 4",
            ),
            (
                format!("(func) (func $second {})", "nop ".repeat(100)),
                "function 2 \"second\" has 102 bytes, more than wasm.function_bytes allows, which is 100",
            ),
            (
                format!("(func $f (param i32) (local {}))", "i64 ".repeat(21)),
                "function 1 \"f\" has 21 locals, more than wasm.function_locals allows, which is 20",
            ),
            (
                format!("(func {})", "block end ".repeat(10)),
                "function 1 has 11 blocks, more than wasm.function_blocks allows, which is 10",
            ),
            (
                "(func $a (local i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) block end loop end block end block end block end)
                 (func $b (local i32 i32 i32 i32 i32 i32 i32 i32 i32 i32) block end loop end block end block end)"
                    .to_owned(),
                "the locals times the blocks of its functions up to function 2 \"b\" are 110 in all, more than \
                 wasm.function_values allows, which is 100",
            ),
        ] {
            assert_eq!(refused(&functions), format!("compiling the module would take too much: {expected}"));
        }
    }

    #[test]
    fn the_default_takes_what_compilers_make() {
        let function = "(func (local i32 i32 i32 i32) loop br_if 0 (i32.const 0) end)";
        let module =
            format!("(module {})", function.repeat(100).replace("br_if 0 (i32.const 0)", "(br_if 0 (i32.const 0))"));
        let bytes = wat::parse_str(module).expect("it is well formed");
        Complexity::default().check(&bytes).expect("it is little");
        assert!(Complexity::default().check_size(64 << 20).is_ok());
        assert!(SMALL.check_size((1 << 20) + 1).is_err());
    }
}
