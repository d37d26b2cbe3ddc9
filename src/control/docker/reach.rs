//! At which address a container is reached from here: on a network that both are on, or at a port of the engine's host. Pure.
//! It promises that a container which cannot be reached says why and what to do. It connects to nothing.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::num::NonZeroU16;

use super::engine::Publish;
use super::facts::ContainerFacts;
use crate::config::checked::{AddressFrom, Reach};

/// What Docker calls the network of the host itself: a container on it has no address of its own.
const HOST_NETWORK: &str = "host";

/// From where a container is to be reached.
#[derive(Clone, Copy, Debug)]
pub struct Vantage<'a> {
    /// Portway's own container, if the engine runs it.
    pub own: Option<&'a ContainerFacts>,
    /// Where the engine's host is.
    pub host: IpAddr,
}

/// Why a container cannot be reached.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unreachable {
    /// Its port is on no port of the host.
    #[error(
        "its port {0} is not published: start it with `-p 127.0.0.1::{0}`, or set `address: network` and let Portway \
         reach its network"
    )]
    NotPublished(NonZeroU16),
    /// Its port is published, but for the engine's host alone.
    #[error("its port {0} is published on {1} of another machine only: publish it on an address that Portway reaches")]
    PublishedElsewhere(NonZeroU16, IpAddr),
    /// Portway is in a container, on none of its networks.
    #[error(
        "Portway runs in a container and shares no network with it: `docker network connect NETWORK {0}` with one of \
         Portway's networks"
    )]
    NoCommonNetwork(String),
    /// It is not on the network that the file names.
    #[error("it is not on the network `{0}`: `docker network connect {0} {1}`, or name one of: {2}")]
    NotOnNetwork(String, String, String),
    /// It is on no network with an address.
    #[error("it has no address on any network: set `address: published` and publish its port")]
    NoAddress,
}

impl Vantage<'_> {
    /// Where `port` of `container` is reached.
    pub fn address(
        &self,
        container: &ContainerFacts,
        port: NonZeroU16,
        reach: &Reach,
    ) -> Result<SocketAddr, Unreachable> {
        match self.way(reach) {
            AddressFrom::Published => self.published(container, port),
            AddressFrom::Network | AddressFrom::Auto => self.on_network(container, port, reach),
        }
    }

    /// Where the port of a container that Portway makes is to be published, so that it is reached.
    pub fn publish(&self, reach: &Reach) -> Publish {
        match self.way(reach) {
            AddressFrom::Published if self.host.is_loopback() => Publish::LOOPBACK,
            AddressFrom::Published => Publish::ANYWHERE,
            AddressFrom::Network | AddressFrom::Auto => Publish::Nowhere,
        }
    }

    fn way(&self, reach: &Reach) -> AddressFrom {
        match (reach.address, self.networks()) {
            (AddressFrom::Auto, Some(_)) => AddressFrom::Network,
            (AddressFrom::Auto, None) => AddressFrom::Published,
            (chosen, _) => chosen,
        }
    }

    /// Portway's own networks; `None` if it sees what the host sees.
    fn networks(&self) -> Option<&BTreeMap<String, Option<IpAddr>>> {
        self.own.map(|own| &own.networks).filter(|networks| !networks.contains_key(HOST_NETWORK))
    }

    fn published(&self, container: &ContainerFacts, port: NonZeroU16) -> Result<SocketAddr, Unreachable> {
        if container.networks.contains_key(HOST_NETWORK) {
            return Ok(SocketAddr::new(self.host, port.get()));
        }
        let places = container.published.get(&port.get()).map(Vec::as_slice).unwrap_or_default();
        // One port that is published for both families is one backend.
        let reached = |place: &SocketAddr| match place.ip() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED) if self.host.is_ipv4() => Some(self.host),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED) if self.host.is_loopback() => Some(IpAddr::V6(Ipv6Addr::LOCALHOST)),
            ip if ip.is_unspecified() => Some(self.host),
            ip if ip.is_loopback() && !self.host.is_loopback() => None,
            ip => Some(ip),
        };
        let mut all: Vec<_> =
            places.iter().filter_map(|place| Some(SocketAddr::new(reached(place)?, place.port()))).collect();
        all.sort_unstable_by_key(|address| (address.is_ipv6(), !address.ip().is_loopback(), *address));
        match (all.first(), places.first()) {
            (Some(address), _) => Ok(*address),
            (None, Some(elsewhere)) => Err(Unreachable::PublishedElsewhere(port, elsewhere.ip())),
            (None, None) => Err(Unreachable::NotPublished(port)),
        }
    }

    fn on_network(
        &self,
        container: &ContainerFacts,
        port: NonZeroU16,
        reach: &Reach,
    ) -> Result<SocketAddr, Unreachable> {
        let with_address = || container.networks.iter().filter_map(|(name, ip)| Some((name, (*ip)?)));
        if let Some(wanted) = &reach.network {
            let found = with_address().find(|(name, _)| *name == wanted);
            let names = || with_address().map(|(name, _)| name.as_str()).collect::<Vec<_>>().join(", ");
            let (_, ip) =
                found.ok_or_else(|| Unreachable::NotOnNetwork(wanted.clone(), container.name.to_string(), names()))?;
            return Ok(SocketAddr::new(ip, port.get()));
        }
        let is_ours = |name: &str| self.networks().is_none_or(|own| own.contains_key(name));
        match with_address().find(|(name, _)| is_ours(name)) {
            Some((_, ip)) => Ok(SocketAddr::new(ip, port.get())),
            None if self.networks().is_some() => Err(Unreachable::NoCommonNetwork(container.name.to_string())),
            None => Err(Unreachable::NoAddress),
        }
    }
}

#[cfg(test)]
mod tests;
