//! How many downstream connections the process may hold: what the configuration says, and what descriptors are there.
//! It promises that accepting never takes the descriptors that answering needs. It does not close anything.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

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
    taken: AtomicU32,
    configured: AtomicU32,
    by_descriptors: AtomicU32,
    freed: Notify,
}

/// Why a connection cannot be taken now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The configured limit: the client is told.
    Connections,
    /// Descriptors: the client waits in the kernel's queue.
    Descriptors,
}

impl Capacity {
    pub(crate) fn new(configured: u32) -> Self {
        let capacity = Self::default();
        capacity.configured.store(configured, Relaxed);
        capacity.read_descriptor_limit();
        capacity
    }

    /// Takes a place; [`Capacity::leave`] gives it back.
    pub(crate) fn enter(&self) -> Result<(), Full> {
        let taken = self.taken.fetch_add(1, Relaxed);
        let full = match () {
            _ if taken >= self.by_descriptors.load(Relaxed) => Full::Descriptors,
            _ if taken >= self.configured.load(Relaxed) => Full::Connections,
            _ => return Ok(()),
        };
        self.taken.fetch_sub(1, Relaxed);
        Err(full)
    }

    pub(crate) fn leave(&self) {
        let taken = self.taken.fetch_sub(1, Relaxed);
        if taken >= self.by_descriptors.load(Relaxed) {
            self.freed.notify_one();
        }
    }

    /// Waits until a place may be free.
    pub(crate) async fn freed(&self) {
        let _ = tokio::time::timeout(LOOK_AGAIN, self.freed.notified()).await;
    }

    /// Open connections.
    pub(crate) fn taken(&self) -> u32 {
        self.taken.load(Relaxed)
    }

    /// Whether idle connections should make room for new ones.
    pub(crate) fn is_short_of_descriptors(&self) -> bool {
        self.taken() >= self.by_descriptors.load(Relaxed)
    }

    /// Reads the process's limit again: it can be changed from outside while we run.
    pub(crate) fn read_descriptor_limit(&self) {
        // Half for clients, half for their backends.
        let limit = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
        let clients = limit.saturating_sub(RESERVED_DESCRIPTORS) / 2;
        self.by_descriptors.store(u32::try_from(clients.max(1)).unwrap_or(u32::MAX), Relaxed);
    }
}

/// Raises the soft limit of descriptors to the hard one. Returns what holds now.
pub(crate) fn raise_descriptor_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(_) => limit.current,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_configured_limit_refuses_and_a_leaver_makes_room() {
        let capacity = Capacity::new(2);
        assert_eq!(capacity.enter(), Ok(()));
        assert_eq!(capacity.enter(), Ok(()));
        assert_eq!(capacity.enter(), Err(Full::Connections));
        capacity.leave();
        assert_eq!(capacity.enter(), Ok(()));
        assert_eq!(capacity.taken(), 2);
    }

    #[test]
    fn descriptors_are_a_limit_of_their_own() {
        let capacity = Capacity::new(10);
        capacity.by_descriptors.store(1, Relaxed);
        assert_eq!(capacity.enter(), Ok(()));
        assert_eq!(capacity.enter(), Err(Full::Descriptors));
        assert!(capacity.is_short_of_descriptors());
    }
}
