//! Where the current snapshot stands. It promises that readers never wait and never see half a configuration.
//! It does not build snapshots.

use std::sync::Arc;

use arc_swap::{ArcSwap, Guard};
use tokio::sync::{Notify, watch};

use crate::runtime::snapshot::Snapshot;

/// The current snapshot, swapped whole.
#[derive(Debug)]
pub struct Store<S> {
    current: ArcSwap<Snapshot<S>>,
    resolution: Notify,
    changed: watch::Sender<()>,
}

impl<S> Store<S> {
    /// A store that begins with `snapshot`.
    pub fn new(snapshot: Snapshot<S>) -> Self {
        Self { current: ArcSwap::from_pointee(snapshot), resolution: Notify::new(), changed: watch::Sender::default() }
    }

    /// The current snapshot for a moment: not to be held across an `.await`.
    pub fn load(&self) -> Guard<Arc<Snapshot<S>>> {
        self.current.load()
    }

    /// The current snapshot to keep.
    pub fn load_full(&self) -> Arc<Snapshot<S>> {
        self.current.load_full()
    }

    /// Says that an address did not answer: the names should be resolved again soon.
    pub fn want_resolution(&self) {
        self.resolution.notify_one();
    }

    /// Waits until somebody wants the names resolved.
    pub async fn resolution_wanted(&self) {
        self.resolution.notified().await;
    }

    /// Replaces the snapshot; requests that began with the old one end with it. The old one comes back, so that whoever
    /// publishes can take it apart and no worker has to.
    pub fn publish(&self, snapshot: Snapshot<S>) -> Arc<Snapshot<S>> {
        let old = self.current.swap(Arc::new(snapshot));
        self.note_change();
        old
    }

    /// Says that control loops have something to look at: a configuration, members, a backend that asked to be left alone.
    pub fn note_change(&self) {
        self.changed.send_replace(());
    }

    /// Wakes its holder after each [`note_change`](Self::note_change) and each publication.
    pub fn changes(&self) -> watch::Receiver<()> {
        self.changed.subscribe()
    }
}
