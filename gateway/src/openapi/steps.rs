//! A bound on the work of a check, counted in steps, so that the verdict is the same on any machine. Schemas that refer to one another
//! may be tried in more ways than anybody can wait for. A check without steps left is stopped where it is.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use serde_json::{Number, Value};

/// Bytes of a text that one step looks at.
const BYTES: usize = 64;
/// Steps of one match with a pattern that goes back, beside those for the square of the text's length; a text of up to `SHORT` bytes
/// takes fewer.
const TO_MATCH: usize = 500;
const SHORT: usize = 8;
/// Steps of looking at a number with a fraction, which may be divided exactly.
const OF_FRACTION: usize = 20;
/// Steps that a check may take on a worker before its neighbours have waited too long; some 20 ns each.
const OF_TURN: usize = 20_000;
/// Bytes of JSON that are read in one step.
const READ: usize = 2;

/// A check runs from its beginning to its end on one thread, and the validator has no place for this.
struct Budget {
    left: Cell<usize>,
    /// Steps left of a worker's turn; elsewhere as many as a check takes.
    turn: Cell<usize>,
    /// Patterns may go back.
    goes_back: Cell<bool>,
}

thread_local! {
    static BUDGET: Budget =
        const { Budget { left: Cell::new(0), turn: Cell::new(usize::MAX), goes_back: Cell::new(false) } };
}

/// Stops a check from within, wherever it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stop {
    Exhausted,
    TurnOver,
}

/// Runs a check on a worker; `None` if it takes longer than a worker has time for, and is to run elsewhere.
pub fn in_turn<T>(check: impl FnOnce() -> T) -> Option<T> {
    BUDGET.with(|budget| budget.turn.set(OF_TURN));
    let checked = until(Stop::TurnOver, check);
    BUDGET.with(|budget| budget.turn.set(usize::MAX));
    checked
}

/// Runs a check within so many steps; `None` if it takes more.
pub(super) fn within<T>(steps: usize, goes_back: bool, check: impl FnOnce() -> T) -> Option<T> {
    BUDGET.with(|budget| {
        budget.left.set(steps);
        budget.goes_back.set(goes_back);
    });
    until(Stop::Exhausted, check)
}

fn until<T>(stop: Stop, check: impl FnOnce() -> T) -> Option<T> {
    // It reads what nobody writes, and what it has made so far is dropped.
    match catch_unwind(AssertUnwindSafe(check)) {
        Ok(done) => Some(done),
        Err(cause) if cause.downcast_ref() == Some(&stop) => None,
        Err(cause) => resume_unwind(cause),
    }
}

/// Steps that it takes to look at a value and all in it once.
pub(super) fn through(value: &Value) -> usize {
    match value {
        Value::Array(all) => 1 + all.iter().map(through).sum::<usize>(),
        Value::Object(all) => 1 + all.iter().map(|(name, value)| of_text(name) + through(value)).sum::<usize>(),
        Value::String(text) => of_text(text),
        _ => 1,
    }
}

pub(super) fn of_text(text: &str) -> usize {
    1 + text.len() / BYTES
}

/// Steps of looking at a number: exact division of one far from 1 takes long.
pub(super) fn of_number(number: &Number) -> usize {
    match number.as_f64() {
        Some(value) if number.is_f64() && value != 0.0 => OF_FRACTION + value.abs().log2().abs() as usize,
        _ => 1,
    }
}

pub(super) fn take(steps: usize) {
    BUDGET.with(|budget| budget.take(steps));
}

/// Before a text is read, which is part of a worker's turn and of no check.
pub(super) fn take_to_read(bytes: &[u8]) {
    BUDGET.with(|budget| budget.take_of_turn(bytes.len() / READ));
}

/// Before a text is matched: a pattern that goes back may look from each place of it to its end, and in many ways.
pub(super) fn take_to_match(text: &str) {
    BUDGET.with(|budget| {
        let again = match (budget.goes_back.get(), text.len()) {
            (false, _) => 0,
            (true, ..=SHORT) => 1 << text.len(),
            (true, length) => TO_MATCH + length.saturating_mul(length) / BYTES,
        };
        budget.take(of_text(text).saturating_add(again));
    });
}

impl Budget {
    fn take(&self, steps: usize) {
        self.take_of_turn(steps);
        let Some(left) = self.left.get().checked_sub(steps) else { resume_unwind(Box::new(Stop::Exhausted)) };
        self.left.set(left);
    }

    fn take_of_turn(&self, steps: usize) {
        match self.turn.get() {
            usize::MAX => {}
            turn => {
                let Some(turn) = turn.checked_sub(steps) else { resume_unwind(Box::new(Stop::TurnOver)) };
                self.turn.set(turn);
            }
        }
    }
}
