//! What the tests of this module share, and the loop itself against real sockets.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use super::*;
use crate::config::checked::{self, Health, Initial, Probe};
use crate::config::expand::ProcessEnvironment;
use crate::config::load;
use crate::runtime::registry::Registry;
use crate::runtime::service::Service;
use crate::runtime::snapshot::{Build, Snapshot};
use crate::runtime::standing::Reason;

/// `health: /healthz` with the defaults.
pub(super) fn health() -> Health {
    Health {
        probe: Probe::Http("/healthz".to_owned()),
        host: None,
        headers: vec![],
        every: Duration::from_secs(2),
        timeout: Duration::from_secs(1),
        healthy_after: NonZeroU32::new(2).unwrap(),
        unhealthy_after: NonZeroU32::new(3).unwrap(),
        expect: vec![200..=399],
        initial: Initial::Up,
    }
}

/// Services as a configuration has them, with their state kept from one to the next.
pub(super) struct World {
    pub(super) registry: Registry,
    pub(super) metrics: Arc<Metrics>,
    pub(super) snapshot: Arc<Snapshot<()>>,
}

impl World {
    /// `yaml` is what stands under `services:`; `change` adds what is under test.
    pub(super) fn new(yaml: &str, change: impl Fn(&mut checked::Service)) -> Self {
        let metrics = Metrics::new();
        let registry = Registry::new(metrics.clone());
        let snapshot = Arc::new(build(yaml, change, &registry, &metrics, None));
        Self { registry, metrics, snapshot }
    }

    pub(super) fn reload(&mut self, yaml: &str, change: impl Fn(&mut checked::Service)) {
        self.snapshot = Arc::new(build(yaml, change, &self.registry, &self.metrics, Some(&self.snapshot)));
    }

    pub(super) fn services(&self) -> impl Iterator<Item = (&checked::Service, &Arc<Service>)> {
        self.snapshot.config.services.iter().zip(&self.snapshot.services)
    }
}

fn build(
    yaml: &str,
    change: impl Fn(&mut checked::Service),
    registry: &Registry,
    metrics: &Metrics,
    previous: Option<&Snapshot<()>>,
) -> Snapshot<()> {
    let text = format!("services: {{ {yaml} }}");
    let mut config = load::parse(&text, "test", &ProcessEnvironment).unwrap_or_else(|d| panic!("{:?}", d.list)).config;
    config.services.iter_mut().for_each(change);
    Snapshot::build(config, &Build { generation: 1, registry, metrics, stack: &|_| None, previous })
}

async fn answering(status: &'static str) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut request = [0; 1024];
            let _ = stream.read(&mut request).await;
            let _ = stream.write_all(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n").as_bytes()).await;
        }
    });
    address
}

async fn until(what: &str, holds: impl Fn() -> bool) {
    let wait = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), wait).await.unwrap_or_else(|_| panic!("never: {what}"));
}

#[tokio::test]
async fn the_loop_takes_out_what_fails_and_follows_a_reload() {
    let (good, bad) = (answering("200 OK").await, answering("500 Oh").await);
    let quickly = |service: &mut checked::Service| {
        service.health = Some(Health { every: Duration::from_millis(20), ..health() });
    };
    let yaml = format!("web: {{ backends: [\"{good}\", \"{bad}\"] }}");
    let world = World::new(&yaml, quickly);
    let store = Arc::new(Store::new(build(&yaml, quickly, &world.registry, &world.metrics, None)));
    let (events, findings) = (Arc::new(Events::new()), Arc::new(Findings::default()));
    let prober = Prober::new(world.metrics.clone(), events.clone(), findings.clone());
    let running = tokio::spawn(prober.run(store.clone()));
    let service = store.load().services[0].clone();
    let members = service.members();
    let (up, down) = (&members.members[0].backend, &members.members[1].backend);

    until("the failing backend is out", || down.standing.has(Reason::Unhealthy)).await;
    until("both were asked", || findings.of(up.id).is_some()).await;
    assert!(up.standing.is_plain());
    assert_eq!(findings.of(down.id).as_deref(), Some("GET /healthz: 500"));
    let event = &events.all()[0];
    assert_eq!((event.kind.as_str(), event.message.as_str()), ("backend_unhealthy", "backend unhealthy"));
    assert_eq!(event.fields[2], ("why".to_owned(), "GET /healthz: 500".to_owned()));
    let page = world.metrics.render();
    assert!(page.contains(&format!("portway_backend_healthy{{service=\"web\",backend=\"{good}\"}} 1")), "{page}");
    assert!(page.contains(&format!("portway_backend_healthy{{service=\"web\",backend=\"{bad}\"}} 0")), "{page}");
    assert!(page.contains("portway_probes_total{service=\"web\",result=\"wrong_answer\"}"), "{page}");

    let kinder = |service: &mut checked::Service| {
        quickly(service);
        service.health.as_mut().unwrap().expect = vec![200..=599];
    };
    let next = build(&yaml, kinder, &world.registry, &world.metrics, Some(&store.load()));
    store.publish(next);
    until("the new configuration finds it well", || down.standing.is_plain()).await;
    running.abort();
}

#[tokio::test]
async fn more_backends_than_the_limit_are_probed_in_turn_and_the_limit_is_counted() {
    let good = answering("200 OK").await;
    let services: Vec<String> =
        (0..PROBES_MAX + 50).map(|n| format!("s{n}: {{ route: /{n}, backends: [\"{good}\"] }}")).collect();
    let yaml = services.join(", ");
    let change = |service: &mut checked::Service| service.health = Some(Health { initial: Initial::Down, ..health() });
    let world = World::new(&yaml, change);
    let store = Arc::new(Store::new(build(&yaml, change, &world.registry, &world.metrics, None)));
    let prober = Prober::new(world.metrics.clone(), Arc::default(), Arc::default());
    let running = tokio::spawn(prober.run(store.clone()));
    let all = store.load().services.clone();
    let is_up = |service: &Arc<Service>| service.members().members[0].backend.standing.is_plain();
    until("everybody was probed", || all.iter().all(is_up)).await;
    let page = world.metrics.render();
    assert!(page.contains("portway_limit_hits_total{limit=\"probes\"} 1"), "{page}");
    running.abort();
}
