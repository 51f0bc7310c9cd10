//! Sizes of component types as the engine converts them: written out, so that a type that is used twice counts twice.

use std::collections::HashMap;

use wasmparser::{
    component_types::{
        ComponentAnyTypeId, ComponentDefinedType, ComponentEntityType, ComponentFuncTypeId, ComponentInstanceTypeId,
        ComponentItem, ComponentValType,
    },
    types::TypesRef,
};

/// Sizes that are known already. The validator bounds the depth of types.
#[derive(Debug, Default)]
pub(super) struct TypeSizes(HashMap<ComponentAnyTypeId, u64>);

impl TypeSizes {
    pub(super) fn function(&mut self, types: TypesRef<'_>, id: ComponentFuncTypeId) -> u64 {
        self.any(types, ComponentAnyTypeId::Func(id))
    }

    pub(super) fn instance(&mut self, types: TypesRef<'_>, id: ComponentInstanceTypeId) -> u64 {
        self.any(types, ComponentAnyTypeId::Instance(id))
    }

    pub(super) fn entity(&mut self, types: TypesRef<'_>, ty: ComponentEntityType) -> u64 {
        match ty {
            ComponentEntityType::Module(id) => 1 + (types[id].imports.len() + types[id].exports.len()) as u64,
            ComponentEntityType::Func(id) => self.any(types, ComponentAnyTypeId::Func(id)),
            ComponentEntityType::Value(ty) => self.value(types, ty),
            ComponentEntityType::Type { created, .. } => self.any(types, created),
            ComponentEntityType::Instance(id) => self.any(types, ComponentAnyTypeId::Instance(id)),
            ComponentEntityType::Component(id) => self.any(types, ComponentAnyTypeId::Component(id)),
        }
    }

    pub(super) fn any(&mut self, types: TypesRef<'_>, id: ComponentAnyTypeId) -> u64 {
        if let Some(size) = self.0.get(&id) {
            return *size;
        }
        let parts = match id {
            ComponentAnyTypeId::Resource(_) => 0,
            ComponentAnyTypeId::Defined(id) => self.defined(types, &types[id]),
            ComponentAnyTypeId::Func(id) => {
                let function = &types[id];
                self.values(types, function.params.iter().map(|(_, ty)| *ty).chain(function.result))
            }
            ComponentAnyTypeId::Instance(id) => self.items(types, types[id].exports.values()),
            ComponentAnyTypeId::Component(id) => {
                self.items(types, types[id].imports.values().chain(types[id].exports.values()))
            }
        };
        let size = parts.saturating_add(1);
        self.0.insert(id, size);
        size
    }

    fn defined(&mut self, types: TypesRef<'_>, ty: &ComponentDefinedType) -> u64 {
        match ty {
            ComponentDefinedType::Primitive(_) | ComponentDefinedType::Own(_) | ComponentDefinedType::Borrow(_) => 0,
            ComponentDefinedType::Record(record) => self.values(types, record.fields.values().copied()),
            ComponentDefinedType::Variant(variant) => {
                let payloads = self.values(types, variant.cases.values().filter_map(|case| case.ty));
                payloads.saturating_add(variant.cases.len() as u64)
            }
            ComponentDefinedType::List { element, .. } | ComponentDefinedType::FixedLengthList { element, .. } => {
                self.value(types, *element)
            }
            ComponentDefinedType::Map { key, value, .. } => self.values(types, [*key, *value]),
            ComponentDefinedType::Tuple(tuple) => self.values(types, tuple.types.iter().copied()),
            ComponentDefinedType::Flags(names) | ComponentDefinedType::Enum(names) => names.len() as u64,
            ComponentDefinedType::Option { ty, .. } => self.value(types, *ty),
            ComponentDefinedType::Result { ok, err, .. } => self.values(types, ok.iter().chain(err).copied()),
            ComponentDefinedType::Future { ty, .. } | ComponentDefinedType::Stream { ty, .. } => {
                self.values(types, *ty)
            }
        }
    }

    fn items<'t>(&mut self, types: TypesRef<'_>, items: impl Iterator<Item = &'t ComponentItem>) -> u64 {
        items.fold(0, |sum, item| sum.saturating_add(self.entity(types, item.ty)))
    }

    fn values(&mut self, types: TypesRef<'_>, all: impl IntoIterator<Item = ComponentValType>) -> u64 {
        all.into_iter().fold(0, |sum, ty| sum.saturating_add(self.value(types, ty)))
    }

    fn value(&mut self, types: TypesRef<'_>, ty: ComponentValType) -> u64 {
        match ty {
            ComponentValType::Primitive(_) => 1,
            ComponentValType::Type(id) => self.any(types, ComponentAnyTypeId::Defined(id)),
        }
    }
}
