//! Who is measured, and the configuration that makes them equal: two backends in turn, `X-Forwarded-For`, keep-alive on
//! both sides, no access log, one worker. Limits that a peer has by default and that would cut the larger workloads
//! short are raised. Beyond that, everybody runs as it comes.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context;

use crate::machine::PROXY_CORE;
use crate::origin::{Origin, wait_until_it_answers};
use crate::process::{Process, free_port};
use crate::workload::Workload;

/// A proxy that can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Who {
    /// This checkout, metrics on.
    Portway,
    /// The same with a JSON access log.
    PortwayLog,
    /// The yardstick.
    Haproxy,
    /// The same with `http-reuse always`.
    HaproxyAlways,
    /// Debian's build: the one on PyPI is half as fast.
    Nginx,
    /// Envoy.
    Envoy,
    /// Traefik.
    Traefik,
    /// Caddy.
    Caddy,
}

impl Who {
    pub(crate) const ALL: [Who; 8] = [
        Who::Portway,
        Who::PortwayLog,
        Who::Haproxy,
        Who::HaproxyAlways,
        Who::Nginx,
        Who::Envoy,
        Who::Traefik,
        Who::Caddy,
    ];

    /// Variants take part where their difference shows.
    pub(crate) fn takes(self, workload: Workload) -> bool {
        match self {
            Who::PortwayLog => workload == Workload::Small,
            Who::HaproxyAlways => matches!(workload, Workload::Small | Workload::Connect),
            _ => true,
        }
    }

    /// As on the command line and in the JSON file.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Who::Portway => "portway",
            Who::PortwayLog => "portway-log",
            Who::Haproxy => "haproxy",
            Who::HaproxyAlways => "haproxy-always",
            Who::Nginx => "nginx",
            Who::Envoy => "envoy",
            Who::Traefik => "traefik",
            Who::Caddy => "caddy",
        }
    }

    /// As in the table and in the chart.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Who::Portway => "Portway",
            Who::PortwayLog => "Portway, JSON access log",
            Who::Haproxy => "HAProxy",
            Who::HaproxyAlways => "HAProxy, http-reuse always",
            Who::Nginx => "nginx",
            Who::Envoy => "Envoy",
            Who::Traefik => "Traefik",
            Who::Caddy => "Caddy",
        }
    }
}

/// A proxy and its program.
#[derive(Clone, Debug)]
pub(crate) struct Contender {
    pub(crate) who: Who,
    pub(crate) program: PathBuf,
    /// As the program says it.
    pub(crate) version: String,
}

/// A started contender; it ends with the value.
#[derive(Debug)]
pub(crate) struct Running {
    pub(crate) who: Who,
    pub(crate) process: Process,
    pub(crate) port: u16,
}

/// Where one contender stands and what is behind it.
struct Site<'a> {
    port: u16,
    admin_port: u16,
    backends: [u16; 2],
    directory: &'a Path,
}

impl Contender {
    /// Starts it and waits until it answers from both backends.
    pub(crate) fn start(&self, origin: &Origin, work: &Path) -> anyhow::Result<Running> {
        let directory = work.join(self.who.name());
        fs::create_dir_all(&directory)?;
        let (port, admin_port) = (free_port(), free_port());
        let site = Site { port, admin_port, backends: origin.ports, directory: &directory };
        let mut command = Command::new(&self.program);
        self.configure(&site, &mut command)?;
        let log = directory.join("log");
        let mut process = Process::start(PROXY_CORE, &command, &log)?;
        for _ in 0..2 {
            wait_until_it_answers(&mut process, port).with_context(|| {
                let said = fs::read_to_string(&log).unwrap_or_default();
                let tail: Vec<&str> = said.lines().rev().take(5).collect();
                format!("{} does not start:\n{}", self.who.title(), tail.join("\n"))
            })?;
        }
        Ok(Running { who: self.who, process, port })
    }

    fn configure(&self, site: &Site<'_>, command: &mut Command) -> anyhow::Result<()> {
        let write = |name: &str, text: String| -> anyhow::Result<PathBuf> {
            let path = site.directory.join(name);
            fs::write(&path, text)?;
            Ok(path)
        };
        match self.who {
            Who::Portway => command.args(["run", "-c"]).arg(write("portway.yaml", portway(site, "off"))?),
            Who::PortwayLog => {
                let log = "{ format: json, path: /dev/null }";
                command.args(["run", "-c"]).arg(write("portway.yaml", portway(site, log))?)
            }
            Who::Haproxy => command.args(["-db", "-f"]).arg(write("haproxy.cfg", haproxy(site, "safe"))?),
            Who::HaproxyAlways => command.args(["-db", "-f"]).arg(write("haproxy.cfg", haproxy(site, "always"))?),
            Who::Nginx => {
                let configuration = write("nginx.conf", nginx(site))?;
                command.arg("-c").arg(configuration).arg("-e").arg(site.directory.join("err"))
            }
            Who::Envoy => {
                let configuration = write("envoy.yaml", envoy(site))?;
                command.args(["--concurrency", "1", "--disable-hot-restart", "-l", "error", "-c"]).arg(configuration)
            }
            Who::Traefik => {
                let dynamic = write("dynamic.yaml", traefik_dynamic(site))?;
                let configuration = write("traefik.yaml", traefik(site, &dynamic))?;
                command.env("GOMAXPROCS", "1").arg(format!("--configFile={}", configuration.display()))
            }
            Who::Caddy => {
                let configuration = write("Caddyfile", caddy(site))?;
                command.env("GOMAXPROCS", "1").env("XDG_DATA_HOME", site.directory);
                command.env("XDG_CONFIG_HOME", site.directory);
                command.args(["run", "--adapter", "caddyfile", "--config"]).arg(configuration)
            }
        };
        Ok(())
    }
}

fn portway(Site { port, admin_port, backends: [one, two], .. }: &Site<'_>, access_log: &str) -> String {
    format!(
        "listen: \"127.0.0.1:{port}\"
admin: \"127.0.0.1:{admin_port}\"
workers: 1
access_log: {access_log}
services:
  web:
    balance: round_robin
    backends: [\"127.0.0.1:{one}\", \"127.0.0.1:{two}\"]
"
    )
}

/// `http-reuse safe` is HAProxy's default: the first request of each client connection is not sent over a connection that
/// was used before, since HAProxy could not send it again if that turned out to be closed. With `always` it is. Idle
/// connections to the backends are kept however many descriptors they take, as everybody else does.
fn haproxy(Site { port, backends: [one, two], .. }: &Site<'_>, reuse: &str) -> String {
    format!(
        "global
  nbthread 1
  maxconn 7000
  tune.pool-low-fd-ratio 90
  tune.pool-high-fd-ratio 95
defaults
  mode http
  timeout connect 1s
  timeout client 75s
  timeout server 60s
  timeout http-keep-alive 75s
  option forwardfor
  http-reuse {reuse}
frontend front
  bind 127.0.0.1:{port} backlog 4096
  default_backend back
backend back
  balance roundrobin
  server one 127.0.0.1:{one}
  server two 127.0.0.1:{two}
"
    )
}

/// With its default of 8 KiB, nginx writes the body of a 16 KiB POST to a file and waits 40 ms for an acknowledgement.
fn nginx(Site { port, backends: [one, two], directory, .. }: &Site<'_>) -> String {
    let directory = directory.display();
    format!(
        "daemon off;
worker_processes 1;
pid {directory}/pid;
error_log {directory}/err error;
events {{ worker_connections 16000; }}
http {{
  access_log off;
  client_body_buffer_size 64k;
  client_body_temp_path {directory}/body;
  proxy_temp_path {directory}/proxy;
  keepalive_timeout 75s;
  keepalive_requests 100000000;
  upstream back {{
    server 127.0.0.1:{one};
    server 127.0.0.1:{two};
    keepalive 2000;
    keepalive_requests 100000000;
  }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://back;
      proxy_http_version 1.1;
      proxy_set_header Connection \"\";
      proxy_set_header Host $host;
      proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
    }}
  }}
}}
"
    )
}

/// The circuit breakers' default of 1,024 would refuse the workload of 2,000 connections. Request ids are off: HAProxy
/// and nginx make none either.
fn envoy(Site { port, backends: [one, two], .. }: &Site<'_>) -> String {
    let address = |port: &u16| format!("{{ socket_address: {{ address: 127.0.0.1, port_value: {port} }} }}");
    let endpoint = |port: &u16| format!("{{ endpoint: {{ address: {} }} }}", address(port));
    let many = "max_connections: 20000, max_pending_requests: 20000, max_requests: 20000";
    format!(
        "static_resources:
  listeners:
  - name: front
    address: {listen}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          '@type': type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager
          stat_prefix: front
          codec_type: HTTP1
          use_remote_address: true
          generate_request_id: false
          route_config:
            virtual_hosts:
            - name: all
              domains: ['*']
              routes: [{{ match: {{ prefix: / }}, route: {{ cluster: back }} }}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {{ '@type': type.googleapis.com/envoy.extensions.filters.http.router.v3.Router }}
  clusters:
  - name: back
    type: STATIC
    connect_timeout: 1s
    lb_policy: ROUND_ROBIN
    circuit_breakers: {{ thresholds: [{{ {many} }}] }}
    load_assignment:
      cluster_name: back
      endpoints: [{{ lb_endpoints: [{one}, {two}] }}]
",
        listen = address(port),
        one = endpoint(one),
        two = endpoint(two),
    )
}

fn traefik(Site { port, .. }: &Site<'_>, dynamic: &Path) -> String {
    format!(
        "global: {{ checkNewVersion: false, sendAnonymousUsage: false }}
log: {{ level: ERROR }}
entryPoints: {{ front: {{ address: '127.0.0.1:{port}' }} }}
serversTransport: {{ maxIdleConnsPerHost: 2000 }}
providers: {{ file: {{ filename: '{}' }} }}
",
        dynamic.display()
    )
}

fn traefik_dynamic(Site { backends: [one, two], .. }: &Site<'_>) -> String {
    format!(
        "http:
  routers: {{ all: {{ rule: 'PathPrefix(`/`)', service: back }} }}
  services:
    back:
      loadBalancer:
        servers: [{{ url: 'http://127.0.0.1:{one}' }}, {{ url: 'http://127.0.0.1:{two}' }}]
"
    )
}

fn caddy(Site { port, backends: [one, two], .. }: &Site<'_>) -> String {
    format!(
        "{{
  admin off
  auto_https off
  persist_config off
  log {{
    level ERROR
  }}
}}
http://127.0.0.1:{port} {{
  bind 127.0.0.1
  reverse_proxy 127.0.0.1:{one} 127.0.0.1:{two} {{
    lb_policy round_robin
    transport http {{
      keepalive_idle_conns_per_host 2000
    }}
  }}
}}
"
    )
}
