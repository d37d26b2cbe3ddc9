//! Load at a fixed rate, whether the other side keeps up or not.
//! It promises latencies from the time at which a request was due, so that a stall counts for every request that it held
//! up (no coordinated omission). It uses one thread, so that it measures the proxy and not its own scheduling.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::OwnedFd;
use std::time::Duration;

use rustix::event::{Timespec, epoll};
use tokio::time::Instant;

use crate::exchange::Connection;
use crate::workload::Workload;
use crate::wrk::Counts;

/// A generator that sends later than this, on a connection that was free, measures itself.
const LAG_MAX: Duration = Duration::from_millis(1);
/// How long answers may still come after the last request was due.
const GRACE: Duration = Duration::from_secs(5);

/// Sends `per_second` evenly spaced requests, in turn over the workload's connections, for `duration`.
pub(crate) fn run(workload: Workload, port: u16, per_second: f64, duration: Duration) -> io::Result<Counts> {
    let ready = epoll::create(epoll::CreateFlags::CLOEXEC)?;
    let mut lanes = Vec::new();
    for idx in 0..workload.connections() {
        lanes.push(Lane::open(port, &ready, idx)?);
    }
    let schedule = Schedule {
        begin_at: Instant::now(),
        every: Duration::from_secs_f64(1.0 / per_second),
        n: (per_second * duration.as_secs_f64()) as u32,
    };
    let request = workload.request(&format!("127.0.0.1:{port}"));
    let mut generator = Generator {
        events: Vec::with_capacity(lanes.len()),
        lanes,
        ready,
        request,
        expected: workload.response_bytes(),
        port,
        latencies_us: Vec::new(),
        errors: 0,
        n_late: 0,
    };
    generator.drive(schedule)?;
    if generator.n_late > schedule.n / 100 {
        let percent = 100.0 * f64::from(generator.n_late) / f64::from(schedule.n);
        eprintln!(
            "peers: {percent:.0} % of the requests were sent late: the generator's core is too busy for this rate"
        );
    }
    Ok(generator.counts(duration))
}

/// Request `k` is due at `begin_at + k × every`.
#[derive(Clone, Copy, Debug)]
struct Schedule {
    begin_at: Instant,
    every: Duration,
    n: u32,
}

impl Schedule {
    fn due_at(&self, k: u32) -> Instant {
        self.begin_at + self.every * k
    }
}

/// One connection and the requests that are due on it; the first of them has been sent.
#[derive(Debug)]
struct Lane {
    connection: Connection,
    due: VecDeque<Instant>,
}

impl Lane {
    /// A connection that `ready` tells of by its number.
    fn open(port: u16, ready: &OwnedFd, idx: usize) -> io::Result<Self> {
        let connection = Connection::open(port)?;
        connection.set_nonblocking()?;
        epoll::add(ready, connection.socket(), epoll::EventData::new_u64(idx as u64), epoll::EventFlags::IN)?;
        Ok(Self { connection, due: VecDeque::new() })
    }
}

struct Generator {
    lanes: Vec<Lane>,
    /// Watches the lanes: asking each of them would take as long as the requests themselves.
    ready: OwnedFd,
    events: Vec<epoll::Event>,
    request: Vec<u8>,
    expected: usize,
    port: u16,
    latencies_us: Vec<u32>,
    errors: u64,
    /// Requests sent later than [`LAG_MAX`] though their connection was free.
    n_late: u32,
}

impl Generator {
    fn drive(&mut self, schedule: Schedule) -> io::Result<()> {
        let last_at = schedule.due_at(schedule.n) + GRACE;
        let mut next = 0;
        while next < schedule.n || self.lanes.iter().any(|lane| !lane.due.is_empty()) {
            let now = Instant::now();
            if now >= last_at {
                self.errors += self.lanes.iter().map(|lane| lane.due.len() as u64).sum::<u64>();
                return Ok(());
            }
            while next < schedule.n && schedule.due_at(next) <= now {
                let idx = next as usize % self.lanes.len();
                self.enqueue(idx, schedule.due_at(next))?;
                next += 1;
            }
            let wake_at = if next < schedule.n { schedule.due_at(next) } else { last_at };
            self.wait(wake_at.saturating_duration_since(Instant::now()))?;
            let mut events = std::mem::take(&mut self.events);
            for event in events.drain(..) {
                self.receive(event.data.u64() as usize)?;
            }
            self.events = events;
        }
        Ok(())
    }

    fn enqueue(&mut self, idx: usize, due_at: Instant) -> io::Result<()> {
        self.lanes[idx].due.push_back(due_at);
        match self.lanes[idx].due.len() {
            1 => {
                self.n_late += u32::from(due_at.elapsed() > LAG_MAX);
                self.send(idx)
            }
            _ => Ok(()),
        }
    }

    /// Sends the first request that is due on a lane. Small requests fit the socket's buffer whole.
    fn send(&mut self, idx: usize) -> io::Result<()> {
        match self.lanes[idx].connection.send(&self.request) {
            Ok(()) => Ok(()),
            Err(_) => self.fail(idx),
        }
    }

    /// Notes the lanes that have something to read, waiting for one at most `patience`.
    fn wait(&mut self, patience: Duration) -> io::Result<()> {
        let timeout = Timespec::try_from(patience).map_err(io::Error::other)?;
        self.events.reserve(self.lanes.len());
        match epoll::wait(&self.ready, rustix::buffer::spare_capacity(&mut self.events), Some(&timeout)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn receive(&mut self, idx: usize) -> io::Result<()> {
        let lane = &mut self.lanes[idx];
        match lane.connection.receive(self.expected) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(_) => return self.fail(idx),
        }
        let Some(due_at) = lane.due.pop_front() else { return self.fail(idx) };
        self.latencies_us.push(u32::try_from(due_at.elapsed().as_micros()).unwrap_or(u32::MAX));
        match self.lanes[idx].due.is_empty() {
            true => Ok(()),
            false => self.send(idx),
        }
    }

    /// Counts the request under way as an error and opens the lane anew.
    fn fail(&mut self, idx: usize) -> io::Result<()> {
        self.errors += 1;
        self.lanes[idx].due.pop_front();
        let due = std::mem::take(&mut self.lanes[idx].due);
        self.lanes[idx] = Lane { due, ..Lane::open(self.port, &self.ready, idx)? };
        match self.lanes[idx].due.is_empty() {
            true => Ok(()),
            false => self.lanes[idx].connection.send(&self.request),
        }
    }

    fn counts(mut self, duration: Duration) -> Counts {
        self.latencies_us.sort_unstable();
        let quantile = |q: f64| {
            let idx = (self.latencies_us.len() as f64 * q) as usize;
            self.latencies_us.get(idx).copied().map_or(0.0, f64::from)
        };
        Counts {
            requests: self.latencies_us.len() as u64,
            seconds: duration.as_secs_f64(),
            errors: self.errors,
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
        }
    }
}
