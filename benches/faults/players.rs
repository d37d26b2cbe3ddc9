//! Who plays: Portway from this checkout, HAProxy and Caddy from PyPI, nginx from Debian.
//! It promises a visible reason for each one that is not there.

use std::path::PathBuf;

use crate::machine::PROXY_CORE;
use crate::packages::{self, CADDY, HAPROXY};
use crate::stage::front::{Player, Who};

/// Everybody who is wanted and to be had; no names are all of them.
pub(crate) fn find(wanted: &[String]) -> Vec<Player> {
    let is_wanted = |who: &Who| wanted.is_empty() || wanted.iter().any(|name| *name == who.title().to_lowercase());
    let mut players = Vec::new();
    for who in Who::ALL.into_iter().filter(is_wanted) {
        match player(who) {
            Ok(player) => players.push(player),
            Err(reason) => eprintln!("faults: SKIPPED {}: {reason}", who.title()),
        }
    }
    players
}

fn player(who: Who) -> Result<Player, String> {
    let home = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("peers");
    let (program, argument) = match who {
        Who::Portway => return Ok(Player { core: Some(PROXY_CORE), ..Player::portway() }),
        Who::Haproxy => (HAPROXY.install(&home)?, "-v"),
        Who::Nginx => (packages::nginx()?, "-v"),
        Who::Caddy => (CADDY.install(&home)?, "version"),
    };
    let version = packages::version(&program, argument)?;
    Ok(Player { who, program, version, core: Some(PROXY_CORE) })
}
