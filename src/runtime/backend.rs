//! One address of a service, and everything known about it that outlives a reload.
//! It promises that its counters return to zero however a request ends: places are guards. It holds no configuration.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};

use crate::balance::peak_ewma::Ewma;
use crate::runtime::standing::Standing;
use crate::telemetry::metrics::BackendMetrics;
use crate::units::ServiceName;

/// Names a backend for as long as the process lives: never reused, unlike addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId(pub u64);

impl BackendId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Relaxed))
    }
}

/// One address of a service.
pub struct Backend {
    /// Never reused.
    pub id: BackendId,
    /// Which service it belongs to; two services at one address have two backends.
    pub service: ServiceName,
    /// Where it listens.
    pub address: SocketAddr,
    /// The address as text, made once: for logs, metrics and the consistent hash.
    pub name: Arc<str>,
    /// Its latency as `peak_ewma` sees it.
    pub latency: Ewma,
    /// Its counters.
    pub metrics: Arc<BackendMetrics>,
    /// Whether it takes new requests.
    pub standing: Standing,
    in_flight: AtomicU32,
    retired: AtomicBool,
}

impl Backend {
    /// A backend that nothing is known about yet.
    pub fn new(service: ServiceName, address: SocketAddr, metrics: Arc<BackendMetrics>) -> Arc<Self> {
        Arc::new(Self {
            id: BackendId::next(),
            service,
            address,
            name: address.to_string().into(),
            latency: Ewma::default(),
            metrics,
            standing: Standing::default(),
            in_flight: AtomicU32::new(0),
            retired: AtomicBool::new(false),
        })
    }

    /// Requests that it is serving, across all workers.
    pub fn in_flight(&self) -> u32 {
        self.in_flight.load(Relaxed)
    }

    /// Takes a place unless `limit` requests are in flight. Whoever takes it must give it back: see `service::Lease`.
    pub(super) fn try_enter(&self, limit: u32) -> bool {
        if limit == u32::MAX {
            self.in_flight.fetch_add(1, SeqCst);
            return true;
        }
        let room = |in_flight: u32| (in_flight < limit).then_some(in_flight + 1);
        self.in_flight.fetch_update(SeqCst, SeqCst, room).is_ok()
    }

    pub(super) fn leave(&self) {
        let before = self.in_flight.fetch_sub(1, SeqCst);
        debug_assert!(before > 0, "a place was given back twice");
    }

    /// Whether it left its service: its pooled connections can go.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Relaxed)
    }

    pub(super) fn retire(&self) {
        self.retired.store(true, Relaxed);
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Backend({} of {}, #{})", self.name, self.service, self.id.0)
    }
}
