//! Notices that a configuration has changed: events of the system where there are any, and a look every few seconds.
//! It promises one report per change of content, however the file was saved (in place, renamed over, through a chain of
//! links, by a directory that was replaced), and none for a touch. It does not read what is written: `config::load` does.
//!
//! What it cannot know: whether a file that was closed is whole. A writer that keeps its file open is waited for; one that
//! opens it again for each piece, with pauses longer than [`QUIET`], shows pieces, and a piece may be valid YAML.

use std::sync::Arc;
use std::time::Duration;

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::time::Instant;

use crate::config::inputs::{Fingerprint, Inputs};

use burst::Sightings;
use targets::{Identity, Targets};

mod burst;
pub mod mount;
mod targets;

/// After the last event of a save, so that its later steps are part of it.
pub const QUIET: Duration = Duration::from_millis(100);
/// The longest wait for quiet: a file that is written all the time is read all the same.
pub const PATIENCE: Duration = Duration::from_secs(1);
/// Without events: network file systems, Docker Desktop and WSL have none, and watches can run out.
pub const POLL: Duration = Duration::from_secs(5);

/// Watches the files of one configuration.
pub struct Watch {
    inputs: Inputs,
    seen: Fingerprint,
    sightings: Arc<Sightings>,
    watcher: Option<RecommendedWatcher>,
    watched: Vec<(std::path::PathBuf, Identity)>,
    looked_at: Instant,
    /// A look was begun and not finished.
    is_due: bool,
    /// Said once.
    has_complained: bool,
}

impl Watch {
    /// Begins to watch. What is there now is known under `seen`.
    pub fn new(inputs: Inputs, seen: Fingerprint) -> Self {
        let mut watch = Self {
            inputs,
            seen,
            sightings: Arc::default(),
            watcher: None,
            watched: Vec::new(),
            looked_at: Instant::now(),
            is_due: false,
            has_complained: false,
        };
        watch.renew();
        // What happened between the reading and the first watch.
        watch.sightings.nudge();
        watch
    }

    /// Waits until there is content that nobody has read. Cancel-safe.
    pub async fn changed(&mut self) {
        loop {
            if !self.is_due {
                self.sightings.settled(self.looked_at + POLL).await;
                self.is_due = true;
            }
            if self.look().await {
                return;
            }
        }
    }

    /// Somebody has read the files: these are their names and their content.
    pub fn note(&mut self, inputs: Inputs, seen: Fingerprint) {
        self.seen = seen;
        if std::mem::replace(&mut self.inputs, inputs) != self.inputs {
            self.renew();
            self.sightings.nudge();
        }
    }

    async fn look(&mut self) -> bool {
        // Watched first, read second: what changes in between is an event.
        self.renew();
        let inputs = self.inputs.clone();
        let Ok(now) = tokio::task::spawn_blocking(move || inputs.fingerprint()).await else { return false };
        self.looked_at = Instant::now();
        self.is_due = false;
        std::mem::replace(&mut self.seen, now) != now
    }

    /// Watches what is there now: files are replaced, links lead elsewhere, directories come back.
    fn renew(&mut self) {
        let targets = Targets::of(&self.inputs);
        let wanted = targets.with_identities();
        self.sightings.watch_for(targets);
        if wanted == self.watched {
            return;
        }
        if self.watcher.is_none() {
            self.watcher = self.begin();
        }
        let Some(mut watcher) = self.watcher.take() else { return };
        for (path, _) in self.watched.iter().filter(|known| !wanted.contains(known)) {
            // It may be gone, and its watch with it.
            let _ = watcher.unwatch(path);
        }
        self.watched.retain(|known| wanted.contains(known));
        for target in wanted {
            if self.watched.contains(&target) {
                continue;
            }
            match watcher.watch(&target.0, RecursiveMode::NonRecursive) {
                Ok(()) => self.watched.push(target),
                Err(error) if matches!(error.kind, notify::ErrorKind::PathNotFound) => {}
                Err(error) => self.complain(&error),
            }
        }
        self.watched.sort();
        self.watcher = Some(watcher);
    }

    fn begin(&mut self) -> Option<RecommendedWatcher> {
        let sightings = self.sightings.clone();
        let watcher = notify::recommended_watcher(move |event| sightings.note(event));
        watcher.inspect_err(|error| self.complain(error)).ok()
    }

    fn complain(&mut self, error: &notify::Error) {
        if !std::mem::replace(&mut self.has_complained, true) {
            let every = POLL.as_secs();
            tracing::warn!(%error, "configuration cannot be watched: it is looked at every {every} s instead");
        }
    }
}

#[cfg(test)]
mod tests;
