//! Which action a thread carries out, where several are carried out at the same time: what is said on it is said by that one.
//!
//! What an action says on threads of its own, such as the lines of its children, belongs to no action by name.

use std::cell::Cell;

thread_local! {
    static NUMBER: Cell<Option<u64>> = const { Cell::new(None) };
}

/// Says, as long as it lives, which action this thread carries out.
#[derive(Debug)]
pub struct Beside(());

impl Beside {
    /// This thread carries out the action `number` beside others.
    #[must_use]
    pub fn others(number: u64) -> Self {
        NUMBER.set(Some(number));
        Self(())
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        NUMBER.set(None);
    }
}

/// The action that this thread carries out beside others.
pub fn number() -> Option<u64> {
    NUMBER.get()
}
