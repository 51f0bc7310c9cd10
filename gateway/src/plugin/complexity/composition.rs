//! Reads the components of a file as definitions: lists of the items that the engine makes one after the other whenever it
//! instantiates a component. `instantiation` executes them.

use wasmparser::{
    BinaryReaderError, CanonicalFunction, ComponentAlias, ComponentExternalKind, ComponentInstance,
    ComponentOuterAliasKind, Payload, component_types::ComponentEntityType, types::TypesRef,
};

use super::types::TypeSizes;

/// The components of a file, as far as they are read.
#[derive(Debug, Default)]
pub(super) struct Composition<'a> {
    /// Components that are read whole; the outermost is the last.
    pub(super) definitions: Vec<Definition<'a>>,
    /// Components that are being read, the outermost first.
    open: Vec<Definition<'a>>,
    sizes: TypeSizes,
}

#[derive(Debug, Default)]
pub(super) struct Definition<'a> {
    pub(super) items: Vec<Item<'a>>,
    pub(super) exports: Vec<(&'a str, Source)>,
    /// Components of enclosing definitions that this definition, or one inside it, refers to.
    pub(super) captures: Vec<Capture>,
    /// Number of core modules of enclosing definitions, likewise.
    pub(super) captured_modules: u64,
}

/// An item that instantiation makes. `steps` counts what does not depend on the instantiation.
#[derive(Debug)]
pub(super) enum Item<'a> {
    /// Items that are neither components nor instances.
    Plain(Plain),
    Import {
        name: &'a str,
        kind: ComponentExternalKind,
        steps: u64,
    },
    /// A component inside, by its place in `Composition::definitions`.
    Definition(usize),
    Captured(Capture),
    ExportOf {
        instance: usize,
        name: &'a str,
        kind: ComponentExternalKind,
    },
    Instance {
        component: usize,
        args: Vec<(&'a str, Source)>,
        steps: u64,
    },
    /// An instance that is made of other items.
    Bundle {
        exports: Vec<(&'a str, Source)>,
        steps: u64,
    },
    /// Another index of an item.
    Copy(Source),
}

/// Counts of plain items.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Plain {
    pub(super) steps: u64,
    /// Functions to compile.
    pub(super) functions: u64,
    pub(super) core_instances: u64,
}

/// An item by its index.
#[derive(Debug, Clone, Copy)]
pub(super) enum Source {
    Component(usize),
    Instance(usize),
    Other,
}

/// Where a component that a definition refers to comes from.
#[derive(Debug, Clone, Copy)]
pub(super) enum Capture {
    /// From the index space of the enclosing component.
    Local(usize),
    /// From the captures of the enclosing component.
    Captured(usize),
}

impl<'a> Composition<'a> {
    /// Begins a component: the outermost one, or one inside the component that is being read.
    pub(super) fn begin(&mut self) {
        self.open.push(Definition::default());
    }

    /// Ends the component that is being read.
    pub(super) fn end(&mut self) {
        let Some(definition) = self.open.pop() else { return };
        self.definitions.push(definition);
        self.item(Item::Definition(self.definitions.len() - 1));
    }

    /// Adds a core module to the component that is being read.
    pub(super) fn module(&mut self) {
        self.steps(1);
    }

    /// Reads a section that the validator has accepted; `types` are those of the component that is being read.
    pub(super) fn section(&mut self, payload: &Payload<'a>, types: TypesRef<'_>) -> Result<(), BinaryReaderError> {
        match payload {
            Payload::InstanceSection(section) => {
                for instance in section.clone() {
                    let (parts, core_instances) = match instance? {
                        wasmparser::Instance::Instantiate { args, .. } => (args.len(), 1),
                        wasmparser::Instance::FromExports(exports) => (exports.len(), 0),
                    };
                    self.plain(Plain { steps: 1 + parts as u64, functions: 0, core_instances });
                }
            }
            Payload::CoreTypeSection(section) => self.steps(section.count().into()),
            Payload::ComponentTypeSection(section) => self.steps(section.count().into()),
            Payload::ComponentImportSection(section) => {
                for import in section.clone() {
                    let import = import?;
                    let (name, kind) = (import.name.name, import.ty.kind());
                    let ty = types.component_item_for_import(name).map(|item| item.ty);
                    let steps = ty.map_or(0, |ty| self.sizes.entity(types, ty));
                    self.item(Item::Import { name, kind, steps });
                }
            }
            Payload::ComponentAliasSection(section) => {
                for alias in section.clone() {
                    self.alias(&alias?);
                }
            }
            Payload::ComponentCanonicalSection(section) => {
                let functions = section.clone().into_iter().collect::<Result<Vec<_>, _>>()?;
                self.functions(&functions, types);
            }
            Payload::ComponentInstanceSection(section) => {
                let first = types.component_instance_count().saturating_sub(section.count());
                for (index, instance) in (first..).zip(section.clone()) {
                    let steps = self.sizes.instance(types, types.component_instance_at(index));
                    self.instance(instance?, types, steps);
                }
            }
            Payload::ComponentExportSection(section) => {
                for export in section.clone() {
                    let export = export?;
                    self.export(export.name.name, Source::new(export.kind, export.index), types);
                }
            }
            _ => {}
        }
        Ok(())
    }

    fn functions(&mut self, functions: &[CanonicalFunction], types: TypesRef<'_>) {
        let is_lift = |function: &&CanonicalFunction| matches!(function, CanonicalFunction::Lift { .. });
        let lifts = u32::try_from(functions.iter().filter(is_lift).count()).unwrap_or(u32::MAX);
        // The validator has added those that are lifted.
        let mut lifted = types.component_function_count().saturating_sub(lifts)..;
        for function in functions {
            let index = match function {
                CanonicalFunction::Lift { .. } => lifted.next(),
                CanonicalFunction::Lower { func_index, .. } => Some(*func_index),
                _ => None,
            };
            let size = index.map_or(1, |index| self.sizes.function(types, types.component_function_at(index)));
            // The adapter to a function of another component has code for each part of its type.
            let is_lowered = matches!(function, CanonicalFunction::Lower { .. });
            let functions = if is_lowered { size } else { 1 };
            self.plain(Plain { steps: size, functions, core_instances: 0 });
        }
    }

    fn instance(&mut self, instance: ComponentInstance<'a>, types: TypesRef<'_>, mut steps: u64) {
        match instance {
            ComponentInstance::Instantiate { component_index, args } => {
                for arg in args.iter().filter(|arg| arg.kind == ComponentExternalKind::Type) {
                    steps = steps.saturating_add(self.sizes.any(types, types.component_any_type_at(arg.index)));
                }
                let args = args.iter().map(|arg| (arg.name, Source::new(arg.kind, arg.index))).collect();
                self.item(Item::Instance { component: component_index as usize, args, steps });
            }
            ComponentInstance::FromExports(exports) => {
                let exports = exports.iter().map(|it| (it.name.name, Source::new(it.kind, it.index))).collect();
                self.item(Item::Bundle { exports, steps });
            }
        }
    }

    fn export(&mut self, name: &'a str, source: Source, types: TypesRef<'_>) {
        let ty = types.component_item_for_export(name).map(|item| item.ty);
        if let Some(ty @ ComponentEntityType::Type { .. }) = ty {
            // The engine converts it for each instance.
            let steps = self.sizes.entity(types, ty);
            self.steps(steps);
        }
        self.item(Item::Copy(source));
        if let Some(definition) = self.open.last_mut() {
            definition.exports.push((name, source));
        }
    }

    fn alias(&mut self, alias: &ComponentAlias<'a>) {
        match *alias {
            ComponentAlias::InstanceExport { kind, instance_index, name } => {
                self.item(Item::ExportOf { instance: instance_index as usize, name, kind });
            }
            ComponentAlias::Outer { kind: ComponentOuterAliasKind::Component, count, index } => {
                let mut capture = Capture::Local(index as usize);
                for definition in self.inside(count) {
                    definition.captures.push(capture);
                    capture = Capture::Captured(definition.captures.len() - 1);
                }
                self.item(Item::Captured(capture));
            }
            ComponentAlias::Outer { kind: ComponentOuterAliasKind::CoreModule, count, .. } => {
                self.inside(count).iter_mut().for_each(|definition| definition.captured_modules += 1);
                self.steps(1);
            }
            ComponentAlias::CoreInstanceExport { .. } | ComponentAlias::Outer { .. } => self.steps(1),
        }
    }

    /// The last `count` components that are being read.
    fn inside(&mut self, count: u32) -> &mut [Definition<'a>] {
        let outer = self.open.len().saturating_sub(count as usize);
        &mut self.open[outer..]
    }

    fn steps(&mut self, steps: u64) {
        self.plain(Plain { steps, ..Plain::default() });
    }

    fn plain(&mut self, more: Plain) {
        let Some(definition) = self.open.last_mut() else { return };
        match definition.items.last_mut() {
            Some(Item::Plain(sum)) => {
                sum.steps = sum.steps.saturating_add(more.steps);
                sum.functions = sum.functions.saturating_add(more.functions);
                sum.core_instances += more.core_instances;
            }
            _ => definition.items.push(Item::Plain(more)),
        }
    }

    fn item(&mut self, item: Item<'a>) {
        if let Some(definition) = self.open.last_mut() {
            definition.items.push(item);
        }
    }
}

impl Source {
    fn new(kind: ComponentExternalKind, index: u32) -> Self {
        match kind {
            ComponentExternalKind::Component => Self::Component(index as usize),
            ComponentExternalKind::Instance => Self::Instance(index as usize),
            _ => Self::Other,
        }
    }

    /// `Func` stands for all kinds whose items are not followed.
    pub(super) fn kind(self) -> ComponentExternalKind {
        match self {
            Self::Component(_) => ComponentExternalKind::Component,
            Self::Instance(_) => ComponentExternalKind::Instance,
            Self::Other => ComponentExternalKind::Func,
        }
    }
}
