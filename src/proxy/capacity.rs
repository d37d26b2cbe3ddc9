//! How many downstream connections the process may hold: what the configuration says, and what descriptors are there.
//! It promises that accepting never takes the descriptors that answering needs. It does not close anything.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use rustix::io::fcntl_dupfd_cloexec;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::Notify;

/// Descriptors that are neither a client nor its backend: listeners, logs, event queues, the admin API.
const RESERVED_DESCRIPTORS: u64 = 64;
/// How long a worker that may not accept waits before it looks again, if nobody wakes it: short enough that service is
/// back well within a second of the limit's going, long enough to cost nothing.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// Places for downstream connections.
#[derive(Debug, Default)]
pub(crate) struct Capacity {
    /// Open connections, and one more for each listener that waits for its next.
    reserved: AtomicU32,
    open: AtomicU32,
    configured: AtomicU32,
    by_descriptors: AtomicU32,
    freed: Notify,
}

impl Capacity {
    pub(crate) fn new(configured: u32) -> Self {
        let capacity = Self::default();
        capacity.configure(configured);
        capacity.read_descriptor_limit();
        capacity
    }

    /// From now on so many connections may be open; those that are beyond it stay.
    pub(crate) fn configure(&self, configured: u32) {
        self.configured.store(configured, Relaxed);
    }

    /// Sets a descriptor aside for the next connection, if there is one: else clients wait in the kernel's queue.
    /// [`Capacity::release`] gives it back.
    pub(crate) fn reserve(&self) -> bool {
        let has_room = self.reserved.fetch_add(1, Relaxed) < self.by_descriptors.load(Relaxed);
        if !has_room {
            self.reserved.fetch_sub(1, Relaxed);
        }
        has_room
    }

    pub(crate) fn release(&self) {
        let reserved = self.reserved.fetch_sub(1, Relaxed);
        if reserved >= self.by_descriptors.load(Relaxed) {
            self.freed.notify_one();
        }
    }

    /// Counts a connection that came, if the configuration allows one more. Asked when it is there, not when it was
    /// waited for: what was full then may have room now. [`Capacity::leave`] ends it.
    pub(crate) fn admit(&self) -> bool {
        let has_room = self.open.fetch_add(1, Relaxed) < self.configured.load(Relaxed);
        if !has_room {
            self.open.fetch_sub(1, Relaxed);
        }
        has_room
    }

    pub(crate) fn leave(&self) {
        self.open.fetch_sub(1, Relaxed);
    }

    /// Waits until a place may be free.
    pub(crate) async fn freed(&self) {
        let _ = tokio::time::timeout(LOOK_AGAIN, self.freed.notified()).await;
    }

    /// Whether idle connections should make room for new ones.
    pub(crate) fn is_short_of_descriptors(&self) -> bool {
        self.reserved.load(Relaxed) >= self.by_descriptors.load(Relaxed)
    }

    /// Reads the process's limit again: it can be changed from outside while we run.
    pub(crate) fn read_descriptor_limit(&self) {
        // Half for clients, half for their backends.
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let clients = limit.saturating_sub(RESERVED_DESCRIPTORS) / 2;
        self.by_descriptors.store(u32::try_from(clients.max(1)).unwrap_or(u32::MAX), Relaxed);
    }
}

/// Room in the table for so many: half a megabyte of the kernel's memory.
const TABLE_DESCRIPTORS: u64 = 64 * 1024;

/// Raises the soft limit of descriptors to the hard one. Returns what holds now.
pub(crate) fn raise_descriptor_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

/// Makes the kernel's table of descriptors large at once. It grows by doubling otherwise, and each time the thread that opens
/// one more waits for a grace period of RCU if the process has other threads (`expand_fdtable` of Linux), and its requests with
/// it. Measured with `dup` and two sleeping threads on Linux 6.18: 6 to 20 ms at each of 256, 512 ... 8,192 descriptors, at
/// most 0.04 ms with the table reserved.
pub(crate) fn reserve_descriptor_table() {
    let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let last = limit.saturating_sub(1).min(TABLE_DESCRIPTORS - 1);
    // The table stays as large as the highest descriptor made it. Without it everything works, only less evenly.
    let _ = fcntl_dupfd_cloexec(std::io::stderr(), i32::try_from(last).unwrap_or(i32::MAX));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configured_limit_refuses_and_a_leaver_makes_room() {
        let capacity = Capacity::new(2);
        assert!(capacity.admit());
        assert!(capacity.admit());
        assert!(!capacity.admit());
        capacity.leave();
        assert!(capacity.admit());
        assert!(!capacity.admit());
    }

    #[test]
    fn listeners_that_wait_take_nothing_from_the_configured_limit() {
        let capacity = Capacity::new(1);
        assert!((0..3).all(|_| capacity.reserve()));
        assert!(capacity.admit());
    }

    #[test]
    fn descriptors_are_a_limit_of_their_own() {
        let capacity = Capacity::new(10);
        capacity.by_descriptors.store(1, Relaxed);
        assert!(capacity.reserve());
        assert!(!capacity.reserve());
        assert!(capacity.is_short_of_descriptors());
        capacity.release();
        assert!(capacity.reserve());
    }
}
