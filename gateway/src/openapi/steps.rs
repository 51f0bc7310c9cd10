//! A bound on what a check may take. Schemas that refer to one another may be tried in more ways than anybody can wait for, and some
//! of what they ask for takes long each time, so a check has so many steps: looks at values, or as much CPU time as these take. Who
//! has none left is stopped where it is.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use serde_json::Value;

use crate::cpu;

/// So much of a text is looked at in one step.
const BYTES: usize = 64;
/// What a step takes, in nanoseconds: more than nearly all of them.
const NANOS: u64 = 20;
/// Steps between two looks at the clock.
const UNTIMED: usize = 128;
/// Steps that it takes to begin to match a pattern that goes back.
const TO_MATCH: usize = 50;

/// A check runs from its beginning to its end on one thread, and the validator has no place for this.
struct Budget {
    left: Cell<usize>,
    /// Steps until the clock is looked at.
    untimed: Cell<usize>,
    /// CPU time when it was looked at last.
    seen: Cell<u64>,
    /// Patterns may go back.
    goes_back: Cell<bool>,
}

thread_local! {
    static BUDGET: Budget = const {
        Budget { left: Cell::new(0), untimed: Cell::new(0), seen: Cell::new(0), goes_back: Cell::new(false) }
    };
}

/// Stops a check from within, wherever it is.
struct Exhausted;

/// What a check comes to; nothing if it takes more steps.
pub(super) fn within<T>(steps: usize, goes_back: bool, check: impl FnOnce() -> T) -> Option<T> {
    BUDGET.with(|budget| {
        budget.left.set(steps);
        budget.untimed.set(UNTIMED);
        budget.seen.set(cpu::nanos());
        budget.goes_back.set(goes_back);
    });
    // It reads what nobody writes, and what it has made so far is dropped.
    match catch_unwind(AssertUnwindSafe(check)) {
        Ok(done) => Some(done),
        Err(cause) if cause.is::<Exhausted>() => None,
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

pub(super) fn take(steps: usize) {
    BUDGET.with(|budget| budget.take(steps));
}

/// Before a text is matched: a pattern that goes back may look from each place of it to its end.
pub(super) fn take_to_match(text: &str) {
    BUDGET.with(|budget| {
        let again = if budget.goes_back.get() { TO_MATCH + text.len().saturating_mul(text.len()) / BYTES } else { 0 };
        budget.take(of_text(text).saturating_add(again));
    });
}

impl Budget {
    fn take(&self, steps: usize) {
        let Some(left) = self.left.get().checked_sub(steps) else { resume_unwind(Box::new(Exhausted)) };
        self.left.set(left);
        match self.untimed.get().checked_sub(steps) {
            Some(untimed) => self.untimed.set(untimed),
            None => self.time(),
        }
    }

    /// What was long in coming counts for the steps that it was as long as.
    fn time(&self) {
        let now = cpu::nanos();
        let ran = now.saturating_sub(self.seen.replace(now)) / NANOS;
        let more = usize::try_from(ran).unwrap_or(usize::MAX).saturating_sub(UNTIMED);
        self.left.set(self.left.get().saturating_sub(more));
        self.untimed.set(UNTIMED);
    }
}
