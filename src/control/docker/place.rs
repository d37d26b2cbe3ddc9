//! Where an engine listens: what an endpoint of the configuration means in this process.
//! It promises to reject what cannot be spoken to with words that say what can. It opens nothing.

use std::env;
use std::fmt;
use std::path::{Path, PathBuf};

use crate::config::checked::Endpoint;

/// Where the engine of this machine listens unless `DOCKER_HOST` says otherwise.
const USUAL_SOCKET: &str = "/var/run/docker.sock";
/// Says where the engine is to everybody who talks to one.
const DOCKER_HOST: &str = "DOCKER_HOST";
/// Of an engine that listens on TCP without encryption.
const USUAL_PORT: u16 = 2375;

/// Where an engine listens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A socket of this machine.
    Unix(PathBuf),
    /// A host, perhaps this one.
    Tcp {
        /// A name or an address, IPv6 without brackets.
        host: String,
        /// 1 to 65535.
        port: u16,
    },
    /// What `DOCKER_HOST` says, if it can be neither.
    Unknown(String),
}

impl Place {
    /// What `endpoint` means here and now.
    pub fn of(endpoint: &Endpoint) -> Self {
        match endpoint {
            Endpoint::Unix(path) => Self::Unix(path.clone()),
            Endpoint::Tcp(at) => Self::Tcp { host: at.host.to_string(), port: at.port },
            Endpoint::Default => match env::var(DOCKER_HOST) {
                Ok(said) if !said.trim().is_empty() => Self::said(said.trim()),
                _ => Self::Unix(USUAL_SOCKET.into()),
            },
        }
    }

    /// What a value of `DOCKER_HOST` means.
    fn said(text: &str) -> Self {
        if let Some(path) = text.strip_prefix("unix://") {
            return Self::Unix(path.into());
        }
        let Some(rest) = text.strip_prefix("tcp://").or_else(|| text.strip_prefix("http://")) else {
            return Self::Unknown(text.to_owned());
        };
        let authority = rest.trim_end_matches('/');
        let (host, port) = match authority.rsplit_once(':') {
            Some((host, port)) if !port.contains(']') => (host, port.parse().ok()),
            _ => (authority, Some(USUAL_PORT)),
        };
        let host = host.trim_start_matches('[').trim_end_matches(']');
        match port {
            Some(port) if !host.is_empty() && port != 0 => Self::Tcp { host: host.to_owned(), port },
            _ => Self::Unknown(text.to_owned()),
        }
    }

    /// The socket, if it is one of this machine.
    pub fn socket(&self) -> Option<&Path> {
        match self {
            Self::Unix(path) => Some(path),
            Self::Tcp { .. } | Self::Unknown(_) => None,
        }
    }
}

/// As `DOCKER_HOST` is written.
impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unix(path) => write!(f, "unix://{}", path.display()),
            Self::Tcp { host, port } if host.contains(':') => write!(f, "tcp://[{host}]:{port}"),
            Self::Tcp { host, port } => write!(f, "tcp://{host}:{port}"),
            Self::Unknown(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_host_is_read_as_docker_reads_it() {
        let tcp = |host: &str, port| Place::Tcp { host: host.to_owned(), port };
        for (said, place) in [
            ("unix:///run/user/1000/docker.sock", Place::Unix("/run/user/1000/docker.sock".into())),
            ("tcp://10.0.0.7:2375", tcp("10.0.0.7", 2375)),
            ("tcp://docker", tcp("docker", 2375)),
            ("http://docker:2376/", tcp("docker", 2376)),
            ("tcp://[::1]:99", tcp("::1", 99)),
            ("tcp://[::1]", tcp("::1", 2375)),
            ("ssh://me@host", Place::Unknown("ssh://me@host".to_owned())),
            ("tcp://host:many", Place::Unknown("tcp://host:many".to_owned())),
            ("tcp://", Place::Unknown("tcp://".to_owned())),
        ] {
            assert_eq!(Place::said(said), place, "{said}");
        }
        assert_eq!(tcp("::1", 99).to_string(), "tcp://[::1]:99");
        assert_eq!(Place::Unix("/x.sock".into()).to_string(), "unix:///x.sock");
    }
}
