//! The wiring of a process: configuration in, listeners, workers, control loops and admin out, drain at the end.
//! It promises that nothing is served unless everything could be bound, and that what was bound is drained.
//! It is the only module that knows all others; it decides nothing about requests.

mod by_hand;
mod containers;
mod doors;
mod edges;
mod listeners;
mod overview;
mod reloading;

use std::io;
use std::net::SocketAddr;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use crate::admin::{self, Resources};
use crate::config::checked::{Accept, Config};
use crate::control::autoscale::Autoscaler;
use crate::control::by_hand::ByHand;
use crate::control::cold_starts;
use crate::control::docker::gauges;
use crate::control::health::Prober;
use crate::control::health::findings::Findings;
use crate::control::outlier::Outliers;
use crate::control::outlier::sentences::Sentences;
use crate::control::reload::{self, Parts, Reloads};
use crate::control::resolve::Resolver;
use crate::control::{pulse, replica_gauges};
use crate::lifecycle::clock;
use crate::lifecycle::drain::{self, End, Plan, Reason, Trigger};
use crate::lifecycle::readiness::Readiness;
use crate::lifecycle::signal::{Request, Signals};
use crate::net::listener;
use crate::proxy::capacity::{self, Capacity};
use crate::proxy::handoff::Handoff;
use crate::proxy::stack::{self, Stack};
use crate::proxy::worker::{self, Intake, Shared, Worker};
use crate::runtime::registry::Registry;
use crate::runtime::snapshot::{Build, Snapshot};
use crate::runtime::store::Store;
use crate::telemetry::access_log::AccessLog;
use crate::telemetry::events::Events;
use crate::telemetry::metrics::Metrics;
use containers::Containers;
use doors::AdminDoor;
use edges::Edges;
use listeners::Listeners;
use overview::Overview;
use reloading::Answers;

/// How long what is in the access log's buffers may take to be written at the end.
const LOG_PATIENCE: Duration = Duration::from_secs(2);

/// What a process is started with.
pub struct Setup {
    /// What was checked.
    pub config: Config,
    /// Where it came from; `None` for a built-in configuration.
    pub file: Option<PathBuf>,
    /// Its long form, without secrets.
    pub yaml: String,
}

/// Why a process could not be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener.
    #[error(transparent)]
    Listen(#[from] listener::BindError),
    /// The admin listener.
    #[error(transparent)]
    Admin(#[from] admin::BindError),
    /// The access log.
    #[error("cannot open the access log {path}: {source}. Does its directory exist, and may this user write there?")]
    AccessLog {
        /// What the configuration names.
        path: String,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Threads, signals, timers.
    #[error("cannot start: {0}")]
    System(#[from] io::Error),
}

/// A started process: its workers run, its control loops do not yet.
pub struct App {
    store: Arc<Store<Stack>>,
    registry: Arc<Registry>,
    metrics: Arc<Metrics>,
    events: Arc<Events>,
    findings: Arc<Findings>,
    sentences: Arc<Sentences>,
    log: Arc<AccessLog>,
    admin: Option<admin::Server>,
    listeners: Arc<Listeners>,
    capacity: Arc<Capacity>,
    door: Arc<AdminDoor>,
    trigger: Trigger,
    readiness: Readiness,
    containers: Containers,
    setup: About,
    workers: Vec<JoinHandle<io::Result<()>>>,
}

/// What people are told about the configuration.
struct About {
    file: Option<PathBuf>,
    yaml: String,
}

impl App {
    /// Binds everything and starts the workers. Nothing is left behind if it fails.
    pub fn start(setup: Setup) -> Result<Self, StartError> {
        let Setup { config, file, yaml } = setup;
        let n_workers = config.workers;
        let metrics = Metrics::with_workers(n_workers);
        if let Some(limit) = capacity::raise_descriptor_limit() {
            tracing::debug!(limit, "descriptor limit raised");
        }
        capacity::reserve_descriptor_table(); // before the workers: alone, nobody waits for it
        let (listeners, intakes) = Listeners::new(&config, &metrics);
        let bound = listeners.prepare(&config)?;
        let admin = config.admin.as_ref().map(admin::Server::bind).transpose()?;
        let log = AccessLog::off(&metrics);
        log.apply(edges::prepare_log(&log, config.access_log.as_ref())?);
        let capacity = Arc::new(Capacity::new(config.limits.connections.get()));
        let registry = Arc::new(Registry::new(metrics.clone()));
        let build =
            Build { generation: 1, registry: &registry, metrics: &metrics, stack: &stack::build, previous: None };
        let store = Arc::new(Store::new(Snapshot::build(config, &build)));
        metrics.config_applied(1, clock::unix_now());
        listeners.apply(bound, &store.load().config);
        let (trigger, drain) = drain::new();
        let pseudonym = format!("portway-{:08x}", fastrand::u32(..)).into();
        let accept = store.load().config.accept;
        let (handoff, mut handed) = match accept {
            Accept::Kernel => (None, Vec::new()),
            Accept::Balanced => {
                let (handoff, handed) = Handoff::new(n_workers.get());
                (Some(handoff), handed)
            }
        };
        handed.reverse();
        let shared = Shared {
            store: store.clone(),
            metrics: metrics.clone(),
            capacity: capacity.clone(),
            drain,
            leaving: registry.leaving.clone(),
            pseudonym,
            handoff,
        };
        let mut workers = Vec::new();
        for (worker_idx, listeners) in intakes.into_iter().enumerate() {
            let intake = Intake { listeners, handed: handed.pop() };
            let worker = Worker::new(worker_idx, &shared, log.writer());
            workers.push(spawn_worker(worker_idx, worker, intake, trigger.hold())?);
        }
        let events = Arc::new(Events::new());
        Ok(Self {
            containers: Containers::new(&events, file.as_deref()),
            store,
            registry,
            metrics,
            events,
            findings: Arc::default(),
            sentences: Arc::default(),
            log: Arc::new(log),
            admin,
            listeners: Arc::new(listeners),
            capacity,
            door: Arc::default(),
            trigger,
            readiness: Readiness::new(),
            setup: About { file, yaml },
            workers,
        })
    }

    /// Where the TCP listeners of the configuration ended up, in its order: port 0 has become a real one.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.listeners.addresses()
    }

    /// Where the admin API listens.
    pub fn admin_address(&self) -> Option<String> {
        self.admin.as_ref().map(|admin| admin.address().to_string())
    }

    /// Asks for the drain from outside.
    pub fn trigger(&self) -> Trigger {
        self.trigger.clone()
    }

    /// Runs the control loops on this thread until the process is drained.
    pub fn run(mut self, signals: TakeSignals) -> Result<End, StartError> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let end = runtime.block_on(self.control(signals))?;
        // The resolver may sit in a system call that does not end; the process must.
        runtime.shutdown_background();
        for worker in self.workers.drain(..) {
            match worker.join() {
                Ok(ended) => ended?,
                Err(_) => return Err(io::Error::other("a worker thread panicked: this is a bug of Portway").into()),
            }
        }
        if !self.log.flush(LOG_PATIENCE) {
            tracing::warn!("access log not written to its end");
        }
        Ok(end)
    }

    async fn control(&mut self, signals: TakeSignals) -> Result<End, StartError> {
        let names = self.readiness.block("names of backends");
        let mut tasks = tokio::task::JoinSet::new();
        let (reloads, handle) = Reloads::new(self.reload_parts(), std::mem::take(&mut self.setup.yaml));
        let overview = Arc::new(Overview::new(self, handle.clone()));
        if let TakeSignals::Yes = signals {
            let asked = Asked { trigger: self.trigger.clone(), log: self.log.clone(), reloads: handle.clone() };
            tasks.spawn(obey_signals(Signals::new()?, asked));
        }
        let resources = Resources {
            source: overview.clone(),
            metrics: self.metrics.clone(),
            events: self.events.clone(),
            readiness: self.readiness.clone(),
            drain: self.trigger.clone(),
            by_hand: Arc::new(by_hand::Hands {
                control: ByHand::new(self.store.clone(), self.registry.clone(), self.events.clone()),
                overview: overview.clone(),
            }),
            reloading: Arc::new(Answers(handle)),
        };
        let declared = self.store.load().config.admin.clone();
        self.door.open(Arc::new(resources), declared.zip(self.admin.take()));
        tasks.spawn(overview.watch());
        // Before the names are resolved: addresses need not wait for them, and a name is probed as soon as it has one.
        let prober = Prober::new(self.metrics.clone(), self.events.clone(), self.findings.clone());
        tasks.spawn(prober.run(self.store.clone()));
        tasks.spawn(self.discovery().run(self.store.clone()));
        tasks.spawn(self.replicas().run(self.store.clone()));
        let mut resolver = Resolver::new(self.registry.clone(), self.metrics.clone());
        resolver.round(&self.store).await;
        drop(names);
        tasks.spawn(resolver.run(self.store.clone()));
        let outliers = Outliers::new(self.registry.clone(), self.metrics.clone(), self.events.clone());
        tasks.spawn(outliers.telling(self.sentences.clone()).run(self.store.clone()));
        tasks.spawn(cold_starts::run(self.store.clone(), self.events.clone()));
        let autoscaler = Autoscaler::new(self.registry.clone(), self.events.clone(), self.readiness.clone());
        tasks.spawn(autoscaler.run(self.store.clone()));
        tasks.spawn(reloads.run());
        tasks.spawn(pulse::run(self.store.clone()));
        tasks.spawn(replica_gauges::run(self.store.clone(), self.metrics.clone()));
        tasks.spawn(gauges::run(self.containers.hub.clone(), self.metrics.clone()));
        self.announce();
        let end = self.trigger.drive(|| self.begin_drain()).await;
        if end == End::Forced {
            let open: u32 = self.listeners.contexts().iter().map(|context| context.connections()).sum();
            tracing::warn!(connections = open, "not drained in time: what is still open is cut");
            // The workers cut what is open as soon as they see it.
            let _ = tokio::time::timeout(Duration::from_secs(1), self.trigger.released()).await;
        }
        tracing::info!(clean = end == End::Clean, "drained");
        Ok(end)
    }

    /// What the task that reloads works with.
    fn reload_parts(&self) -> Parts<Stack> {
        let (listeners, capacity) = (self.listeners.clone(), self.capacity.clone());
        let edges = Edges { listeners, capacity, log: self.log.clone(), admin: self.door.clone() };
        Parts {
            store: self.store.clone(),
            registry: self.registry.clone(),
            metrics: self.metrics.clone(),
            events: self.events.clone(),
            stack: stack::build,
            edges: Box::new(edges),
            drain: self.trigger.watch(),
            file: self.setup.file.clone(),
        }
    }

    /// Says who asked for the drain, whoever it was, and reads how it should go.
    fn begin_drain(&self) -> Plan {
        let shutdown = self.store.load().config.shutdown;
        if let Some(by) = self.trigger.watch().reason() {
            tracing::info!(%by, at_most = ?(shutdown.delay + shutdown.drain), "draining");
            self.events.push("draining", "draining", &[("by", &by)]);
        }
        Plan { delay: shutdown.delay, drain: shutdown.drain }
    }

    fn announce(&self) {
        let snapshot = self.store.load();
        for context in self.listeners.contexts() {
            tracing::info!(address = %context.address, "listening");
        }
        let admin = snapshot.config.admin.as_ref().map_or_else(|| "off".to_owned(), |a| a.address.to_string());
        let (services, routes) = (snapshot.services.len(), snapshot.table.len());
        tracing::info!(services, routes, workers = snapshot.config.workers, %admin, "ready");
        self.events.push("ready", "ready", &[("generation", &snapshot.generation)]);
    }
}

/// Whether this instance takes over the signals of its process: not when it is one of several in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TakeSignals {
    /// It does.
    Yes,
    /// Somebody else's.
    No,
}

fn spawn_worker(
    worker_idx: usize,
    worker: Arc<Worker>,
    intake: Intake,
    hold: drain::Hold,
) -> io::Result<JoinHandle<io::Result<()>>> {
    let thread = std::thread::Builder::new().name(format!("worker-{worker_idx}"));
    thread.spawn(move || {
        let ended = worker::run(worker, intake);
        drop(hold);
        ended
    })
}

/// What signals ask.
struct Asked {
    trigger: Trigger,
    log: Arc<AccessLog>,
    reloads: reload::Handle,
}

async fn obey_signals(mut signals: Signals, asked: Asked) {
    let Asked { trigger, log, reloads } = asked;
    loop {
        match signals.next().await {
            Request::Drain(name) => {
                if trigger.is_requested() {
                    tracing::warn!(signal = name, "asked again: ending now");
                }
                trigger.request(Reason::Signal(name));
            }
            Request::Reload => {
                // Not waited for: the next signal may be the one that ends the process.
                let reloads = reloads.clone();
                tokio::spawn(async move { reloads.reload().await });
            }
            Request::ReopenLogs => {
                log.reopen();
                tracing::info!("access log reopened");
            }
            Request::Upgrade => tracing::warn!("SIGUSR2: this version cannot hand over to a new binary"),
        }
    }
}

/// One data-plane thread per core.
pub fn default_workers() -> NonZeroUsize {
    std::thread::available_parallelism().unwrap_or(NonZeroUsize::MIN)
}
