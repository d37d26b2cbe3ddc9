//! How many replicas a service needs now: Knative's pod autoscaler, with what plain containers need beside it.
//! Pure: samples, the present and what runs are arguments, and every number that led to a decision is in its [`Trace`].
//! It promises that constant load has one answer. It starts nothing and tells nobody.
//!
//! # The formula
//!
//! With `ready` the replicas that take requests, at least 1, and averages over exact buckets (of a second, with the
//! usual windows) that begin with the first request after a sleep:
//!
//! ```text
//! want_stable = ⌈stable average ÷ target⌉        want_panic = ⌈panic average ÷ target⌉
//! at_most     = ⌈ready × up_at_once⌉             at_least   = ⌊ready ÷ down_at_once⌋
//! panic begins, and goes on, while  panic average ÷ target ≥ 2 × ready;  it ends a stable window after the last time
//! desired     = want_stable, in a panic the highest of what was desired, want_stable and want_panic; never fewer in a panic
//! ```
//!
//! each within `at_least ..= at_most`, and at last within `min ..= max`. The target is taken as it stands: no further 70 %.
//!
//! # Where it is not Knative's
//!
//! 1. **Fewer replicas only if fewer were enough for a whole stable window, with a tenth to spare**, or with five times the
//!    error that the average has by chance, if that is more. Without it, load at the edge between two numbers flips between
//!    them for ever.
//! 2. **A panic compares the average itself, not rounded up.** Rounded up, a single replica with an average of 1.01
//!    targets is in panic: two replicas, then one again, then two.
//! 3. **A limit of steps never undoes what was wanted already.** Else replicas that fall ill under load take others with
//!    them: `ready` falls, and with it what may be wanted. Nor do replicas that are still on their way out call others.
//! 4. **Who is found running without ever having been wanted stays for a stable window**, counted from the first decision.
//!    Knative starts in panic for the same reason: after a restart there is no history.
//! 5. **Zero is a sleep**: `idle` without a request in flight and none arriving, and then `min` at once. Any request ends
//!    it, and the windows begin anew with that request. While a request was there lately, at least one replica is wanted.

mod latency;
mod window;

use std::fmt;
use std::time::Duration;

use self::latency::{LatencyRule, Observed, Question};
use self::window::{Buckets, Highest};
use crate::config::checked::{Autoscale, Target};
use crate::config::quantity::spell_duration;
use crate::units::Moment;

/// A panic begins when the short average is so many times what the ready replicas should carry: Knative's.
const PANIC_THRESHOLD: f64 = 2.0;
/// Fewer replicas must be enough for so much of the average more: the HPA's tolerance …
const TO_SPARE: f64 = 0.1;
/// … and for so many times its error.
const ERRORS_TO_SPARE: f64 = 5.0;
/// The panic window is at least so many buckets …
const BUCKETS_PER_PANIC: u32 = 6;
/// … of at most Knative's second …
const STEP_MAX: Duration = Duration::from_secs(1);
/// … and not so short that sampling is work.
const STEP_MIN: Duration = Duration::from_millis(100);

/// What was seen of a service since the last time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Sample {
    /// Requests at its members, and those that wait for one.
    pub in_flight: u32,
    /// Requests at backends that have left it: somebody uses the service, but no replica that stays carries them.
    pub leaving: u32,
    /// Requests that arrived.
    pub arrived: u64,
    /// Those per second; `None` if too little time went by to tell.
    pub rps: Option<f64>,
    /// The mean time to their answers, in milliseconds, and of how many.
    pub answers: Option<(f64, u64)>,
}

/// What there is when a decision is due.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scene {
    /// Replicas that take requests.
    pub ready: u32,
    /// Replicas that were started and have not answered yet.
    pub starting: u32,
    /// Requests that wait for a replica.
    pub waiting: u32,
    /// So many there are to be by now; `None` if nobody has decided yet.
    pub intended: Option<u32>,
    /// A person's word.
    pub pinned: Option<u32>,
}

/// How many replicas there should be, and why.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Decision {
    /// So many.
    pub desired: u32,
    /// Every number that led to it.
    pub trace: Trace,
}

/// Everything that a decision was made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Trace {
    /// What decided.
    pub because: Because,
    /// The narrowest limit that held the formula back, if one did.
    pub limit: Option<Bound>,
    /// Requests that waited for a replica.
    pub waiting: u32,
    /// Replicas that took requests.
    pub ready: u32,
    /// What one replica should carry; milliseconds for a latency.
    pub target: f64,
    /// The average of the stable window, in the unit of the target.
    pub stable: f64,
    /// That of the panic window.
    pub panic: f64,
    /// What the stable window asks for.
    pub want_stable: u32,
    /// What the panic window asks for.
    pub want_panic: u32,
    /// Most that the step upwards allowed.
    pub at_most: u32,
    /// Fewest that the step downwards allowed.
    pub at_least: u32,
    /// Since the last request, if nothing is open.
    pub idle_for: Duration,
}

/// What decided.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Because {
    /// A person.
    Pinned,
    /// Nobody has asked for the service yet.
    Unasked,
    /// Nobody has asked for it for so long.
    Idle(Duration),
    /// It runs already, and there is no history to judge by.
    AtStart,
    /// The first replica for requests that wait.
    Waiting,
    /// The stable window.
    Stable,
    /// The panic window.
    Panic,
    /// What the panic wanted at its height.
    PanicHolds,
    /// The mean latency.
    Latency,
}

/// A limit that held the formula back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// `min`.
    Min(u32),
    /// `max`.
    Max(u32),
    /// `up_at_once`.
    Up(u32),
    /// `down_at_once`.
    Down(u32),
    /// What was needed within the last stable window, with something to spare.
    Lately(u32),
    /// A service that is used has one.
    Used,
}

/// What a window of samples asks for.
#[derive(Clone, Copy, Debug)]
struct Wants {
    /// Averages.
    stable: f64,
    panic: f64,
    /// Needed now.
    up: u32,
    /// More than this was not needed for a whole stable window.
    lull: u32,
}

/// The memory of the formula.
#[derive(Clone, Debug)]
pub struct Formula {
    policy: Autoscale,
    memory: Memory,
    began: Option<Moment>,
    /// The most that was ever wanted.
    most: u32,
    /// What was found beyond that while it was learning.
    found: u32,
    /// The last request, or the first look at replicas that ran already.
    used_at: Option<Moment>,
    panicked_at: Option<Moment>,
}

/// What of the samples is kept.
#[derive(Clone, Debug)]
enum Memory {
    /// Requests in flight, or per second.
    Load {
        buckets: Buckets,
        lately: Highest,
    },
    Latency(Box<LatencyRule>),
}

impl Memory {
    fn new(policy: &Autoscale) -> Self {
        let (step, longest) = (step(policy), policy.stable.max(policy.panic));
        match policy.target {
            Target::InFlight(_) | Target::Rps(_) => {
                Memory::Load { buckets: Buckets::new(step, longest), lately: Highest::default() }
            }
            Target::Latency(_) => Memory::Latency(LatencyRule::new(step, longest).into()),
        }
    }

    fn clear(&mut self) {
        match self {
            Memory::Load { buckets, lately } => {
                buckets.clear();
                lately.clear();
            }
            Memory::Latency(rule) => rule.clear(),
        }
    }
}

/// The length of a bucket, and the time between two ordinary decisions: a second with the usual windows.
pub fn step(policy: &Autoscale) -> Duration {
    (policy.panic / BUCKETS_PER_PANIC).clamp(STEP_MIN, STEP_MAX)
}

impl Formula {
    /// Nothing has been seen yet.
    pub fn new(policy: Autoscale) -> Self {
        Self { memory: Memory::new(&policy), policy, began: None, most: 0, found: 0, used_at: None, panicked_at: None }
    }

    /// Goes on under another policy; what was seen stays, unless it was seen through other windows.
    pub fn set_policy(&mut self, policy: Autoscale) {
        let kind = |policy: &Autoscale| (std::mem::discriminant(&policy.target), policy.stable, policy.panic);
        if kind(&policy) != kind(&self.policy) {
            self.memory = Memory::new(&policy);
        }
        self.policy = policy;
    }

    /// Remembers a sample. One without a request is remembered only while the service is awake.
    pub fn note(&mut self, now: Moment, sample: &Sample) {
        if sample.in_flight > 0 || sample.leaving > 0 || sample.arrived > 0 {
            if !self.is_awake(now) {
                self.forget();
            }
            self.used_at = Some(now);
        }
        if !self.is_awake(now) {
            return self.forget();
        }
        let in_flight = f64::from(sample.in_flight);
        match (&mut self.memory, self.policy.target) {
            (Memory::Load { buckets, .. }, Target::InFlight(_)) => buckets.add(now, in_flight, 1.0),
            (Memory::Load { buckets, .. }, _) => {
                if let Some(rps) = sample.rps {
                    buckets.add(now, rps, 1.0);
                }
            }
            (Memory::Latency(rule), _) => {
                rule.note(now, Observed { in_flight, rps: sample.rps, answers: sample.answers });
            }
        }
    }

    /// Decides.
    pub fn decide(&mut self, now: Moment, scene: &Scene) -> Decision {
        self.began.get_or_insert(now);
        let running = scene.ready.saturating_add(scene.starting);
        if self.used_at.is_none() && scene.intended.is_none() && running > 0 {
            self.used_at = Some(now);
        }
        self.most = self.most.max(scene.intended.unwrap_or(0));
        if running > self.most && self.is_learning(now) {
            self.found = running;
        }
        let stays = running.min(self.found);
        let mut decision = self.by_formula(now, scene);
        if !self.is_awake(now) {
            let because = self.used_at.map_or(Because::Unasked, |_| Because::Idle(self.policy.idle));
            decision.settle(0, because);
            decision.raise(self.policy.min, Bound::Min(self.policy.min));
        } else if self.is_learning(now) && decision.desired < stays {
            decision.settle(stays, Because::AtStart);
        }
        decision.clamp(self.policy.max.get(), Bound::Max);
        if let Some(pinned) = scene.pinned {
            decision.settle(pinned, Because::Pinned);
        }
        decision
    }

    /// Whether what runs may be older than anything that was decided: until then, fewer are not to be wanted.
    pub fn is_learning(&self, now: Moment) -> bool {
        self.began.is_none_or(|began| now.since(began) < self.policy.stable)
    }

    fn is_awake(&self, now: Moment) -> bool {
        self.used_at.is_some_and(|used_at| now.since(used_at) < self.policy.idle)
    }

    fn forget(&mut self) {
        self.memory.clear();
        self.panicked_at = None;
    }

    /// What the windows say, within the steps and above the least.
    fn by_formula(&mut self, now: Moment, scene: &Scene) -> Decision {
        let base = f64::from(scene.ready.max(1));
        let present = scene.intended.unwrap_or(scene.ready.saturating_add(scene.starting));
        let target = target_of(&self.policy);
        let wants = self.wants(now, scene.ready, present);
        let at_most = ((base * self.policy.up_at_once).ceil() as u32).max(present);
        let at_least = ((f64::from(scene.ready) / self.policy.down_at_once).floor() as u32).min(present);
        let want_panic = (wants.panic / target).ceil() as u32;
        let trace = Trace {
            because: Because::Stable,
            limit: None,
            waiting: scene.waiting,
            ready: scene.ready,
            target,
            stable: wants.stable,
            panic: wants.panic,
            want_stable: wants.up,
            want_panic,
            at_most,
            at_least,
            idle_for: self.used_at.map_or(Duration::ZERO, |used_at| now.since(used_at)),
        };
        // The present number stays where it is neither too small now nor was too large for a whole window.
        let mut decision = Decision { desired: wants.up, trace };
        decision.raise(present.min(wants.lull), Bound::Lately(wants.lull));
        if let Memory::Latency(_) = self.memory {
            decision.trace.because = Because::Latency;
            decision.trace.want_panic = wants.up;
        } else {
            self.panic(now, wants.panic / target >= PANIC_THRESHOLD * base);
        }
        decision.limit_steps();
        if self.panicked_at.is_some() {
            decision.in_panic(present);
        }
        let least = self.policy.min.max(u32::from(self.is_awake(now)));
        decision.raise(least, if least > self.policy.min { Bound::Used } else { Bound::Min(least) });
        if scene.ready == 0 && scene.waiting > 0 && decision.desired == 1 {
            decision.settle(1, Because::Waiting);
        }
        decision
    }

    fn wants(&mut self, now: Moment, ready: u32, present: u32) -> Wants {
        let Autoscale { stable, panic, .. } = self.policy;
        let target = target_of(&self.policy);
        match &mut self.memory {
            Memory::Load { buckets, lately } => {
                let long = buckets.mean(now, stable).unwrap_or(0.0);
                let short = buckets.mean(now, panic).unwrap_or(0.0);
                let spare = (long * TO_SPARE).max(buckets.error(now, stable) * ERRORS_TO_SPARE);
                let lull = lately.add(now, ((long + spare) / target).ceil() as u32, stable);
                Wants { stable: long, panic: short, up: (long / target).ceil() as u32, lull }
            }
            Memory::Latency(rule) => rule.wants(now, Question { target_ms: target, stable, panic, ready, present }),
        }
    }

    fn panic(&mut self, now: Moment, is_over: bool) {
        if is_over {
            self.panicked_at = Some(now);
        } else if self.panicked_at.is_some_and(|at| now.since(at) > self.policy.stable) {
            self.panicked_at = None;
        }
    }
}

impl Decision {
    fn limit_steps(&mut self) {
        let Trace { at_most, at_least, .. } = self.trace;
        self.clamp(at_most, Bound::Up);
        self.raise(at_least, Bound::Down(at_least));
    }

    /// Takes the higher of what the short window asks for; what was wanted already is never lowered.
    fn in_panic(&mut self, present: u32) {
        let Trace { want_panic, at_most, at_least, .. } = self.trace;
        let panicked = want_panic.clamp(at_least, at_most);
        if panicked > self.desired {
            self.settle(panicked, Because::Panic);
            self.trace.limit = (want_panic > at_most).then_some(Bound::Up(at_most));
        }
        if present > self.desired {
            self.settle(present, Because::PanicHolds);
        }
    }

    fn settle(&mut self, desired: u32, because: Because) {
        self.desired = desired;
        self.trace.because = because;
        self.trace.limit = None;
    }

    fn clamp(&mut self, most: u32, bound: fn(u32) -> Bound) {
        if self.desired > most {
            self.desired = most;
            self.trace.limit = Some(bound(most));
        }
    }

    fn raise(&mut self, least: u32, bound: Bound) {
        if self.desired < least {
            self.desired = least;
            self.trace.limit = Some(bound);
        }
    }
}

fn target_of(policy: &Autoscale) -> f64 {
    match policy.target {
        Target::InFlight(target) | Target::Rps(target) => target,
        Target::Latency(target) => target.as_secs_f64() * 1e3,
    }
}

impl fmt::Display for Trace {
    /// `stable 14.2 / 6 = 3`, `panic 61 / 6 = 11, at most 10 (max)`, `2 requests held`, `idle 5m`, `pinned by hand`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Trace { stable, panic, target, want_stable, want_panic, ready, waiting, .. } = *self;
        let (stable, panic, target) = (short(stable), short(panic), short(target));
        if ready == 0 && waiting > 0 && !matches!(self.because, Because::Pinned) {
            write!(f, "{waiting} request{} held", if waiting == 1 { "" } else { "s" })?;
            if self.because == Because::Waiting {
                return Ok(());
            }
            f.write_str(", ")?;
        }
        match self.because {
            Because::Pinned => f.write_str("pinned by hand"),
            Because::Unasked => f.write_str("no request yet"),
            Because::Idle(idle) => write!(f, "idle {}", spell_duration(idle)),
            Because::AtStart => f.write_str("they run already"),
            Because::Waiting => Ok(()),
            Because::Stable => write!(f, "stable {stable} / {target} = {want_stable}"),
            Because::Panic => write!(f, "panic {panic} / {target} = {want_panic}"),
            Because::PanicHolds => write!(f, "panic holds, now {panic} / {target} = {want_panic}"),
            Because::Latency => write!(f, "latency {stable} ms, lately {panic} ms, wanted {target} ms"),
        }?;
        match self.limit {
            None => Ok(()),
            Some(Bound::Min(n)) => write!(f, ", at least {n} (min)"),
            Some(Bound::Max(n)) => write!(f, ", at most {n} (max)"),
            Some(Bound::Up(n)) => write!(f, ", at most {n} (up_at_once)"),
            Some(Bound::Down(n)) => write!(f, ", at least {n} (down_at_once)"),
            Some(Bound::Lately(n)) => write!(f, ", lately {n}"),
            Some(Bound::Used) => f.write_str(", at least 1 while it is used"),
        }
    }
}

/// With one digit after the point, if it says anything.
fn short(value: f64) -> String {
    let text = format!("{value:.1}");
    text.strip_suffix(".0").map(str::to_owned).unwrap_or(text)
}

#[cfg(test)]
mod oracle;
#[cfg(test)]
mod tests;
