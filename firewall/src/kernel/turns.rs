//! A value that threads use by turns, where one may use it for seconds and another will not wait so
//! long.

use std::ops::{Deref, DerefMut};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// A value of which whoever has its turn is the only user.
#[derive(Debug)]
pub(super) struct Turns<T> {
    /// None while somebody has it.
    value: Mutex<Option<T>>,
    is_back: Condvar,
}

/// A turn; it ends when this is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a, T> {
    turns: &'a Turns<T>,
    value: Option<T>,
}

impl<T> Turns<T> {
    pub(super) const fn new(value: T) -> Self {
        Self { value: Mutex::new(Some(value)), is_back: Condvar::new() }
    }

    /// Waits for a turn, however long that takes.
    pub(super) fn wait(&self) -> Turn<'_, T> {
        let waited = self.is_back.wait_while(self.lock(), |value| value.is_none());
        self.turn(waited.unwrap_or_else(PoisonError::into_inner).take())
    }

    /// Waits for a turn so long at most.
    pub(super) fn wait_for(&self, patience: Duration) -> Option<Turn<'_, T>> {
        let waited =
            self.is_back.wait_timeout_while(self.lock(), patience, |value| value.is_none());
        let (mut value, _) = waited.unwrap_or_else(PoisonError::into_inner);
        value.take().map(|value| self.turn(Some(value)))
    }

    fn turn(&self, value: Option<T>) -> Turn<'_, T> {
        Turn { turns: self, value }
    }

    fn lock(&self) -> MutexGuard<'_, Option<T>> {
        self.value.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

const HAS_IT: &str = "a turn has the value until it is dropped";

impl<T> Deref for Turn<'_, T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.value.as_ref().expect(HAS_IT)
    }
}

impl<T> DerefMut for Turn<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect(HAS_IT)
    }
}

impl<T> Drop for Turn<'_, T> {
    fn drop(&mut self) {
        *self.turns.lock() = self.value.take();
        self.turns.is_back.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::*;

    #[test]
    fn whoever_waits_long_enough_has_a_turn() {
        let turns = Turns::new(1);
        let mut turn = turns.wait();
        assert!(turns.wait_for(Duration::ZERO).is_none());
        assert!(turns.wait_for(Duration::from_millis(20)).is_none());
        thread::scope(|scope| {
            let (waiting, heard) = mpsc::channel::<()>();
            let other = scope.spawn(|| {
                drop(waiting);
                let turn = turns.wait_for(Duration::from_mins(1));
                turn.map(|mut turn| {
                    *turn += 1;
                    *turn
                })
            });
            assert!(heard.recv().is_err());
            *turn += 10;
            drop(turn);
            assert_eq!(other.join().unwrap(), Some(12));
        });
        assert_eq!(*turns.wait(), 12);
    }

    #[test]
    fn turns_exclude_each_other() {
        let turns = Turns::new(0);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..500 {
                        let mut turn = turns.wait();
                        let seen = *turn;
                        thread::yield_now();
                        *turn = seen + 1;
                    }
                });
            }
        });
        assert_eq!(*turns.wait(), 2000);
    }

    #[test]
    fn a_turn_that_panics_gives_its_value_back() {
        let turns = Turns::new(7);
        let panicked = thread::scope(|scope| {
            let turn = || {
                let _turn = turns.wait();
                panic!("meant");
            };
            scope.spawn(turn).join()
        });
        assert!(panicked.is_err());
        assert_eq!(turns.wait_for(Duration::ZERO).map(|turn| *turn), Some(7));
    }
}
