//! `portway_replicas`: how many replicas each service has, starts and should have, as metrics.
//! Promises a series for each service that Portway scales or runs, for as long as it does. It decides nothing.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use crate::runtime::group::Group;
use crate::runtime::replicas::{Count, Wanted};
use crate::runtime::snapshot::Snapshot;
use crate::runtime::store::Store;
use crate::telemetry::metrics::{Gauge, Metrics};
use crate::units::ServiceName;

/// A value of the label `kind` with what it counts.
type Kind = (&'static str, fn(&Count) -> u32);
const KINDS: [Kind; 3] =
    [("desired", |count| count.desired), ("ready", |count| count.ready), ("starting", |count| count.starting)];

/// A service whose replicas are counted; its series end with it.
#[derive(Debug)]
struct Counted {
    wanted: Wanted,
    group: Weak<Group>,
}

impl Counted {
    fn read(&self) -> Option<Count> {
        self.group.upgrade().map(|group| self.wanted.count(&group))
    }
}

/// Follows the configuration for as long as the process lives.
pub async fn run<S>(store: Arc<Store<S>>, metrics: Arc<Metrics>) {
    let mut changes = store.changes();
    let mut counted = HashMap::new();
    loop {
        follow(&store.load_full(), &metrics, &mut counted);
        if changes.changed().await.is_err() {
            return; // the store is gone, and with it everything that could change
        }
    }
}

fn follow<S>(snapshot: &Snapshot<S>, metrics: &Metrics, counted: &mut HashMap<ServiceName, Arc<Counted>>) {
    let services = || snapshot.config.services.iter().zip(&snapshot.services);
    let scaled = services().filter_map(|(declared, service)| Wanted::of(declared).map(|wanted| (wanted, service)));
    let mut now = HashMap::new();
    for (wanted, service) in scaled {
        let is_same =
            |known: &Arc<Counted>| known.wanted == wanted && known.group.as_ptr() == Arc::as_ptr(&service.group);
        let entry = match counted.remove(&service.name).filter(is_same) {
            Some(known) => known,
            None => watch(&service.name, Counted { wanted, group: Arc::downgrade(&service.group) }, metrics),
        };
        now.insert(service.name.clone(), entry);
    }
    *counted = now;
}

fn watch(service: &ServiceName, counted: Counted, metrics: &Metrics) -> Arc<Counted> {
    let counted = Arc::new(counted);
    for (kind, of) in KINDS {
        let weak = Arc::downgrade(&counted);
        let read = move || weak.upgrade().and_then(|counted| counted.read()).map(|count| f64::from(of(&count)));
        metrics.watch(Gauge::Replicas, &[service.as_str(), kind], read);
    }
    counted
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::expand::ProcessEnvironment;
    use crate::config::load;
    use crate::runtime::registry::Registry;
    use crate::runtime::replicas::tests::up_to_ten;
    use crate::runtime::snapshot::Build;

    struct Stage {
        metrics: Arc<Metrics>,
        registry: Registry,
        counted: HashMap<ServiceName, Arc<Counted>>,
    }

    impl Stage {
        fn follow(&mut self, previous: Option<&Snapshot<()>>, n_scaled: usize) -> Snapshot<()> {
            let text =
                "services: { web: { backends: [\"127.0.0.1:1\"] }, api: { route: /api, backends: [\"127.0.0.1:2\"] } }";
            let mut config = load::parse(text, "test", &ProcessEnvironment).unwrap().config;
            for service in config.services.iter_mut().take(n_scaled) {
                service.autoscale = Some(up_to_ten());
            }
            let (registry, metrics) = (&self.registry, &self.metrics);
            let snapshot =
                Snapshot::build(config, &Build { generation: 1, registry, metrics, stack: &|_| None, previous });
            follow(&snapshot, &self.metrics, &mut self.counted);
            snapshot
        }

        fn series(&self) -> Vec<String> {
            let page = self.metrics.render();
            page.lines().filter(|line| line.starts_with("portway_replicas{")).map(str::to_owned).collect()
        }
    }

    #[test]
    fn services_that_are_scaled_have_their_replicas_among_the_metrics_for_as_long_as_they_are() {
        let metrics = Metrics::new();
        let mut stage = Stage { registry: Registry::new(metrics.clone()), metrics, counted: HashMap::new() };
        let first = stage.follow(None, 1);
        first.services[0].group.scale.intend(3, "load");
        first.services[0].group.scale.state().starting = 2;
        let expected = [
            "portway_replicas{service=\"web\",kind=\"desired\"} 3",
            "portway_replicas{service=\"web\",kind=\"ready\"} 3",
            "portway_replicas{service=\"web\",kind=\"starting\"} 2",
        ];
        assert_eq!(stage.series(), expected);
        let second = stage.follow(Some(&first), 2);
        assert_eq!(stage.series().len(), 6);
        stage.follow(Some(&second), 0);
        assert_eq!(stage.series(), [""; 0], "the services are there, but nobody scales them");
    }
}
