//! Which step comes next: steps that wait for others, that must not run beside each other, and that cost something.
//!
//! Pure: who carries the steps out asks for the next one and says when it is done. A step is ready when all that it comes after
//! is done; among the ready ones that can run beside what runs already, the one with the longest way to the end is taken, so
//! that the longest chain is never kept waiting. A step waits here for the lock that it would wait for in the server, where it
//! would keep a session busy with nothing.

use std::collections::{BTreeMap, BTreeSet};

/// How a step uses a table, after the server's own table of lock conflicts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Lock {
    /// Reads it.
    Read,
    /// Builds an index on it; several can be built at once.
    Build,
    /// Analyzes it, validates or adds a constraint.
    Upkeep,
    /// Nothing else can be done with it meanwhile.
    Alone,
}

impl Lock {
    fn goes_with(self, other: Self) -> bool {
        use Lock::{Alone, Build, Read};
        match (self, other) {
            (Alone, _) | (_, Alone) => false,
            (Read, _) | (_, Read) | (Build, Build) => true,
            _ => false,
        }
    }
}

/// A step: what it costs, what it comes after, what it uses.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// About how long it takes, in any unit that all steps share.
    pub weight: u64,
    /// The steps that must be done before, by their numbers, all of them lower than its own.
    pub after: Vec<usize>,
    /// The tables that it uses, by any number that stands for them.
    pub locks: Vec<(usize, Lock)>,
    /// Whether it is carried out elsewhere: it is never taken, but told to be done.
    pub apart: bool,
}

/// The order of steps, as it comes about.
#[derive(Debug)]
pub struct Schedule {
    steps: Vec<Step>,
    waits_for: Vec<usize>,
    followers: Vec<Vec<usize>>,
    /// The way to the end of each step.
    ways: Vec<u64>,
    /// By the way to the end, longest last; of equal ones the first comes last.
    ready: BTreeSet<(u64, std::cmp::Reverse<usize>)>,
    held: BTreeMap<usize, Vec<Lock>>,
    left: usize,
}

impl Schedule {
    /// A schedule in which nothing is done yet.
    pub fn new(steps: Vec<Step>) -> Self {
        let mut followers = vec![Vec::new(); steps.len()];
        let mut ways: Vec<u64> = steps.iter().map(|step| step.weight).collect();
        for number in (0..steps.len()).rev() {
            for &before in &steps[number].after {
                followers[before].push(number);
                ways[before] = ways[before].max(steps[before].weight + ways[number]);
            }
        }
        let waits_for: Vec<usize> = steps.iter().map(|step| step.after.len()).collect();
        let ready = (0..steps.len()).filter(|&number| waits_for[number] == 0 && !steps[number].apart);
        let ready = ready.map(|number| (ways[number], std::cmp::Reverse(number))).collect();
        Self { left: steps.len(), steps, waits_for, followers, ways, ready, held: BTreeMap::new() }
    }

    /// Takes the next step; `None` when none can be begun before another one is done.
    pub fn take(&mut self) -> Option<usize> {
        let found = self.ready.iter().rev().find(|(_, number)| self.fits(number.0)).copied()?;
        self.ready.remove(&found);
        let number = found.1.0;
        for &(table, lock) in &self.steps[number].locks {
            self.held.entry(table).or_default().push(lock);
        }
        Some(number)
    }

    /// A step that was taken, or is carried out elsewhere, is done.
    pub fn done(&mut self, number: usize) {
        for (table, lock) in &self.steps[number].locks {
            if let Some(held) = self.held.get_mut(table) {
                if let Some(at) = held.iter().position(|other| other == lock) {
                    held.swap_remove(at);
                }
                if held.is_empty() {
                    self.held.remove(table);
                }
            }
        }
        for &follower in &self.followers[number] {
            self.waits_for[follower] -= 1;
            if self.waits_for[follower] == 0 && !self.steps[follower].apart {
                self.ready.insert((self.ways[follower], std::cmp::Reverse(follower)));
            }
        }
        self.left -= 1;
    }

    /// Whether all steps are done.
    pub fn is_over(&self) -> bool {
        self.left == 0
    }

    fn fits(&self, number: usize) -> bool {
        self.steps[number].locks.iter().all(|(table, lock)| {
            self.held.get(table).is_none_or(|held| held.iter().all(|other| lock.goes_with(*other)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn step(weight: u64, after: &[usize], locks: &[(usize, Lock)]) -> Step {
        Step { weight, after: after.to_vec(), locks: locks.to_vec(), apart: false }
    }

    #[test]
    fn the_longest_way_goes_first_and_nothing_before_what_it_comes_after() {
        // A small step that a long one waits for goes before a larger one that nothing waits for.
        let mut schedule = Schedule::new(vec![step(5, &[], &[]), step(1, &[], &[]), step(9, &[1], &[])]);
        assert_eq!((schedule.take(), schedule.take(), schedule.take()), (Some(1), Some(0), None));
        schedule.done(0);
        assert_eq!(schedule.take(), None);
        schedule.done(1);
        assert_eq!(schedule.take(), Some(2));
        assert!(!schedule.is_over());
        schedule.done(2);
        assert!(schedule.is_over() && schedule.take().is_none());
    }

    #[test]
    fn what_is_carried_out_elsewhere_is_waited_for_and_never_taken() {
        let apart = |after| Step { apart: true, ..step(9, after, &[]) };
        let mut schedule =
            Schedule::new(vec![apart(&[]), step(1, &[], &[]), apart(&[1]), step(1, &[0, 2], &[])]);
        assert_eq!((schedule.take(), schedule.take()), (Some(1), None));
        schedule.done(1);
        assert_eq!(schedule.take(), None);
        schedule.done(2);
        schedule.done(0);
        assert_eq!((schedule.take(), schedule.is_over()), (Some(3), false));
        schedule.done(3);
        assert!(schedule.is_over());
    }

    #[test]
    fn steps_that_would_wait_for_each_other_in_the_server_wait_here() {
        use Lock::{Alone, Build, Read, Upkeep};
        for (one, other, together) in [
            (Read, Read, true),
            (Read, Build, true),
            (Read, Upkeep, true),
            (Build, Build, true),
            (Build, Upkeep, false),
            (Upkeep, Upkeep, false),
            (Alone, Read, false),
            (Alone, Alone, false),
        ] {
            for (one, other) in [(one, other), (other, one)] {
                let steps = vec![step(2, &[], &[(7, one)]), step(1, &[], &[(7, other)])];
                let mut schedule = Schedule::new(steps);
                assert_eq!(schedule.take(), Some(0));
                assert_eq!(schedule.take().is_some(), together, "{one:?} {other:?}");
                if !together {
                    schedule.done(0);
                    assert_eq!(schedule.take(), Some(1));
                }
            }
        }
        // One that cannot run does not keep the next one back.
        let mut schedule = Schedule::new(vec![
            step(3, &[], &[(1, Alone)]),
            step(2, &[], &[(1, Read)]),
            step(1, &[], &[(2, Alone)]),
        ]);
        assert_eq!((schedule.take(), schedule.take(), schedule.take()), (Some(0), Some(2), None));
    }

    proptest! {
        #[test]
        fn every_step_is_carried_out_once_in_an_order_that_holds(
            shape in prop::collection::vec((0..9_u64, prop::collection::vec(0..40_usize, 0..4), 0..4_usize, 0..4_u8), 1..40),
            workers in 1..5_usize,
        ) {
            let locks = [Lock::Read, Lock::Build, Lock::Upkeep, Lock::Alone];
            let steps: Vec<Step> = shape
                .iter()
                .enumerate()
                .map(|(number, (weight, after, table, lock))| {
                    let mut after: Vec<usize> = after.iter().copied().filter(|before| *before < number).collect();
                    after.sort_unstable();
                    after.dedup();
                    step(*weight, &after, &[(*table, locks[usize::from(*lock)])])
                })
                .collect();
            let mut schedule = Schedule::new(steps.clone());
            let (mut running, mut done) = (Vec::new(), Vec::new());
            while !schedule.is_over() {
                while running.len() < workers {
                    let Some(number) = schedule.take() else { break };
                    prop_assert!(steps[number].after.iter().all(|before| done.contains(before)));
                    let clashes = running.iter().any(|other: &usize| {
                        let (one, other) = (steps[number].locks[0], steps[*other].locks[0]);
                        one.0 == other.0 && !one.1.goes_with(other.1)
                    });
                    prop_assert!(!clashes);
                    running.push(number);
                }
                prop_assert!(!running.is_empty());
                let ended = running.remove(0);
                schedule.done(ended);
                done.push(ended);
            }
            done.sort_unstable();
            prop_assert_eq!(done, (0..steps.len()).collect::<Vec<_>>());
        }
    }
}
