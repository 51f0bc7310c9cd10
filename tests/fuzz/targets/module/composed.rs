//! Composed components: one calls a function of one to three instances of another, with random parameters and a random result, so
//! that the engine makes adapters between their memories. The other is wrapped into up to two components. The phase `tick` makes the
//! calls.

use std::fmt::Write;

/// Types beyond which parameters lie in memory.
const MAX_FLAT: usize = 16;
/// Types in types.
const MAX_DEPTH: usize = 3;
/// Instances that the component calls, and components around each.
const MAX_INSTANCES: usize = 3;
const MAX_WRAPPERS: usize = 2;

enum Ty {
    Scalar(&'static str, &'static str),
    Text,
    List(Box<Self>),
    Option(Box<Self>),
    Result(Box<Self>),
    Tuple(Vec<Self>),
}

/// The memory of either component.
const MEMORY: &str = r#"(memory (export "memory") 2)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)"#;

/// A function that one component calls of another, in the texts of both.
struct Call {
    types: String,
    lifted: String,
    returned: String,
    lowered: String,
    arguments: String,
    dropped: String,
}

/// The text of a component. `choose` gives a number below the one it gets, and 0 once there is no more chance.
pub(crate) fn composed(choose: &mut impl FnMut(usize) -> usize) -> String {
    let call = Call::random(choose);
    let encoding = ["utf8", "utf16", "latin1+utf16"];
    let mut callee = call.callee(encoding[choose(3)]);
    let caller_encoding = encoding[choose(3)];
    let instances = 1 + choose(MAX_INSTANCES);
    for _ in 0..choose(MAX_WRAPPERS + 1) {
        callee = format!(
            r#"(component $callee {callee}
            (instance $i (instantiate $callee))
            (export "f" (func $i "f")))"#
        );
    }
    let (mut callees, mut arguments) = (String::new(), String::new());
    for n in 0..instances {
        write!(callees, "(instance $callee{n} (instantiate $callee)) ").expect("a text takes all");
        write!(arguments, r#"(with "f{n}" (func $callee{n} "f")) "#).expect("a text takes all");
    }
    let caller = call.caller(caller_encoding, instances);
    format!(
        r#"(component
        {callee}
        {caller}
        {callees}
        (instance $caller (instantiate $caller {arguments}))
        (instance $tick (export "on-tick" (func $caller "tick")))
        (export "stile:plugin/tick@0.1.0" (instance $tick)))"#
    )
}

impl Call {
    fn random(choose: &mut impl FnMut(usize) -> usize) -> Self {
        let params: Vec<Ty> = (0..choose(4)).map(|_| Ty::random(choose, 0)).collect();
        let result = (choose(2) == 1).then(|| Ty::random(choose, 0));
        let (mut types, mut flat) = (String::new(), Vec::new());
        for (n, param) in params.iter().enumerate() {
            write!(types, "(param \"p{n}\" {}) ", param.text()).expect("a text takes all");
            param.flatten(&mut flat);
        }
        let mut results = Vec::new();
        if let Some(result) = &result {
            write!(types, "(result {})", result.text()).expect("a text takes all");
            result.flatten(&mut results);
        }
        if flat.len() > MAX_FLAT {
            flat = vec!["i32"];
        }
        let in_memory = results.len() > 1;
        let mut lowered_params = flat.clone();
        if in_memory {
            lowered_params.push("i32");
        }
        Self {
            types,
            lifted: signature(&flat, if in_memory { &["i32"] } else { &results }),
            returned: constants(if in_memory { &["i32"] } else { &results }),
            lowered: signature(&lowered_params, if in_memory { &[] } else { &results }),
            arguments: constants(&lowered_params),
            dropped: "drop ".repeat(if in_memory { 0 } else { results.len() }),
        }
    }

    /// The component that has the function.
    fn callee(&self, encoding: &str) -> String {
        let Self { types, lifted, returned, .. } = self;
        format!(
            r#"(component $callee
            (core module $m {MEMORY}
                (func (export "f") {lifted} {returned}))
            (core instance $i (instantiate $m))
            (func (export "f") {types} (canon lift (core func $i "f") (memory (core memory $i "memory"))
                (realloc (core func $i "realloc")) string-encoding={encoding})))"#
        )
    }

    /// The component that calls the function of so many instances.
    fn caller(&self, encoding: &str, instances: usize) -> String {
        let Self { types, lowered, arguments, dropped, .. } = self;
        let each = |text: &dyn Fn(usize) -> String| (0..instances).map(text).collect::<String>();
        let imports = each(&|n| format!(r#"(import "f{n}" (func $f{n} {types})) "#));
        let functions = each(&|n| {
            format!(
                r#"(core func $f{n} (canon lower (func $f{n}) (memory (core memory $libc "memory"))
                (realloc (core func $libc "realloc")) string-encoding={encoding})) "#
            )
        });
        let core_imports = each(&|n| format!(r#"(import "" "f{n}" (func $f{n} {lowered})) "#));
        let core_exports = each(&|n| format!(r#"(export "f{n}" (func $f{n})) "#));
        let calls = each(&|n| format!("{arguments} call $f{n} {dropped} "));
        format!(
            r#"(component $caller
            {imports}
            (core module $libc {MEMORY})
            (core instance $libc (instantiate $libc))
            {functions}
            (core module $m
                {core_imports}
                (func (export "tick") (result i32) {calls} i32.const 2048))
            (core instance $i (instantiate $m (with "" (instance {core_exports}))))
            (func (export "tick") (result (result (error string)))
                (canon lift (core func $i "tick") (memory (core memory $libc "memory")))))"#
        )
    }
}

fn signature(params: &[&str], results: &[&str]) -> String {
    format!("(param {}) (result {})", params.join(" "), results.join(" "))
}

fn constants(types: &[&str]) -> String {
    types.iter().map(|ty| format!("{ty}.const 0 ")).collect()
}

impl Ty {
    fn random(choose: &mut impl FnMut(usize) -> usize, depth: usize) -> Self {
        const SCALARS: [(&str, &str); 12] = [
            ("bool", "i32"),
            ("u8", "i32"),
            ("s8", "i32"),
            ("u16", "i32"),
            ("s16", "i32"),
            ("u32", "i32"),
            ("s32", "i32"),
            ("char", "i32"),
            ("u64", "i64"),
            ("s64", "i64"),
            ("f32", "f32"),
            ("f64", "f64"),
        ];
        let kinds = if depth < MAX_DEPTH { 6 } else { 2 };
        let inner = |choose: &mut _| Box::new(Self::random(choose, depth + 1));
        match choose(kinds) {
            0 => Self::Text,
            1 => {
                let (name, flat) = SCALARS[choose(SCALARS.len())];
                Self::Scalar(name, flat)
            }
            2 => Self::List(inner(choose)),
            3 => Self::Option(inner(choose)),
            4 => Self::Result(inner(choose)),
            _ => Self::Tuple((0..=choose(4)).map(|_| Self::random(choose, depth + 1)).collect()),
        }
    }

    fn text(&self) -> String {
        match self {
            Self::Scalar(name, _) => (*name).to_owned(),
            Self::Text => "string".to_owned(),
            Self::List(of) => format!("(list {})", of.text()),
            Self::Option(of) => format!("(option {})", of.text()),
            Self::Result(of) => format!("(result {})", of.text()),
            Self::Tuple(of) => format!("(tuple {})", of.iter().map(Self::text).collect::<Vec<_>>().join(" ")),
        }
    }

    /// The types of core WebAssembly that hold a value.
    fn flatten(&self, into: &mut Vec<&'static str>) {
        match self {
            Self::Scalar(_, flat) => into.push(flat),
            Self::Text | Self::List(_) => into.extend(["i32", "i32"]),
            Self::Option(of) | Self::Result(of) => {
                into.push("i32");
                of.flatten(into);
            }
            Self::Tuple(of) => of.iter().for_each(|of| of.flatten(into)),
        }
    }
}
