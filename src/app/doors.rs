//! The admin listener as reloads change it: another token at once, another address by opening that one first.
//! It promises that whoever asked for the reload over the old address still gets the answer. It serves nothing itself.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use tokio::sync::Notify;

use crate::admin::{BindError, Keys, Resources, Server};
use crate::app::listeners::port_of;
use crate::config::checked::Admin;

/// The admin listener of a process; it may have none.
#[derive(Default)]
pub(super) struct AdminDoor {
    /// What it serves, once the process runs.
    resources: OnceLock<Arc<Resources>>,
    open: Mutex<Option<Open>>,
}

/// An admin listener that is open.
struct Open {
    declared: Admin,
    keys: Keys,
    stopped: Arc<Notify>,
}

/// What is to be done about it.
pub(super) enum Change {
    Nothing,
    /// The same address, another token.
    Keys(Admin),
    /// Another address, bound by now, or none.
    Server(Option<(Admin, Server)>),
}

impl AdminDoor {
    /// Begins to serve. Called once, where tasks can be spawned.
    pub(super) fn open(&self, resources: Arc<Resources>, first: Option<(Admin, Server)>) {
        let _ = self.resources.set(resources);
        self.apply(Change::Server(first));
    }

    /// Binds what is named and not open.
    pub(super) fn prepare(&self, next: Option<&Admin>) -> Result<Change, BindError> {
        let lock = self.lock();
        let open = lock.as_ref().map(|open| &open.declared);
        Ok(match next {
            next if next == open => Change::Nothing,
            Some(next) if open.is_some_and(|open| open.address == next.address) => Change::Keys(next.clone()),
            Some(next) => {
                let port = port_of(&next.address);
                let is_ours = port.is_some() && port == open.and_then(|open| port_of(&open.address));
                let server = if is_ours { Server::bind_beside(next)? } else { Server::bind(next)? };
                Change::Server(Some((next.clone(), server)))
            }
            None => Change::Server(None),
        })
    }

    pub(super) fn apply(&self, change: Change) {
        let mut open = self.lock();
        match change {
            Change::Nothing => {}
            Change::Keys(declared) => {
                if let Some(open) = open.as_mut() {
                    open.keys.change(&declared);
                    open.declared = declared;
                }
            }
            Change::Server(next) => {
                if let Some(old) = open.take() {
                    old.stopped.notify_one();
                }
                *open = next.map(|(declared, server)| self.serve(declared, server));
            }
        }
    }

    fn serve(&self, declared: Admin, server: Server) -> Open {
        let (keys, stopped) = (server.keys(), Arc::new(Notify::new()));
        let resources = self.resources.get().expect("opened before anything is applied").clone();
        let serving = stopped.clone();
        tokio::spawn(async move {
            if let Err(error) = server.serve_until(resources, &serving).await {
                tracing::error!(%error, "admin listener ended");
            }
        });
        Open { declared, keys, stopped }
    }

    fn lock(&self) -> MutexGuard<'_, Option<Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
