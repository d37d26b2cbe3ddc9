//! The proxy under test: Portway, or a peer that plays the same scenario.
//! It promises a process that answers, gone with its value. Peers get the settings of [`Site`] and nothing else.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use rustix::process::Signal;
use tokio::net::TcpStream;

use super::site::{Place, Site};
use crate::support::{self, Guarded, Launch, Portway, Scratch, eventually, exchange, free_address};

/// A proxy that can be put to the test.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    Portway,
    Haproxy,
    Nginx,
    Caddy,
}

impl Who {
    pub(crate) const ALL: [Who; 4] = [Who::Portway, Who::Haproxy, Who::Nginx, Who::Caddy];

    pub(crate) fn title(self) -> &'static str {
        match self {
            Who::Portway => "Portway",
            Who::Haproxy => "HAProxy",
            Who::Nginx => "nginx",
            Who::Caddy => "Caddy",
        }
    }
}

/// A proxy and its program.
#[derive(Clone, Debug)]
pub(crate) struct Player {
    pub(crate) who: Who,
    pub(crate) program: PathBuf,
    /// As the program says it.
    pub(crate) version: String,
    /// The core it shall keep to.
    pub(crate) core: Option<&'static str>,
}

impl Player {
    /// The binary that cargo built along with this program.
    pub(crate) fn portway() -> Self {
        let version = env!("CARGO_PKG_VERSION").to_owned();
        Self { who: Who::Portway, program: support::binary().into(), version, core: None }
    }
}

/// A running proxy.
#[derive(Debug)]
pub(crate) struct Front {
    pub(crate) player: Player,
    pub(crate) address: SocketAddr,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    /// The first lines of its file are the addresses that it was started with.
    Portway {
        portway: Box<Portway>,
        addresses: String,
    },
    Peer {
        process: Guarded,
        scratch: Scratch,
        admin: SocketAddr,
    },
}

impl Front {
    /// Starts it and waits until it answers.
    pub(crate) async fn start(player: &Player, site: &Site) -> Self {
        match player.who {
            Who::Portway => Self::start_portway(player, site).await,
            _ => Self::start_peer(player, site).await,
        }
    }

    async fn start_portway(player: &Player, site: &Site) -> Self {
        let yaml = site.portway();
        // One core, one worker, as it is by default: two of them would wait for each other's slices of that core, of
        // milliseconds each.
        let whole = if player.core.is_some() { format!("workers: 1\n{yaml}") } else { yaml.clone() };
        let portway = Portway::launch(Launch { yaml: &whole, core: player.core, ..Launch::default() }).await;
        let text = fs::read_to_string(portway.directory().join("portway.yaml")).expect("just written");
        let addresses = text.strip_suffix(yaml.as_str()).expect("the harness only puts lines before it").to_owned();
        let address = portway.address;
        Self { player: player.clone(), address, kind: Kind::Portway { portway: Box::new(portway), addresses } }
    }

    async fn start_peer(player: &Player, site: &Site) -> Self {
        let (scratch, address, admin) = (Scratch::new(), free_address(), free_address());
        let place = Place { address, admin, directory: &scratch.0 };
        // From the first instruction on: what a master forks stays on the core on which the master was then.
        let mut command = on_core(player);
        let file = scratch.0.join("configuration");
        write_configuration(player.who, site, &place);
        match player.who {
            Who::Haproxy => command.args(["-W", "-f"]).arg(&file),
            Who::Nginx => command.arg("-c").arg(&file).arg("-e").arg(scratch.0.join("err")),
            _ => command.args(["run", "--adapter", "caddyfile", "--config"]).arg(&file),
        };
        command.env("GOMAXPROCS", "1").env("XDG_DATA_HOME", &scratch.0).env("XDG_CONFIG_HOME", &scratch.0);
        let log = File::create(scratch.0.join("log")).expect("the scratch directory can be written");
        let copy = log.try_clone().expect("a file can be opened twice");
        command.stdin(Stdio::null()).stdout(copy).stderr(log);
        let child = command.spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let process = Guarded(child);
        let what = format!("{} answering; see {:?}", player.who.title(), scratch.0);
        let request = "GET /healthz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        let answers = || async move {
            TcpStream::connect(address).await.is_ok() && exchange(address, request).await.0.starts_with(b"HTTP/1.1 200")
        };
        eventually(Duration::from_secs(20), &what, answers).await;
        Self { player: player.clone(), address, kind: Kind::Peer { process, scratch, admin } }
    }

    pub(crate) fn pid(&self) -> u32 {
        match &self.kind {
            Kind::Portway { portway, .. } => portway.pid(),
            Kind::Peer { process, .. } => process.pid(),
        }
    }

    /// Portway's own side of it, for what only Portway is asked; a peer fails the scenario.
    pub(crate) fn portway(&mut self) -> &mut Portway {
        match &mut self.kind {
            Kind::Portway { portway, .. } => portway,
            Kind::Peer { .. } => panic!("only Portway plays this scenario"),
        }
    }

    /// The whole text of Portway's file for a site.
    pub(crate) fn portway_text(&self, site: &Site) -> String {
        match &self.kind {
            Kind::Portway { addresses, .. } => format!("{addresses}{}", site.portway()),
            Kind::Peer { .. } => panic!("only Portway plays this scenario"),
        }
    }

    /// Any signal, to the process that was started.
    pub(crate) fn signal(&mut self, signal: Signal) {
        match &mut self.kind {
            Kind::Portway { portway, .. } => portway.signal(signal),
            Kind::Peer { process, .. } => process.signal(signal),
        }
    }

    /// Makes `site` the configuration, as each proxy's manual says: a saved file, a signal, an API.
    pub(crate) async fn apply(&mut self, site: &Site) {
        let text = match &self.kind {
            Kind::Portway { .. } => self.portway_text(site),
            Kind::Peer { .. } => String::new(),
        };
        match &mut self.kind {
            Kind::Portway { portway, .. } => {
                save(&portway.directory().join("portway.yaml"), &text);
                let reload =
                    "POST /api/v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
                let (answer, _) = exchange(portway.admin, reload).await;
                let answer = String::from_utf8_lossy(&answer).into_owned();
                assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
            }
            Kind::Peer { process, scratch, admin } => {
                let place = Place { address: self.address, admin: *admin, directory: &scratch.0 };
                write_configuration(self.player.who, site, &place);
                match self.player.who {
                    Who::Haproxy => process.signal(Signal::USR2),
                    Who::Nginx => process.signal(Signal::HUP),
                    _ => caddy_reload(&self.player, &scratch.0, *admin).await,
                }
            }
        }
    }

    /// What it wrote to standard error: empty for peers.
    pub(crate) fn stderr(&self) -> String {
        match &self.kind {
            Kind::Portway { portway, .. } => portway.stderr(),
            Kind::Peer { .. } => String::new(),
        }
    }
}

/// Writes beside the file and renames: what a careful program does.
pub(crate) fn save(file: &std::path::Path, text: &str) {
    let draft = file.with_extension("draft");
    fs::write(&draft, text).expect("the scratch directory can be written");
    fs::rename(&draft, file).expect("both are in one directory");
}

/// Whatever it starts is on the same core.
fn on_core(player: &Player) -> Command {
    let Some(core) = player.core else { return Command::new(&player.program) };
    let mut command = Command::new("taskset");
    command.args(["-c", core]).arg(&player.program);
    command
}

fn write_configuration(who: Who, site: &Site, place: &Place<'_>) {
    let text = match who {
        Who::Haproxy => site.haproxy(place),
        Who::Nginx => site.nginx(place),
        _ => site.caddy(place),
    };
    save(&place.directory.join("configuration"), &text);
}

async fn caddy_reload(player: &Player, directory: &std::path::Path, admin: SocketAddr) {
    let mut command = tokio::process::Command::new(&player.program);
    command.args(["reload", "--adapter", "caddyfile", "--config"]).arg(directory.join("configuration"));
    command.args(["--address", &admin.to_string()]);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.status().await.expect("caddy can be started");
}
