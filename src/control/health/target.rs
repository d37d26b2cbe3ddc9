//! What is asked of the backends of one service, with the service itself: one per configuration of it.
//! Promises the `Host` that people expect: what `health` says, else the backend's own address. It sends nothing.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderValue;

use crate::config::checked::{Health, Probe};
use crate::runtime::service::Service;

/// The probes of one service under one configuration.
#[derive(Debug)]
pub struct Target {
    /// Whose policies hold.
    pub service: Arc<Service>,
    /// How it is probed.
    pub health: Health,
}

impl Target {
    /// The `Host`, or authority, of a probe of `address`.
    pub fn host(&self, address: SocketAddr) -> HeaderValue {
        let own = || HeaderValue::try_from(address.to_string()).expect("an address is plain ASCII");
        self.health.host.clone().unwrap_or_else(own)
    }
}

/// For people: `GET /healthz`, `tcp`, `grpc`.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.health.probe {
            Probe::Http(path) => write!(f, "GET {path}"),
            Probe::Tcp => f.write_str("tcp"),
            Probe::Grpc(name) if name.is_empty() => f.write_str("grpc"),
            Probe::Grpc(name) => write!(f, "grpc {name}"),
        }
    }
}
