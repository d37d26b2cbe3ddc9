//! What all connections of one listener share, made once when it is bound.
//! It promises values that a request only has to clone, and that whoever accepts hears of its closing. It accepts nothing:
//! the worker does.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use tokio::sync::Notify;

use crate::config::checked::{ListenAddress, Listener};
use crate::http::forwarded::Scheme;
use crate::telemetry::metrics::ListenerMetrics;
use crate::units::Moment;

/// A listener as its connections see it.
pub(crate) struct ListenerContext {
    /// As the configuration names it.
    pub(crate) address: String,
    /// The same, as it was read.
    pub(crate) declared: ListenAddress,
    /// Our end; `None` for a unix socket. The address is that of the socket, which may be a wildcard.
    pub(crate) local: Option<SocketAddr>,
    /// What is spoken on it.
    pub(crate) scheme: Scheme,
    /// Its counters.
    pub(crate) metrics: ListenerMetrics,
    /// Its own cap; `u32::MAX` is none.
    connections_max: AtomicU32,
    connections: AtomicU32,
    n_accepted: AtomicU64,
    /// When what is still open on it is cut: a `Moment`, or zero while it is open.
    cut_at: AtomicU64,
    closing: Notify,
}

impl ListenerContext {
    pub(crate) fn new(listener: &Listener, local: Option<SocketAddr>, metrics: ListenerMetrics) -> Self {
        Self {
            address: listener.address.to_string(),
            declared: listener.address.clone(),
            local,
            scheme: Scheme::Http,
            metrics,
            connections_max: AtomicU32::new(connections_max(listener)),
            connections: AtomicU32::new(0),
            n_accepted: AtomicU64::new(0),
            cut_at: AtomicU64::new(0),
            closing: Notify::new(),
        }
    }

    /// Takes over what may change while it is open.
    pub(crate) fn reconfigure(&self, listener: &Listener) {
        self.connections_max.store(connections_max(listener), Relaxed);
    }

    /// Accepts nothing more; what is open may go on until `cut_at`.
    pub(crate) fn close(&self, cut_at: Moment) {
        self.cut_at.store(cut_at.0.max(1), Relaxed);
        self.closing.notify_waiters();
    }

    /// When what is open on it is cut; `None` while it is open.
    pub(crate) fn cut_at(&self) -> Option<Moment> {
        Some(self.cut_at.load(Relaxed)).filter(|at| *at != 0).map(Moment)
    }

    /// Waits until it is to be closed.
    pub(crate) async fn closing(&self) {
        loop {
            let notified = self.closing.notified();
            if self.cut_at().is_some() {
                return;
            }
            notified.await;
        }
    }

    /// Whether its socket is somebody else's, too.
    pub(crate) fn is_handed_over(&self) -> bool {
        matches!(self.declared, ListenAddress::Fd(_))
    }

    /// Open connections.
    pub(crate) fn connections(&self) -> u32 {
        self.connections.load(Relaxed)
    }

    pub(crate) fn has_room(&self) -> bool {
        self.connections() < self.connections_max.load(Relaxed)
    }

    /// Connections since the start.
    pub(crate) fn n_accepted(&self) -> u64 {
        self.n_accepted.load(Relaxed)
    }

    pub(crate) fn entered(&self) {
        self.n_accepted.fetch_add(1, Relaxed);
        self.connections.fetch_add(1, Relaxed);
    }

    pub(crate) fn left(&self) {
        self.connections.fetch_sub(1, Relaxed);
    }
}

fn connections_max(listener: &Listener) -> u32 {
    listener.max_connections.map_or(u32::MAX, |limit| limit.get())
}
