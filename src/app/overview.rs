//! The present state of a process as the admin API shows it: counters read, rates taken over the last seconds.
//! It promises consistent words for the same thing on every surface. It changes nothing.

mod backend;
mod replicas;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::admin::{
    BackendState, BackendStatus, ListenerStatus, PassedOver, ProcessState, RefusedConfig, ServiceStatus, SourceStatus,
    Status, StatusSource, Traffic,
};
use crate::app::App;
use crate::app::listeners::Listeners;
use crate::config::checked;
use crate::control::discovery::notes::Notes;
use crate::control::health::findings::Findings;
use crate::control::outlier::sentences::Sentences;
use crate::control::reload;
use crate::lifecycle::clock;
use crate::proxy::stack::Stack;
use crate::runtime::service::Service;
use crate::runtime::store::Store;
use crate::telemetry::metrics::{Metrics, ServiceReading};
use crate::units::{Moment, ServiceName};

/// Rates and percentiles are those of the last so many seconds.
const WINDOW: usize = 10;
/// Between two readings.
const EVERY: Duration = Duration::from_secs(1);

/// Reads the state of a process.
pub(super) struct Overview {
    store: Arc<Store<Stack>>,
    metrics: Arc<Metrics>,
    findings: Arc<Findings>,
    notes: Arc<Notes>,
    sentences: Arc<Sentences>,
    listeners: Arc<Listeners>,
    file: Option<PathBuf>,
    reloads: reload::Handle,
    workers: usize,
    started: Moment,
    readings: Mutex<VecDeque<Reading>>,
}

/// What all services had counted at one moment.
struct Reading {
    at: Moment,
    unrouted: ServiceReading,
    services: Vec<(ServiceName, ServiceReading)>,
}

impl Overview {
    pub(super) fn new(app: &App, reloads: reload::Handle) -> Self {
        Self {
            store: app.store.clone(),
            metrics: app.metrics.clone(),
            findings: app.findings.clone(),
            notes: app.containers.notes.clone(),
            sentences: app.sentences.clone(),
            listeners: app.listeners.clone(),
            file: app.setup.file.clone(),
            reloads,
            workers: app.workers.len(),
            started: clock::now(),
            readings: Mutex::default(),
        }
    }

    /// Takes a reading every second.
    pub(super) async fn watch(self: Arc<Self>) {
        let mut ticks = tokio::time::interval(EVERY);
        loop {
            ticks.tick().await;
            let reading = self.read();
            let mut readings = self.readings();
            readings.push_back(reading);
            while readings.len() > WINDOW {
                readings.pop_front();
            }
        }
    }

    fn readings(&self) -> MutexGuard<'_, VecDeque<Reading>> {
        self.readings.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read(&self) -> Reading {
        let snapshot = self.store.load_full();
        let services = snapshot.services.iter().map(|service| (service.name.clone(), service.metrics.read())).collect();
        Reading { at: clock::now(), unrouted: self.metrics.unrouted().read(), services }
    }

    fn service(&self, declared: &checked::Service, service: &Arc<Service>, recent: &Recent) -> ServiceStatus {
        let (set, now) = (service.members(), clock::now());
        let (counted, notes) = (recent.of(&service.name), self.notes.of(&service.name));
        let passed_over = |(container, why)| PassedOver { container, why };
        let unresolved = set.unresolved.iter().map(|name| BackendStatus {
            address: name.to_string(),
            container: None,
            state: BackendState::Unresolved,
            why: None,
            share: None,
            weight: 1,
            in_flight: 0,
            requests: 0,
            errors: 0,
            p50_ms: None,
            p99_ms: None,
        });
        ServiceStatus {
            name: service.name.to_string(),
            routes: declared.routes.iter().map(|route| route.display.clone()).collect(),
            source: SourceStatus::of(&declared.source),
            replicas: replicas::of(declared, service, now),
            engines_away: notes.engines,
            passed_over: notes.containers.into_iter().map(passed_over).collect(),
            traffic: recent.traffic(counted.as_ref()),
            in_flight: set.members.iter().map(|member| u64::from(member.backend.in_flight())).sum(),
            queue: service.group.queue.len().into(),
            queue_limit: service.policy.queue.size.into(),
            retry_ratio: counted.as_ref().map_or(0.0, |c| ratio(c.retries.iter().sum(), c.requests())),
            backends: set.members.iter().map(|member| self.backend(member, now)).chain(unresolved).collect(),
        }
    }
}

impl StatusSource for Overview {
    fn status(&self, state: ProcessState) -> Status {
        let snapshot = self.store.load_full();
        let now = clock::now();
        let recent = Recent::between(self.readings().front(), self.read());
        let declared = snapshot.config.services.iter().zip(&snapshot.services);
        let services = declared.map(|(declared, service)| self.service(declared, service, &recent));
        let listeners = self.listeners.contexts().into_iter().map(|listener| ListenerStatus {
            address: listener.address.clone(),
            protocol: listener.scheme.as_str().to_owned(),
            connections: listener.connections().into(),
            accepted: listener.n_accepted(),
        });
        let told = self.reloads.told();
        let refused = told.refused.as_ref();
        Status {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            state,
            uptime_s: now.since(self.started).as_secs(),
            generation: snapshot.generation,
            generation_age_s: now.since(told.applied_at).as_secs(),
            rollback_to: told.rolled_back_to(),
            refused_config: refused
                .map(|refused| RefusedConfig { age_s: now.since(refused.at).as_secs(), error: refused.error.clone() }),
            needs_restart: told.needs_restart().into_iter().map(str::to_owned).collect(),
            config_file: self.file.as_ref().map(|file| file.display().to_string()),
            workers: self.workers,
            traffic: recent.traffic(Some(&recent.total())),
            listeners: listeners.collect(),
            services: services.collect(),
        }
    }

    fn config_yaml(&self) -> String {
        // Written outside the lock, which a reload waits for.
        let active = self.reloads.told().history.active().clone();
        active.text.read(&active.config).to_owned()
    }
}

/// What was counted between two readings.
struct Recent {
    span: Duration,
    unrouted: ServiceReading,
    services: Vec<(ServiceName, ServiceReading)>,
}

impl Recent {
    fn between(earlier: Option<&Reading>, later: Reading) -> Self {
        let Some(earlier) = earlier else {
            return Self { span: EVERY, unrouted: later.unrouted, services: later.services };
        };
        let counted = |(name, reading): (ServiceName, ServiceReading)| {
            let before = earlier.services.iter().find(|(known, _)| *known == name);
            let counted = before.map_or_else(|| reading.clone(), |(_, before)| reading.since(before));
            (name, counted)
        };
        Self {
            span: later.at.since(earlier.at).max(Duration::from_millis(1)),
            unrouted: later.unrouted.since(&earlier.unrouted),
            services: later.services.into_iter().map(counted).collect(),
        }
    }

    fn of(&self, name: &ServiceName) -> Option<ServiceReading> {
        self.services.iter().find(|(known, _)| known == name).map(|(_, counted)| counted.clone())
    }

    fn total(&self) -> ServiceReading {
        self.services.iter().fold(self.unrouted.clone(), |mut total, (_, more)| {
            for (sum, n) in total.by_class.iter_mut().zip(more.by_class) {
                *sum += n;
            }
            total.duration = total.duration.plus(&more.duration);
            total
        })
    }

    fn traffic(&self, counted: Option<&ServiceReading>) -> Traffic {
        let Some(counted) = counted else { return Traffic::default() };
        Traffic {
            req_per_s: counted.requests() as f64 / self.span.as_secs_f64(),
            p50_ms: counted.duration.quantile(0.50).map(millis),
            p99_ms: counted.duration.quantile(0.99).map(millis),
            error_ratio: ratio(counted.errors(), counted.requests()),
        }
    }
}

fn ratio(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

pub(super) fn millis(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}
