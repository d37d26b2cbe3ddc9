//! Once a second: tells each service how many requests it had and how fast it was, for retry budgets and hedging.
//! It promises that requests read one number where they would have to add up many. It measures nothing: the metrics do.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::lifecycle::clock;
use crate::runtime::budget::Reading;
use crate::runtime::store::Store;
use crate::telemetry::histogram::Distribution;
use crate::telemetry::window::Window;
use crate::units::ServiceName;

/// Shorter than the budget's buckets of a second, so that none goes by without a mark.
const EVERY: Duration = Duration::from_millis(500);

/// Beats for as long as the process lives.
pub async fn run<S>(store: Arc<Store<S>>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut latencies = HashMap::new();
    loop {
        ticks.tick().await;
        beat(&store, &mut latencies);
    }
}

/// What services that hedge had measured, some seconds ago.
type Latencies = HashMap<ServiceName, Window<Distribution>>;

fn beat<S>(store: &Store<S>, latencies: &mut Latencies) {
    let now = clock::now();
    let snapshot = store.load_full();
    for service in &snapshot.services {
        service.group.budget.tick(Reading { now, requests: service.metrics.requests_sent() });
        if service.policy.hedge.is_none() {
            latencies.remove(&service.name);
            continue;
        }
        let durations = service.metrics.durations();
        let window = latencies.entry(service.name.clone()).or_insert_with(|| Window::new(now, Distribution::default()));
        service.group.tempo.note(&durations.since(window.baseline(now).0));
        window.tick(now, || durations);
    }
    latencies.retain(|name, _| snapshot.declared(name).is_some());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::checked::Hedge;
    use crate::config::expand::ProcessEnvironment;
    use crate::config::load;
    use crate::runtime::registry::Registry;
    use crate::runtime::snapshot::{Build, Snapshot};
    use crate::telemetry::metrics::Metrics;

    fn store(hedge: Option<Hedge>) -> Store<()> {
        let yaml = "services: { web: { backends: [\"127.0.0.1:5000\"] } }";
        let mut config = load::parse(yaml, "test.yaml", &ProcessEnvironment).unwrap().config;
        config.services[0].hedge = hedge;
        let metrics = Metrics::new();
        let registry = Registry::new(metrics.clone());
        let build = Build { generation: 1, registry: &registry, metrics: &metrics, stack: &|_| None, previous: None };
        Store::new(Snapshot::build(config, &build))
    }

    #[test]
    fn a_service_that_hedges_learns_its_tempo() {
        let (store, mut latencies) = (store(Some(Hedge::AfterP95)), Latencies::new());
        let service = store.load().services[0].clone();
        (0..100).for_each(|_| service.metrics.request_ended(200, Duration::from_millis(10)));
        beat(&store, &mut latencies);
        let p95 = service.group.tempo.p95().expect("a hundred requests");
        assert!((8..=12).contains(&p95.as_millis()), "{p95:?}");
    }

    #[test]
    fn a_service_that_does_not_hedge_costs_no_reading() {
        let (store, mut latencies) = (store(None), Latencies::new());
        beat(&store, &mut latencies);
        assert!(latencies.is_empty());
    }
}
