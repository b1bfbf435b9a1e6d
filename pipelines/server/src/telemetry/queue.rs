//! What waits for a collector: at most so much, and the oldest goes first.

use std::collections::VecDeque;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use super::{WAITING_MAX, lock};

/// What waits.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    is_on: AtomicBool,
    waiting: Mutex<VecDeque<T>>,
    lost: AtomicU64,
}

impl<T> Default for Queue<T> {
    fn default() -> Self {
        Queue { is_on: AtomicBool::new(false), waiting: Mutex::default(), lost: AtomicU64::new(0) }
    }
}

impl<T> Queue<T> {
    /// From now on things are kept.
    pub(super) fn begin(&self) {
        self.is_on.store(true, Ordering::Release);
    }

    pub(super) fn is_on(&self) -> bool {
        self.is_on.load(Ordering::Acquire)
    }

    /// Keeps one more, where anybody will take it.
    pub(super) fn push(&self, one: T) {
        if !self.is_on() {
            return;
        }
        let mut waiting = lock(&self.waiting);
        if waiting.len() == WAITING_MAX {
            waiting.pop_front();
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        waiting.push_back(one);
    }

    /// The oldest, at most `most`.
    pub(super) fn take(&self, most: usize) -> Vec<T> {
        let mut waiting = lock(&self.waiting);
        let n = waiting.len().min(most);
        waiting.drain(..n).collect()
    }

    /// Puts back what was taken and not sent; the oldest of it goes where there is no room any more.
    pub(super) fn put_back(&self, batch: Vec<T>) {
        let mut waiting = lock(&self.waiting);
        for one in batch.into_iter().rev() {
            if waiting.len() == WAITING_MAX {
                self.lost.fetch_add(1, Ordering::Relaxed);
            } else {
                waiting.push_front(one);
            }
        }
    }

    /// How many went since this was asked last.
    pub(super) fn lost(&self) -> u64 {
        self.lost.swap(0, Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_goes_and_is_counted() {
        let queue = Queue::default();
        queue.push(0);
        assert!(queue.take(9).is_empty(), "nobody would take it");
        queue.begin();
        (0..WAITING_MAX + 3).for_each(|n| queue.push(n));
        assert_eq!((queue.lost(), queue.lost()), (3, 0));
        let batch = queue.take(2);
        assert_eq!(batch, [3, 4]);
        queue.push(7);
        queue.put_back(batch);
        assert_eq!(queue.lost(), 1);
        assert_eq!(queue.take(2), [4, 5], "in order");
    }
}
