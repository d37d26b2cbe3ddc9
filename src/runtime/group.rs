//! The part of a service that outlives a reload: its members and its waiting line.
//! It promises that requests which began under an older configuration see the members of the newest one, so that whoever
//! waits is served by what is there when its turn comes. It holds no policy but what membership needs.

use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::balance::{self, Admission, Candidate, Choice, Picker};
use crate::config::checked::Balance;
use crate::runtime::backend::{Backend, BackendId};
use crate::runtime::queue::Queue;
use crate::runtime::standing::{Admits, Reason};
use crate::units::{HostPort, Moment, Weight};

/// The members of a service and its waiting line.
#[derive(Debug)]
pub struct Group {
    /// Requests that wait for a backend below its limit.
    pub queue: Queue,
    members: ArcSwap<BackendSet>,
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

/// What decides how members are picked.
#[derive(Clone, Debug)]
pub struct Membership {
    /// The algorithm.
    pub balance: Balance,
    /// Most requests in flight per backend; `u32::MAX` is unlimited.
    pub limit: u32,
    /// The ramp of new and recovered backends.
    pub slow_start: Duration,
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
    /// The ramp when it is new or recovered.
    pub slow_start: Duration,
}

impl Member {
    #[cold]
    fn is_admitted(&self, admission: Admission) -> bool {
        match self.backend.standing.admits() {
            Admits::All | Admits::One => true,
            Admits::IfNoOther => admission == Admission::Doubtful,
            Admits::None => false,
        }
    }
}

impl Candidate for Member {
    fn weight(&self) -> u32 {
        self.weight.get()
    }

    fn in_flight(&self) -> u32 {
        self.backend.in_flight()
    }

    #[inline]
    fn is_available(&self, admission: Admission) -> bool {
        let admitted = self.backend.standing.is_plain() || self.is_admitted(admission);
        admitted && self.backend.in_flight() < self.limit
    }

    #[inline]
    fn share(&self, now: Moment) -> u32 {
        if self.backend.standing.is_plain() {
            return balance::WHOLE_SHARE;
        }
        self.backend.standing.share(self.slow_start, now)
    }

    fn latency(&self) -> &balance::peak_ewma::Ewma {
        &self.backend.latency
    }

    fn identity(&self) -> &str {
        &self.backend.name
    }
}

/// What a request wants of a backend.
#[derive(Clone, Copy, Debug)]
pub struct Wish<'a> {
    /// The present.
    pub now: Moment,
    /// Of what `balance: { hash: … }` looks at.
    pub key: Option<u64>,
    /// Backends that have failed it: taken again only if there is no other.
    pub tried: &'a [BackendId],
}

/// Why no backend could be taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unavailable {
    /// The service has no backend that takes requests at the moment.
    Empty,
    /// Every backend that takes requests is at its limit.
    Full,
}

/// A place that was taken: see `service::Lease`.
#[derive(Debug)]
pub(super) struct Place {
    pub(super) backend: Arc<Backend>,
    pub(super) on_trial: bool,
}

impl Group {
    /// Without members; [`Group::set_members`] follows.
    pub fn new(membership: &Membership) -> Arc<Self> {
        let picker = Picker::new::<Member>(&membership.balance, &[]);
        let empty = BackendSet { picker, members: vec![], unresolved: vec![] };
        Arc::new(Self { queue: Queue::default(), members: ArcSwap::from_pointee(empty) })
    }

    /// The present members.
    pub fn members(&self) -> Arc<BackendSet> {
        self.members.load_full()
    }

    /// Replaces the members; open requests stay where they are.
    pub fn set_members(
        &self,
        membership: &Membership,
        backends: Vec<(Arc<Backend>, Weight)>,
        unresolved: Vec<HostPort>,
    ) {
        let Membership { limit, slow_start, .. } = *membership;
        let member = |(backend, weight)| Member { backend, weight, limit, slow_start };
        let members: Vec<_> = backends.into_iter().map(member).collect();
        let picker = Picker::new(&membership.balance, &members);
        self.members.store(Arc::new(BackendSet { members, unresolved, picker }));
        self.queue.notify();
    }

    /// Takes a place at the backend that the picker chooses.
    pub(super) fn enter(&self, wish: &Wish<'_>) -> Result<Place, Unavailable> {
        let set = self.members.load();
        if let Some(place) = set.enter(wish, Admission::Sound) {
            return Ok(place);
        }
        if set.members.iter().any(|member| member.is_admitted(Admission::Sound)) {
            return Err(Unavailable::Full);
        }
        // Nobody is sound. A health check that fails everywhere is more often wrong than right.
        if let Some(place) = set.enter(wish, Admission::Doubtful) {
            return Ok(place);
        }
        let any = set.members.iter().any(|member| member.is_admitted(Admission::Doubtful));
        Err(if any { Unavailable::Full } else { Unavailable::Empty })
    }
}

impl BackendSet {
    fn enter(&self, wish: &Wish<'_>, admission: Admission) -> Option<Place> {
        let tried = self.indexes(wish.tried);
        // Between the pick and the place another worker may be faster; each loss means that somebody made progress.
        for _ in 0..=self.members.len() {
            let random = fastrand::u64(..);
            let choice = Choice { now: wish.now, key: wish.key, tried: &tried, random, admission };
            let member = &self.members[self.picker.pick(&self.members, &choice)?];
            if let Some(place) = member.enter() {
                return Some(place);
            }
        }
        None
    }

    /// Where the backends of `ids` stand among the members; most requests have tried none.
    fn indexes(&self, ids: &[BackendId]) -> Vec<usize> {
        if ids.is_empty() {
            return Vec::new(); // allocates nothing
        }
        let members = self.members.iter().enumerate();
        members.filter(|(_, member)| ids.contains(&member.backend.id)).map(|(idx, _)| idx).collect()
    }
}

impl Member {
    fn enter(&self) -> Option<Place> {
        let standing = &self.backend.standing;
        let on_trial = !standing.is_plain() && standing.admits() == Admits::One;
        if on_trial && !standing.add(Reason::OnTrial) {
            return None; // another worker's request is the one
        }
        if self.backend.try_enter(self.limit) {
            return Some(Place { backend: self.backend.clone(), on_trial });
        }
        if on_trial {
            standing.remove(Reason::OnTrial);
        }
        None
    }
}
