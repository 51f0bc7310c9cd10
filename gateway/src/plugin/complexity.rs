//! Bounds the work of compiling a module before it begins, by counting rather than by time. It validates, and compiles nothing.

mod composition;
mod function;
mod instantiation;
mod types;

use wasmparser::{
    BinaryReaderError, Encoding, FuncToValidate, FuncValidatorAllocations, FunctionBody, KnownCustom, Name, Parser,
    Payload, ValidPayload, Validator, ValidatorResources, WasmFeatures,
};

use self::{
    composition::Composition,
    function::Counts,
    instantiation::{Bounds, Excess, Run},
};
use super::loader::LoadError;

/// Largest value of `module_bytes`.
pub const MAX_MODULE: usize = 64 << 20;
/// Steps in which the engine puts a component together, each some hundred nanoseconds at most.
const MAX_STEPS: u64 = 5_000_000;
/// Depth to which components may instantiate one another.
const MAX_DEPTH: u64 = 50;

/// What a module may be made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Complexity {
    /// Bytes of a module or component.
    pub module_bytes: usize,
    /// Functions and function types of all core modules, these and components, and the functions that instances of components pass
    /// to one another: each lifted one, and the parts of the type of each lowered one.
    pub functions: u32,
    /// Bytes of the body of one function.
    pub function_bytes: usize,
    /// Parameters and local variables of one function.
    pub function_locals: u32,
    /// Blocks, loops and branches of one function.
    pub function_blocks: u32,
    /// Values of one function, summed over its blocks, branches and calls and weighted by what they cost the compiler.
    pub function_values: u64,
    /// The same, summed over all functions.
    pub module_values: u64,
}

impl Default for Complexity {
    fn default() -> Self {
        Self {
            module_bytes: MAX_MODULE,
            functions: 100_000,
            function_bytes: 1 << 20,
            function_locals: 10_000,
            function_blocks: 50_000,
            function_values: 5_000_000,
            module_values: 50_000_000,
        }
    }
}

/// Counts of a module or component that is being read.
struct Count<'b, 'a> {
    bounds: &'b Complexity,
    bytes: &'a [u8],
    validator: Validator,
    allocations: FuncValidatorAllocations,
    /// The core module that is being read.
    module: Option<&'a [u8]>,
    functions: u64,
    values: u64,
    composition: Composition<'a>,
}

/// Where in a module a function is.
struct Place<'a> {
    /// The core module that has it.
    module: &'a [u8],
    /// Its number there, imported functions included.
    index: u32,
}

impl Complexity {
    pub(crate) fn check_size(&self, bytes: usize) -> Result<(), LoadError> {
        let bound = self.module_bytes;
        if bytes > bound {
            Err(LoadError::TooComplex(format!(
                "it has {bytes} bytes, more than wasm.module_bytes allows, which is {bound}"
            )))
        } else {
            Ok(())
        }
    }

    /// Validates a module or component, and counts what compiling it takes. `core_instances` bounds the core instances of a component.
    pub(super) fn check(&self, bytes: &[u8], features: WasmFeatures, core_instances: u32) -> Result<(), LoadError> {
        let mut parser = Parser::new(0);
        parser.set_features(features);
        let mut count = Count::new(self, bytes, features);
        for payload in parser.parse_all(bytes) {
            count.payload(&payload.map_err(invalid)?)?;
        }
        count.put_together(core_instances)
    }
}

impl<'b, 'a> Count<'b, 'a> {
    fn new(bounds: &'b Complexity, bytes: &'a [u8], features: WasmFeatures) -> Self {
        let validator = Validator::new_with_features(features);
        let (allocations, composition) = Default::default();
        Self { bounds, bytes, validator, allocations, module: None, functions: 0, values: 0, composition }
    }

    fn payload(&mut self, payload: &Payload<'a>) -> Result<(), LoadError> {
        if let ValidPayload::Func(function, body) = self.validator.payload(payload).map_err(invalid)? {
            return self.function(function, &body);
        }
        match payload {
            Payload::Version { encoding: Encoding::Module, .. } => {
                self.module = self.module.or(Some(self.bytes));
                self.functions(1)?;
            }
            Payload::Version { encoding: Encoding::Component, .. } => {
                self.composition.begin();
                self.functions(1)?;
            }
            Payload::ModuleSection { unchecked_range, .. } => {
                self.composition.module();
                self.module = self.bytes.get(unchecked_range.clone());
            }
            Payload::End(_) if self.module.is_some() => self.module = None,
            Payload::End(_) => self.composition.end(),
            Payload::TypeSection(section) => {
                for group in section.clone() {
                    self.functions(group.map_err(invalid)?.types().len() as u64)?;
                }
            }
            Payload::FunctionSection(section) => self.functions(section.count().into())?,
            section if self.module.is_none() => {
                if let Some(types) = self.validator.types(0) {
                    self.composition.section(section, types).map_err(invalid)?;
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Counts functions, and whatever else takes about as much work as a function.
    fn functions(&mut self, count: u64) -> Result<(), LoadError> {
        self.functions = self.functions.saturating_add(count);
        if self.functions > self.bounds.functions.into() {
            Err(self.too_many_functions(self.functions))
        } else {
            Ok(())
        }
    }

    fn function(
        &mut self,
        function: FuncToValidate<ValidatorResources>,
        body: &FunctionBody<'a>,
    ) -> Result<(), LoadError> {
        let place = Place { module: self.module.unwrap_or_default(), index: function.index };
        let bounds = self.bounds;
        place.check("bytes", body.range().len() as u64, bounds.function_bytes as u64, "function_bytes")?;
        let mut validator = function.into_validator(std::mem::take(&mut self.allocations));
        let Counts { locals, blocks, values } = Counts::new(body, &mut validator).map_err(invalid)?;
        self.allocations = validator.into_allocations();
        place.check("parameters and locals", locals, bounds.function_locals.into(), "function_locals")?;
        place.check("blocks", blocks, bounds.function_blocks.into(), "function_blocks")?;
        place.check("values at its blocks, branches and calls", values, bounds.function_values, "function_values")?;
        self.values = self.values.saturating_add(values);
        if self.values > bounds.module_values {
            return Err(LoadError::TooComplex(format!(
                "its functions up to {} have {} values at their blocks, branches and calls, more than wasm.module_values \
                 allows, which is {}",
                place.name(),
                self.values,
                bounds.module_values
            )));
        }
        Ok(())
    }

    /// Counts what instantiating the components inside takes.
    fn put_together(&self, core_instances: u32) -> Result<(), LoadError> {
        let functions = self.bounds.functions.into();
        let bounds = Bounds { steps: MAX_STEPS, functions, core_instances: core_instances.into(), depth: MAX_DEPTH };
        let run = Run::new(&self.composition, bounds, self.functions).run();
        run.map_err(|excess| match excess {
            Excess::CoreInstances(count) => LoadError::TooComplex(format!(
                "it has {count} core module instances, more than wasm.core_instances allows, which is {core_instances}"
            )),
            Excess::Functions(count) => self.too_many_functions(count),
            Excess::Steps => LoadError::TooComplex(format!(
                "its components instantiate one another and pass on instances in more than {MAX_STEPS} steps"
            )),
            Excess::Depth => {
                LoadError::TooComplex(format!("its components instantiate one another more than {MAX_DEPTH} deep"))
            }
        })
    }

    fn too_many_functions(&self, count: u64) -> LoadError {
        LoadError::TooComplex(format!(
            "it has {count} functions, function types and modules, more than wasm.functions allows, which is {}",
            self.bounds.functions
        ))
    }
}

fn invalid(error: BinaryReaderError) -> LoadError {
    LoadError::Invalid(error.to_string())
}

impl Place<'_> {
    fn check(&self, what: &str, count: u64, bound: u64, key: &str) -> Result<(), LoadError> {
        if count <= bound {
            return Ok(());
        }
        let name = self.name();
        Err(LoadError::TooComplex(format!("{name} has {count} {what}, more than wasm.{key} allows, which is {bound}")))
    }

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
        functions: 12,
        function_bytes: 100,
        function_locals: 20,
        function_blocks: 10,
        function_values: 70,
        module_values: 100,
    };

    fn check(complexity: Complexity, text: &str) -> Result<(), String> {
        let bytes = wat::parse_str(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        complexity.check(&bytes, WasmFeatures::default(), 64).map_err(|error| error.to_string())
    }

    fn refused(functions: &str) -> String {
        let module = format!("(module (import \"a\" \"b\" (func)) {functions})");
        let component = format!("(component (core module $first (func)) (core {})", &module[1..]);
        let alone = check(SMALL, &module).expect_err("it is too much");
        let within = check(SMALL, &component).expect_err("it is too much");
        // The component has more functions and modules.
        assert!(alone == within || alone.contains("functions, function types and modules"), "{alone}\n{within}");
        alone
    }

    #[test]
    fn each_bound_names_the_function_the_count_and_its_key() {
        let ten = "i32 ".repeat(10);
        for (functions, expected) in [
            (
                "(func) ".repeat(12),
                "it has 14 functions, function types and modules, more than wasm.functions allows, which is 12",
            ),
            (
                (0..12).map(|n| format!("(type (func (param {})))", "i32 ".repeat(n))).collect(),
                "it has 13 functions, function types and modules, more than wasm.functions allows, which is 12",
            ),
            (
                format!("(func) (func $second {})", "nop ".repeat(100)),
                "function 2 \"second\" has 102 bytes, more than wasm.function_bytes allows, which is 100",
            ),
            (
                format!("(func $f (param i32) (local {}))", "i64 ".repeat(20)),
                "function 1 \"f\" has 21 parameters and locals, more than wasm.function_locals allows, which is 20",
            ),
            (
                format!("(func $f (param {}))", "i32 ".repeat(21)),
                "function 1 \"f\" has 21 parameters and locals, more than wasm.function_locals allows, which is 20",
            ),
            (
                format!("(func {})", "block end ".repeat(10)),
                "function 1 has 11 blocks, more than wasm.function_blocks allows, which is 10",
            ),
            (
                format!(
                    "(func $a (local {ten}) {}) (func $b (local {ten}) {})",
                    "block end ".repeat(5),
                    "loop end ".repeat(4)
                ),
                "its functions up to function 2 \"b\" have 110 values at their blocks, branches and calls, more than \
                 wasm.module_values allows, which is 100",
            ),
        ] {
            assert_eq!(refused(&functions), format!("compiling the module would take too much: {expected}"));
        }
    }

    #[test]
    fn values_count_wherever_a_function_has_them() {
        let i32s = |count: usize| "i32 ".repeat(count);
        for (name, functions, values) in [
            ("locals at blocks", format!("(func $f (local {}) {})", i32s(12), "block end ".repeat(5)), 72),
            ("parameters at blocks", format!("(func $f (param {}) {})", i32s(12), "block end ".repeat(5)), 72),
            (
                "operands at blocks",
                format!("(func $f {} {} {})", "i32.const 0 ".repeat(9), "block end ".repeat(8), "drop ".repeat(9)),
                72,
            ),
            (
                "results of calls, most of them in memory",
                format!("(func $f {}) (func $g (result {}) unreachable)", "call $g unreachable ".repeat(4), i32s(20)),
                4 * (8 + 12 * 16),
            ),
            (
                "arguments of indirect calls",
                format!(
                    "(table 1 funcref) (type $t (func (param {}))) (func $f unreachable {})",
                    i32s(8),
                    "call_indirect (type $t) unreachable ".repeat(9)
                ),
                72,
            ),
            (
                "targets of a table",
                format!("(func $f (result {}) unreachable br_table {})", i32s(8), "0 ".repeat(9)),
                72,
            ),
            (
                "arguments of a branch to a loop",
                format!("(type $t (func (param {}))) (func $f unreachable loop (type $t) br 0 end)", i32s(72)),
                72 + 72 / 8,
            ),
            (
                "arguments of a branch to a block",
                format!("(func $f block (result {}) unreachable br 0 end unreachable)", i32s(72)),
                72 + 72 / 8,
            ),
            (
                "blocks that take and give values",
                format!(
                    "(type $t (func (param {0}) (result {0}))) (func $f unreachable {1} unreachable)",
                    i32s(5),
                    "block (type $t) end ".repeat(9)
                ),
                // The five values are alive at all blocks but the first.
                8 * 5 + (9 * 5 * 2) * 9 / 8,
            ),
            ("results of a return", format!("(func $f (result {}) {})", i32s(20), "unreachable return ".repeat(4)), 80),
        ] {
            let refused = refused(&functions);
            assert!(
                refused.contains(&format!(" \"f\" has {values} values at its blocks, branches and calls")),
                "{name}: {refused}"
            );
        }
    }

    /// A component with `levels` components, each in the next one, made by `wrap` of the text of the one inside.
    fn nested(levels: usize, wrap: impl Fn(&str) -> String) -> String {
        (0..levels).fold(String::new(), |inner, _| format!("(component $c {})", wrap(&inner)))
    }

    /// Components that would be put together in 2 to the power of 20 steps and more.
    fn bombs() -> [(&'static str, String); 4] {
        let levels = 1..=40;
        let twice = nested(41, |inner| match inner {
            "" => String::new(),
            inner => format!("{inner} (instance (instantiate $c)) (instance (instantiate $c))"),
        });
        let arguments = (1..=20).map(|n| {
            format!(
                "(component $c{n} (alias outer 1 $twice (component $t)) (alias outer 1 $c{} (component $c))
                    (instance (instantiate $t (with \"c\" (component $c)))))",
                n - 1
            )
        });
        let arguments = format!(
            "(component
                (component $twice (import \"c\" (component $c)) (instance (instantiate $c)) (instance (instantiate $c)))
                (component $c0) {} (instance (instantiate $c20)))",
            arguments.collect::<String>()
        );
        let captures = levels.clone().map(|n| {
            let alias = format!("(alias outer 1 $c{} (component))", n - 1);
            format!("(component $c{n} {alias} {alias})")
        });
        let captures = format!("(component (component $c0) {})", captures.collect::<String>());
        let copies = levels.map(|n| {
            format!(
                "(instance $i{n} (instantiate $pair (with \"i\" (instance $o{}))))
                (alias export $i{n} \"o\" (instance $o{n}))",
                n - 1
            )
        });
        let copies = format!(
            "(component
                (component $pair
                    (import \"i\" (instance $i))
                    (instance $o (export \"a\" (instance $i)) (export \"b\" (instance $i)))
                    (export \"o\" (instance $o)))
                (instance $o0) {})",
            copies.collect::<String>()
        );
        [
            ("components instantiated twice", twice),
            ("components instantiated twice as arguments", arguments),
            ("components that others refer to twice", captures),
            ("instances passed on twice", copies),
        ]
    }

    #[test]
    fn components_that_grow_exponentially_are_refused() {
        for (name, text) in bombs() {
            let refused = check(Complexity::default(), &text).expect_err(name);
            assert!(refused.ends_with("pass on instances in more than 5000000 steps"), "{name}: {refused}");
        }
    }

    #[test]
    fn components_in_one_another_have_a_depth() {
        let once = |inner: &str| match inner {
            "" => String::new(),
            inner => format!("{inner} (instance (instantiate $c))"),
        };
        check(Complexity::default(), &nested(50, once)).expect("it is little");
        let refused = check(Complexity::default(), &nested(51, once)).expect_err("it is too deep");
        assert!(refused.ends_with("its components instantiate one another more than 50 deep"), "{refused}");
    }

    #[test]
    fn functions_between_components_count_for_each_instance() {
        let component = |instances: usize| {
            format!(
                "(component
                    (component $c
                        (core module $m (func (export \"f\") (param i32)))
                        (core instance $i (instantiate $m))
                        (func $f (param \"a\" u32) (canon lift (core func $i \"f\")))
                        (core func (canon lower (func $f))))
                    {})",
                "(instance (instantiate $c))".repeat(instances)
            )
        };
        // Two components, a core module with a function and its type; of each instance a lifted function, and a lowered one whose
        // type has one parameter.
        check(SMALL, &component(2)).expect("there are 11");
        let refused = check(SMALL, &component(3)).expect_err("there are 14");
        assert!(
            refused.contains("it has 14 functions, function types and modules, more than wasm.functions"),
            "{refused}"
        );
    }

    #[test]
    fn the_default_takes_what_compilers_make() {
        let function = "(func (local i32 i32 i32 i32) (loop (br_if 0 (i32.const 0))))";
        check(Complexity::default(), &format!("(module {})", function.repeat(100))).expect("it is little");
        assert!(Complexity::default().check_size(64 << 20).is_ok());
        assert!(SMALL.check_size((1 << 20) + 1).is_err());
    }

    #[test]
    fn the_default_takes_what_people_compose() {
        let functions =
            (0..50).map(|n| format!("(export \"f{n}\" (func (param \"a\" string) (result (list string)))) "));
        let interface = format!("(instance {})", functions.collect::<String>());
        let imports = (0..10).map(|n| format!("(import \"i{n}\" {interface}) "));
        let imports: String = imports.collect();
        let arguments: String = (0..10).map(|n| format!("(with \"i{n}\" (instance {n}))")).collect();
        let text = format!(
            "(component {imports} (component $c {imports} (export \"o0\" (instance 0)) (export \"o1\" (instance 1))) {})",
            format!("(instance (instantiate $c {arguments}))").repeat(100)
        );
        check(Complexity::default(), &text).expect("it is little");
    }
}
