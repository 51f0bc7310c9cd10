//! A value under edit that can go back: the edits of a failed call are undone.

/// A value and, from its first edit on, what it was before.
#[derive(Debug, Default)]
pub struct Draft<T> {
    now: T,
    before: Option<T>,
}

impl<T: Clone> Draft<T> {
    pub fn new(value: T) -> Self {
        Self { now: value, before: None }
    }

    pub fn read(&self) -> &T {
        &self.now
    }

    /// Copies the value at the first edit only: a reader pays nothing.
    pub fn edit(&mut self) -> &mut T {
        if self.before.is_none() {
            self.before = Some(self.now.clone());
        }
        &mut self.now
    }

    pub fn accept(self) -> T {
        self.now
    }

    pub fn undo(self) -> T {
        self.before.unwrap_or(self.now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn undo_gives_back_what_was_before_the_first_edit() {
        let mut draft = Draft::new(vec![1]);
        draft.edit().push(2);
        draft.edit().push(3);
        assert_eq!(draft.read(), &[1, 2, 3]);
        assert_eq!(draft.undo(), [1]);
    }

    #[test]
    fn accept_keeps_every_edit_and_an_unedited_draft_is_itself() {
        let mut draft = Draft::new(vec![1]);
        draft.edit().push(2);
        assert_eq!(draft.accept(), [1, 2]);
        assert_eq!(Draft::new(7).undo(), 7);
    }
}
