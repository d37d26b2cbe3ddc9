//! The formula once more, slow and obvious: every decision is worked out from the whole history.
//! It was written from the formula's description and shares no code and no state with it, so that a mistake would have
//! to be made twice. For requests in flight and per second; it does not explain itself.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{Sample, Scene};
use crate::config::checked::{Autoscale, Target};
use crate::units::Moment;

/// Everything that ever happened.
pub(super) struct Oracle {
    policy: Autoscale,
    samples: Vec<(Moment, Sample)>,
    decisions: Vec<Past>,
    began: Option<Moment>,
    /// What ran and what was wanted, at each decision so far.
    scenes: Vec<(Moment, Scene)>,
    /// Somebody used the service, or was found running.
    uses: Vec<Moment>,
}

struct Past {
    at: Moment,
    was_over: bool,
    enough: u32,
}

impl Oracle {
    pub(super) fn new(policy: Autoscale) -> Self {
        Self { policy, samples: vec![], decisions: vec![], began: None, scenes: vec![], uses: vec![] }
    }

    pub(super) fn note(&mut self, now: Moment, sample: Sample) {
        if sample.in_flight + sample.leaving > 0 || sample.arrived > 0 {
            self.uses.push(now);
        }
        if self.awake_since(now).is_some() {
            self.samples.push((now, sample));
        }
    }

    pub(super) fn decide(&mut self, now: Moment, scene: Scene) -> u32 {
        let running = scene.ready + scene.starting;
        let began = *self.began.get_or_insert(now);
        if self.uses.is_empty() && scene.intended.is_none() && running > 0 {
            self.uses.push(now);
        }
        self.scenes.push((now, scene));
        let found = self.found(began);
        let mut desired = match self.awake_since(now) {
            None => self.policy.min,
            Some(woke) => {
                let wanted = self.awake(now, woke, scene);
                let is_young = nanos(now, began) < self.policy.stable.as_nanos();
                if is_young { wanted.max(running.min(found)) } else { wanted }
            }
        };
        if desired > self.policy.max.get() {
            desired = self.policy.max.get();
        }
        scene.pinned.unwrap_or(desired)
    }

    /// Who ran in the first window although so many had never been wanted: as last seen.
    fn found(&self, began: Moment) -> u32 {
        let mut found = 0;
        for (idx, (at, scene)) in self.scenes.iter().enumerate() {
            let running = scene.ready + scene.starting;
            let ever_wanted = self.scenes[..=idx].iter().filter_map(|(_, scene)| scene.intended).max().unwrap_or(0);
            if nanos(*at, began) < self.policy.stable.as_nanos() && running > ever_wanted {
                found = running;
            }
        }
        found
    }

    /// When the present stretch of uses began, none of which is `idle` after the one before; `None` if it is over.
    fn awake_since(&self, now: Moment) -> Option<Moment> {
        let idle = self.policy.idle.as_nanos();
        let last = *self.uses.last()?;
        if nanos(now, last) >= idle {
            return None;
        }
        let mut woke = last;
        for use_at in self.uses.iter().rev() {
            if nanos(woke, *use_at) >= idle {
                break;
            }
            woke = *use_at;
        }
        Some(woke)
    }

    fn awake(&mut self, now: Moment, woke: Moment, scene: Scene) -> u32 {
        let stable_window = self.policy.stable;
        let (Target::InFlight(target) | Target::Rps(target)) = self.policy.target else { unreachable!() };
        let stable = self.average(now, woke, stable_window);
        let panic = self.average(now, woke, self.policy.panic);
        let ready = f64::from(scene.ready).max(1.0);
        let present = scene.intended.unwrap_or(scene.ready + scene.starting);

        let dspc = (stable / target).ceil();
        let dppc = (panic / target).ceil();
        let by_chance = 5.0 * self.standard_error(now, woke, stable_window);
        let spare = if by_chance > stable * 0.1 { by_chance } else { stable * 0.1 };
        let enough = ((stable + spare) / target).ceil() as u32;
        let was_over = panic / target >= 2.0 * ready;
        self.decisions.push(Past { at: now, was_over, enough });
        let lately: Vec<&Past> = self
            .decisions
            .iter()
            .filter(|past| past.at >= woke && nanos(now, past.at) <= stable_window.as_nanos())
            .collect();

        let max_up = (ready * self.policy.up_at_once).ceil().max(f64::from(present));
        let max_down = (f64::from(scene.ready) / self.policy.down_at_once).floor().min(f64::from(present));
        let enough_lately = lately.iter().map(|past| past.enough).max().expect("this one is among them");
        let steady = dspc.max(f64::from(present.min(enough_lately)));
        let mut desired = steady.min(max_up).max(max_down);
        if lately.iter().any(|past| past.was_over) {
            desired = desired.max(dppc.min(max_up).max(max_down)).max(f64::from(present));
        }
        let least = if self.policy.min == 0 { 1 } else { self.policy.min };
        (desired as u32).max(least)
    }

    /// Buckets of the window are one average.
    fn average(&self, now: Moment, woke: Moment, window: Duration) -> f64 {
        let means = self.bucket_means(now, woke, window);
        if means.is_empty() { 0.0 } else { rounded(means.iter().sum::<f64>() / means.len() as f64) }
    }

    /// Of the mean of a series of which each is like the one before: n (1 - r) / (1 + r) of them are worth something.
    fn standard_error(&self, now: Moment, woke: Moment, window: Duration) -> f64 {
        let x = self.bucket_means(now, woke, window);
        let n = x.len() as f64;
        if x.len() < 3 {
            return 0.0;
        }
        let mean = x.iter().sum::<f64>() / n;
        let (mut around, mut along) = (0.0, 0.0);
        for (idx, value) in x.iter().enumerate() {
            around += (value - mean) * (value - mean);
            if idx > 0 {
                along += (x[idx - 1] - mean) * (value - mean);
            }
        }
        if around == 0.0 {
            return 0.0;
        }
        let r = (along / around).clamp(0.0, 0.95);
        let worth = n * (1.0 - r) / (1.0 + r);
        rounded((around / (n - 1.0) / worth).sqrt())
    }

    /// Samples of the same bucket are one number.
    fn bucket_means(&self, now: Moment, woke: Moment, window: Duration) -> Vec<f64> {
        let step = (self.policy.panic.as_nanos() / 6).clamp(100_000_000, 1_000_000_000);
        let bucket = |at: Moment| u128::from(at.0) / step;
        let n = window.as_nanos().div_ceil(step).max(1);
        let mut by_bucket: BTreeMap<u128, Vec<f64>> = BTreeMap::new();
        for (at, sample) in &self.samples {
            let value = match self.policy.target {
                Target::InFlight(_) => Some(f64::from(sample.in_flight)),
                _ => sample.rps,
            };
            if let Some(value) = value.filter(|_| *at >= woke && bucket(*at) + n > bucket(now)) {
                by_bucket.entry(bucket(*at)).or_default().push(value);
            }
        }
        by_bucket.values().map(|bucket| bucket.iter().sum::<f64>() / bucket.len() as f64).collect()
    }
}

fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6
}

fn nanos(later: Moment, earlier: Moment) -> u128 {
    u128::from(later.0 - earlier.0)
}
