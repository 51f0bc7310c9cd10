//! Components composed of two: one calls a function of the other, with random parameters and a random result, so that the
//! engine makes an adapter between their memories. The phase `tick` makes the call.

use std::fmt::Write;

/// Types beyond which parameters lie in memory.
const MAX_FLAT: usize = 16;
/// Types in types.
const MAX_DEPTH: usize = 3;

enum Ty {
    Scalar(&'static str, &'static str),
    Text,
    List(Box<Self>),
    Option(Box<Self>),
    Result(Box<Self>),
    Tuple(Vec<Self>),
}

/// The text of a component. `choose` gives a number below the one it gets, and 0 once there is no more chance.
pub(crate) fn composed(choose: &mut impl FnMut(usize) -> usize) -> String {
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
    let lifted = signature(&flat, if in_memory { &["i32"] } else { &results });
    let mut lowered_params = flat.clone();
    if in_memory {
        lowered_params.push("i32");
    }
    let lowered = signature(&lowered_params, if in_memory { &[] } else { &results });
    let (returned, arguments) = (constants(if in_memory { &["i32"] } else { &results }), constants(&lowered_params));
    let dropped = "drop ".repeat(if in_memory { 0 } else { results.len() });
    let encoding = ["utf8", "utf16", "latin1+utf16"];
    let (callee_encoding, caller_encoding) = (encoding[choose(3)], encoding[choose(3)]);
    let memory = r#"(memory (export "memory") 2)
            (func (export "realloc") (param i32 i32 i32 i32) (result i32) i32.const 1024)"#;
    format!(
        r#"(component
        (component $callee
            (core module $m {memory}
                (func (export "f") {lifted} {returned}))
            (core instance $i (instantiate $m))
            (func (export "f") {types} (canon lift (core func $i "f") (memory (core memory $i "memory"))
                (realloc (core func $i "realloc")) string-encoding={callee_encoding})))
        (component $caller
            (import "f" (func $f {types}))
            (core module $libc {memory})
            (core instance $libc (instantiate $libc))
            (core func $f (canon lower (func $f) (memory (core memory $libc "memory"))
                (realloc (core func $libc "realloc"))
                string-encoding={caller_encoding}))
            (core module $m
                (import "" "f" (func $f {lowered}))
                (func (export "tick") (result i32) {arguments} call $f {dropped} i32.const 2048))
            (core instance $i (instantiate $m (with "" (instance (export "f" (func $f))))))
            (func (export "tick") (result (result (error string)))
                (canon lift (core func $i "tick") (memory (core memory $libc "memory")))))
        (instance $callee (instantiate $callee))
        (instance $caller (instantiate $caller (with "f" (func $callee "f"))))
        (instance $tick (export "on-tick" (func $caller "tick")))
        (export "stile:plugin/tick@0.1.0" (instance $tick)))"#
    )
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
