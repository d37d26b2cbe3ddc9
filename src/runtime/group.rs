//! The part of a service that outlives a reload: its members and its waiting line.
//! It promises that requests which began under an older configuration see the members of the newest one, so that whoever
//! waits is served by what is there when its turn comes. It holds no policy but what membership needs.

use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Weak};
use std::time::Duration;

use arc_swap::ArcSwap;

use crate::balance::{self, Admission, Candidate, Choice, Picker};
use crate::config::checked::Balance;
use crate::lifecycle::clock;
use crate::runtime::backend::{Backend, BackendId};
use crate::runtime::budget::Budget;
use crate::runtime::queue::Queue;
use crate::runtime::scale::Scale;
use crate::runtime::service::Service;
use crate::runtime::standing::{Admits, Reason};
use crate::runtime::tempo::Tempo;
use crate::units::{HostPort, Moment, Weight};

/// The members of a service and its waiting line.
#[derive(Debug)]
pub struct Group {
    /// Requests that wait for a backend below its limit.
    pub queue: Queue,
    /// What retries may still cost.
    pub budget: Arc<Budget>,
    /// How fast the service lately is.
    pub tempo: Tempo,
    /// How many replicas there should be.
    pub scale: Scale,
    members: ArcSwap<BackendSet>,
    /// The service under the newest configuration that has it.
    newest: ArcSwap<Weak<Service>>,
    /// A [`Trials`]: read by each request, written when a probation begins or ends.
    trials: AtomicU8,
    /// Every name of the service has had an address once: who joins from then on is new, and not part of a start.
    was_complete: AtomicBool,
}

/// Which requests may be the one that decides whether a backend on probation is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Trials {
    /// None: no backend waits for one.
    None = 0,
    /// Only what can be repeated elsewhere without harm.
    Repeatable = 1,
    /// Any: nothing repeatable came for a while.
    Any = 2,
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
            Admits::All => true,
            // Its one request comes through `enter_on_trial`, never by chance of the draw.
            Admits::One | Admits::IfNoOther => admission == Admission::Doubtful,
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
    /// What is lost if the backend fails it.
    pub stake: Stake,
}

/// What is lost if a backend fails a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stake {
    /// Little: an idempotent request without a body, which anybody can send again.
    Repeatable,
    /// It may have been its only chance.
    Once,
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
        Arc::new(Self {
            queue: Queue::default(),
            budget: Arc::default(),
            tempo: Tempo::default(),
            scale: Scale::default(),
            members: ArcSwap::from_pointee(empty),
            newest: ArcSwap::default(),
            trials: AtomicU8::new(Trials::None as u8),
            was_complete: AtomicBool::new(false),
        })
    }

    /// The present members.
    pub fn members(&self) -> Arc<BackendSet> {
        self.members.load_full()
    }

    /// The service under the newest configuration; `None` once none has it any more.
    pub fn newest(&self) -> Option<Arc<Service>> {
        self.newest.load().upgrade()
    }

    /// From now on `service` is what whoever has waited goes on under.
    pub(super) fn adopt(&self, service: &Arc<Service>) {
        self.newest.store(Arc::new(Arc::downgrade(service)));
    }

    /// The service was taken out of the configuration: nobody waits for it any longer.
    pub fn disown(&self) {
        self.newest.store(Arc::default());
        self.queue.notify();
    }

    /// Says which requests may decide whether a backend on probation is taken back.
    pub fn offer_trials(&self, trials: Trials) {
        self.trials.store(trials as u8, Relaxed);
    }

    /// Replaces the members; open requests stay where they are. Who joins others is new, and takes a growing share.
    pub fn set_members(
        &self,
        membership: &Membership,
        backends: Vec<(Arc<Backend>, Weight)>,
        unresolved: Vec<HostPort>,
    ) {
        let Membership { limit, slow_start, .. } = *membership;
        if self.was_complete.load(Relaxed) && !slow_start.is_zero() {
            self.welcome(&backends);
        }
        if unresolved.is_empty() && !backends.is_empty() {
            self.was_complete.store(true, Relaxed);
        }
        let member = |(backend, weight)| Member { backend, weight, limit, slow_start };
        let members: Vec<_> = backends.into_iter().map(member).collect();
        let picker = Picker::new(&membership.balance, &members);
        self.members.store(Arc::new(BackendSet { members, unresolved, picker }));
        self.queue.notify();
    }

    /// Begins the ramp of those who join others.
    fn welcome(&self, backends: &[(Arc<Backend>, Weight)]) {
        let present = self.members.load();
        let is_new = |backend: &Backend| present.members.iter().all(|member| member.backend.id != backend.id);
        if present.members.is_empty() {
            return;
        }
        let now = clock::now();
        for (backend, _) in backends.iter().filter(|(backend, _)| is_new(backend)) {
            backend.standing.begin_ramp(now);
        }
    }

    /// Whether a backend that is not among `tried` could take a request, without bending the rules for it.
    pub fn has_other(&self, tried: &[BackendId]) -> bool {
        let set = self.members.load();
        let sound = set.members.iter().any(|member| member.is_admitted(Admission::Sound));
        let admission = if sound { Admission::Sound } else { Admission::Doubtful };
        let is_other = |member: &Member| !tried.contains(&member.backend.id) && member.is_available(admission);
        set.members.iter().any(is_other)
    }

    /// Backends that a request passes by which has `tried` some, each with the reason; at most `n_max`.
    pub fn passed_by(&self, tried: &[BackendId], n_max: usize) -> Vec<(Arc<str>, &'static str)> {
        let set = self.members.load();
        let passed = set.members.iter().filter_map(|member| {
            let why = match member.backend.standing.why_not() {
                Some(reason) => reason.word(),
                None if tried.contains(&member.backend.id) => "tried",
                None if member.backend.in_flight() >= member.limit => "full",
                None => return None,
            };
            Some((member.backend.name.clone(), why))
        });
        passed.take(n_max).collect()
    }

    /// Takes a place at the backend that the picker chooses.
    pub(super) fn enter(&self, wish: &Wish<'_>) -> Result<Place, Unavailable> {
        let set = self.members.load();
        if self.trials.load(Relaxed) != Trials::None as u8
            && let Some(place) = self.enter_on_trial(&set, wish)
        {
            return Ok(place);
        }
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

    /// The same for a request that would be refused otherwise. With fewer than half of the backends well, the checks of the
    /// others are in doubt, too: Envoy's panic threshold, but only for what those that are well cannot take.
    pub(super) fn enter_in_need(&self, wish: &Wish<'_>) -> Option<Place> {
        let set = self.members.load();
        let n_sound = set.members.iter().filter(|member| member.is_admitted(Admission::Sound)).count();
        if n_sound * 2 >= set.members.len() {
            return None;
        }
        set.enter(wish, Admission::Doubtful)
    }

    /// Takes a place at a backend that waits for the one request which decides whether it is taken back: at once, because
    /// a picker that remembers how it failed would never choose it.
    #[cold]
    fn enter_on_trial(&self, set: &BackendSet, wish: &Wish<'_>) -> Option<Place> {
        let any = self.trials.load(Relaxed) == Trials::Any as u8;
        // One that has failed somewhere already shall not be risked again.
        if !wish.tried.is_empty() || (wish.stake == Stake::Once && !any) {
            return None;
        }
        let waits = |member: &&Member| member.backend.standing.admits() == Admits::One;
        set.members.iter().filter(waits).find_map(Member::enter)
    }
}

impl BackendSet {
    /// Whether requests go to backends that are thought to be ill, because no other is left.
    pub fn fails_open(&self) -> bool {
        let admits = || self.members.iter().map(|member| member.backend.standing.admits());
        admits().all(|admits| admits != Admits::All) && admits().any(|admits| admits != Admits::None)
    }

    /// Whether any of its members takes every request.
    pub(super) fn is_ready(&self) -> bool {
        self.members.iter().any(|member| member.backend.standing.admits() == Admits::All)
    }

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

#[cfg(test)]
mod tests;
