//! What stands behind a proxy, and the same in the words of each proxy.
//! It promises every peer the settings that its own documentation recommends for losing nothing: checks, retries on
//! another server, no repeated POST. It starts nothing.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

/// Backends and the limits that every proxy has a word for.
#[derive(Clone, Debug)]
pub(crate) struct Site {
    pub(crate) backends: Vec<SocketAddr>,
    /// Longest wait for a response head, per attempt.
    pub(crate) response_timeout: Duration,
    /// Longest wait for a connection.
    pub(crate) connect_timeout: Duration,
    /// Longest wait for a client's head, body and reading. Portway's is in `top`; `None` leaves peers their usual ones.
    pub(crate) client_timeout: Option<Duration>,
    /// Per backend.
    pub(crate) max_in_flight: Option<u32>,
    /// Portway's own: lines at the top level.
    pub(crate) top: String,
    /// Portway's own: entries of the service.
    pub(crate) service: String,
    /// Portway's own: more services, each line as it stands in the file.
    pub(crate) more: String,
}

/// Where a proxy listens and may write.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Place<'a> {
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) directory: &'a Path,
}

impl Site {
    fn ms(&self) -> u128 {
        self.response_timeout.as_millis()
    }

    fn connect_ms(&self) -> u128 {
        self.connect_timeout.as_millis()
    }

    /// Without `listen`, `admin` and `workers`.
    pub(crate) fn portway(&self) -> String {
        let backends: Vec<String> = self.backends.iter().map(|address| format!("\"{address}\"")).collect();
        let limit = self.max_in_flight.map_or_else(String::new, |n| format!("    max_in_flight: {n}\n"));
        let service: String = self.service.lines().map(|line| format!("    {}\n", line.trim())).collect();
        format!(
            "{}\naccess_log: off\nservices:\n  web:\n    route: [/w, /healthz]\n    backends: [{}]\n    timeouts: {{ connect: {}ms, response: {}ms }}\n{limit}{service}{}",
            self.top,
            backends.join(", "),
            self.connect_ms(),
            self.ms(),
            self.more,
        )
    }

    /// `observe layer7` takes a server out for its answers, `redispatch 1` sends each retry to another one. A body that comes
    /// drop by drop is bounded only with `http-buffer-request`, as the manual says under `timeout http-request`.
    pub(crate) fn haproxy(&self, place: &Place<'_>) -> String {
        let (client, buffering) = match self.client_timeout {
            Some(timeout) => {
                let ms = timeout.as_millis();
                (ms, format!("  timeout http-request {ms}ms\n  option http-buffer-request\n"))
            }
            None => (75_000, String::new()),
        };
        let limit = self.max_in_flight.map_or_else(String::new, |n| format!("maxconn {n}"));
        let server = |(n, address): (usize, &SocketAddr)| format!("  server s{n} {address} {limit}\n");
        let servers: String = self.backends.iter().enumerate().map(server).collect();
        format!(
            "global
  nbthread 1
  maxconn 7000
  stats socket {directory}/stats level admin
defaults
  mode http
  timeout connect {connect}ms
  timeout client {client}ms
{buffering}  timeout server {ms}ms
  timeout queue 1s
  timeout http-keep-alive {client}ms
  timeout tunnel 1h
  option redispatch 1
  retries 3
  retry-on conn-failure empty-response response-timeout
frontend front
  bind {address} backlog 4096
  default_backend back
backend back
  balance leastconn
  http-request disable-l7-retry if METH_POST
  option httpchk
  http-check send meth GET uri /healthz ver HTTP/1.1 hdr Host a
  default-server check inter 1s fall 2 rise 2 observe layer7 error-limit 5 on-error mark-down
{servers}",
            address = place.address,
            directory = place.directory.display(),
            ms = self.ms(),
            connect = self.connect_ms(),
        )
    }

    /// POSTs are not repeated unless told so (`non_idempotent`). The open-source build has no active checks.
    pub(crate) fn nginx(&self, place: &Place<'_>) -> String {
        let client = self.client_timeout.map_or_else(
            || "keepalive_timeout 75s;".to_owned(),
            |timeout| {
                let names = ["client_header_timeout", "client_body_timeout", "send_timeout", "keepalive_timeout"];
                names.map(|name| format!("{name} {}ms;", timeout.as_millis())).join("\n  ")
            },
        );
        let limit = self.max_in_flight.map_or_else(String::new, |n| format!(" max_conns={n}"));
        let server = |address: &SocketAddr| format!("    server {address} max_fails=3 fail_timeout=5s{limit};\n");
        let servers: String = self.backends.iter().map(server).collect();
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
  {client}
  keepalive_requests 100000000;
  map $http_upgrade $connection_upgrade {{ default upgrade; '' ''; }}
  upstream back {{
    least_conn;
{servers}    keepalive 256;
  }}
  server {{
    listen {address} backlog=4096;
    location / {{
      proxy_pass http://back;
      proxy_http_version 1.1;
      proxy_set_header Upgrade $http_upgrade;
      proxy_set_header Connection $connection_upgrade;
      proxy_set_header Host $host;
      proxy_connect_timeout {connect}ms;
      proxy_read_timeout {ms}ms;
      proxy_next_upstream error timeout http_500 http_502 http_503;
    }}
  }}
}}
",
            address = place.address,
            directory = place.directory.display(),
            ms = self.ms(),
            connect = self.connect_ms(),
        )
    }

    /// Caddy repeats only GETs beyond the dial, by itself.
    pub(crate) fn caddy(&self, place: &Place<'_>) -> String {
        let client = self.client_timeout.map_or_else(String::new, |timeout| {
            let ms = timeout.as_millis();
            format!("  servers {{\n    timeouts {{\n      read_header {ms}ms\n      read_body {ms}ms\n      write {ms}ms\n      idle {ms}ms\n    }}\n  }}\n")
        });
        let to: Vec<String> = self.backends.iter().map(SocketAddr::to_string).collect();
        let limit = self.max_in_flight.map_or_else(String::new, |n| format!("    unhealthy_request_count {n}\n"));
        format!(
            "{{
  admin {admin}
  auto_https off
  persist_config off
  grace_period 30s
{client}  log {{
    level ERROR
  }}
}}
http://{address} {{
  bind 127.0.0.1
  reverse_proxy {to} {{
    lb_policy least_conn
    lb_try_duration 5s
    lb_try_interval 50ms
    fail_duration 5s
    max_fails 3
    unhealthy_status 5xx
{limit}    health_uri /healthz
    health_interval 1s
    health_timeout 1s
    stream_close_delay 1h
    transport http {{
      dial_timeout {connect}ms
      response_header_timeout {ms}ms
    }}
  }}
}}
",
            address = place.address,
            admin = place.admin,
            to = to.join(" "),
            ms = self.ms(),
            connect = self.connect_ms(),
        )
    }
}
