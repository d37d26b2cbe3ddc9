//! How long a start or a reload takes for a large configuration: 1,000 services with 3 backends each.
//! It measures reading and checking the text, and building the snapshot, each alone and together. The goal is one second
//! for all of it, in `portway check` and at a start.

use std::hint::black_box;
use std::sync::Arc;

use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use portway::config::expand::ProcessEnvironment;
use portway::config::load::{self, Loaded};
use portway::proxy::stack::{self, Stack};
use portway::runtime::registry::Registry;
use portway::runtime::snapshot::{Build, Snapshot};
use portway::telemetry::metrics::Metrics;

const SERVICES: usize = 1_000;

fn yaml() -> String {
    let mut text = String::from("listen: \":8080\"\nservices:\n");
    for idx in 0..SERVICES {
        let (high, low) = (idx / 250, idx % 250);
        text += &format!(
            "  service-{idx}:\n    route: shop-{idx}.example.com/api\n    timeout: 15s\n    max_in_flight: 8\n    backends:\n      \
             - 10.{high}.{low}.1:5000\n      - 10.{high}.{low}.2:5000\n      - {{ address: \"10.{high}.{low}.3:5000\", weight: 2 }}\n"
        );
    }
    text
}

fn read(text: &str) -> Loaded {
    load::parse(text, "bench.yaml", &ProcessEnvironment).expect("the bench's own configuration is valid")
}

fn build(loaded: Loaded) -> Snapshot<Stack> {
    let metrics: Arc<Metrics> = Metrics::with_workers(loaded.config.workers);
    let registry = Registry::new(metrics.clone());
    Snapshot::build(
        loaded.config,
        &Build { generation: 1, registry: &registry, metrics: &metrics, stack: &stack::build, previous: None },
    )
}

fn benches(criterion: &mut Criterion) {
    let text = yaml();
    let mut group = criterion.benchmark_group("1000 services x 3 backends");
    group.sample_size(10);
    group.bench_function("read and check", |bencher| bencher.iter(|| read(black_box(&text))));
    let loaded = read(&text);
    group.bench_function("build", |bencher| bencher.iter_batched(|| loaded.clone(), build, BatchSize::PerIteration));
    group.bench_function("all of it", |bencher| bencher.iter(|| build(read(black_box(&text)))));
    group.finish();
}

criterion_group!(all, benches);
criterion_main!(all);
