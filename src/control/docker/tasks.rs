//! The tasks of Swarm services on all nodes, asked of a manager every two seconds: engines tell no events of other nodes.
//! Promises that a manager which is away changes nothing, and that a service nobody asks for any more is not asked about.
//! It knows no service of ours.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;

use super::engine::Engine;
use super::facts::ContainerFacts;
use crate::config::checked::{Endpoint, SwarmSource};

const EVERY: Duration = Duration::from_secs(2);

/// The containers of the tasks of one service.
pub type Containers = Vec<Arc<ContainerFacts>>;

/// A manager, and a service of its Swarm.
type Key = (Endpoint, String);

/// Who is asked about what.
#[derive(Debug, Default)]
pub struct Tasks {
    asked: HashMap<Key, Asked>,
    changed: Arc<watch::Sender<()>>,
}

#[derive(Debug)]
struct Asked {
    known: watch::Receiver<Arc<Containers>>,
    _task: JoinSet<()>,
}

impl Tasks {
    /// What is known of the tasks of `source`; it is asked for from now on. To be called where tasks can be spawned.
    pub fn of(&mut self, source: &SwarmSource) -> Arc<Containers> {
        let asked = self.asked.entry(key(source)).or_insert_with(|| {
            let (publish, known) = watch::channel(Arc::default());
            let mut task = JoinSet::new();
            task.spawn(ask(Engine::open(&source.endpoint), source.service.clone(), publish, self.changed.clone()));
            Asked { known, _task: task }
        });
        asked.known.borrow().clone()
    }

    /// Asks about no others than `sources`.
    pub fn retain<'a>(&mut self, sources: impl Iterator<Item = &'a SwarmSource>) {
        let wanted: HashSet<Key> = sources.map(key).collect();
        self.asked.retain(|key, _| wanted.contains(key));
    }

    /// Wakes its holder after each change.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}

fn key(source: &SwarmSource) -> Key {
    (source.endpoint.clone(), source.service.clone())
}

async fn ask(
    engine: Engine,
    service: String,
    publish: watch::Sender<Arc<Containers>>,
    changed: Arc<watch::Sender<()>>,
) {
    let mut is_failing = false;
    loop {
        match engine.swarm_tasks(&service).await {
            Ok(found) => {
                is_failing = false;
                let is_news = publish.send_if_modified(|known| {
                    let is_news = !known.iter().map(|known| &**known).eq(&found);
                    *known = Arc::new(found.into_iter().map(Arc::new).collect());
                    is_news
                });
                if is_news {
                    changed.send_replace(());
                }
            }
            // The last good answer stays.
            Err(error) => {
                if !std::mem::replace(&mut is_failing, true) {
                    tracing::warn!(%service, %error, "tasks of a Swarm service not listed");
                }
            }
        }
        tokio::time::sleep(EVERY).await;
    }
}

/// Puts the tasks of other nodes beside the containers of the manager, which says more of its own.
pub fn join(containers: &mut Containers, tasks: &Containers) {
    let known: HashSet<Arc<str>> = containers.iter().map(|container| container.id.clone()).collect();
    containers.extend(tasks.iter().filter(|task| !known.contains(&task.id)).cloned());
}
