//! What all connections of one listener share, made once when it is bound.
//! It promises values that a request only has to clone. It accepts nothing: the worker does.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering::Relaxed};

use crate::config::checked::Listener;
use crate::http::forwarded::Scheme;
use crate::telemetry::metrics::ListenerMetrics;

/// A listener as its connections see it.
pub(crate) struct ListenerContext {
    /// As the configuration names it.
    pub(crate) address: String,
    /// Our end; `None` for a unix socket. The address is that of the socket, which may be a wildcard.
    pub(crate) local: Option<SocketAddr>,
    /// What is spoken on it.
    pub(crate) scheme: Scheme,
    /// Its counters.
    pub(crate) metrics: ListenerMetrics,
    /// Its own cap; `u32::MAX` is none.
    connections_max: u32,
    connections: AtomicU32,
    n_accepted: AtomicU64,
}

impl ListenerContext {
    pub(crate) fn new(listener: &Listener, local: Option<SocketAddr>, metrics: ListenerMetrics) -> Self {
        Self {
            address: listener.address.to_string(),
            local,
            scheme: Scheme::Http,
            metrics,
            connections_max: listener.max_connections.map_or(u32::MAX, |limit| limit.get()),
            connections: AtomicU32::new(0),
            n_accepted: AtomicU64::new(0),
        }
    }

    /// Open connections.
    pub(crate) fn connections(&self) -> u32 {
        self.connections.load(Relaxed)
    }

    pub(crate) fn has_room(&self) -> bool {
        self.connections() < self.connections_max
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
