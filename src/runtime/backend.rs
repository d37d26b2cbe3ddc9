//! One address of a service, and everything known about it that outlives a reload.
//! It promises that its counters return to zero however a request ends: places are guards. It holds no configuration.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering::Relaxed, Ordering::SeqCst};
use std::time::Duration;

use tokio::sync::Notify;

use crate::balance::peak_ewma::Ewma;
use crate::config::checked::Ejection;
use crate::runtime::conduct::{Conduct, Grade, Trial};
use crate::runtime::idle_limit::IdleLimit;
use crate::runtime::standing::{Reason, Standing};
use crate::telemetry::metrics::BackendMetrics;
use crate::units::{Moment, ServiceName};

/// Names a backend for as long as the process lives: never reused, unlike addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BackendId(pub u64);

impl BackendId {
    fn next() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, Relaxed))
    }
}

/// What stands behind an address that was found out. An engine gives the address of one that is gone to the next.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Instance {
    /// What the engine calls it: never reused.
    pub id: Arc<str>,
    /// What people call it: `shop-1`.
    pub name: Arc<str>,
}

/// An address, and what stands behind it if that is known.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Located {
    /// Where it listens.
    pub address: SocketAddr,
    /// The container there.
    pub instance: Option<Instance>,
}

impl From<SocketAddr> for Located {
    fn from(address: SocketAddr) -> Self {
        Self { address, instance: None }
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
    /// The container there; `None` for an address that somebody wrote down.
    pub instance: Option<Instance>,
    /// Its latency as `peak_ewma` sees it.
    pub latency: Ewma,
    /// How long it keeps an idle connection.
    pub idle_limit: IdleLimit,
    /// Its counters.
    pub metrics: Arc<BackendMetrics>,
    /// Whether it takes new requests.
    pub standing: Standing,
    /// What its answers told.
    pub conduct: Conduct,
    /// Wakes who ejects.
    bell: Arc<Notify>,
    in_flight: AtomicU32,
    retired: AtomicBool,
}

impl Backend {
    /// A backend that nothing is known about yet; it rings `bell` when its answers call for a decision.
    pub fn new(service: ServiceName, place: Located, metrics: Arc<BackendMetrics>, bell: Arc<Notify>) -> Arc<Self> {
        let Located { address, instance } = place;
        Arc::new(Self {
            id: BackendId::next(),
            service,
            address,
            name: address.to_string().into(),
            instance,
            latency: Ewma::default(),
            idle_limit: IdleLimit::default(),
            metrics,
            standing: Standing::default(),
            conduct: Conduct::default(),
            bell,
            in_flight: AtomicU32::new(0),
            retired: AtomicBool::new(false),
        })
    }

    /// An attempt that began at `began` has ended.
    #[inline]
    pub fn attempt_ended(&self, grade: Grade, began: Moment, ejection: Option<&Ejection>) {
        match grade {
            Grade::Good => self.conduct.good(),
            Grade::Neutral => {}
            Grade::Throttled => self.conduct.throttled(began),
            Grade::Bad => {
                let run = self.conduct.bad(began);
                let limit = ejection.and_then(|ejection| ejection.consecutive);
                // At its multiples as well: the first time the service may have failed as a whole.
                if run > 0 && limit.is_some_and(|limit| run.is_multiple_of(limit.get())) {
                    self.bell.notify_one();
                }
            }
        }
    }

    /// The single request of its probation has ended.
    #[cold]
    pub fn trial_ended(&self, trial: Trial) {
        self.conduct.trial_ended(trial);
        self.bell.notify_one();
    }

    /// It is back, from an ejection or an illness: what was known of it before does not count, and its ramp begins.
    pub fn begin_anew(&self, slow_start: Duration, now: Moment) {
        self.latency.forget();
        self.conduct.begin_anew(now);
        if !slow_start.is_zero() {
            self.standing.begin_ramp(now);
        }
    }

    /// Whether its answers took it out, and it is not back yet.
    pub fn is_ejected(&self) -> bool {
        [Reason::Ejected, Reason::Probation].into_iter().any(|reason| self.standing.has(reason))
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

    /// Whether it is what stands at `place`: the same container, where containers are known.
    pub fn stands_at(&self, place: &Located) -> bool {
        let id = |instance: &Option<Instance>| instance.as_ref().map(|instance| instance.id.clone());
        self.address == place.address && id(&self.instance) == id(&place.instance)
    }

    /// Whether it left its service: its pooled connections can go.
    pub fn is_retired(&self) -> bool {
        self.retired.load(Relaxed)
    }

    pub(super) fn retire(&self) {
        self.retired.store(true, Relaxed);
    }

    pub(super) fn take_back(&self) {
        self.retired.store(false, Relaxed);
    }
}

impl fmt::Debug for Backend {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Backend({} of {}, #{})", self.name, self.service, self.id.0)
    }
}
