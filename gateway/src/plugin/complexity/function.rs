//! Validates the body of one function and counts what drives the cost of compiling it.

use wasmparser::{
    BinaryReaderError, BlockType, BrTable, Catch, CompositeInnerType, FrameKind, FuncValidator, FunctionBody, Operator,
    ValidatorResources, WasmModuleResources,
};

/// Arguments or results of a call that have registers, and how much more each of the others costs, which is in memory.
const REGISTERS: u64 = 8;
const IN_MEMORY: u64 = 16;
/// Blocks that take or give values count once per other such block, divided by this: the compiler's register allocator merges their
/// live ranges in quadratic time and memory.
const JOINS: u64 = 8;

/// Counts of one function. The weights are measured: a value takes the compiler up to some microseconds and some 100 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Counts {
    /// Parameters included.
    pub(super) locals: u64,
    pub(super) blocks: u64,
    /// Values that are alive where each block begins, and values that blocks, branches and calls pass on.
    pub(super) values: u64,
}

/// Blocks that take or give values.
#[derive(Debug, Default)]
struct Joins {
    blocks: u64,
    values: u64,
}

/// Parameters and results of a function or block.
#[derive(Debug, Clone, Copy, Default)]
struct Arity {
    params: u64,
    results: u64,
}

impl Counts {
    pub(super) fn new(
        body: &FunctionBody<'_>,
        validator: &mut FuncValidator<ValidatorResources>,
    ) -> Result<Self, BinaryReaderError> {
        validator.read_locals(&mut body.get_binary_reader())?;
        let locals = validator.len_locals().into();
        let mut counts = Self { locals, blocks: 1, values: locals };
        let mut joins = Joins::default();
        let mut operators = body.get_operators_reader()?;
        while !operators.eof() {
            let (operator, offset) = operators.read_with_offset()?;
            // Before the validator pops the operands, which are alive too.
            counts.add(&operator, validator);
            joins.add(&operator, validator);
            validator.op(offset, &operator)?;
        }
        operators.finish()?;
        counts.values = counts.values.saturating_add(joins.blocks.saturating_mul(joins.values) / JOINS);
        Ok(counts)
    }

    /// Adds an operator, whose indices may be invalid still.
    fn add(&mut self, operator: &Operator<'_>, validator: &FuncValidator<ValidatorResources>) {
        let blocks = blocks(operator);
        if blocks > 0 {
            self.blocks += blocks;
            let alive = self.locals + u64::from(validator.operand_stack_height());
            self.values = self.values.saturating_add(blocks.saturating_mul(alive));
        }
        self.values = self.values.saturating_add(passed_on(operator, validator));
    }
}

impl Joins {
    fn add(&mut self, operator: &Operator<'_>, validator: &FuncValidator<ValidatorResources>) {
        let ty = match operator {
            Operator::Block { blockty } | Operator::Loop { blockty } | Operator::If { blockty } => *blockty,
            Operator::TryTable { try_table } => try_table.ty,
            _ => return,
        };
        let values = Arity::of_block(ty, validator.resources()).sum();
        self.blocks += u64::from(values > 0);
        self.values += values;
    }
}

/// Blocks of the compiler that an operator begins.
fn blocks(operator: &Operator<'_>) -> u64 {
    match operator {
        Operator::Block { .. }
        | Operator::Loop { .. }
        | Operator::BrIf { .. }
        | Operator::BrOnNull { .. }
        | Operator::BrOnNonNull { .. }
        | Operator::BrOnCast { .. }
        | Operator::BrOnCastFail { .. } => 1,
        Operator::If { .. } => 2,
        Operator::BrTable { targets } => u64::from(targets.len()) + 1,
        Operator::TryTable { try_table } => try_table.catches.len() as u64 + 1,
        _ => 0,
    }
}

/// Values that a branch or call passes on and gets.
fn passed_on(operator: &Operator<'_>, validator: &FuncValidator<ValidatorResources>) -> u64 {
    let resources = validator.resources();
    let label = |depth: &u32| label(*depth, validator);
    match operator {
        Operator::TryTable { try_table } => {
            let caught = try_table.catches.iter().map(|catch| match catch {
                Catch::One { label: depth, .. }
                | Catch::OneRef { label: depth, .. }
                | Catch::All { label: depth }
                | Catch::AllRef { label: depth } => label(depth),
            });
            caught.sum()
        }
        Operator::Br { relative_depth }
        | Operator::BrIf { relative_depth }
        | Operator::BrOnNull { relative_depth }
        | Operator::BrOnNonNull { relative_depth }
        | Operator::BrOnCast { relative_depth, .. }
        | Operator::BrOnCastFail { relative_depth, .. } => label(relative_depth),
        Operator::BrTable { targets } => targets_of(targets).map(|depth| label(&depth)).sum(),
        Operator::Call { function_index } | Operator::ReturnCall { function_index } => {
            let ty = resources.type_index_of_function(*function_index);
            ty.map_or(0, |ty| Arity::of_type(ty, resources).of_call())
        }
        Operator::CallIndirect { type_index, .. }
        | Operator::ReturnCallIndirect { type_index, .. }
        | Operator::CallRef { type_index }
        | Operator::ReturnCallRef { type_index } => Arity::of_type(*type_index, resources).of_call(),
        Operator::Return => label(&validator.control_stack_height().saturating_sub(1)),
        _ => 0,
    }
}

fn targets_of(table: &BrTable<'_>) -> impl Iterator<Item = u32> {
    table.targets().map_while(Result::ok).chain([table.default()])
}

/// Values that a branch to a label passes on.
fn label(depth: u32, validator: &FuncValidator<ValidatorResources>) -> u64 {
    let Some(frame) = validator.get_control_frame(depth as usize) else { return 0 };
    let arity = Arity::of_block(frame.block_type, validator.resources());
    if frame.kind == FrameKind::Loop { arity.params } else { arity.results }
}

impl Arity {
    fn of_block(ty: BlockType, resources: &ValidatorResources) -> Self {
        match ty {
            BlockType::Empty => Self::default(),
            BlockType::Type(_) => Self { params: 0, results: 1 },
            BlockType::FuncType(ty) => Self::of_type(ty, resources),
        }
    }

    fn of_type(ty: u32, resources: &ValidatorResources) -> Self {
        match resources.sub_type_at(ty).map(|ty| &ty.composite_type.inner) {
            Some(CompositeInnerType::Func(ty)) => {
                Self { params: ty.params().len() as u64, results: ty.results().len() as u64 }
            }
            _ => Self::default(),
        }
    }

    fn sum(self) -> u64 {
        self.params + self.results
    }

    fn of_call(self) -> u64 {
        let weight = |count: u64| count.min(REGISTERS) + count.saturating_sub(REGISTERS) * IN_MEMORY;
        weight(self.params) + weight(self.results)
    }
}
