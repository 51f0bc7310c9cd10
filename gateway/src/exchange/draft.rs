//! A value under edit that can go back: the edits of a failed call are undone.

use std::{fmt, mem};

type Undo<T> = Box<dyn FnOnce(&mut T) + Send>;

/// A value and how each of its edits is taken back: nothing is copied but what an edit replaces.
pub struct Draft<T> {
    now: T,
    /// In the order of the edits. Whoever lets others edit bounds their number.
    undo: Vec<Undo<T>>,
}

impl<T: 'static> Draft<T> {
    pub fn new(value: T) -> Self {
        Self { now: value, undo: Vec::new() }
    }

    pub fn read(&self) -> &T {
        &self.now
    }

    /// Gives the value to edit; `undo` takes that edit back, from the value as the edit leaves it.
    pub fn edit(&mut self, undo: impl FnOnce(&mut T) + Send + 'static) -> &mut T {
        self.undo.push(Box::new(undo));
        &mut self.now
    }

    /// Gives it for what an edit before takes back, too.
    pub fn edit_again(&mut self) -> &mut T {
        &mut self.now
    }

    /// Replaces a part of the value.
    pub fn set<P: Send + 'static>(&mut self, part: fn(&mut T) -> &mut P, new: P) {
        let old = mem::replace(part(&mut self.now), new);
        self.edit(move |value| *part(value) = old);
    }

    pub fn accept(self) -> T {
        self.now
    }

    pub fn undo(mut self) -> T {
        while let Some(undo) = self.undo.pop() {
            undo(&mut self.now);
        }
        self.now
    }
}

impl<T: fmt::Debug> fmt::Debug for Draft<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Draft").field("now", &self.now).field("edits", &self.undo.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn edited() -> Draft<Vec<i32>> {
        let mut draft = Draft::new(vec![1, 2]);
        draft.edit(|list| list.truncate(2)).push(3);
        draft.set(|list| &mut list[0], 7);
        draft.edit(|list| list.insert(1, 2)).remove(1);
        draft
    }

    #[test]
    fn undo_takes_back_the_last_edit_first() {
        assert_eq!(edited().undo(), [1, 2]);
    }

    #[test]
    fn accept_keeps_every_edit() {
        assert_eq!(edited().read(), &[7, 3]);
        assert_eq!(edited().accept(), [7, 3]);
    }
}
