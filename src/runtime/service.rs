//! A service at run time: its policies, and the group of backends that outlives them.
//! It promises that a place at a backend is a guard. It does not know where members come from.

use std::sync::Arc;
use std::time::Duration;

use crate::config::checked;
use crate::lifecycle::clock;
use crate::runtime::backend::Backend;
use crate::runtime::group::{BackendSet, Group, Membership, Place, Unavailable, Wish};
use crate::runtime::standing::Reason;
use crate::telemetry::metrics::ServiceMetrics;
use crate::units::{HostPort, Moment, ServiceName, Weight};

/// A named group of interchangeable backends with its policies: one per configuration in which they differ.
#[derive(Debug)]
pub struct Service {
    /// The user's name for it.
    pub name: ServiceName,
    /// What the configuration says about it.
    pub policy: Policy,
    /// What every configuration of this service shares.
    pub group: Arc<Group>,
    /// Its counters.
    pub metrics: Arc<ServiceMetrics>,
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
    /// How requests wait for a first replica; `None` if the number of backends is nobody's business.
    pub hold: Option<checked::Hold>,
    /// Upstream connections.
    pub keepalive: checked::KeepAlive,
    /// Read-ahead.
    pub buffer: checked::Buffer,
    /// Largest request body.
    pub max_body: u64,
    /// When a backend is taken out because of its answers.
    pub ejection: Option<checked::Ejection>,
    /// The ramp of new and recovered backends.
    pub slow_start: Duration,
    /// What follows a failed attempt.
    pub retries: checked::Retries,
    /// Whether slow requests get a second attempt.
    pub hedge: Option<checked::Hedge>,
    /// How long a removed or drained backend may finish.
    pub drain: Duration,
}

impl From<&checked::Service> for Policy {
    fn from(service: &checked::Service) -> Self {
        Self {
            balance: service.balance.clone(),
            timeout: service.timeout,
            timeouts: service.timeouts,
            max_in_flight: service.max_in_flight.map_or(u32::MAX, |limit| limit.get()),
            queue: service.queue,
            hold: service.autoscale.as_ref().map(|autoscale| autoscale.hold),
            keepalive: service.keepalive,
            buffer: service.buffer,
            max_body: service.max_body.0,
            ejection: service.ejection,
            slow_start: service.slow_start,
            retries: service.retries.clone(),
            hedge: service.hedge,
            drain: service.drain,
        }
    }
}

impl Policy {
    /// The part that the group needs to place requests.
    fn membership(&self) -> Membership {
        Membership { balance: self.balance.clone(), limit: self.max_in_flight, slow_start: self.slow_start }
    }
}

impl Service {
    /// A service without members; [`Service::set_members`] follows.
    pub fn new(config: &checked::Service, metrics: Arc<ServiceMetrics>) -> Self {
        let policy = Policy::from(config);
        let group = Group::new(&policy.membership());
        Self { name: config.name.clone(), policy, group, metrics }
    }

    /// The same service under another configuration: whoever waits or is served goes on.
    pub fn reconfigured(&self, config: &checked::Service) -> Self {
        let (group, metrics) = (self.group.clone(), self.metrics.clone());
        Self { name: self.name.clone(), policy: Policy::from(config), group, metrics }
    }

    /// The present members.
    pub fn members(&self) -> Arc<BackendSet> {
        self.group.members()
    }

    /// Replaces the members; open requests stay where they are.
    pub fn set_members(&self, backends: Vec<(Arc<Backend>, Weight)>, unresolved: Vec<HostPort>) {
        self.group.set_members(&self.policy.membership(), backends, unresolved);
        if self.policy.hold.is_some() && self.members().is_ready() {
            self.note_ready(clock::now());
        }
    }

    /// A replica takes requests at `now`: if somebody was waiting for the first one, the cold start is over.
    pub fn note_ready(&self, now: Moment) {
        if let Some(took) = self.group.scale.end_cold_start(now) {
            self.metrics.cold_started(took);
        }
    }

    /// Takes `reason` away from a backend, which then begins anew, on its ramp if the service has one; tells whether it
    /// held.
    pub fn readmit(&self, backend: &Backend, reason: Reason, now: Moment) -> bool {
        if !backend.standing.has(reason) {
            return false;
        }
        backend.begin_anew(self.policy.slow_start, now); // first, so that no request takes it for a warm one
        backend.standing.remove(reason);
        self.group.queue.notify();
        if self.policy.hold.is_some() && self.members().is_ready() {
            self.note_ready(now);
        }
        true
    }

    /// Takes a place at the backend that the picker chooses.
    pub fn acquire(self: &Arc<Self>, wish: &Wish<'_>) -> Result<Lease, Unavailable> {
        Ok(self.lease(self.group.enter(wish)?))
    }

    /// Takes a place for a request that would be refused otherwise: where fewer than half of the backends are well, also at
    /// one of the others.
    pub fn acquire_in_need(self: &Arc<Self>, wish: &Wish<'_>) -> Option<Lease> {
        Some(self.lease(self.group.enter_in_need(wish)?))
    }

    fn lease(self: &Arc<Self>, place: Place) -> Lease {
        Lease { service: self.clone(), backend: place.backend, on_trial: place.on_trial }
    }
}

/// One request's place at one backend, given back on drop.
#[derive(Debug)]
pub struct Lease {
    /// Whose policies hold.
    pub service: Arc<Service>,
    /// Where the request goes.
    pub backend: Arc<Backend>,
    /// Whether this request decides if the backend is taken back.
    pub on_trial: bool,
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.backend.leave();
        if self.on_trial {
            self.backend.standing.remove(Reason::OnTrial);
        }
        self.service.group.queue.notify();
    }
}
