//! `portway demo`: the front door with three backends of its own in one process, and a table of what happens.
//! Promises to need nothing (no file, no other program, no free port in particular), to listen on loopback only, and to
//! end with 0. What it runs is an ordinary configuration, written to a temporary folder and read as `run` reads one.

use std::fs::{self, DirBuilder};
use std::io;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use super::DemoArgs;
use crate::app::{App, Setup, TakeSignals};
use crate::config::expand::ProcessEnvironment;
use crate::config::load::{self, to_yaml};
use crate::config::render::{self, Color};
use crate::config::{defaults, show};
use crate::telemetry::logging;

mod backends;
mod table;
mod traffic;

use backends::Backends;

/// Runs the command.
pub(crate) fn run(args: &DemoArgs) -> ExitCode {
    // The table is what there is to see; whoever debugs asks for the log.
    if std::env::var_os("RUST_LOG").is_some_and(|wanted| !wanted.is_empty()) {
        logging::init(logging::Format::from_environment());
    }
    match play(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => super::complain(&format!("error: {message}")),
    }
}

fn play(args: &DemoArgs) -> Result<(), String> {
    let front = port_or_free(args.port)?;
    let admin = port_or_free(default_admin_port())?;
    let cannot = |error: io::Error| format!("cannot start the backends: {error}");
    let backends = Backends::start().map_err(cannot)?;
    let folder = Folder::make().map_err(|error| format!("cannot make a temporary folder: {error}"))?;
    let stage = Stage { front: front.address, admin: admin.address, folder: &folder.0, backends: &backends };
    let file = folder.0.join("portway.yaml");
    fs::write(&file, stage.yaml()).map_err(|error| format!("cannot write {}: {error}", file.display()))?;
    let loaded =
        load::read(&file, &ProcessEnvironment).map_err(|diagnostics| render::render(&diagnostics, Color::Never))?;
    let yaml = to_yaml(&show::with_defaults(&loaded.raw, &loaded.config));
    drop((front.held, admin.held));
    let app = App::start(Setup { config: loaded.config, file: Some(file), yaml }).map_err(|error| error.to_string())?;
    let drain = app.trigger();
    let traffic = traffic::start(front.address, args.rate, drain.watch()).map_err(cannot)?;
    let table =
        table::start(admin.address, backends.list(), stage.introduction(args.rate), drain.clone()).map_err(cannot)?;
    // Requests that are cut at the end are part of the show: a backend may hang by then.
    let ended = app.run(TakeSignals::Yes).map_err(|error| error.to_string());
    traffic
        .join()
        .and_then(|()| table.join())
        .map_err(|_| "a thread of the demo panicked: this is a bug of Portway")?;
    ended.map(drop)
}

/// A port of loopback, held so that nobody else takes it meanwhile.
struct Port {
    address: SocketAddr,
    held: TcpListener,
}

/// The wanted port, or with a word about it any that is free. 0 is any from the start.
fn port_or_free(wanted: u16) -> Result<Port, String> {
    let bind = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port));
    let held = bind(wanted).or_else(|error| {
        let held = bind(0)?;
        let port = held.local_addr()?.port();
        let why = match error.kind() {
            io::ErrorKind::AddrInUse => "is taken".to_owned(),
            _ => format!("cannot be had ({error})"),
        };
        super::print(&format!("port {wanted} {why}: using {port} instead\n"));
        Ok(held)
    });
    let cannot = |error: io::Error| format!("cannot listen on loopback: {error}");
    let held = held.map_err(cannot)?;
    Ok(Port { address: held.local_addr().map_err(cannot)?, held })
}

fn default_admin_port() -> u16 {
    defaults::ADMIN.parse::<SocketAddr>().expect("the default is an address").port()
}

/// The folder of this demo; removed when it ends.
struct Folder(PathBuf);

impl Folder {
    fn make() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("portway-demo-{}", std::process::id()));
        // For this user alone; a folder that is there already is somebody else's.
        DirBuilder::new().mode(0o700).create(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // What is left in a temporary folder does no harm.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// Who plays where.
struct Stage<'a> {
    front: SocketAddr,
    admin: SocketAddr,
    folder: &'a Path,
    backends: &'a Backends,
}

impl Stage<'_> {
    /// The line that a user would write for the same.
    fn services(&self) -> String {
        let addresses: Vec<String> = self.backends.list().iter().map(|backend| backend.address.to_string()).collect();
        format!("services: {{ web: {{ backends: {addresses:?} }} }}")
    }

    fn yaml(&self) -> String {
        let Self { front, admin, folder, .. } = self;
        let log = folder.join("access.log");
        format!(
            "# The line that matters is the last one. The others keep the demo to this computer and its table readable.\n\
             listen: \"{front}\"\nadmin: \"{admin}\"\naccess_log: {{ path: {log:?} }}\nshutdown: {{ drain: 2s }}\n{}\n",
            self.services()
        )
    }

    fn introduction(&self, rate: u32) -> String {
        let Self { front, admin, folder, backends } = self;
        let (services, folder, control) = (self.services(), folder.display(), backends.control());
        let program = std::env::args().next().unwrap_or_else(|| "portway".to_owned());
        let own = match rate {
            0 => "no requests but yours are sent (--rate 0)".to_owned(),
            rate => format!("{rate} requests a second are the demo's own (--rate N), the others yours"),
        };
        format!(
            "\
A front door and three backends in one process, until Ctrl-C.

  it stands for   {services}
  the backends    steady answers at once, slow after 300 ms, flaky fails every fifth time
  the requests    {own}
  written to      {folder}: portway.yaml, access.log

  open            http://{front}/   the front door: reload it a few times
                  http://{admin}/   the dashboard
                  http://{admin}/metrics

  try             while sleep 0.1; do curl -s http://{front}/; done
                  curl -X POST http://{control}/steady/hang   # the others take over
                  (then …/steady/start; or …/steady/stop: no request fails)
                  {program} status --admin {admin}

"
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_taken_port_gives_way_to_a_free_one() {
        let first = port_or_free(0).unwrap();
        let second = port_or_free(first.address.port()).unwrap();
        assert_ne!(first.address, second.address);
    }

    #[test]
    fn what_is_written_is_a_valid_configuration_with_three_backends() {
        let backends = Backends::start().unwrap();
        let here = "127.0.0.1:1".parse().unwrap();
        let there = "127.0.0.1:2".parse().unwrap();
        let stage = Stage { front: here, admin: there, folder: Path::new("/tmp/x"), backends: &backends };
        let loaded = load::parse(&stage.yaml(), "portway.yaml", &ProcessEnvironment).unwrap();
        let addresses = loaded.config.services[0].source.declared();
        assert_eq!(addresses.len(), 3);
        assert!(loaded.warnings.is_empty());
        let alone = load::parse(&stage.services(), "portway.yaml", &ProcessEnvironment);
        assert!(alone.is_ok(), "the line that it prints stands for itself");
    }
}
