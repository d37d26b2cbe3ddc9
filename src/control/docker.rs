//! The Docker engines: what runs on them, told as values, and the few things that are asked of them.
//! It promises that an engine which is away, slow or wrong changes nothing that is known. It decides nothing about
//! services: discovery and the replicas do.
//!
//! What is asked of an engine, so that a filtering proxy of its socket can be told what to let through:
//! `GET /containers/json`, `GET /containers/ID/json`, `GET /events`; and for services that Portway runs also
//! `POST /containers/create`, `POST /containers/ID/{start,stop,kill,rename}`, `DELETE /containers/ID`,
//! `GET /containers/ID/logs`, `GET /images/NAME/json`, `POST /images/create`, `POST /networks/NAME/connect`.

pub mod census;
pub mod engine;
pub mod error;
pub mod facts;
#[cfg(test)]
pub(crate) mod fake;
pub mod gauges;
mod looks;
pub mod own;
pub mod place;
pub mod reach;
mod reading;
pub mod retiring;
mod roll;
pub mod tasks;
pub mod watch;

use std::env;
use std::path::Path;

use crate::control::watch::mount;

/// Overrides [`project`].
const PROJECT: &str = "PORTWAY_PROJECT";

/// Whose containers ours are, the value of [`facts::LABEL_PROJECT`]: the same over restarts of one installation, another
/// for another one on the same engine. `PORTWAY_PROJECT` says it, else it follows from where the configuration stands: of a
/// container in which it is mounted, on the host, since in there every installation has it at the same place.
pub fn project(file: Option<&Path>) -> String {
    match env::var(PROJECT) {
        Ok(name) if !name.trim().is_empty() => name.trim().to_owned(),
        _ => project_of(file),
    }
}

fn project_of(file: Option<&Path>) -> String {
    let Some(file) = file else { return "portway".to_owned() };
    let path = mount::source(file);
    // FNV-1a: the standard library's hash may be another one in its next version, and every container would be orphaned.
    let add = |hash: u64, byte: &u8| (hash ^ u64::from(*byte)).wrapping_mul(0x100_0000_01b3);
    let hash = path.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325, add);
    format!("portway-{hash:016x}")
}

#[cfg(test)]
impl fake::FakeEngine {
    /// As the configuration names it.
    pub(crate) fn endpoint(&self) -> crate::config::checked::Endpoint {
        crate::config::checked::Endpoint::Unix(self.socket().to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_project_is_the_same_for_the_same_file_and_another_for_another() {
        let of = |file: &str| project_of(Some(Path::new(file)));
        assert_eq!(of("/etc/portway.yaml"), of("/etc/portway.yaml"));
        assert_ne!(of("/etc/portway.yaml"), of("/srv/portway.yaml"));
        assert!(of("/etc/portway.yaml").starts_with("portway-"));
        assert_eq!(project_of(None), "portway");
        // Containers are adopted by it: a change of how it is made would orphan them.
        assert_eq!(of("/nowhere/portway.yaml"), "portway-94fa114fc055849a");
    }
}
