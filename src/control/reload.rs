//! The one task that owns the active configuration: whoever wants another asks it, and is answered after the fact.
//! It promises all or nothing: everything that can fail (reading, checking, binding) comes before the first effect, and one
//! swap makes all of it current. It does not know the data plane: what it opens there is behind [`Edges`].

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{mpsc, oneshot};

use crate::config::checked::{self, Config, Source};
use crate::config::diagnostic::Diagnostics;
use crate::config::diff::Diff;
use crate::config::expand::ProcessEnvironment;
use crate::config::inputs::Inputs;
use crate::config::load::{self, Loaded};
use crate::control::history::{Applied, History, Origin, Text};
use crate::control::watch::{self, Watch};
use crate::lifecycle::{clock, drain};
use crate::runtime::registry::Registry;
use crate::runtime::snapshot::Snapshot;
use crate::runtime::store::Store;
use crate::telemetry::events::Events;
use crate::telemetry::metrics::Metrics;
use crate::units::Moment;

mod apply;
mod edge_spans;
mod report;

use edge_spans::EdgeSpans;

/// Asks that wait for the task: more come only from a script that asks without listening.
const ASKS_MAX: usize = 64;
/// Files that change while they are read are read again so often.
const READS_MAX: usize = 5;

/// What a configuration sets up beside the snapshot: listeners, the access log, the admin listener.
pub trait Edges: Send + Sync {
    /// Opens what `next` names and is not open. Nothing has changed yet: the commit that comes back does that, and cannot
    /// fail; dropped instead, it closes what was opened.
    fn prepare(&self, next: &Arc<Config>) -> Result<Commit, EdgeError>;
}

/// Makes prepared edges current.
pub type Commit = Box<dyn FnOnce() + Send>;

/// Why something cannot be opened.
#[derive(Debug)]
pub struct EdgeError {
    /// What names it.
    pub edge: Edge,
    /// Says what, and behind the first full stop what to do.
    pub message: String,
}

/// A part of the configuration that names something to open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Edge {
    /// The listener at this place of the list.
    Listener(usize),
    /// The access log.
    AccessLog,
    /// The admin listener.
    Admin,
}

/// What the task works with.
pub struct Parts<S> {
    /// Where the configuration is published.
    pub store: Arc<Store<S>>,
    /// Whose backends come and go with it.
    pub registry: Arc<Registry>,
    /// Gauges of reloads, queues and backends.
    pub metrics: Arc<Metrics>,
    /// For people who look later.
    pub events: Arc<Events>,
    /// Makes the filter stack of a service.
    pub stack: fn(&checked::Service) -> Option<S>,
    /// Everything else that a configuration opens.
    pub edges: Box<dyn Edges>,
    /// A process that ends takes no configuration any more.
    pub drain: drain::Watch,
    /// Where the configuration is read; `None` for a built-in one.
    pub file: Option<PathBuf>,
}

/// What became of an ask.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// Another configuration is in effect.
    Applied(Change),
    /// What was read does what is in effect already.
    Unchanged {
        /// Its number.
        generation: u64,
    },
    /// Nothing has changed.
    Refused {
        /// What stays in effect.
        generation: u64,
        /// Why.
        refusal: Refusal,
    },
}

/// A configuration that took effect.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its number.
    pub generation: u64,
    /// From the one before.
    pub diff: Diff,
    /// From the ask to the last effect.
    pub took: Duration,
    /// Where it came from.
    pub origin: Origin,
    /// Keys that are changed and take effect at the next start only.
    pub needs_restart: Vec<&'static str>,
    /// What is odd about it.
    pub warnings: Arc<Diagnostics>,
    /// Services whose replicas are made from something else now: they are replaced from here on, which may fail.
    pub replacing: Vec<String>,
}

/// Why nothing changed.
#[derive(Clone, Debug)]
pub enum Refusal {
    /// The file is wrong.
    Invalid(Arc<Diagnostics>),
    /// Something that it names cannot be opened.
    Edge {
        /// What and why.
        message: Arc<str>,
        /// The same at its place in the file, where there is one.
        shown: Option<Arc<Diagnostics>>,
    },
    /// There is no file to read again.
    NoFile,
    /// There is no such generation to return to.
    NoGeneration {
        /// What was asked for; `None` is the one before.
        wanted: Option<u64>,
        /// What there is.
        known: Vec<u64>,
    },
    /// The process is on its way out.
    Draining,
}

/// What the task tells about itself at any time.
#[derive(Debug)]
pub struct Told {
    /// The last good configurations.
    pub history: History,
    /// When the active one took effect.
    pub applied_at: Moment,
    /// What the process was started with.
    pub started_with: Arc<Config>,
    /// What the file said when it was last right.
    pub in_file: Arc<Config>,
    /// The last refusal since something was last applied or found unchanged.
    pub refused: Option<Refused>,
}

/// A refused configuration.
#[derive(Clone, Debug)]
pub struct Refused {
    /// When, since 1970-01-01 UTC.
    pub at_unix: Duration,
    /// The same, for ages.
    pub at: Moment,
    /// In a line.
    pub error: String,
}

impl Told {
    /// Keys of the active configuration that take effect at the next start only.
    pub fn needs_restart(&self) -> Vec<&'static str> {
        crate::config::diff::needing_restart(&self.started_with, &self.history.active().config)
    }

    /// The generation that was returned to, if the file says something else.
    pub fn rolled_back_to(&self) -> Option<u64> {
        let active = self.history.active();
        match active.origin {
            Origin::Rollback(to) if !Diff::between(&self.in_file, &active.config).is_empty() => Some(to),
            Origin::Rollback(_) | Origin::File => None,
        }
    }
}

enum Ask {
    Reload,
    Rollback(Option<u64>),
}

struct Message {
    ask: Ask,
    reply: oneshot::Sender<Outcome>,
}

/// Asks the task. Clones are the same.
#[derive(Clone)]
pub struct Handle {
    asks: mpsc::Sender<Message>,
    told: Arc<Mutex<Told>>,
}

impl Handle {
    /// Reads the file again; the answer comes when what is in it is in effect, or is not to be. `None` if the task has
    /// ended: the process does.
    pub async fn reload(&self) -> Option<Outcome> {
        self.ask(Ask::Reload).await
    }

    /// Returns to a configuration of the past: that of a generation, or the one before the active one.
    pub async fn rollback(&self, generation: Option<u64>) -> Option<Outcome> {
        self.ask(Ask::Rollback(generation)).await
    }

    /// What there is to tell now. Not to be held across an `.await`.
    pub fn told(&self) -> MutexGuard<'_, Told> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn ask(&self, ask: Ask) -> Option<Outcome> {
        let (reply, answer) = oneshot::channel();
        self.asks.send(Message { ask, reply }).await.ok()?;
        answer.await.ok()
    }
}

/// The task.
pub struct Reloads<S> {
    parts: Parts<S>,
    asks: mpsc::Receiver<Message>,
    handle: Handle,
    watch: Option<Watch>,
}

impl<S: Clone + Send + Sync + 'static> Reloads<S> {
    /// Begins with the configuration that is in effect and its text.
    pub fn new(parts: Parts<S>, yaml: String) -> (Self, Handle) {
        let snapshot = parts.store.load_full();
        let (config, generation) = (snapshot.config.clone(), snapshot.generation);
        let (at_unix, text) = (clock::unix_now(), Arc::new(Text::written(yaml)));
        let first = Applied { generation, at_unix, origin: Origin::File, config: config.clone(), text };
        let told = Told {
            history: History::new(first),
            applied_at: clock::now(),
            in_file: config.clone(),
            started_with: config,
            refused: None,
        };
        let (sender, asks) = mpsc::channel(ASKS_MAX);
        let handle = Handle { asks: sender, told: Arc::new(Mutex::new(told)) };
        apply::watch_queues(&snapshot, None, &parts.metrics);
        (Self { parts, asks, handle: handle.clone(), watch: None }, handle)
    }

    /// Watches the file and answers whoever asks, for as long as the process lives.
    pub async fn run(mut self) {
        self.begin_watch().await;
        loop {
            tokio::select! {
                biased;
                Some(message) = self.asks.recv() => {
                    let outcome = match message.ask {
                        Ask::Reload => self.reload().await,
                        Ask::Rollback(generation) => self.rollback(generation).await,
                    };
                    // Whoever asked may have gone away meanwhile.
                    let _ = message.reply.send(outcome);
                }
                () = changed(&mut self.watch) => {
                    self.reload().await;
                }
            }
        }
    }

    async fn begin_watch(&mut self) {
        let Some(file) = self.parts.file.clone() else { return };
        if watch::mount::is_mount_point(&file) {
            let file = file.display();
            tracing::warn!(
                %file,
                "configuration is a mount of its own: an editor that saves by renaming is never seen. Mount its directory"
            );
        }
        let began = clock::now();
        let Read { result, inputs, fingerprint } = read(file).await;
        self.watch = Some(Watch::new(inputs, fingerprint));
        let active = self.parts.store.load().config.clone();
        // It may have changed since the process was started with it.
        if !result.as_ref().is_ok_and(|loaded| Diff::between(&active, &loaded.config).is_empty()) {
            self.take(result, began).await;
        }
    }

    /// Reads the file and applies what is in it.
    async fn reload(&mut self) -> Outcome {
        let began = clock::now();
        let Some(file) = self.parts.file.clone() else { return self.refuse(Refusal::NoFile) };
        let Read { result, inputs, fingerprint } = read(file).await;
        if let Some(watch) = &mut self.watch {
            watch.note(inputs, fingerprint);
        }
        self.take(result, began).await
    }

    async fn take(&mut self, result: Result<Loaded, Diagnostics>, began: Moment) -> Outcome {
        match result {
            Err(diagnostics) => self.refuse(Refusal::Invalid(Arc::new(diagnostics))),
            Ok(Loaded { config, raw, warnings, .. }) => {
                let spans = EdgeSpans::of(&raw);
                let (config, text, warnings) = (Arc::new(config), Text::of(raw).into(), warnings.into());
                self.handle.told().in_file = config.clone();
                self.apply(apply::Candidate { config, text, spans, warnings, origin: Origin::File, began }).await
            }
        }
    }

    async fn rollback(&mut self, generation: Option<u64>) -> Outcome {
        let began = clock::now();
        let found = self.handle.told().history.find(generation).cloned();
        let Some(Applied { config, text, generation, .. }) = found else {
            let known = self.handle.told().history.entries().map(|entry| entry.generation).collect();
            return self.refuse(Refusal::NoGeneration { wanted: generation, known });
        };
        let (origin, warnings, spans) = (Origin::Rollback(generation), Arc::default(), EdgeSpans::default());
        self.apply(apply::Candidate { config, text, spans, warnings, origin, began }).await
    }
}

/// The services of `next` whose members are made from something else than `before` says: they are to be replaced.
fn replaced<S>(before: &Snapshot<S>, next: &Config) -> Vec<String> {
    let template = |service: &checked::Service| match &service.source {
        Source::Container(source) => Some(source.template.clone()),
        _ => None,
    };
    let is_replaced = |next: &&checked::Service| {
        before.declared(&next.name).is_some_and(|(declared, service)| {
            let (old, new) = (template(declared), template(next));
            old.is_some() && new.is_some() && old != new && !service.members().members.is_empty()
        })
    };
    next.services.iter().filter(is_replaced).map(|service| service.name.to_string()).collect()
}

/// The next change of what is watched; never, if nothing is.
async fn changed(watch: &mut Option<Watch>) {
    match watch {
        Some(watch) => watch.changed().await,
        None => std::future::pending().await,
    }
}

/// What came of reading.
struct Read {
    result: Result<Loaded, Diagnostics>,
    inputs: Inputs,
    fingerprint: crate::config::inputs::Fingerprint,
}

/// Reads the files on another thread: a large configuration takes its time, and a network file system may take any.
async fn read(file: PathBuf) -> Read {
    let reading = tokio::task::spawn_blocking(move || {
        let mut outcome = load::read_all(&file, &ProcessEnvironment);
        for _ in 1..READS_MAX {
            // One version of every file, also if a directory is swapped meanwhile.
            if outcome.inputs.fingerprint() == outcome.fingerprint {
                break;
            }
            outcome = load::read_all(&file, &ProcessEnvironment);
        }
        let load::Outcome { result, inputs, fingerprint } = outcome;
        Read { result, inputs, fingerprint }
    });
    reading.await.expect("reading a configuration panics on no input")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::expand::ProcessEnvironment;
    use crate::runtime::backend::{Instance, Located};
    use crate::runtime::snapshot::Build;

    fn config(image: &str) -> Config {
        let text = format!("services: {{ thumbs: {{ container: {{ image: \"{image}\", port: 1, replicas: 1 }} }} }}");
        load::parse(&text, "portway.yaml", &ProcessEnvironment).expect("it is right").config
    }

    #[test]
    fn a_service_is_replaced_when_it_has_replicas_that_are_made_from_something_else() {
        let metrics = Metrics::new();
        let registry = Registry::new(metrics.clone());
        let snapshot = |image: &str| {
            let build =
                Build { generation: 1, registry: &registry, metrics: &metrics, stack: &|_| None, previous: None };
            Snapshot::<()>::build(config(image), &build)
        };
        assert_eq!(replaced(&snapshot("acme:1"), &config("acme:2")), [""; 0]);
        let instance = Some(Instance { id: "a".into(), name: "a".into() });
        let place = Located { address: ([127, 0, 0, 1], 1).into(), instance };
        registry.note_found(&snapshot("acme:1").services[0].name, [place].into());
        assert_eq!(replaced(&snapshot("acme:1"), &config("acme:2")), ["thumbs"]);
        assert_eq!(replaced(&snapshot("acme:1"), &config("acme:1")), [""; 0]);
    }
}
