//! How long one pick takes, for every algorithm, with all backends up and with half of them down.
//! The budget is 100 ns among 1,000 backends. Does not measure contention between threads.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use portway::balance::peak_ewma::Ewma;
use portway::balance::{Admission, Candidate, Choice, Picker, hash_key};
use portway::config::checked::{Balance, HashKey};
use portway::units::Moment;

/// Shaped like a real backend: behind a pointer, with atomics that other threads write.
struct Backend {
    identity: String,
    weight: u32,
    in_flight: AtomicU32,
    is_up: AtomicBool,
    latency: Ewma,
}

impl Candidate for Backend {
    fn weight(&self) -> u32 {
        self.weight
    }

    fn in_flight(&self) -> u32 {
        self.in_flight.load(Ordering::Relaxed)
    }

    fn is_available(&self, _: Admission) -> bool {
        self.is_up.load(Ordering::Acquire)
    }

    fn latency(&self) -> &Ewma {
        &self.latency
    }

    fn identity(&self) -> &str {
        &self.identity
    }
}

#[derive(Clone, Copy)]
enum Members {
    Equal,
    Weighted,
    HalfDown,
}

fn backends(n: usize, members: Members) -> Vec<Arc<Backend>> {
    let backend = |i: usize| {
        let latency = Ewma::default();
        latency.observe(Duration::from_micros(500 + i as u64 * 7 % 900), Moment(i as u64 * 1_000_000));
        Arc::new(Backend {
            identity: format!("10.0.{}.{}:5000", i / 250, i % 250),
            weight: if matches!(members, Members::Weighted) { 1 + i as u32 % 7 } else { 1 },
            in_flight: AtomicU32::new(8 + i as u32 % 5),
            is_up: AtomicBool::new(!matches!(members, Members::HalfDown) || i.is_multiple_of(2)),
            latency,
        })
    };
    (0..n).map(backend).collect()
}

fn pick(criterion: &mut Criterion) {
    let algorithms = [
        ("least_requests", Balance::LeastRequests),
        ("peak_ewma", Balance::PeakEwma),
        ("round_robin", Balance::RoundRobin),
        ("random", Balance::Random),
        ("hash", Balance::Hash(HashKey::Ip)),
    ];
    for (name, balance) in algorithms {
        let mut group = criterion.benchmark_group(name);
        group.warm_up_time(Duration::from_millis(300)).measurement_time(Duration::from_secs(1)).sample_size(30);
        for (label, members) in
            [("equal", Members::Equal), ("weighted", Members::Weighted), ("half_down", Members::HalfDown)]
        {
            for n in [3, 100, 1_000] {
                let backends = backends(n, members);
                let picker = Picker::new(&balance, &backends);
                let mut random = 0_u64;
                group.bench_function(BenchmarkId::new(label, n), |bencher| {
                    bencher.iter(|| {
                        random = random.wrapping_add(0x9e37_79b9_7f4a_7c15);
                        let now = Moment(2_000_000_000 + random % 1_000_000);
                        let choice = Choice { now, key: Some(random), tried: &[], random, admission: Admission::Sound };
                        black_box(picker.pick(&backends, black_box(&choice)))
                    });
                });
            }
        }
        group.finish();
    }
    criterion.bench_function("hash_key/32_bytes", |bencher| {
        bencher.iter(|| hash_key(black_box(b"0123456789abcdef0123456789abcdef")));
    });
}

criterion_group!(benches, pick);
criterion_main!(benches);
