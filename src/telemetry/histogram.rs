//! How long things took, in fixed logarithmic buckets, counted per worker and merged when read.
//! Promises quantiles within 13.2 % of the truth between 100 µs and 100 s, two additions per sample, and no allocation
//! after a worker's first sample. It keeps no single samples, and does not forget: windows are differences of two readings.

use std::num::NonZeroUsize;
use std::time::Duration;

use super::shards::Shards;

/// Bucket edges per decade: the Renard series R10 (ISO 3), steps of 10^0.1 rounded so that 1, 2, 2.5, 4, 5 and 8 are exact.
/// The widest step is 1.28, so a sample is at most 13.2 % from the geometric middle of its bucket (√1.28 = 1.131).
const EDGES_PER_DECADE: [u64; 10] = [1_000, 1_250, 1_600, 2_000, 2_500, 3_150, 4_000, 5_000, 6_300, 8_000];
/// 100 µs … 100 s.
const DECADES: usize = 6;
/// Upper edges in nanoseconds, the edge included.
const EDGES: usize = DECADES * EDGES_PER_DECADE.len() + 1;
/// One more for samples above the last edge.
const BUCKETS: usize = EDGES + 1;
/// The buckets, then the sum of all samples in nanoseconds.
const CELLS: usize = BUCKETS + 1;
const SUM_IDX: usize = BUCKETS;

const EDGES_NANOS: [u64; EDGES] = {
    let mut edges = [0; EDGES];
    let mut idx = 0;
    // 1,000 in the table stands for 100 µs.
    let mut unit_nanos = 100;
    while idx < EDGES {
        edges[idx] = EDGES_PER_DECADE[idx % EDGES_PER_DECADE.len()] * unit_nanos;
        idx += 1;
        if idx.is_multiple_of(EDGES_PER_DECADE.len()) {
            unit_nanos *= 10;
        }
    }
    edges
};

/// A histogram that many workers write to and one thread reads now and then.
#[derive(Debug)]
pub struct Histogram {
    cells: Shards<CELLS>,
}

impl Histogram {
    /// Empty, with room for one copy per worker; a copy takes half a KiB once that worker records its first sample.
    pub fn new(workers: NonZeroUsize) -> Self {
        Self { cells: Shards::new(workers) }
    }

    /// Counts one sample. Sums wrap after 584 years of recorded time.
    #[inline]
    pub fn record(&self, sample: Duration) {
        let nanos = u64::try_from(sample.as_nanos()).unwrap_or(u64::MAX);
        let tally = self.cells.tally();
        tally.add(bucket_of(nanos), 1);
        tally.add(SUM_IDX, nanos);
    }

    /// What was recorded so far, by all workers.
    pub fn read(&self) -> Distribution {
        Distribution { cells: self.cells.sum() }
    }
}

fn bucket_of(nanos: u64) -> usize {
    EDGES_NANOS.partition_point(|&edge| edge < nanos)
}

/// A histogram at one moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Distribution {
    cells: [u64; CELLS],
}

impl Default for Distribution {
    fn default() -> Self {
        Self { cells: [0; CELLS] }
    }
}

impl Distribution {
    /// How many samples there are.
    pub fn count(&self) -> u64 {
        self.cells[..BUCKETS].iter().sum()
    }

    /// All samples together.
    pub fn sum(&self) -> Duration {
        Duration::from_nanos(self.cells[SUM_IDX])
    }

    /// The samples that came after `earlier` was read.
    pub fn since(&self, earlier: &Distribution) -> Distribution {
        let mut cells = self.cells;
        for (cell, old) in cells.iter_mut().zip(&earlier.cells) {
            *cell = cell.wrapping_sub(*old);
        }
        Distribution { cells }
    }

    /// The samples of both.
    pub fn plus(&self, other: &Distribution) -> Distribution {
        let mut cells = self.cells;
        for (cell, more) in cells.iter_mut().zip(&other.cells) {
            *cell = cell.wrapping_add(*more);
        }
        Distribution { cells }
    }

    /// The duration that a share `q` (0 to 1) of the samples does not exceed: the geometric middle of its bucket.
    /// `None` without samples. Below 100 µs it answers 50 µs, above 100 s it answers 100 s.
    pub fn quantile(&self, q: f64) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = ((q.clamp(0.0, 1.0) * count as f64).ceil() as u64).clamp(1, count);
        let mut seen = 0;
        let bucket_idx = self.cells[..BUCKETS].iter().position(|n| {
            seen += n;
            seen >= rank
        });
        bucket_idx.map(middle_of)
    }

    /// The mean of all samples, each counting as at most `longest`; `None` without samples. Exact if none is near that, else
    /// as close as the buckets are.
    pub fn mean_up_to(&self, longest: Duration) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let limit = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
        let nanos = match self.cells[bucket_of(limit)..BUCKETS].iter().all(|n| *n == 0) {
            true => self.cells[SUM_IDX] / count,
            false => {
                let capped = |idx: usize| middle_of(idx).min(longest).as_nanos();
                let sum: u128 = (0..BUCKETS).map(|idx| capped(idx) * u128::from(self.cells[idx])).sum();
                u64::try_from(sum / u128::from(count)).unwrap_or(limit)
            }
        };
        Some(Duration::from_nanos(nanos))
    }

    /// Prometheus buckets: upper edge in seconds and the number of samples up to it. Three edges per decade (1, 2.5, 5)
    /// of the ten that are counted: a scrape of 3,000 backends is a third as long, and a `quantile()` is hardly worse.
    pub fn cumulative(&self) -> impl Iterator<Item = (f64, u64)> + '_ {
        let mut seen = 0;
        self.cells[..EDGES].iter().enumerate().filter_map(move |(idx, n)| {
            seen += n;
            let shown = matches!(EDGES_PER_DECADE[idx % EDGES_PER_DECADE.len()], 1_000 | 2_500 | 5_000);
            // Whole microseconds divided once are exact in print: 0.0025, not 0.0025000000000000001.
            shown.then(|| ((EDGES_NANOS[idx] / 1_000) as f64 / 1e6, seen))
        })
    }
}

fn middle_of(bucket_idx: usize) -> Duration {
    let nanos = match bucket_idx {
        0 => EDGES_NANOS[0] / 2,
        EDGES => EDGES_NANOS[EDGES - 1],
        idx => ((EDGES_NANOS[idx - 1] as f64) * (EDGES_NANOS[idx] as f64)).sqrt() as u64,
    };
    Duration::from_nanos(nanos)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn histogram_of(samples: &[Duration]) -> Histogram {
        let histogram = Histogram::new(NonZeroUsize::MIN);
        samples.iter().for_each(|sample| histogram.record(*sample));
        histogram
    }

    #[test]
    fn edges_run_from_100_us_to_100_s_in_steps_of_at_most_29_percent() {
        assert_eq!(EDGES_NANOS[0], 100_000);
        assert_eq!(EDGES_NANOS[EDGES - 1], 100_000_000_000);
        for pair in EDGES_NANOS.windows(2) {
            let step = pair[1] as f64 / pair[0] as f64;
            assert!((1.23..=1.29).contains(&step), "{pair:?}");
        }
    }

    #[test]
    fn a_sample_on_an_edge_counts_below_it() {
        let read = histogram_of(&[Duration::from_micros(100), Duration::from_millis(1)]).read();
        let at = |seconds: f64| read.cumulative().find(|(edge, _)| *edge == seconds).unwrap().1;
        assert_eq!(at(0.0001), 1);
        assert_eq!(at(0.001), 2);
    }

    #[test]
    fn prometheus_edges_are_round_numbers() {
        let edges: Vec<String> = Distribution::default().cumulative().map(|(edge, _)| edge.to_string()).collect();
        assert_eq!(edges[..5], ["0.0001", "0.00025", "0.0005", "0.001", "0.0025"]);
        assert_eq!(edges.last().unwrap(), "100");
        assert_eq!(edges.len(), 19);
    }

    #[test]
    fn no_samples_have_no_quantile() {
        assert_eq!(histogram_of(&[]).read().quantile(0.5), None);
    }

    #[test]
    fn a_window_is_the_difference_of_two_readings() {
        let histogram = histogram_of(&[Duration::from_millis(1); 5]);
        let before = histogram.read();
        histogram.record(Duration::from_secs(2));
        let window = histogram.read().since(&before);
        assert_eq!(window.count(), 1);
        assert_eq!(window.sum(), Duration::from_secs(2));
        assert_eq!(before.plus(&window), histogram.read());
    }

    #[test]
    fn one_long_sample_weighs_no_more_than_it_may() {
        let [short, long] = [Duration::from_millis(100), Duration::from_secs(3_600)];
        let mean = |samples: &[Duration]| histogram_of(samples).read().mean_up_to(Duration::from_secs(2));
        assert_eq!(mean(&[]), None);
        assert_eq!(mean(&[short, short * 2, short * 3]), Some(short * 2));
        let mixed = mean(&[[short; 18].as_slice(), &[long; 1]].concat()).unwrap();
        assert!((180..=220).contains(&mixed.as_millis()), "{mixed:?}");
    }

    #[test]
    fn absurd_samples_land_in_the_outer_buckets() {
        let read = histogram_of(&[Duration::ZERO, Duration::from_secs(100_000)]).read();
        assert_eq!(read.quantile(0.0), Some(Duration::from_micros(50)));
        assert_eq!(read.quantile(1.0), Some(Duration::from_secs(100)));
    }

    proptest! {
        #[test]
        fn a_quantile_is_within_13_2_percent_of_the_true_one(
            mut micros in proptest::collection::vec(100_u64..100_000_000, 1..200),
            q in 0.0_f64..=1.0,
        ) {
            let samples: Vec<_> = micros.iter().map(|us| Duration::from_micros(*us)).collect();
            let answer = histogram_of(&samples).read().quantile(q).unwrap().as_nanos() as f64;
            micros.sort_unstable();
            let rank = ((q * micros.len() as f64).ceil() as usize).clamp(1, micros.len());
            let truth = (micros[rank - 1] * 1_000) as f64;
            // The lowest bucket has no lower edge; everything in it is at most 100 µs.
            prop_assume!(truth > 100_000.0);
            let ratio = answer / truth;
            prop_assert!((1.0 / 1.132..=1.132).contains(&ratio), "{ratio}");
        }
    }
}
