//! Decides which backends of one service are taken out because of their answers, and which come back. Pure: no clock.
//! It promises that at most `max_ejected` of them are out, one at least being allowed, that the last one that takes
//! requests is never taken out, and that nobody is unless it helps. It does not know how a decision takes effect.

use std::fmt;
use std::time::Duration;

use super::window::Counts;
use crate::config::checked::Ejection;
use crate::runtime::conduct::Trial;
use crate::telemetry::metrics::EjectionCause;
use crate::units::Moment;

/// Fewer answers in the window say nothing about a rate. Linkerd's figure.
const SAMPLES_MIN: u64 = 5;
/// A rate counts only if the backend fails so many times as often as the others: what all of them do is the service's
/// fault, a broken page or a database that is gone, and whoever is left would do no better under more load.
const WORSE_THAN_OTHERS: u64 = 2;

/// One backend of a service, as a sweep sees it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct View {
    /// Where its ejection stands, if it is out because of its answers.
    pub(super) phase: Option<Phase>,
    /// Whether anything else keeps requests from it: probes, a drain.
    pub(super) presence: Presence,
    /// Failures since the last good answer.
    pub(super) failures_in_a_row: u32,
    /// Those of them that came while another backend was well.
    pub(super) held_against_it: u32,
    /// Its answers of the last seconds.
    pub(super) window: Counts,
    /// How its trial ended, if it has.
    pub(super) trial: Option<Trial>,
    /// How often it was ejected, less what was forgiven.
    pub(super) ejections: u32,
    /// Since when it has given no reason to be ejected or forgiven.
    pub(super) calm_since: Moment,
}

/// Where an ejection stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Phase {
    /// No request before this moment.
    Ejected {
        /// When its trial may begin.
        until: Moment,
    },
    /// The next single request decides.
    Probation,
}

/// Whether a backend would take requests if it were not ejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Presence {
    /// It would.
    Present,
    /// It is unhealthy, drained or leaving.
    Absent,
}

/// Whether somebody in the service is well.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Outlook {
    /// Somebody is: failures of others are their own.
    #[default]
    Fair,
    /// Nobody is: what fails is the service.
    InDoubt,
}

impl Outlook {
    /// What `views` show.
    pub(super) fn of(views: &[View]) -> Self {
        if views.iter().any(View::is_well) { Outlook::Fair } else { Outlook::InDoubt }
    }
}

/// What is to be done about one backend, by its index.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Decision {
    pub(super) idx: usize,
    pub(super) verdict: Verdict,
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Verdict {
    /// It takes no requests for `time`.
    Eject {
        /// Why.
        because: Because,
        /// How long.
        time: Duration,
    },
    /// Its next request decides.
    Try,
    /// It takes requests again.
    Restore,
    /// Its failures so far do not tell it from the others.
    Pardon,
    /// It was well for long enough: its next ejection is shorter.
    Forgive,
}

/// Why a backend is ejected, for people.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Because {
    /// So many failures in a row.
    InARow(u32),
    /// Answers of the last seconds.
    Rate(Counts),
    /// The request of its probation.
    TrialFailed,
}

impl Because {
    /// The word of the metric.
    pub(super) fn cause(self) -> EjectionCause {
        match self {
            Because::InARow(_) => EjectionCause::Consecutive,
            Because::Rate(_) => EjectionCause::SuccessRate,
            Because::TrialFailed => EjectionCause::Trial,
        }
    }
}

impl fmt::Display for Because {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Because::InARow(run) => write!(f, "{run} failures in a row"),
            Because::Rate(counts) => write!(f, "{} of {} answers were no success", counts.failed(), counts.total()),
            Because::TrialFailed => f.write_str("its trial failed"),
        }
    }
}

impl View {
    /// Takes requests, and has not failed since its last good answer.
    fn is_well(&self) -> bool {
        self.takes_requests() && self.failures_in_a_row == 0
    }

    fn takes_requests(&self) -> bool {
        self.phase.is_none() && self.presence == Presence::Present
    }

    /// Why it should go, looked at alone.
    fn guilt(&self, policy: &Ejection) -> Option<Because> {
        if policy.consecutive.is_some_and(|limit| self.held_against_it >= limit.get()) {
            return Some(Because::InARow(self.held_against_it));
        }
        let (good, total) = (self.window.good, self.window.total());
        let too_few = policy.success_rate.is_some_and(|rate| good * 100 < total * u64::from(rate.get()));
        (too_few && total >= SAMPLES_MIN).then_some(Because::Rate(self.window))
    }
}

/// Decides for all backends of a service, whose outlook was `before` when it was last looked at.
pub(super) fn sweep(views: &[View], before: Outlook, policy: &Ejection, now: Moment) -> Vec<Decision> {
    let known = views.iter().enumerate();
    let mut decisions: Vec<Decision> =
        known.filter_map(|(idx, view)| Some(Decision { idx, verdict: proceed(view, policy, now)? })).collect();
    // Who is the first to be well again has not been well while the others failed: they get the same chance.
    decisions.extend(match (before, Outlook::of(views)) {
        (Outlook::Fair, Outlook::Fair) => accuse(views, policy),
        _ => pardon_all(views),
    });
    decisions
}

/// How the ejection of a backend goes on, or how it is forgotten.
fn proceed(view: &View, policy: &Ejection, now: Moment) -> Option<Verdict> {
    match (view.phase, view.trial) {
        (Some(Phase::Probation), Some(Trial::Passed)) => Some(Verdict::Restore),
        (Some(Phase::Probation), Some(Trial::Failed)) => {
            Some(Verdict::Eject { because: Because::TrialFailed, time: ejection_time(view.ejections, policy) })
        }
        (Some(Phase::Ejected { until }), _) if now >= until => Some(Verdict::Try),
        (None, _) if view.ejections > 0 && now.since(view.calm_since) >= policy.base => Some(Verdict::Forgive),
        _ => None,
    }
}

/// Base × 2ⁿ after n ejections, at most `max`.
pub(super) fn ejection_time(ejections: u32, policy: &Ejection) -> Duration {
    let factor = 1_u32.checked_shl(ejections).unwrap_or(u32::MAX);
    policy.base.saturating_mul(factor).min(policy.max.max(policy.base))
}

/// Finds who is to be ejected. Limits hold for the state after the ejection (envoy #27066), in which whoever is to return
/// by this sweep still counts as out.
fn accuse(views: &[View], policy: &Ejection) -> Vec<Decision> {
    let known = views.iter().enumerate().filter(|(_, view)| view.takes_requests());
    let mut accused: Vec<(usize, Because)> = known.filter_map(|(idx, view)| Some((idx, view.guilt(policy)?))).collect();
    accused.sort_by_key(|(idx, because)| severity(&views[*idx], because));
    let n_out_max = policy.max_ejected.of(views.len() as u64).max(1);
    let mut n_out = views.iter().filter(|view| view.phase.is_some()).count() as u64;
    let mut gone = vec![false; views.len()];
    let mut decisions = Vec::new();
    for (idx, because) in accused {
        let is_other = |(other, view): &(usize, &View)| *other != idx && !gone[*other] && view.takes_requests();
        let others: Vec<&View> = views.iter().enumerate().filter(is_other).map(|(_, view)| view).collect();
        let helps = match because {
            Because::Rate(own) => is_worse(own, others.iter().map(|other| other.window)),
            Because::InARow(_) | Because::TrialFailed => true,
        };
        if helps && !others.is_empty() && n_out < n_out_max {
            gone[idx] = true;
            n_out += 1;
            let time = ejection_time(views[idx].ejections, policy);
            decisions.push(Decision { idx, verdict: Verdict::Eject { because, time } });
        }
    }
    decisions
}

/// Nobody is well: what fails is the service, its database perhaps, and a backend less would only be a place less when it
/// returns. Whoever fails what begins from now on has to be looked at again.
fn pardon_all(views: &[View]) -> Vec<Decision> {
    let known = views.iter().enumerate().filter(|(_, view)| view.takes_requests());
    known.map(|(idx, _)| Decision { idx, verdict: Verdict::Pardon }).collect()
}

/// Sorts the worst first: runs of failures, the longest first, then rates, the lowest first.
fn severity(view: &View, because: &Because) -> (u8, u64) {
    match because {
        Because::InARow(run) => (0, u64::from(u32::MAX - run)),
        Because::Rate(_) | Because::TrialFailed => (1, view.window.good * 1_000 / view.window.total().max(1)),
    }
}

fn is_worse(own: Counts, others: impl Iterator<Item = Counts>) -> bool {
    let others = others.fold(Counts::default(), Counts::plus);
    own.failed() * others.total() >= WORSE_THAN_OTHERS * others.failed() * own.total()
}

#[cfg(test)]
mod tests;
