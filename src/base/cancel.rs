//! The token that asks work to end.

use crate::base::failure::{Code, Failure};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, AtomicUsize, Ordering};
use tokio::sync::Notify;

/// Why a run is asked to end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// SIGINT.
    Interrupted,
    /// SIGTERM.
    Terminated,
    /// It takes longer than its schedule allows.
    Overdue,
}

#[derive(Debug, Default)]
struct State {
    reason: AtomicU8,
    /// No further step is to begin.
    winding_down: AtomicBool,
    /// The end was asked for more than once.
    insisted: AtomicBool,
    /// Clean-ups that go on although the end was asked for.
    graces: AtomicUsize,
    notify: Notify,
}

/// Lets a clean-up go on; see [`Cancel::grace`].
#[derive(Debug)]
pub struct Grace(Arc<State>);

impl Drop for Grace {
    fn drop(&mut self) {
        self.0.graces.fetch_sub(1, Ordering::SeqCst);
        self.0.notify.notify_waiters();
    }
}

/// Asks everything that shares it to end; cheap to clone and to poll.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<State>);

impl Cancel {
    /// A token that nobody has set.
    pub fn new() -> Self {
        Self::default()
    }

    /// Asks for the end. The first reason stays; who asks again does not wait for clean-ups.
    pub fn cancel(&self, reason: Reason) {
        let value = match reason {
            Reason::Interrupted => 1,
            Reason::Terminated => 2,
            Reason::Overdue => 3,
        };
        let first = self.0.reason.compare_exchange(0, value, Ordering::SeqCst, Ordering::SeqCst).is_ok();
        if !first {
            self.0.insisted.store(true, Ordering::SeqCst);
        }
        self.0.notify.notify_waiters();
    }

    /// Asks for the end once the current step is done.
    pub fn wind_down(&self) {
        self.0.winding_down.store(true, Ordering::SeqCst);
    }

    /// Fails when no further step is to begin; a clean-up's may.
    pub fn check_step(&self) -> Result<(), Failure> {
        self.check()?;
        if self.0.winding_down.load(Ordering::SeqCst) && !self.has_grace() {
            return Err(Failure::new(Code::Terminated, "terminated between two steps")
                .hint("`lifeboat resume` goes on with the next one."));
        }
        Ok(())
    }

    /// Lets work go on although the end is asked for, as long as the value lives: for a clean-up.
    #[must_use]
    pub fn grace(&self) -> Grace {
        self.0.graces.fetch_add(1, Ordering::SeqCst);
        Grace(self.0.clone())
    }

    /// Whether a clean-up goes on.
    pub fn has_grace(&self) -> bool {
        self.0.graces.load(Ordering::SeqCst) > 0
    }

    /// Why the work has to end, if it has to.
    pub fn reason(&self) -> Option<Reason> {
        if self.has_grace() && !self.0.insisted.load(Ordering::SeqCst) {
            return None;
        }
        match self.0.reason.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(Reason::Interrupted),
            2 => Some(Reason::Terminated),
            _ => Some(Reason::Overdue),
        }
    }

    /// Whether the end was asked for.
    pub fn is_cancelled(&self) -> bool {
        self.reason().is_some()
    }

    /// Fails when the end was asked for.
    pub fn check(&self) -> Result<(), Failure> {
        match self.reason() {
            None => Ok(()),
            Some(reason) => Err(Self::failure(reason)),
        }
    }

    /// The failure that `reason` stands for.
    pub fn failure(reason: Reason) -> Failure {
        match reason {
            Reason::Interrupted => Failure::new(Code::Interrupted, "interrupted"),
            Reason::Terminated => Failure::new(Code::Terminated, "terminated"),
            Reason::Overdue => {
                Failure::new(Code::Terminated, "it took longer than the `timeout` of its schedule")
            }
        }
    }

    /// Waits until the end is asked for.
    pub async fn cancelled(&self) -> Reason {
        loop {
            let notified = self.0.notify.notified();
            tokio::pin!(notified);
            notified.as_mut().enable();
            if let Some(reason) = self.reason() {
                return reason;
            }
            notified.await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grace_holds_the_end_back_until_it_is_asked_for_again() {
        let cancel = Cancel::new();
        let grace = cancel.grace();
        cancel.cancel(Reason::Terminated);
        assert_eq!(cancel.reason(), None);
        drop(grace);
        assert_eq!(cancel.reason(), Some(Reason::Terminated));
        let _grace = cancel.grace();
        assert_eq!(cancel.reason(), None);
        cancel.cancel(Reason::Interrupted);
        assert_eq!(cancel.reason(), Some(Reason::Terminated));
    }

    #[test]
    fn winding_down_ends_between_two_steps() {
        let cancel = Cancel::new();
        assert_eq!(cancel.check_step(), Ok(()));
        cancel.wind_down();
        assert_eq!((cancel.check(), cancel.reason()), (Ok(()), None));
        assert_eq!(cancel.check_step().unwrap_err().message, "terminated between two steps");
        let _grace = cancel.grace();
        assert_eq!(cancel.check_step(), Ok(()));
    }
}
