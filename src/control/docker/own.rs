//! Whether this process is itself in a container, and in which.
//! It promises not to guess: an id is one that the system shows. It asks no engine whether it knows the id.

use std::fs;
use std::path::Path;

use super::census::Census;
use super::facts::ContainerFacts;

/// What Docker puts into every container.
const MARK: &str = "/.dockerenv";
/// Where the files stand that an engine lends its containers, ids among their paths.
const MOUNTS: &str = "/proc/self/mountinfo";
/// A container's short id, unless somebody named the host.
const HOSTNAME: &str = "/etc/hostname";
/// Digits of a whole id.
const ID_DIGITS: usize = 64;
/// Digits of a short one.
const SHORT_DIGITS: usize = 12;

/// The id of the container that this process is in, or how it begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnId(String);

impl OwnId {
    /// Looks for it; `None` on a host.
    pub fn find() -> Option<Self> {
        let read = |path: &str| fs::read_to_string(path).unwrap_or_default();
        id_in_mounts(&read(MOUNTS))
            .or_else(|| Path::new(MARK).exists().then(|| short_id(&read(HOSTNAME))).flatten())
            .map(Self)
    }

    /// This process as an engine sees it; `None` if it is in none of the engine's containers.
    pub fn among<'a>(&self, census: &'a Census) -> Option<&'a ContainerFacts> {
        census.containers.iter().map(|container| &**container).find(|container| container.id.starts_with(&self.0))
    }
}

/// `… /var/lib/docker/containers/<id>/hostname /etc/hostname …`, and Podman's `overlay-containers`.
fn id_in_mounts(mounts: &str) -> Option<String> {
    let is_own =
        |line: &&str| ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf"].iter().any(|file| line.contains(file));
    let mut lines = mounts.lines().filter(is_own);
    lines.find_map(|line| {
        let (_, rest) = line.rsplit_once("containers/")?;
        let id = rest.split('/').next()?;
        is_hex(id, ID_DIGITS).then(|| id.to_owned())
    })
}

fn short_id(hostname: &str) -> Option<String> {
    let hostname = hostname.trim();
    is_hex(hostname, SHORT_DIGITS).then(|| hostname.to_owned())
}

fn is_hex(text: &str, n_digits: usize) -> bool {
    text.len() == n_digits && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_id_stands_in_the_mounts_of_a_container_and_not_in_those_of_a_host() {
        let id = "3f".repeat(32);
        let docker = format!(
            "1 2 8:1 / / rw - overlay overlay rw\n\
             7 8 8:1 /var/lib/docker/containers/{id}/hostname /etc/hostname rw,relatime - ext4 /dev/sda1 rw\n"
        );
        assert_eq!(id_in_mounts(&docker), Some(id.clone()));
        let podman =
            format!("7 8 0:5 /containers/overlay-containers/{id}/userdata/hosts /etc/hosts rw - tmpfs tmpfs rw\n");
        assert_eq!(id_in_mounts(&podman), Some(id.clone()));
        // A host that mounts a container's files sees its id as well.
        let host = format!("9 8 0:5 / /var/lib/docker/containers/{id}/mounts/shm rw - tmpfs shm rw\n");
        assert_eq!(id_in_mounts(&host), None);
        assert_eq!(short_id("0123456789ab\n"), Some("0123456789ab".to_owned()));
        assert_eq!(short_id("web.example\n"), None);
    }
}
