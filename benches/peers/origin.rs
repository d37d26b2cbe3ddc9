//! What stands behind every contender: one nginx with static answers on two ports, on the load's core.
//! It promises to be the same for everybody and cheaper than any proxy before it. It is not measured.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::Context;

use crate::exchange::Connection;
use crate::machine::LOAD_CORE;
use crate::process::{Process, free_port};
use crate::workload::Workload;

/// The running origin; it ends with the value.
#[derive(Debug)]
pub(crate) struct Origin {
    _process: Process,
    /// Its two ports: two backends for a proxy.
    pub(crate) ports: [u16; 2],
}

impl Origin {
    pub(crate) fn start(work: &Path) -> anyhow::Result<Self> {
        let ports = [free_port(), free_port()];
        let files = work.join("www");
        fs::create_dir_all(&files)?;
        for workload in [Workload::Kib64, Workload::Mib1] {
            let file = files.join(workload.path().trim_start_matches('/'));
            fs::write(file, vec![b'x'; workload.response_bytes()])?;
        }
        let configuration = work.join("origin.conf");
        fs::write(&configuration, nginx(work, ports))?;
        let mut command = Command::new("nginx");
        command.arg("-c").arg(&configuration).arg("-e").arg(work.join("origin.err"));
        let mut process = Process::start(LOAD_CORE, &command, &work.join("origin.log"))?;
        for port in ports {
            wait_until_it_answers(&mut process, port).with_context(|| {
                let log = fs::read_to_string(work.join("origin.log")).unwrap_or_default();
                format!("the origin does not start. Is nginx installed? Try: apt-get install nginx-light\n{log}")
            })?;
        }
        Ok(Self { _process: process, ports })
    }
}

/// Waits until a small request is answered as it should be.
pub(crate) fn wait_until_it_answers(process: &mut Process, port: u16) -> anyhow::Result<()> {
    let request = Workload::Small.request(&format!("127.0.0.1:{port}"));
    let mut last = None;
    for _ in 0..750 {
        let asked = Connection::open(port).and_then(|mut c| c.ask(&request, Workload::Small.response_bytes()));
        match asked {
            Ok(()) => return Ok(()),
            Err(error) => last = Some(error),
        }
        anyhow::ensure!(process.is_running(), "it ended at its start");
        std::thread::sleep(Duration::from_millis(20));
    }
    anyhow::bail!("no answer within 15 s: {}", last.map_or_else(String::new, |error| error.to_string()))
}

/// A `return` answers before the body of a POST has arrived, as no application does; a `proxy_pass` reads it first.
fn nginx(work: &Path, [one, two]: [u16; 2]) -> String {
    let work = work.display();
    format!(
        "daemon off;
worker_processes 1;
pid {work}/origin.pid;
error_log {work}/origin.err error;
events {{ worker_connections 12000; multi_accept on; }}
http {{
  access_log off;
  sendfile on;
  tcp_nopush on;
  tcp_nodelay on;
  keepalive_timeout 300s;
  keepalive_requests 100000000;
  open_file_cache max=100 inactive=300s;
  client_body_temp_path {work}/origin-body;
  server {{
    listen 127.0.0.1:{one} backlog=4096;
    listen 127.0.0.1:{two} backlog=4096;
    root {work}/www;
    default_type application/octet-stream;
    location = /small {{ return 200 \"Hello, World!\"; }}
    location = /post {{
      client_body_buffer_size 64k;
      proxy_pass http://itself/small;
      proxy_pass_request_body off;
      proxy_http_version 1.1;
      proxy_set_header Content-Length \"\";
      proxy_set_header Connection \"\";
    }}
  }}
  server {{
    listen unix:{work}/origin.sock;
    location = /small {{ return 200 \"Hello, World!\"; }}
  }}
  upstream itself {{ server unix:{work}/origin.sock; keepalive 64; keepalive_requests 100000000; }}
}}
"
    )
}
