//! How fast a service lately answers: one number that the control plane writes and requests read.
//! It promises a number only where enough requests stand behind it. It measures nothing itself.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use crate::telemetry::histogram::Distribution;

/// Fewer requests say nothing about the slowest twentieth of them.
const SAMPLES_MIN: u64 = 40;

/// The recent 95th percentile; nanoseconds, or 0 while it is unknown.
#[derive(Debug, Default)]
pub struct Tempo {
    p95: AtomicU64,
}

impl Tempo {
    /// Notes what was measured lately. Of too few requests, the last known number stays.
    pub fn note(&self, lately: &Distribution) {
        let p95 = lately.quantile(0.95).filter(|_| lately.count() >= SAMPLES_MIN);
        if let Some(p95) = p95 {
            self.p95.store(u64::try_from(p95.as_nanos()).unwrap_or(u64::MAX), Relaxed);
        }
    }

    /// What all but one request in twenty stay below.
    pub fn p95(&self) -> Option<Duration> {
        Some(self.p95.load(Relaxed)).filter(|nanos| *nanos > 0).map(Duration::from_nanos)
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;

    use super::*;
    use crate::telemetry::histogram::Histogram;

    #[test]
    fn a_few_requests_make_no_percentile_and_do_not_unmake_one() {
        let (tempo, histogram) = (Tempo::default(), Histogram::new(NonZeroUsize::MIN));
        (0..10).for_each(|_| histogram.record(Duration::from_millis(1)));
        tempo.note(&histogram.read());
        assert_eq!(tempo.p95(), None);
        (0..90).for_each(|_| histogram.record(Duration::from_millis(1)));
        tempo.note(&histogram.read());
        let known = tempo.p95().expect("a hundred are enough");
        assert!(known < Duration::from_millis(2));
        tempo.note(&Distribution::default());
        assert_eq!(tempo.p95(), Some(known));
    }
}
