//! `portway_docker_connected`: whether each engine in use is spoken to, as a metric.
//! Promises a series for each engine from the first news of it, for as long as a service needs it. It asks no engine.

use std::sync::Arc;

use super::watch::Hub;
use crate::telemetry::metrics::{Gauge, Metrics};

/// Follows the engines for as long as the process lives.
pub async fn run(hub: Arc<Hub>, metrics: Arc<Metrics>) {
    let mut changes = hub.changes();
    loop {
        show(&hub, &metrics);
        if changes.changed().await.is_err() {
            return; // the hub is gone
        }
    }
}

/// Shows each engine in use; one that is shown already is the same again.
fn show(hub: &Arc<Hub>, metrics: &Metrics) {
    for endpoint in hub.endpoints() {
        let (weak, name) = (Arc::downgrade(hub), endpoint.to_string());
        let read = move || weak.upgrade().and_then(|hub| hub.is_connected(&endpoint)).map(|is| f64::from(u8::from(is)));
        metrics.watch(Gauge::DockerConnected, &[&name], read);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::checked::Endpoint;

    #[tokio::test]
    async fn an_engine_is_among_the_metrics_for_as_long_as_it_is_used() {
        let (hub, metrics) = (Arc::new(Hub::new(Arc::default())), Metrics::new());
        let census = hub.census(&Endpoint::Unix("/nowhere/docker.sock".into()));
        show(&hub, &metrics);
        let line = "portway_docker_connected{endpoint=\"unix:///nowhere/docker.sock\"} 0\n";
        assert!(metrics.render().contains(line), "{}", metrics.render());
        drop(census);
        assert!(!metrics.render().contains("portway_docker_connected"), "{}", metrics.render());
    }
}
