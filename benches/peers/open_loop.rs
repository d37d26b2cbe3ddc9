//! Load at a fixed rate, whether the other side keeps up or not.
//! It promises latencies from the time at which a request was meant to be sent, so that a stall counts for every request
//! that it held up (no coordinated omission). It is not made for high rates: a thread per connection.

use std::io;
use std::thread;
use std::time::Duration;

use tokio::time::Instant;

use crate::exchange::Connection;
use crate::workload::Workload;
use crate::wrk::Counts;

/// Sends `per_second` evenly spaced requests, spread over the workload's connections, for `duration`.
pub(crate) fn run(workload: Workload, port: u16, per_second: f64, duration: Duration) -> Counts {
    let n = workload.connections();
    // All connections are open before the first request is due.
    let begin_at = Instant::now() + Duration::from_millis(200);
    let pace = Pace { begin_at, end_at: begin_at + duration, every: Duration::from_secs_f64(n as f64 / per_second) };
    let threads: Vec<_> = (0..n)
        .map(|idx| {
            let first_at = begin_at + pace.every.mul_f64(idx as f64 / n as f64);
            thread::spawn(move || one_connection(workload, port, Pace { begin_at: first_at, ..pace }))
        })
        .collect();
    let mut latencies_us = Vec::new();
    let mut errors = 0;
    for handle in threads {
        let (latencies, failed) = handle.join().expect("a generator thread does not panic");
        latencies_us.extend(latencies);
        errors += failed;
    }
    latencies_us.sort_unstable();
    Counts {
        requests: latencies_us.len() as u64,
        seconds: duration.as_secs_f64(),
        errors,
        p50_us: quantile(&latencies_us, 0.5),
        p99_us: quantile(&latencies_us, 0.99),
        p999_us: quantile(&latencies_us, 0.999),
    }
}

#[derive(Clone, Copy, Debug)]
struct Pace {
    begin_at: Instant,
    end_at: Instant,
    every: Duration,
}

/// Latencies in microseconds, and the number of requests that failed.
fn one_connection(workload: Workload, port: u16, pace: Pace) -> (Vec<u32>, u64) {
    let request = workload.request(&format!("127.0.0.1:{port}"));
    let mut latencies_us = Vec::new();
    let mut errors = 0;
    let mut connection = Connection::open(port);
    let mut due_at = pace.begin_at;
    while due_at < pace.end_at {
        thread::sleep(due_at.saturating_duration_since(Instant::now()));
        match ask(&mut connection, &request, workload.response_bytes()) {
            Ok(()) => latencies_us.push(u32::try_from(due_at.elapsed().as_micros()).unwrap_or(u32::MAX)),
            Err(_) => {
                errors += 1;
                connection = Connection::open(port);
            }
        }
        due_at += pace.every;
    }
    (latencies_us, errors)
}

fn ask(connection: &mut io::Result<Connection>, request: &[u8], expected: usize) -> io::Result<()> {
    match connection {
        Ok(connection) => connection.ask(request, expected),
        Err(error) => Err(error.kind().into()),
    }
}

/// Of sorted values; zero if there are none.
fn quantile(sorted: &[u32], q: f64) -> f64 {
    let idx = (sorted.len() as f64 * q) as usize;
    sorted.get(idx.min(sorted.len().saturating_sub(1))).copied().map_or(0.0, f64::from)
}
