//! A plugin's module: whatever bytes are pushed, the answer is a module that can be configured or a reason, and never a crash of
//! the loader. The first byte says what the rest is: bytes as they are, or the randomness of a component, a core module, or a
//! composed component.
#![no_main]

#[path = "module/composed.rs"]
mod composed;

use std::{sync::LazyLock, time::Duration};

use arbitrary::{Arbitrary, Unstructured};
use libfuzzer_sys::fuzz_target;
use stile_gateway::plugin::{Bounds, Engine, Instances, Isolation, Limits, Module, Revision, States};
use tokio::runtime::{Builder, Runtime};

static RUNTIME: LazyLock<Runtime> =
    LazyLock::new(|| Builder::new_current_thread().enable_time().build().expect("a runtime"));
static ENGINE: LazyLock<Engine> = LazyLock::new(|| {
    Engine::new(Bounds { instances: 10, memory: 1 << 20, table_elements: 1000, ..Bounds::default() }).expect("an engine")
});

const LIMITS: Limits = Limits {
    deadline: Duration::from_millis(5),
    timeout: Duration::from_millis(50),
    memory: 1 << 20,
    table_elements: 1000,
    instances: 1,
    streams: 1,
    streams_per_client: 25,
    instance_wait: Duration::from_millis(1),
    body: 1 << 10,
    body_timeout: Duration::from_millis(1),
    key_value: 1 << 10,
    metrics: 1,
    log_lines: 100,
    calls: 1,
    call_timeout: Duration::from_millis(1),
    call_body: 1 << 10,
    copies: 2 << 20,
    handles: 1000,
};

fuzz_target!(|bytes: &[u8]| {
    let Some((kind, rest)) = bytes.split_first() else { return };
    let mut random = Unstructured::new(rest);
    let module = match kind % 4 {
        0 => rest.to_vec(),
        1 => match wasm_smith::Component::arbitrary(&mut random) {
            Ok(component) => component.to_bytes(),
            Err(_) => return,
        },
        3 => {
            let mut bytes = rest.iter();
            let text = composed::composed(&mut |below| bytes.next().map_or(0, |byte| usize::from(*byte) % below));
            wat::parse_str(text).expect("the generator writes components")
        }
        _ => match wasm_smith::Module::arbitrary(&mut random) {
            Ok(module) => module.to_bytes(),
            Err(_) => return,
        },
    };
    match Module::compile(&ENGINE, &module) {
        Err(error) => assert!(!error.to_string().is_empty()),
        Ok(module) => {
            assert!(!module.phases().is_empty(), "a plugin without a phase is none");
            let (plugin, states) = ("p".into(), States::default());
            let state = states.of(&plugin);
            let revision = Revision { plugin, number: 1, module, signature: None };
            let made = Instances::new(revision, state, Default::default(), "null", LIMITS, Isolation::Pooled, 1);
            if let Err(failure) = RUNTIME.block_on(made.probe(true)) {
                assert!(!failure.message.is_empty());
            }
        }
    }
});
