//! Instantiates a component as the engine does while it compiles, on sizes instead of items, and stops at a bound. The engine
//! executes each definition once per instantiation and copies instances whole as it passes them on: both can grow exponentially
//! with the bytes of a component.

use std::{collections::HashMap, rc::Rc};

use wasmparser::ComponentExternalKind;

use super::composition::{Capture, Composition, Item, Plain, Source};

/// Counts of an instantiation, and their bounds.
#[derive(Debug)]
pub(super) struct Run<'c, 'a> {
    composition: &'c Composition<'a>,
    bounds: Bounds,
    steps: u64,
    functions: u64,
    core_instances: u64,
    depth: u64,
    /// Steps in which the engine came to know resources, which it copies for each instantiation.
    known: u64,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) steps: u64,
    pub(super) functions: u64,
    pub(super) core_instances: u64,
    /// Depth to which components instantiate one another.
    pub(super) depth: u64,
}

/// The count that is over its bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Excess {
    Steps,
    Functions(u64),
    CoreInstances(u64),
    Depth,
}

#[derive(Debug, Clone)]
enum Value<'a> {
    Component(Rc<Closure<'a>>),
    Instance(Rc<Instance<'a>>),
    /// Anything else, and whatever the host provides.
    Other,
}

/// A component with the components that its definition refers to.
#[derive(Debug)]
struct Closure<'a> {
    definition: usize,
    captures: Vec<Value<'a>>,
    size: u64,
}

#[derive(Debug)]
struct Instance<'a> {
    exports: HashMap<&'a str, Value<'a>>,
    size: u64,
}

/// The index spaces of a component that is being instantiated.
#[derive(Debug, Default)]
struct Frame<'a> {
    components: Vec<Value<'a>>,
    instances: Vec<Value<'a>>,
}

type Args<'a> = HashMap<&'a str, Value<'a>>;

impl<'c, 'a> Run<'c, 'a> {
    /// Counts from `functions` on.
    pub(super) fn new(composition: &'c Composition<'a>, bounds: Bounds, functions: u64) -> Self {
        Self { composition, bounds, steps: 0, functions, core_instances: 0, depth: 0, known: 0 }
    }

    /// Instantiates the outermost component, if there is one.
    pub(super) fn run(mut self) -> Result<(), Excess> {
        let Some(definition) = self.composition.definitions.len().checked_sub(1) else { return Ok(()) };
        let outermost = Closure { definition, captures: Vec::new(), size: 1 };
        self.instantiate(&outermost, &Args::new()).map(drop)
    }

    fn instantiate(&mut self, closure: &Closure<'a>, args: &Args<'a>) -> Result<Value<'a>, Excess> {
        if self.depth == self.bounds.depth {
            return Err(Excess::Depth);
        }
        self.depth += 1;
        let known = self.known;
        let definition = &self.composition.definitions[closure.definition];
        let mut frame = Frame::default();
        for item in &definition.items {
            self.execute(item, closure, args, &mut frame)?;
        }
        let instance = self.bundle(&definition.exports, &frame)?;
        self.known = known;
        self.depth -= 1;
        Ok(instance)
    }

    fn execute(
        &mut self,
        item: &Item<'a>,
        closure: &Closure<'a>,
        args: &Args<'a>,
        frame: &mut Frame<'a>,
    ) -> Result<(), Excess> {
        let (kind, value) = match item {
            Item::Plain(plain) => return self.plain(*plain),
            Item::Import { name, kind, steps } => {
                self.learn(*steps)?;
                (*kind, args.get(name).cloned().unwrap_or(Value::Other))
            }
            Item::Definition(place) => {
                let inner = &self.composition.definitions[*place];
                let captures: Vec<_> = inner.captures.iter().map(|it| frame.captured(*it, closure)).collect();
                let captured = captures.iter().map(Value::size).fold(0, u64::saturating_add);
                let size = captured.saturating_add(1 + inner.captured_modules);
                let value = Value::Component(Rc::new(Closure { definition: *place, captures, size }));
                (ComponentExternalKind::Component, value)
            }
            Item::Captured(capture) => (ComponentExternalKind::Component, frame.captured(*capture, closure)),
            Item::ExportOf { instance, name, kind } => (*kind, frame.export_of(*instance, name)),
            Item::Instance { component, args, steps } => {
                let value = match frame.value(Source::Component(*component)) {
                    Value::Component(inner) => {
                        self.step(inner.size.saturating_add(self.known))?;
                        let args = self.args(args, frame)?;
                        self.instantiate(&inner, &args)?
                    }
                    // The engine takes no component from the host.
                    Value::Instance(_) | Value::Other => Value::Other,
                };
                self.learn(*steps)?;
                (ComponentExternalKind::Instance, value)
            }
            Item::Bundle { exports, steps } => {
                self.step(*steps)?;
                (ComponentExternalKind::Instance, self.bundle(exports, frame)?)
            }
            Item::Copy(source) => (source.kind(), frame.value(*source)),
        };
        self.step(value.size())?;
        frame.push(kind, value);
        Ok(())
    }

    fn plain(&mut self, Plain { steps, functions, core_instances }: Plain) -> Result<(), Excess> {
        self.functions = self.functions.saturating_add(functions);
        if self.functions > self.bounds.functions {
            return Err(Excess::Functions(self.functions));
        }
        self.core_instances = self.core_instances.saturating_add(core_instances);
        if self.core_instances > self.bounds.core_instances {
            return Err(Excess::CoreInstances(self.core_instances));
        }
        // The options of a function list the instances around it.
        self.learn(steps.saturating_add(functions.saturating_mul(self.depth)))
    }

    fn args(&mut self, args: &[(&'a str, Source)], frame: &Frame<'a>) -> Result<Args<'a>, Excess> {
        let mut values = Args::with_capacity(args.len());
        for (name, source) in args {
            let value = frame.value(*source);
            self.step(value.size())?;
            values.insert(name, value);
        }
        Ok(values)
    }

    fn bundle(&mut self, exports: &[(&'a str, Source)], frame: &Frame<'a>) -> Result<Value<'a>, Excess> {
        let exports = self.args(exports, frame)?;
        let size = exports.values().map(Value::size).fold(1, u64::saturating_add);
        Ok(Value::Instance(Rc::new(Instance { exports, size })))
    }

    /// Takes steps in which the engine may come to know resources.
    fn learn(&mut self, steps: u64) -> Result<(), Excess> {
        self.known = self.known.saturating_add(steps);
        self.step(steps)
    }

    fn step(&mut self, steps: u64) -> Result<(), Excess> {
        self.steps = self.steps.saturating_add(steps);
        if self.steps > self.bounds.steps { Err(Excess::Steps) } else { Ok(()) }
    }
}

impl<'a> Frame<'a> {
    fn push(&mut self, kind: ComponentExternalKind, value: Value<'a>) {
        match kind {
            ComponentExternalKind::Component => self.components.push(value),
            ComponentExternalKind::Instance => self.instances.push(value),
            _ => {}
        }
    }

    fn value(&self, source: Source) -> Value<'a> {
        let value = match source {
            Source::Component(index) => self.components.get(index),
            Source::Instance(index) => self.instances.get(index),
            Source::Other => None,
        };
        value.cloned().unwrap_or(Value::Other)
    }

    fn captured(&self, capture: Capture, closure: &Closure<'a>) -> Value<'a> {
        match capture {
            Capture::Local(index) => self.value(Source::Component(index)),
            Capture::Captured(index) => closure.captures.get(index).cloned().unwrap_or(Value::Other),
        }
    }

    fn export_of(&self, instance: usize, name: &str) -> Value<'a> {
        match self.value(Source::Instance(instance)) {
            Value::Instance(instance) => instance.exports.get(name).cloned().unwrap_or(Value::Other),
            Value::Component(_) | Value::Other => Value::Other,
        }
    }
}

impl Value<'_> {
    /// Number of items that a copy consists of.
    fn size(&self) -> u64 {
        match self {
            Self::Component(component) => component.size,
            Self::Instance(instance) => instance.size,
            Self::Other => 1,
        }
    }
}
