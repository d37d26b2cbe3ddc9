//! Watches the engines in use: one watcher per engine lists what is there, hears what happens and looks at what changed.
//! Promises that a container which is told to end is known to be ending before it has ended, that whatever an engine does
//! not say is found by the next list, and that an engine which is away keeps its last census. It knows no service.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt};
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

use super::census::{Census, Connection};
use super::engine::{Engine, Inspected, Which};
use super::error::{EngineError, EngineErrorKind};
use super::looks::Looks;
use super::place::Place;
use super::reading::Event;
use super::roll::Roll;
use crate::config::checked::Endpoint;
use crate::lifecycle::clock;
use crate::telemetry::events::Events;
use crate::units::Moment;

/// Events are missing sometimes, those of health checks above all.
const LIST_EVERY: Duration = Duration::from_secs(30);
/// What happened between the first list and the first event that is heard is found by a second list.
const LIST_AGAIN: Duration = Duration::from_secs(1);
/// Lists that may know more than was heard. Later ones may not: then the stream is dead, as it is behind a firewall that
/// forgot it, and nobody would ever say so.
const LISTS_FIRST: u32 = 2;
/// At a begin, when each container's process began is asked for one after the other, in no haste: it is needed only if the
/// engine goes away some day.
const FIRST_LOOKS_EVERY: Duration = Duration::from_millis(10);
/// Before an engine that failed is asked again: at first, and at most.
const PAUSE_FIRST: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Events that are taken in before anybody is told: what an engine says at once is said at once.
const EVENTS_AT_ONCE: usize = 256;
/// For the name of an engine's host.
const NAME_PATIENCE: Duration = Duration::from_secs(4);

/// The watchers of all engines in use.
#[derive(Debug)]
pub struct Hub {
    events: Arc<Events>,
    watchers: Mutex<HashMap<Endpoint, Watching>>,
    changed: Arc<watch::Sender<()>>,
}

#[derive(Debug)]
struct Watching {
    census: Arc<watch::Sender<Arc<Census>>>,
    task: AbortHandle,
}

impl Hub {
    /// Watches nothing yet, and tells in `events` when an engine is lost or found again.
    pub fn new(events: Arc<Events>) -> Self {
        Self { events, watchers: Mutex::default(), changed: Arc::default() }
    }

    /// What is on the engine at `endpoint`, now and from now on. It is watched for as long as somebody holds what this
    /// returns. To be called where tasks can be spawned.
    pub fn census(&self, endpoint: &Endpoint) -> watch::Receiver<Arc<Census>> {
        let mut watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(watching) = watchers.get(endpoint)
            && watching.census.receiver_count() > 0
            && !watching.task.is_finished()
        {
            return watching.census.subscribe();
        }
        // What was known when the last watcher ended is better than nothing.
        let census = watchers.remove(endpoint).map_or_else(Arc::default, |ended| {
            ended.task.abort();
            ended.census
        });
        let receiver = census.subscribe();
        let watcher = Watcher {
            engine: Engine::open(endpoint),
            roll: Roll::default(),
            looks: Looks::default(),
            connection: Connection::Opening,
            host: None,
            census: census.clone(),
            changed: self.changed.clone(),
            events: self.events.clone(),
        };
        let task = tokio::spawn(watcher.run()).abort_handle();
        watchers.insert(endpoint.clone(), Watching { census, task });
        receiver
    }

    /// The engines in use.
    pub fn endpoints(&self) -> Vec<Endpoint> {
        let watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        let in_use = watchers.iter().filter(|(_, watching)| watching.census.receiver_count() > 0);
        in_use.map(|(endpoint, _)| endpoint.clone()).collect()
    }

    /// Whether an engine is spoken to; `None` if it is not in use.
    pub fn is_connected(&self, endpoint: &Endpoint) -> Option<bool> {
        let watchers = self.watchers.lock().unwrap_or_else(PoisonError::into_inner);
        let watching = watchers.get(endpoint).filter(|watching| watching.census.receiver_count() > 0)?;
        Some(watching.census.borrow().connection == Connection::Open)
    }

    /// Wakes its holder after each change on any engine.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

impl Drop for Hub {
    fn drop(&mut self) {
        for watching in self.watchers.get_mut().unwrap_or_else(PoisonError::into_inner).values() {
            watching.task.abort();
        }
    }
}

/// Watches one engine.
struct Watcher {
    engine: Engine,
    roll: Roll,
    looks: Looks,
    connection: Connection,
    host: Option<IpAddr>,
    census: Arc<watch::Sender<Arc<Census>>>,
    changed: Arc<watch::Sender<()>>,
    events: Arc<Events>,
}

/// A look at one container that is over: whom, what was found, and how many events had been heard when it began.
type Look = (Arc<str>, Result<Option<Inspected>, EngineError>, u64);

/// What is on its way between an engine and its watcher.
struct Session {
    list: JoinSet<(Result<Vec<super::facts::ContainerFacts>, EngineError>, u64)>,
    looks: JoinSet<Look>,
    next_list: Moment,
    n_lists: u32,
}

impl Watcher {
    async fn run(mut self) {
        let census = self.census.clone();
        tokio::select! {
            () = self.watch() => {}
            () = census.closed() => {}
        }
    }

    async fn watch(&mut self) {
        let mut pause = PAUSE_FIRST;
        loop {
            let (n_lists, ended) = self.session().await;
            if n_lists > 0 {
                pause = PAUSE_FIRST;
            }
            if let Err(error) = ended {
                self.lost(error);
            }
            // Half of it is chance: engines that come back meet their clients one by one.
            tokio::time::sleep(pause.mul_f64(0.5 + fastrand::f64() / 2.0)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    /// One stream of events from its begin to its end, with what is asked beside it; how many lists came, and whether it
    /// just ended, as streams do that go through a proxy.
    async fn session(&mut self) -> (u32, Result<(), EngineError>) {
        if let Err(error) = self.find_host().await {
            return (0, Err(error));
        }
        self.looks = Looks::default();
        let mut events = self.engine.events();
        let (list, looks) = (JoinSet::new(), JoinSet::new());
        let mut session = Session { list, looks, next_list: clock::now(), n_lists: 0 };
        loop {
            match self.step(&mut session, &mut events).await {
                Ok(Go::On) => {}
                Ok(Go::Over) => return (session.n_lists, Ok(())),
                Err(error) => return (session.n_lists, Err(error)),
            }
        }
    }

    async fn step(
        &mut self,
        session: &mut Session,
        events: &mut (impl Stream<Item = Result<Option<Event>, EngineError>> + Unpin),
    ) -> Result<Go, EngineError> {
        let now = clock::now();
        if session.list.is_empty() && session.next_list <= now {
            let (engine, heard) = (self.engine.clone(), self.roll.heard());
            session.list.spawn(async move { (engine.containers(Which::All).await, heard) });
        }
        while let Some(id) = self.looks.start(now) {
            let (engine, heard) = (self.engine.clone(), self.roll.heard());
            session.looks.spawn(async move {
                let found = match engine.inspect(&id).await {
                    Err(error) if error.kind == EngineErrorKind::NotFound => Ok(None),
                    found => found.map(Some),
                };
                (id, found, heard)
            });
        }
        let next_list = Some(session.next_list).filter(|_| session.list.is_empty());
        let wake = next_list.into_iter().chain(self.looks.next()).min();
        tokio::select! {
            event = events.next() => match event {
                Some(event) => self.hear(event?, events),
                None => Ok(Go::Over),
            },
            Some(listed) = session.list.join_next() => {
                if let Ok((all, asked_at)) = listed {
                    let is_news = self.listed(all?, asked_at);
                    if session.n_lists == 0 {
                        self.look_at_processes();
                    }
                    session.n_lists += 1;
                    if is_news && session.n_lists > LISTS_FIRST {
                        tracing::debug!(engine = %self.engine.place(), "the list knows what no event told: listening anew");
                        return Ok(Go::Over);
                    }
                }
                let pause = if session.n_lists < LISTS_FIRST { LIST_AGAIN } else { LIST_EVERY };
                session.next_list = clock::now().after(pause);
                Ok(Go::On)
            }
            Some(look) = session.looks.join_next() => {
                if let Ok(look) = look {
                    self.looked(look)?;
                }
                Ok(Go::On)
            }
            () = sleep_until(wake) => Ok(Go::On),
        }
    }

    /// Takes in `first` and whatever else the engine has said by now, and publishes once.
    fn hear(
        &mut self,
        first: Option<Event>,
        events: &mut (impl Stream<Item = Result<Option<Event>, EngineError>> + Unpin),
    ) -> Result<Go, EngineError> {
        let now = clock::now();
        let (mut next, mut n, mut is_news, mut go) = (Some(first), 0, false, Ok(Go::On));
        while let Some(event) = next.take() {
            if let Some(event) = event {
                tracing::trace!(?event, "heard");
                let effect = self.roll.hear(&event, now);
                is_news |= effect.is_news;
                if effect.look {
                    self.looks.want(event.container, now);
                }
            }
            n += 1;
            if n < EVENTS_AT_ONCE {
                match events.next().now_or_never() {
                    Some(Some(Ok(event))) => next = Some(event),
                    Some(Some(Err(error))) => go = Err(error),
                    Some(None) => go = Ok(Go::Over),
                    None => {}
                }
            }
        }
        if is_news {
            self.publish();
        }
        go
    }

    /// Takes in the list; whether it knew what was not heard.
    fn listed(&mut self, all: Vec<super::facts::ContainerFacts>, asked_at: u64) -> bool {
        let now = clock::now();
        let (was_unheard, looks) = self.roll.listed(all, asked_at);
        let mut is_news = self.roll.spare_stubborn(now) || was_unheard;
        for id in looks {
            self.looks.want(id, now);
        }
        if self.connection != Connection::Open {
            self.found();
            is_news = true;
        }
        if is_news {
            self.publish();
        }
        was_unheard
    }

    /// A container that restarted while nobody listened may be where it was and what it was, as far as lists tell.
    fn look_at_processes(&mut self) {
        let (known, unknown) = self.roll.running();
        let mut at = clock::now();
        for id in known {
            self.looks.want(id, at);
        }
        for id in unknown {
            at = at.after(FIRST_LOOKS_EVERY);
            self.looks.want_at(id, at);
        }
    }

    fn looked(&mut self, (id, found, asked_at): Look) -> Result<(), EngineError> {
        self.looks.finish(&id);
        let found = match found {
            Err(error) if error.is_away() => return Err(error),
            Err(error) => {
                // The next list knows.
                tracing::debug!(container = %id, %error, "container not looked at");
                return Ok(());
            }
            Ok(found) => found,
        };
        let now = clock::now();
        let effect = self.roll.looked(&id, found, asked_at, now);
        if effect.look {
            self.looks.want(id, now);
        }
        if effect.is_news {
            self.publish();
        }
        Ok(())
    }

    fn publish(&self) {
        self.census.send_replace(Arc::new(Census {
            containers: self.roll.containers(),
            connection: self.connection.clone(),
            host: self.host,
            ends: self.roll.ends(),
        }));
        self.changed.send_replace(());
    }

    fn found(&mut self) {
        let place = self.engine.place();
        match std::mem::replace(&mut self.connection, Connection::Open) {
            Connection::Lost(_) => {
                tracing::info!(engine = %place, "Docker engine found again");
                self.events.push("engine_found", "Docker engine found again", &[("engine", place)]);
            }
            _ => tracing::debug!(engine = %place, "Docker engine found"),
        }
    }

    fn lost(&mut self, error: EngineError) {
        let place = self.engine.place();
        if matches!(self.connection, Connection::Lost(_)) {
            tracing::debug!(engine = %place, %error, "Docker engine still away");
        } else {
            tracing::warn!(engine = %place, %error, "Docker engine lost: what was known of its containers stays");
            self.events.push("engine_lost", "Docker engine lost", &[("engine", place), ("error", &error)]);
        }
        let lost = Connection::Lost(error);
        if self.connection == lost {
            return;
        }
        self.connection = lost.clone();
        // The containers of before: after a restart of the watcher our own roll may still be empty.
        self.census.send_modify(|census| Arc::make_mut(census).connection = lost);
        self.changed.send_replace(());
    }

    /// Where ports are reached that are published on all addresses of the engine's host.
    async fn find_host(&mut self) -> Result<(), EngineError> {
        self.host = Some(match self.engine.place() {
            Place::Unix(_) | Place::Unknown(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
            Place::Tcp { host, port } => {
                let found = timeout(NAME_PATIENCE, tokio::net::lookup_host((host.as_str(), *port))).await;
                let all: Vec<IpAddr> =
                    found.ok().and_then(Result::ok).into_iter().flatten().map(|address| address.ip()).collect();
                let first = all.iter().find(|ip| ip.is_ipv4()).or(all.first());
                *first.ok_or_else(|| EngineError {
                    place: self.engine.place().clone(),
                    kind: EngineErrorKind::Away,
                    said: format!("the name `{host}` has no address"),
                })?
            }
        });
        Ok(())
    }
}

/// Whether a session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Go {
    On,
    Over,
}

async fn sleep_until(moment: Option<Moment>) {
    match moment {
        Some(moment) => tokio::time::sleep_until(clock::instant_at(moment)).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
