//! Says that a service which had no replica has one again, and how long that took: once, in the log and as an event.
//! It promises to look once a second and to miss none that people could tell apart. It starts nothing: requests ring for a
//! replica, and whoever scales starts it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::time::MissedTickBehavior;

use crate::runtime::service::Service;
use crate::runtime::store::Store;
use crate::telemetry::events::Events;
use crate::units::ServiceName;

const EVERY: Duration = Duration::from_secs(1);

/// Watches for as long as the process lives.
pub async fn run<S>(store: Arc<Store<S>>, events: Arc<Events>) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    let mut told = HashMap::new();
    loop {
        ticks.tick().await;
        look(&store.load_full().services, &mut told, &events);
    }
}

/// `told` has the number of each service's last cold start that was told.
fn look(services: &[Arc<Service>], told: &mut HashMap<ServiceName, u64>, events: &Events) {
    for service in services.iter().filter(|service| service.policy.hold.is_some()) {
        let Some(start) = service.group.scale.state().cold_start else { continue };
        if told.insert(service.name.clone(), start.number) == Some(start.number) {
            continue;
        }
        let (name, seconds, held) = (&service.name, start.took.as_secs_f64(), start.held);
        tracing::info!(service = %name, took = ?Duration::from_millis(start.took.as_millis() as u64), held, "cold start over");
        let fields: [(&str, &dyn std::fmt::Display); 3] = [("service", name), ("seconds", &seconds), ("held", &held)];
        events.push("cold_start", "the first replica is ready", &fields);
    }
    told.retain(|name, _| services.iter().any(|service| service.name == *name));
}
