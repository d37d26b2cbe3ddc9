//! Idle connections to backends, one pool per worker and backend.
//! It promises that a connection is alive as far as this worker has heard when it is handed out, that a request which
//! cannot be sent twice gets only one that rested well within its backend's idle limit, and that one which is not clean
//! never comes back. It opens none.

use std::collections::{HashMap, VecDeque};
use std::hash::{BuildHasherDefault, Hasher};
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::config::checked::KeepAlive;
use crate::proxy::upstream::Upstream;
use crate::runtime::backend::{Backend, BackendId};
use crate::units::Moment;

/// Idle connections kept per worker and backend; more than that are closed after use.
const IDLE_PER_BACKEND_MAX: usize = 4_096;
/// Idle connections kept while none is safe for a request that needs it: a fresh connection replaces one of more. Each may
/// hold a thread of the backend.
const UNSAFE_MAX: usize = 3;

/// Idle connections of one worker, by backend.
#[derive(Default)]
pub(crate) struct Pools {
    by_backend: Mutex<ById>,
}

/// Ids are counted up, so their low bits spread as well as any hash of them.
type ById = HashMap<BackendId, Pool, BuildHasherDefault<IdHasher>>;

#[derive(Default)]
struct IdHasher(u64);

impl Hasher for IdHasher {
    fn write(&mut self, _: &[u8]) {
        unreachable!("a BackendId is one u64");
    }

    fn write_u64(&mut self, id: u64) {
        // The map takes its buckets from the low bits and its tags from the seven highest.
        self.0 = id.wrapping_mul(0x9E37_79B9_7F4A_7C15);
    }

    fn finish(&self) -> u64 {
        self.0
    }
}

/// What a request asks of an idle connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// That nothing is known against it: should it turn out to be closed, the request is sent once more.
    Open,
    /// That its backend will not close it just now: the request cannot be sent twice.
    Sure,
}

/// What became of a connection after use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Given {
    /// It waits for its next request.
    Kept,
    /// It is not clean, or nobody will want it: it is closed.
    Closed,
    /// It is closed, since as many as allowed wait already.
    PoolFull,
}

/// When a sweep takes place, and when the last one did.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Tick {
    pub(crate) now: Moment,
    /// The runtime has heard of everything that came before this.
    pub(crate) last: Moment,
}

impl Pools {
    /// A connection to `backend` that meets `need`, as far as we have heard.
    pub(crate) fn take(&self, backend: &Backend, policy: &KeepAlive, need: Need, now: Moment) -> Option<Box<Upstream>> {
        let mut pools = self.lock();
        pools.get_mut(&backend.id)?.take(policy, need, now)
    }

    /// Keeps a connection for the next request, if it is clean.
    pub(crate) fn give(&self, mut upstream: Box<Upstream>, now: Moment) -> Given {
        if !upstream.is_clean() || upstream.backend.is_retired() {
            return Given::Closed;
        }
        let mut pools = self.lock();
        let pool = pools.entry(upstream.backend.id).or_insert_with(|| Pool::of(upstream.backend.clone()));
        pool.give(upstream, now)
    }

    /// Closes what its backend closed, what rested longer than `idle` says for its backend, and everything of retired
    /// backends; learns from what is left.
    pub(crate) fn sweep(&self, idle: impl Fn(&Backend) -> Duration, tick: Tick) {
        self.lock().retain(|_, pool| {
            pool.backend.idle_limit.age(tick.now);
            pool.drop_ended();
            pool.drop_expired(idle(&pool.backend), tick.now);
            pool.learn(tick.last);
            !pool.backend.is_retired()
        });
    }

    /// Closes everything that rests: there are no descriptors for what is asked for now.
    pub(crate) fn clear(&self) {
        // The pools stay: connections that are in use now will count their disturbances in them.
        self.lock().values_mut().for_each(|pool| pool.idle.clear());
    }

    fn lock(&self) -> MutexGuard<'_, ById> {
        self.by_backend.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

struct Pool {
    backend: Arc<Backend>,
    /// The most recently used at the back: it is taken first, so that surplus ones grow old and go.
    idle: VecDeque<Box<Upstream>>,
    /// Connections that something came on while they rested, some of them taken since.
    n_disturbed: Arc<AtomicU32>,
}

impl Pool {
    fn of(backend: Arc<Backend>) -> Self {
        Self { backend, idle: VecDeque::new(), n_disturbed: Arc::default() }
    }

    fn take(&mut self, policy: &KeepAlive, need: Need, now: Moment) -> Option<Box<Upstream>> {
        loop {
            let youngest = self.idle.back_mut()?;
            let rested = youngest.rest.lasted(now);
            if youngest.has_ended() || !youngest.is_reusable(policy, rested, now) {
                self.idle.pop_back();
                continue;
            }
            if need == Need::Sure && rested >= self.backend.idle_limit.safe_rest(youngest.advertised_idle) {
                self.make_room();
                return None; // all others rested longer
            }
            let mut upstream = self.idle.pop_back()?;
            upstream.rouse(rested);
            return Some(upstream);
        }
    }

    fn give(&mut self, upstream: Box<Upstream>, now: Moment) -> Given {
        if self.idle.len() >= IDLE_PER_BACKEND_MAX {
            return Given::PoolFull;
        }
        upstream.rest.begin(now, &self.n_disturbed);
        self.idle.push_back(upstream);
        Given::Kept
    }

    /// For a fresh connection. The oldest stays: what it survives makes longer rests safe.
    ///
    /// What goes is reset: closed in order, 500 of them a second would leave no local port to connect from.
    fn make_room(&mut self) {
        if self.idle.len() >= UNSAFE_MAX {
            self.idle.remove(1).into_iter().for_each(|upstream| upstream.reset());
        }
    }

    /// A backend that closed its side waits for us to close ours.
    fn drop_ended(&mut self) {
        if self.n_disturbed.swap(0, Relaxed) > 0 {
            self.idle.retain_mut(|upstream| !upstream.has_ended());
        }
    }

    fn drop_expired(&mut self, idle_limit: Duration, now: Moment) {
        let is_expired = |upstream: &Upstream| {
            upstream.rest.lasted(now) >= upstream.advertised_idle.map_or(idle_limit, |advertised| advertised)
        };
        while self.idle.front().is_some_and(|oldest| is_expired(oldest)) {
            self.idle.pop_front();
        }
    }

    /// What was not disturbed by now was open at `then`, if we have heard of everything up to then.
    fn learn(&self, then: Moment) {
        if let Some(oldest) = self.idle.front().filter(|oldest| oldest.rest.is_watched()) {
            self.backend.idle_limit.survived(oldest.rest.lasted(then));
        }
    }
}
