//! Where requests wait while every backend of a service is at `max_in_flight`: first in, first out, bounded.
//! It promises that nobody overtakes, and that a waiter who goes away leaves no trace. It does not choose backends.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed, Ordering::SeqCst};

use tokio::sync::{Mutex, MutexGuard, Notify};

/// The waiting line of one service.
#[derive(Debug, Default)]
pub struct Queue {
    waiting: AtomicU32,
    /// Held by the first of the line. Tokio's mutex is fair, so the line is the queue of this lock.
    head: Mutex<()>,
    /// One permit per freed place; only the head listens.
    freed: Notify,
}

impl Queue {
    /// How many requests wait now.
    pub fn len(&self) -> u32 {
        self.waiting.load(Relaxed)
    }

    /// Whether nobody waits, so that a newcomer may take a place at once.
    pub fn is_empty(&self) -> bool {
        self.waiting.load(SeqCst) == 0
    }

    /// Takes a place in the line; `None` if `size` others are in it.
    ///
    /// Sequentially consistent with `Backend::leave`: either we see its free place, or it sees us waiting.
    pub fn enter(&self, size: u32) -> Option<Waiter<'_>> {
        let room = |waiting: u32| (waiting < size).then_some(waiting + 1);
        self.waiting.fetch_update(SeqCst, SeqCst, room).ok().map(|_| Waiter { queue: self })
    }

    /// Says that a place at some backend is free.
    pub fn notify(&self) {
        if !self.is_empty() {
            self.freed.notify_one();
        }
    }
}

/// One place in the line, given up on drop.
#[derive(Debug)]
pub struct Waiter<'a> {
    queue: &'a Queue,
}

impl<'a> Waiter<'a> {
    /// Waits to be the first of the line.
    pub async fn first(&self) -> First<'a> {
        First { queue: self.queue, _head: self.queue.head.lock().await }
    }
}

impl Drop for Waiter<'_> {
    fn drop(&mut self) {
        self.queue.waiting.fetch_sub(1, SeqCst);
    }
}

/// The head of the line.
#[derive(Debug)]
pub struct First<'a> {
    queue: &'a Queue,
    _head: MutexGuard<'a, ()>,
}

impl First<'_> {
    /// Waits until a place was freed since the last time.
    pub async fn freed(&self) {
        self.queue.freed.notified().await;
    }
}

impl Drop for First<'_> {
    fn drop(&mut self) {
        // The place that woke us may not be the only one that is free: let the next in line look too.
        self.queue.notify();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn the_line_has_a_limit() {
        let queue = Queue::default();
        let first = queue.enter(2).unwrap();
        let _second = queue.enter(2).unwrap();
        assert!(queue.enter(2).is_none());
        drop(first);
        assert!(queue.enter(2).is_some());
        assert!(Queue::default().enter(0).is_none());
    }

    #[tokio::test]
    async fn waiters_are_served_in_the_order_of_their_arrival() {
        let queue = Arc::new(Queue::default());
        let (sender, mut served) = tokio::sync::mpsc::unbounded_channel();
        for number in 0..5 {
            let (queue, sender) = (queue.clone(), sender.clone());
            tokio::spawn(async move {
                let waiter = queue.enter(10).unwrap();
                let first = waiter.first().await;
                first.freed().await;
                sender.send(number).unwrap();
            });
            tokio::task::yield_now().await;
        }
        for number in 0..5 {
            queue.notify();
            assert_eq!(served.recv().await, Some(number));
        }
        assert!(queue.is_empty());
    }

    #[tokio::test]
    async fn a_waiter_that_goes_away_leaves_its_place() {
        let queue = Arc::new(Queue::default());
        let first = queue.enter(2).unwrap();
        let head = first.first().await;
        let gone = tokio::spawn({
            let queue = queue.clone();
            async move { queue.enter(2).unwrap().first().await.freed().await }
        });
        tokio::task::yield_now().await;
        assert_eq!(queue.len(), 2);
        gone.abort();
        let _ = gone.await;
        assert_eq!(queue.len(), 1);
        drop((head, first));
        assert!(queue.is_empty());
    }
}
