//! What is asked of the backends of one service, worked out once per configuration.
//! Promises the `Host` that people expect: what they wrote, else the first host of the service's routes, else the
//! backend's own address. It sends nothing.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use http::HeaderValue;

use crate::config::checked::{self, Health, HostMatch, Probe, RouteAction};
use crate::runtime::service::Service;

/// The probes of one service under one configuration.
#[derive(Debug)]
pub struct Target {
    /// Whose policies hold.
    pub service: Arc<Service>,
    /// How it is probed.
    pub health: Health,
    host: Option<HeaderValue>,
}

impl Target {
    /// What `declared` asks of its backends; `None` if it has no `health:`.
    pub fn of(declared: &checked::Service, service: &Arc<Service>) -> Option<Self> {
        let health = declared.health.clone()?;
        let host = health.host.clone().or_else(|| first_host(declared));
        Some(Self { service: service.clone(), health, host })
    }

    /// Whether both ask the same question and judge the answer alike.
    pub fn agrees_with(&self, other: &Target) -> bool {
        self.health == other.health && self.host == other.host
    }

    /// The `Host`, or authority, of a probe of `address`.
    pub fn host(&self, address: SocketAddr) -> HeaderValue {
        let own = || HeaderValue::try_from(address.to_string()).expect("an address is plain ASCII");
        self.host.clone().unwrap_or_else(own)
    }
}

fn first_host(declared: &checked::Service) -> Option<HeaderValue> {
    let forwarding = declared.routes.iter().filter(|route| matches!(route.action, RouteAction::Forward(_)));
    let mut exact = forwarding.filter_map(|route| match &route.matcher.host {
        HostMatch::Exact(host) => Some(host),
        HostMatch::Any | HostMatch::Wildcard(_) => None,
    });
    exact.find_map(|host| HeaderValue::from_str(host).ok())
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
