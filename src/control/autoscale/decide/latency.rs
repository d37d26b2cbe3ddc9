//! How many replicas a target for the mean latency asks for. Pure: samples and the present are arguments.
//! Promises not to run away: latency does not fall with more replicas if what is slow stands behind them, so there are
//! never more of them than requests in flight, and a step waits for the effect of the one before. It promises to find
//! rest: a number that was too small is not tried again while the load is the same. It forecasts nothing.
//!
//! The HPA's formula, `ceil(replicas × mean / target)` with its tolerance of a tenth, holds upwards. Downwards it would
//! be wrong, because the latency of fewer replicas is not known before there are fewer: one at a time.

use std::time::Duration;

use super::Wants;
use super::window::Buckets;
use crate::units::Moment;

/// So far from the target nothing is done: the HPA's.
const TOLERANCE: f64 = 0.1;
/// At most doubled at once: latencies at the edge of saturation say little about how far beyond it the load is.
const UP_AT_ONCE: u32 = 2;
/// A number of replicas that was too small is tried again with so much less load …
const RELIEF: f64 = 0.8;
/// … or after so many stable windows, because the service may have become faster.
const RETRY_AFTER: u32 = 10;

/// What is remembered for a latency target.
#[derive(Clone, Debug)]
pub(super) struct LatencyRule {
    answers: Buckets,
    in_flight: Buckets,
    rps: Buckets,
    changed_at: Option<Moment>,
    last: Option<u32>,
    too_few: Option<TooFew>,
}

/// So many replicas were too slow under so much load.
#[derive(Clone, Copy, Debug)]
struct TooFew {
    replicas: u32,
    rps: f64,
    at: Moment,
}

/// What happened since the last sample.
#[derive(Clone, Copy, Debug)]
pub(super) struct Observed {
    pub(super) in_flight: f64,
    /// `None` if the time since the last sample is too short to tell.
    pub(super) rps: Option<f64>,
    /// The mean, in milliseconds, and of how many answers.
    pub(super) answers: Option<(f64, u64)>,
}

/// What the rule compares.
#[derive(Clone, Copy, Debug)]
pub(super) struct Question {
    pub(super) target_ms: f64,
    pub(super) stable: Duration,
    pub(super) panic: Duration,
    /// Replicas that take requests.
    pub(super) ready: u32,
    /// So many there are to be.
    pub(super) present: u32,
}

impl LatencyRule {
    pub(super) fn new(step: Duration, longest: Duration) -> Self {
        let buckets = || Buckets::new(step, longest);
        let (answers, in_flight, rps) = (buckets(), buckets(), buckets());
        Self { answers, in_flight, rps, changed_at: None, last: None, too_few: None }
    }

    pub(super) fn note(&mut self, now: Moment, observed: Observed) {
        self.in_flight.add(now, observed.in_flight, 1.0);
        if let Some(rps) = observed.rps {
            self.rps.add(now, rps, 1.0);
        }
        if let Some((mean, n)) = observed.answers.filter(|(_, n)| *n > 0) {
            self.answers.add(now, mean * n as f64, n as f64);
        }
    }

    pub(super) fn clear(&mut self) {
        self.answers.clear();
        self.in_flight.clear();
        self.rps.clear();
        (self.changed_at, self.last, self.too_few) = (None, None, None);
    }

    /// What is wanted now.
    pub(super) fn wants(&mut self, now: Moment, question: Question) -> Wants {
        let Question { stable, panic, ready, present, .. } = question;
        if self.last.replace(present).is_some_and(|last| last != present) {
            self.changed_at = Some(now);
        }
        let long = self.answers.pooled_mean(now, stable);
        let short = self.answers.pooled_mean(now, panic);
        let mut wants = Wants { stable: long.unwrap_or(0.0), panic: short.unwrap_or(0.0), up: present, lull: present };
        let age = self.changed_at.map_or(Duration::MAX, |at| now.since(at));
        // What was asked for last has to be there before its effect can be.
        let is_settled = ready >= present;
        if let Some(short) = short.filter(|_| is_settled && age >= panic)
            && let Some(up) = self.up(now, short / question.target_ms, question)
        {
            (wants.up, wants.lull) = (up, up);
        } else if let Some(long) = long.filter(|_| is_settled && age >= stable)
            && self.may_go_down(now, long / question.target_ms, question)
        {
            (wants.up, wants.lull) = (present - 1, present - 1);
        }
        wants
    }

    fn up(&mut self, now: Moment, ratio: f64, question: Question) -> Option<u32> {
        let replicas = question.ready.max(1);
        if ratio <= 1.0 + TOLERANCE {
            return None;
        }
        // A replica beyond the number of requests in flight would have nothing to do.
        let of_use = self.in_flight.mean(now, question.panic).unwrap_or(0.0).ceil() as u32;
        let wanted = ((f64::from(replicas) * ratio).ceil() as u32).min(replicas.saturating_mul(UP_AT_ONCE)).min(of_use);
        if wanted <= question.present {
            return None;
        }
        let rps = self.rps.mean(now, question.stable).unwrap_or(0.0);
        self.too_few = Some(TooFew { replicas, rps, at: now });
        Some(wanted)
    }

    fn may_go_down(&self, now: Moment, ratio: f64, question: Question) -> bool {
        let Some(fewer) = question.present.checked_sub(1).filter(|fewer| *fewer > 0) else { return false };
        // The most favourable case: what one replica did is shared by the others, and none of them gets slower by more.
        if ratio * f64::from(question.present) / f64::from(fewer) > 1.0 - TOLERANCE {
            return false;
        }
        self.too_few.is_none_or(|too_few| {
            let rps = self.rps.mean(now, question.stable).unwrap_or(0.0);
            fewer > too_few.replicas
                || rps < too_few.rps * RELIEF
                || now.since(too_few.at) >= question.stable * RETRY_AFTER
        })
    }
}
