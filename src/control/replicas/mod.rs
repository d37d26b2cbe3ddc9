//! Makes, replaces and removes the replicas of services with `container:`, one task for all of them.
//! Promises that containers of other projects are never touched, that a replica which takes requests is ended only when
//! others stand for it or fewer are wanted, and that replicas outlive Portway: the next one adopts them by their labels.
//! It does not say how many there should be (`autoscale` and the file do) nor which take requests (discovery does).
//!
//! One look at everything decides everything: [`crew`] remembers, [`plan`] decides, [`act`] asks the engine. It looks when
//! an engine, the file, the members of a service or the number wanted change, and every second.
//!
//! A template that changes is replaced one step after the other, a quarter more than wanted at a time ([`plan::surge`]).
//! New replicas take requests when discovery's probe has passed, and an old one is retired when a new one carries its whole
//! share. Starts that fail [`replacement::TRIES`] times in a row, or one that takes no requests for
//! [`READY_WITHIN`], make the replacement a failed one: what takes requests stays, new or old, what does not is removed, and
//! it is tried again with pauses up to [`brake::PAUSE_MAX`]. The reload that began it has answered long before: it says which
//! services are being replaced, and the failure is told by the log, an event, the service's status and
//! `portway_config_last_reload_success`. What ends meanwhile is made again from what the file says, not from what it said.
//!
//! A service that is gone from the file, or that names another engine, leaves orphans, which finish and are removed where
//! they are: on engines that the file names, or did since Portway was started.
//!
//! `pull: always` fetches before every start, and once when the service is first seen or changed in the file. Replicas of
//! what the name meant before are then replaced as if the file had changed. Between two fetches nobody asks the registry.

pub mod act;
pub mod birth;
pub mod brake;
pub mod crew;
pub mod fetched;
pub mod plan;
mod post;
pub mod replacement;
mod tell;

use std::collections::{BTreeMap, BTreeSet};
use std::future::poll_fn;
use std::net::{IpAddr, Ipv4Addr};
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::{Id, JoinSet};

use self::birth::Birth;
pub use self::post::READY_WITHIN;
use self::post::{Common, Done, Order, Post, Tasks};
use self::tell::Teller;
use crate::config::checked::{ContainerSource, Endpoint, Source};
use crate::control::docker::census::Census;
use crate::control::docker::engine::{Engine, Publish};
use crate::control::docker::facts::{LABEL_PROJECT, LABEL_SERVICE};
use crate::control::docker::own::OwnId;
use crate::control::docker::reach::Vantage;
use crate::control::docker::retiring::Retiring;
use crate::control::docker::watch::Hub;
use crate::lifecycle::clock;
use crate::runtime::scale::Intent;
use crate::runtime::snapshot::Snapshot;
use crate::runtime::store::Store;
use crate::telemetry::events::Events;
use crate::telemetry::metrics::Metrics;
use crate::units::Moment;

/// Changes announce themselves; this is for those that forget to.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the task works with.
#[derive(Debug)]
pub struct Parts {
    /// Where engines are watched.
    pub hub: Arc<Hub>,
    /// Where discovery is told whom to drain.
    pub retiring: Arc<Retiring>,
    /// For people who look later.
    pub events: Arc<Events>,
    /// Where a failed replacement shows.
    pub metrics: Arc<Metrics>,
    /// Whose containers are ours: see [`docker::project`](crate::control::docker::project).
    pub project: Arc<str>,
}

/// The replicas of all services.
#[derive(Debug)]
pub struct Replicas {
    hub: Arc<Hub>,
    metrics: Arc<Metrics>,
    common: Common,
    /// The container that Portway is in.
    own: Option<OwnId>,
    posts: BTreeMap<Key, Post>,
    /// The engines of services that there are or were.
    engines: BTreeMap<Endpoint, watch::Receiver<Arc<Census>>>,
    tasks: JoinSet<Done>,
    /// Whose step each task is.
    owners: BTreeMap<Id, Key>,
}

/// A service by its name on its containers, and where they are.
type Key = (Arc<str>, Endpoint);

impl Replicas {
    /// Knows no service yet.
    pub fn new(parts: Parts) -> Self {
        let Parts { hub, retiring, events, metrics, project } = parts;
        let common = Common { project, retiring, teller: Teller { events } };
        Self {
            hub,
            metrics,
            common,
            own: OwnId::find(),
            posts: BTreeMap::new(),
            engines: BTreeMap::new(),
            tasks: JoinSet::new(),
            owners: BTreeMap::new(),
        }
    }

    /// Follows the configuration in effect, its engines and its intents for as long as the process lives. Replicas stay
    /// when it ends.
    pub async fn run<S>(mut self, store: Arc<Store<S>>) {
        let (mut changes, mut engines) = (store.changes(), self.hub.changes());
        loop {
            self.follow(&store.load_full());
            let now = clock::now();
            let next = self.round(now).unwrap_or(now.after(LOOK_EVERY)).min(now.after(LOOK_EVERY));
            let intents = self.posts.values_mut().filter_map(|post| post.order_mut()?.intents.as_mut());
            tokio::select! {
                changed = changes.changed() => changed.expect("the store is ours"),
                changed = engines.changed() => changed.expect("the hub is ours"),
                () = any_changed(intents) => {}
                Some(done) = self.tasks.join_next_with_id() => self.finish(done),
                () = tokio::time::sleep_until(clock::instant_at(next)) => {}
            }
        }
    }

    /// Takes in the configuration in effect, and which services there were.
    fn follow<S>(&mut self, snapshot: &Snapshot<S>) {
        let mut present = BTreeSet::new();
        for (declared, service) in snapshot.config.services.iter().zip(&snapshot.services) {
            let Source::Container(source) = &declared.source else { continue };
            let key = (Arc::from(declared.name.as_str()), source.endpoint.clone());
            let census = self.engine(&source.endpoint);
            let publish = self.publish(source, &census.borrow());
            let engine = || Engine::open(&source.endpoint);
            let post = self.posts.entry(key.clone()).or_insert_with(|| Post::new(key.0.clone(), engine(), census));
            present.insert(key);
            let is_same = |order: &&mut Order| Arc::ptr_eq(&order.service, service) && order.birth.publish == publish;
            if post.order_mut().as_ref().is_some_and(is_same) {
                continue;
            }
            let birth = Arc::new(Birth::new(declared.name.clone(), (**source).clone(), publish));
            let intents = declared.autoscale.as_ref().map(|_| service.group.scale.intents());
            post.follow(Some(Order { birth, service: service.clone(), replicas: source.replicas, intents }));
        }
        for (endpoint, census) in &self.engines {
            for name in services_of(&census.borrow(), &self.common.project) {
                let key = (name, endpoint.clone());
                let new = || Post::new(key.0.clone(), Engine::open(endpoint), census.clone());
                self.posts.entry(key.clone()).or_insert_with(new);
            }
        }
        for (key, post) in &mut self.posts {
            if !present.contains(key) {
                post.follow(None);
            }
        }
    }

    /// Where the port of replicas is published: a guess before the engine was heard, and nothing is decided before that.
    fn publish(&self, source: &ContainerSource, census: &Census) -> Publish {
        let own = self.own.as_ref().and_then(|own| own.among(census));
        let host = census.host.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        Vantage { own, host }.publish(&source.reach)
    }

    fn engine(&mut self, endpoint: &Endpoint) -> watch::Receiver<Arc<Census>> {
        let new = || self.hub.census(endpoint);
        self.engines.entry(endpoint.clone()).or_insert_with(new).clone()
    }

    fn round(&mut self, now: Moment) -> Option<Moment> {
        let mut next: Option<Moment> = None;
        for (key, post) in &mut self.posts {
            let mut tasks = Tasks { set: &mut self.tasks, owners: &mut self.owners, key };
            let at = post.round(&self.common, &mut tasks, now);
            next = next.into_iter().chain(at).min();
        }
        self.posts.retain(|_, post| !post.is_over());
        let n_failed = self.posts.values().filter(|post| post.has_failed()).count();
        self.metrics.replacements_failed(u32::try_from(n_failed).unwrap_or(u32::MAX));
        next
    }

    fn finish(&mut self, done: Result<(Id, Done), tokio::task::JoinError>) {
        let id = done.as_ref().map_or_else(tokio::task::JoinError::id, |(id, _)| *id);
        let key = self.owners.remove(&id);
        match done {
            Ok((_, done)) => {
                if let Some(post) = key.and_then(|key| self.posts.get_mut(&key)) {
                    post.finish(done, &self.common);
                }
            }
            Err(error) => tracing::error!(%error, "a step of a replica panicked: this is a bug of Portway"),
        }
    }
}

/// The services that have containers of ours, by their labels.
fn services_of(census: &Census, project: &str) -> BTreeSet<Arc<str>> {
    let ours = census
        .containers
        .iter()
        .filter(|container| container.labels.get(LABEL_PROJECT).is_some_and(|label| label == project));
    ours.filter_map(|container| container.labels.get(LABEL_SERVICE)).map(|name| name.as_str().into()).collect()
}

/// Waits until one of them has news; for ever if there are none.
async fn any_changed(receivers: impl Iterator<Item = &mut watch::Receiver<Intent>>) {
    let wait = |receiver| -> Pin<Box<dyn Future<Output = ()> + Send + '_>> { Box::pin(changed(receiver)) };
    let mut waits: Vec<_> = receivers.map(wait).collect();
    poll_fn(|context| match waits.iter_mut().any(|wait| wait.as_mut().poll(context).is_ready()) {
        true => Poll::Ready(()),
        false => Poll::Pending,
    })
    .await;
}

async fn changed(intents: &mut watch::Receiver<Intent>) {
    if intents.changed().await.is_err() {
        // Its service is gone; the file says so too.
        std::future::pending().await
    }
}
