//! A service at run time: its policies, its members, its waiting line.
//! It promises that a place at a backend is a guard, and that membership and picker change together.
//! It does not know where members come from.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::balance::{self, Candidate, Choice, Picker};
use crate::config::checked;
use crate::runtime::backend::Backend;
use crate::runtime::queue::Queue;
use crate::telemetry::metrics::ServiceMetrics;
use crate::units::{HostPort, Moment, ServiceName, Weight};

/// A named group of interchangeable backends with its policies.
#[derive(Debug)]
pub struct Service {
    /// The user's name for it.
    pub name: ServiceName,
    /// What the configuration says about it.
    pub policy: Policy,
    /// Requests that wait for a backend below its limit.
    pub queue: Arc<Queue>,
    /// Its counters.
    pub metrics: Arc<ServiceMetrics>,
    members: ArcSwap<BackendSet>,
}

/// The part of a service's configuration that requests look at.
#[derive(Clone, Debug)]
pub struct Policy {
    /// How a backend is chosen.
    pub balance: checked::Balance,
    /// Whole request.
    pub timeout: Duration,
    /// Per attempt.
    pub timeouts: checked::Timeouts,
    /// Per backend; `u32::MAX` is unlimited.
    pub max_in_flight: u32,
    /// The waiting line.
    pub queue: checked::Queue,
    /// Upstream connections.
    pub keepalive: checked::KeepAlive,
    /// Read-ahead.
    pub buffer: checked::Buffer,
    /// Largest request body.
    pub max_body: u64,
}

impl From<&checked::Service> for Policy {
    fn from(service: &checked::Service) -> Self {
        Self {
            balance: service.balance.clone(),
            timeout: service.timeout,
            timeouts: service.timeouts,
            max_in_flight: service.max_in_flight.map_or(u32::MAX, |limit| limit.get()),
            queue: service.queue,
            keepalive: service.keepalive,
            buffer: service.buffer,
            max_body: service.max_body.0,
        }
    }
}

/// Which backends a service has, with the picker over them: swapped as one.
#[derive(Debug)]
pub struct BackendSet {
    /// In the order of the configuration.
    pub members: Vec<Member>,
    /// Names that have no address at the moment.
    pub unresolved: Vec<HostPort>,
    picker: Picker,
}

/// A backend in its service.
#[derive(Clone, Debug)]
pub struct Member {
    /// The backend with its state.
    pub backend: Arc<Backend>,
    /// Its share.
    pub weight: Weight,
    /// Most requests in flight; `u32::MAX` is unlimited.
    pub limit: u32,
}

impl Candidate for Member {
    fn weight(&self) -> u32 {
        self.weight.get()
    }

    fn in_flight(&self) -> u32 {
        self.backend.in_flight()
    }

    fn is_available(&self, _now: Moment) -> bool {
        self.backend.in_flight() < self.limit
    }

    fn latency(&self) -> &balance::peak_ewma::Ewma {
        &self.backend.latency
    }

    fn identity(&self) -> &str {
        &self.backend.name
    }
}

/// Why no backend could be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// The service has no backend at all at the moment.
    Empty,
    /// Every backend is at its limit.
    Full,
}

impl Service {
    /// A service without members; [`Service::set_members`] follows.
    pub fn new(config: &checked::Service, queue: Arc<Queue>, metrics: Arc<ServiceMetrics>) -> Self {
        let policy = Policy::from(config);
        let empty =
            BackendSet { picker: Picker::new::<Member>(&policy.balance, &[]), members: vec![], unresolved: vec![] };
        Self { name: config.name.clone(), policy, queue, metrics, members: ArcSwap::from_pointee(empty) }
    }

    /// The present members.
    pub fn members(&self) -> Arc<BackendSet> {
        self.members.load_full()
    }

    /// Replaces the members; open requests stay where they are.
    pub fn set_members(&self, backends: Vec<(Arc<Backend>, Weight)>, unresolved: Vec<HostPort>) {
        let limit = self.policy.max_in_flight;
        let member = |(backend, weight)| Member { backend, weight, limit };
        let members: Vec<_> = backends.into_iter().map(member).collect();
        let picker = Picker::new(&self.policy.balance, &members);
        self.members.store(Arc::new(BackendSet { members, unresolved, picker }));
        self.queue.notify();
    }

    /// Takes a place at the backend that the picker chooses.
    pub fn acquire(self: &Arc<Self>, choice: &Choice<'_>) -> Result<Lease, Unavailable> {
        let set = self.members.load();
        // Between the pick and the place another worker may be faster; each loss means that somebody made progress.
        for _ in 0..=set.members.len() {
            let Some(idx) = set.picker.pick(&set.members, choice) else { break };
            let Member { backend, limit, .. } = &set.members[idx];
            if backend.try_enter(*limit) {
                return Ok(Lease { service: self.clone(), backend: backend.clone() });
            }
        }
        Err(if set.members.is_empty() { Unavailable::Empty } else { Unavailable::Full })
    }
}

/// One request's place at one backend, given back on drop.
#[derive(Debug)]
pub struct Lease {
    /// Whose policies hold.
    pub service: Arc<Service>,
    /// Where the request goes.
    pub backend: Arc<Backend>,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.backend.leave();
        self.service.queue.notify();
    }
}
