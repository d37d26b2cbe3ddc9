//! What happens to a service, counted on the control thread: requests in flight, waiting, arriving, and how long they took.
//! Promises to cost no request anything: it reads what is counted anyway. It decides nothing, and remembers no more than
//! the reading before.
//!
//! What arrived is never counted by itself. It is what has ended and what is open now: refused and waiting requests are
//! part of the demand, and a WebSocket arrives when it begins, not when it ends. Between two backends a request is open
//! nowhere for a moment, so only a new high counts.

use std::collections::VecDeque;
use std::time::Duration;

use super::decide::{Sample, Scene};
use crate::config::checked::{self, Source};
use crate::runtime::group::Group;
use crate::runtime::leaving::Leaving;
use crate::runtime::scale::Scale;
use crate::runtime::standing::Admits;
use crate::telemetry::histogram::Distribution;
use crate::telemetry::metrics::ServiceMetrics;
use crate::units::{Moment, ServiceName};

/// A rate over less time is noise: one request a millisecond after the last look is no thousand per second.
const RATE_OVER: Duration = Duration::from_millis(40);
/// What people and hooks are told is of the last so long.
const LATELY: Duration = Duration::from_secs(5);
/// An answer counts at most so many times the target, or the connection of a WebSocket, which ends after an hour, would
/// outweigh a thousand answers.
const TARGETS_MAX: u32 = 10;
/// The same where there is no target for the latency.
const ANSWER_MAX: Duration = Duration::from_secs(60);

/// What happens to a service, for people and for hooks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Signals {
    /// Requests at its members.
    pub in_flight: u32,
    /// Requests that arrived, per second, lately.
    pub rps: f64,
    /// Requests that wait for a place at a member.
    pub queue: u32,
    /// Requests that wait for a first replica.
    pub held: u32,
    /// The mean time to an answer lately, in milliseconds; `None` without answers.
    pub latency_ms: Option<f64>,
}

/// Where the signals of a service are read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sources<'a> {
    pub(super) name: &'a ServiceName,
    pub(super) group: &'a Group,
    pub(super) metrics: &'a ServiceMetrics,
    pub(super) leaving: &'a Leaving,
}

/// Which members of a service are replicas.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Counted {
    /// An engine says what runs: all of them.
    Found,
    /// Somebody wrote addresses down, which are there whether anything runs or not: those that take requests, as `health`
    /// tells. Fewer of them than replicas wanted are not the replicas but something before them, a virtual address or a
    /// name; then those that are wanted count.
    Written,
}

impl Counted {
    pub(super) fn of(source: &Source) -> Self {
        match source {
            Source::Backends(_) => Counted::Written,
            Source::Docker(_) | Source::Container(_) | Source::Swarm(_) => Counted::Found,
        }
    }
}

/// The reading before.
#[derive(Debug)]
pub(super) struct Meter {
    /// The most that had arrived at any time.
    arrived: u64,
    /// What of it belongs to no rate yet, and since when.
    unrated: u64,
    rated_at: Moment,
    durations: Distribution,
    longest: Duration,
    /// When, how many arrived, how long answers took: of the last [`LATELY`].
    lately: VecDeque<(Moment, u64, Distribution)>,
}

impl Meter {
    /// Begins to count now.
    pub(super) fn new(now: Moment, sources: Sources<'_>) -> Self {
        let (arrived, durations) = (arrived(sources, open(sources)), sources.metrics.durations());
        let lately = VecDeque::from([(now, arrived, durations.clone())]);
        Self { arrived, unrated: 0, rated_at: now, durations, longest: ANSWER_MAX, lately }
    }

    /// Which answers count at most as what.
    pub(super) fn set_target(&mut self, target: checked::Target) {
        self.longest = match target {
            checked::Target::Latency(target) => target * TARGETS_MAX,
            checked::Target::InFlight(_) | checked::Target::Rps(_) => ANSWER_MAX,
        };
    }

    /// What happened since the last time.
    pub(super) fn sample(&mut self, now: Moment, sources: Sources<'_>) -> Sample {
        let open = open(sources);
        let total = arrived(sources, open).max(self.arrived);
        let arrived = total - std::mem::replace(&mut self.arrived, total);
        self.unrated += arrived;
        let time = now.since(self.rated_at);
        let (mut rps, mut answers) = (None, None);
        if time >= RATE_OVER {
            rps = Some(std::mem::take(&mut self.unrated) as f64 / time.as_secs_f64());
            self.rated_at = now;
            let durations = sources.metrics.durations();
            let new = durations.since(&self.durations);
            self.durations = durations;
            answers = new.mean_up_to(self.longest).map(|mean| (millis(mean), new.count()));
        }
        Sample { in_flight: open.stay, leaving: open.leave, arrived, rps, answers }
    }

    /// The same for people, over the last seconds.
    pub(super) fn signals(&mut self, now: Moment, sources: Sources<'_>) -> Signals {
        let scale = &sources.group.scale;
        let durations = sources.metrics.durations();
        let (since, arrived, before) = self.lately.front().cloned().unwrap_or((now, self.arrived, durations.clone()));
        let new = durations.since(&before);
        let signals = Signals {
            in_flight: at_members(sources.group),
            rps: (self.arrived - arrived) as f64 / now.since(since).as_secs_f64().max(1.0),
            queue: sources.group.queue.len().saturating_sub(scale.n_held()),
            held: scale.held(),
            latency_ms: new.mean_up_to(self.longest).map(millis),
        };
        self.lately.push_back((now, self.arrived, durations));
        // One that is just old enough stays as the beginning.
        while self.lately.get(1).is_some_and(|(at, ..)| now.since(*at) >= LATELY) {
            self.lately.pop_front();
        }
        signals
    }
}

/// What a decision needs to know beside samples.
pub(super) fn scene(counted: Counted, group: &Group) -> Scene {
    let (scale, waiting) = (&group.scale, waiting(group));
    let intended = intended(scale);
    let ready = ready(counted, group, intended);
    let state = scale.state();
    // Whoever starts replicas hears later than we do that one of them is ready: it would count twice until then.
    let starting = state.ready.saturating_add(state.starting).saturating_sub(ready);
    Scene { ready, starting, waiting, intended, pinned: state.pinned }
}

/// So many there are to be by now; `None` if nobody has decided yet.
pub(super) fn intended(scale: &Scale) -> Option<u32> {
    let intent = scale.intent();
    (intent.generation > 0).then_some(intent.desired)
}

/// Replicas that take requests.
pub(super) fn ready(counted: Counted, group: &Group, intended: Option<u32>) -> u32 {
    let set = group.members();
    let n_members = count(set.members.len());
    if counted == Counted::Found {
        return n_members;
    }
    let takes_requests = |admits| matches!(admits, Admits::All | Admits::One);
    let n_ready = count(set.members.iter().filter(|member| takes_requests(member.backend.standing.admits())).count());
    match intended {
        // One address may stand for many; if none of them takes requests, none does.
        Some(intended) if intended > n_members && n_ready > 0 => intended,
        _ => n_ready,
    }
}

/// Requests that are open at one moment.
#[derive(Clone, Copy, Debug)]
struct Open {
    /// At members, or waiting for one.
    stay: u32,
    /// At backends that have left.
    leave: u32,
}

fn open(sources: Sources<'_>) -> Open {
    let Sources { name, group, leaving, .. } = sources;
    Open { stay: at_members(group).saturating_add(waiting(group)), leave: leaving.in_flight(name) }
}

/// Requests that wait, and who looks at the waiting page. Whoever is held stands in the line with the others.
fn waiting(group: &Group) -> u32 {
    let (scale, n_held) = (&group.scale, group.scale.n_held());
    group.queue.len().max(n_held).saturating_add(scale.held().saturating_sub(n_held))
}

fn arrived(sources: Sources<'_>, open: Open) -> u64 {
    sources.metrics.requests_ended() + u64::from(open.stay) + u64::from(open.leave)
}

fn at_members(group: &Group) -> u32 {
    group.members().members.iter().map(|member| member.backend.in_flight()).sum()
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

#[cfg(test)]
mod tests;
