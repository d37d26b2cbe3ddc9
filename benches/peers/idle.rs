//! Memory: at start, and per keep-alive connection that made one request and then rests.
//! It promises a fresh process for each figure. RSS is what the kernel says, allocator slack included.

use std::io;
use std::path::Path;
use std::thread;
use std::time::Duration;

use anyhow::anyhow;

use crate::contender::Contender;
use crate::exchange::Connection;
use crate::origin::Origin;
use crate::results::Memory;
use crate::workload::Workload;

/// How the connections are weighed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Plan {
    pub(crate) connections: usize,
    /// Between the two weighings.
    pub(crate) rest: Duration,
}

pub(crate) fn weigh(contender: &Contender, origin: &Origin, work: &Path, plan: Plan) -> anyhow::Result<Memory> {
    let running = contender.start(origin, work)?;
    let process = &running.process;
    let start_kib = process.resident_kib();
    // The first connections fault in code and buffers that all share.
    drop(ask_once_each(running.port, 64)?);
    thread::sleep(Duration::from_millis(200));
    let before_kib = process.resident_kib();
    let connections = ask_once_each(running.port, plan.connections)?;
    let grown_kib = |now: u64| now.saturating_sub(before_kib) as f64 / connections.len() as f64;
    let at_once_kib = grown_kib(process.resident_kib());
    thread::sleep(plan.rest);
    let rested_kib = grown_kib(process.resident_kib());
    Ok(Memory { start_kib: start_kib as f64, at_once_kib, rested_kib })
}

fn ask_once_each(port: u16, n: usize) -> anyhow::Result<Vec<Connection>> {
    let request = Workload::Idle.request(&format!("127.0.0.1:{port}"));
    let ask_once = |_| {
        let mut connection = Connection::open(port)?;
        connection.ask(&request, Workload::Idle.response_bytes())?;
        Ok(connection)
    };
    (0..n).map(|idx| ask_once(idx).map_err(|error: io::Error| anyhow!("connection {idx} of {n}: {error}"))).collect()
}
