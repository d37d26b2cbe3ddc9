//! The access log: one line per request, written by one thread for all workers.
//! Promises that a worker never waits for the disk or the reader of a pipe, that memory for lines that wait is bounded,
//! and that every line which could not be written is counted. It does not decide what a request's outcome was.

use std::io;
use std::net::IpAddr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use self::line::Line;
use self::sink::Sink;
use crate::config::checked::{self, AttemptsInLog, LogFilter};
use crate::error::FailureKind;
use crate::telemetry::metrics::{Metrics, Outcome};
use crate::units::{ByteSize, Moment};

mod line;
mod sink;

/// A worker hands its lines over when it has so many: large enough that a system call per chunk costs nothing per line.
pub const CHUNK_BYTES: ByteSize = ByteSize::kib(64);
/// A worker hands its lines over after so long: short enough for somebody who follows the log.
pub const FLUSH_EVERY: Duration = Duration::from_millis(100);
/// Lines that wait for the writer thread; beyond it they are dropped and counted. About 20,000 lines.
pub const BACKLOG_MAX: ByteSize = ByteSize::mib(8);
/// Longer values are cut and end in `…`: a client chooses its path and user agent, not our disk usage.
pub const VALUE_BYTES_MAX: usize = 2_048;

/// What the log says about one request. Absent values are omitted from the line.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// When the request arrived, since 1970-01-01 UTC: `ts`, to the millisecond.
    pub arrived_at_unix: Duration,
    /// Ours, or the client's if it passed [`RequestId::accept`](super::request_id::RequestId::accept).
    pub request_id: &'a str,
    /// 32 hexadecimal digits.
    pub trace_id: Option<&'a str>,
    /// `None` on a unix socket.
    pub client_ip: Option<IpAddr>,
    /// An HTTP token.
    pub method: &'a str,
    /// As the client sent it.
    pub host: Option<&'a [u8]>,
    /// Without the query.
    pub path: &'a [u8],
    /// Written only if the configuration asks for it.
    pub query: Option<&'a [u8]>,
    /// `HTTP/1.1`.
    pub proto: &'static str,
    /// What the client got; 499 if it went away.
    pub status: u16,
    /// Body bytes from the client.
    pub bytes_in: u64,
    /// Body bytes to the client.
    pub bytes_out: u64,
    /// From the request head to the last byte of the response.
    pub duration: Duration,
    /// Waited for a free backend.
    pub queue: Option<Duration>,
    /// The part of it that it waited for the first replica of its service.
    pub held: Option<Duration>,
    /// Waited for a connection of the last attempt; `None` if a pooled one was taken.
    pub connect: Option<Duration>,
    /// From the request head to the response head.
    pub ttfb: Option<Duration>,
    /// A service name: plain ASCII by construction.
    pub service: Option<&'a str>,
    /// Address of the last attempt.
    pub backend: Option<&'a str>,
    /// How many attempts there were; 0 for a local reply.
    pub attempts: u32,
    /// One by one, where somebody wants to know; only JSON has a place for it.
    pub attempt_list: &'a [AttemptRecord],
    /// What the backend answered.
    pub upstream_status: Option<u16>,
    /// Why Portway answered itself, or gave up.
    pub reason: Option<FailureKind>,
    /// `TLSv1.3`.
    pub tls_version: Option<&'static str>,
    /// As the client sent it.
    pub user_agent: Option<&'a [u8]>,
    /// As the client sent it; only the combined format has a place for it.
    pub referer: Option<&'a [u8]>,
}

/// What the log says about one attempt.
#[derive(Clone, Debug)]
pub struct AttemptRecord {
    /// Where it went.
    pub backend: Arc<str>,
    /// Why it was made: what ended the one before, or `hedge`. `None` for the first.
    pub because: Option<&'static str>,
    /// Waited before it: back-off.
    pub pause: Duration,
    /// Waited for a connection; `None` if a pooled one was taken.
    pub connect: Option<Duration>,
    /// From its beginning to the response head, or to its end without one.
    pub duration: Duration,
    /// What the backend answered.
    pub status: Option<u16>,
    /// What became of it: a word of [`Outcome`].
    pub outcome: Outcome,
    /// Backends that were not asked, with the reasons.
    pub skipped: Vec<(Arc<str>, &'static str)>,
}

impl Record<'_> {
    fn is_error(&self) -> bool {
        self.status >= 400 || self.reason.is_some()
    }
}

/// The access log of a process, which may be off. It is closed, and everything written, when it is dropped.
#[derive(Debug)]
pub struct AccessLog {
    metrics: Arc<Metrics>,
    target: Mutex<Target>,
    writers: Mutex<Vec<Weak<Buffered>>>,
}

/// Where lines go at the moment, and how.
#[derive(Clone, Debug, Default)]
struct Target {
    /// `None` is off.
    config: Option<checked::AccessLog>,
    sink: Option<Sink>,
}

/// Another target, open and not yet in use. Dropped, it is closed again.
#[derive(Debug)]
pub struct Prepared {
    config: Option<checked::AccessLog>,
    sink: Option<Sink>,
    /// It was opened for this.
    is_new: bool,
}

impl Drop for Prepared {
    fn drop(&mut self) {
        if let (true, Some(sink)) = (self.is_new, &self.sink) {
            sink.close();
        }
    }
}

impl AccessLog {
    /// Opens the file (appending, created if it is not there) or standard output, and starts the writer thread.
    pub fn open(config: &checked::AccessLog, metrics: &Arc<Metrics>) -> io::Result<Self> {
        let log = Self::off(metrics);
        log.apply(log.prepare(Some(config))?);
        Ok(log)
    }

    /// A log that writes nothing until [`AccessLog::apply`] says where.
    pub fn off(metrics: &Arc<Metrics>) -> Self {
        Self { metrics: metrics.clone(), target: Mutex::default(), writers: Mutex::default() }
    }

    /// Opens what `config` names, if it is not what is open. Nothing has changed yet.
    pub fn prepare(&self, config: Option<&checked::AccessLog>) -> io::Result<Prepared> {
        let present = lock(&self.target).clone();
        let config = config.cloned();
        let Some(next) = &config else { return Ok(Prepared { config, sink: None, is_new: false }) };
        if present.config.is_some_and(|present| present.path == next.path) {
            return Ok(Prepared { config, sink: present.sink, is_new: false });
        }
        let sink = Sink::open(next.path.clone(), self.metrics.clone())?;
        Ok(Prepared { config, sink: Some(sink), is_new: true })
    }

    /// Lines from now on go where `prepared` says; those before it go to where they went.
    pub fn apply(&self, mut prepared: Prepared) {
        let next = Target { config: prepared.config.take(), sink: prepared.sink.take() };
        self.each_writer(|writer| writer.redirect(&next));
        let old = std::mem::replace(&mut *lock(&self.target), next);
        if let Some(sink) = old.sink.filter(|old| !lock(&self.target).sink.as_ref().is_some_and(|new| new.is(old))) {
            sink.close();
        }
    }

    /// A writer for one worker.
    pub fn writer(&self) -> Writer {
        let target = lock(&self.target).clone();
        let buffered = Arc::new(Buffered::default());
        buffered.redirect(&target);
        let mut writers = lock(&self.writers);
        writers.retain(|writer| writer.strong_count() > 0);
        writers.push(Arc::downgrade(&buffered));
        Writer(buffered)
    }

    /// Opens the file again, after a rotation moved it away. Lines before this call go to the old file.
    /// Standard output stays as it is. If the file cannot be opened, the old one stays and the operator's log says why.
    pub fn reopen(&self) {
        self.each_writer(Buffered::flush);
        if let Some(sink) = &lock(&self.target).sink {
            sink.reopen();
        }
    }

    /// Writes everything out: true if it was done within `patience`.
    pub fn flush(&self, patience: Duration) -> bool {
        self.each_writer(Buffered::flush);
        let sink = lock(&self.target).sink.clone();
        sink.is_none_or(|sink| sink.wait_idle(patience))
    }

    fn each_writer(&self, act: impl Fn(&Buffered)) {
        // Collected first, so that a writer that ends here is not dropped under the lock.
        let writers: Vec<_> = lock(&self.writers).iter().filter_map(Weak::upgrade).collect();
        writers.iter().for_each(|writer| act(writer));
    }
}

impl Drop for AccessLog {
    fn drop(&mut self) {
        // A reader of the pipe that reads no more must not keep the process from ending.
        const PATIENCE: Duration = Duration::from_secs(2);
        self.flush(PATIENCE);
        if let Some(sink) = lock(&self.target).sink.take() {
            sink.close();
        }
    }
}

/// Which requests a writer takes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Mode {
    Off = 0,
    Errors,
    All,
}

/// One worker's end of the log. Clones are the same; the lock inside is its own, so no worker waits for another.
#[derive(Clone, Debug)]
pub struct Writer(Arc<Buffered>);

impl Writer {
    /// Whether there is a log at all: one load of memory that only a reload writes.
    #[inline]
    pub fn is_on(&self) -> bool {
        self.0.mode.load(Relaxed) != Mode::Off as u8
    }

    /// Whether the attempts of every request are to be listed.
    pub fn lists_all_attempts(&self) -> bool {
        self.0.lists_all_attempts.load(Relaxed)
    }

    /// Adds the line of one request.
    pub fn write(&self, record: &Record<'_>) {
        let mode = self.0.mode.load(Relaxed);
        if mode == Mode::Off as u8 || (mode == Mode::Errors as u8 && !record.is_error()) {
            return;
        }
        let mut pending = lock(&self.0.pending);
        let pending = &mut *pending;
        let Some(line) = &mut pending.line else { return };
        line.write(&mut pending.bytes, record);
        pending.n_lines += 1;
        if pending.bytes.len() >= CHUNK_BYTES.as_usize() {
            pending.hand_over();
        }
    }

    /// Hands the lines over if the last time was [`FLUSH_EVERY`] ago. Call it from the worker's regular tick.
    pub fn flush_if_due(&self, now: Moment) {
        let mut pending = lock(&self.0.pending);
        if now.since(pending.flushed_at) >= FLUSH_EVERY {
            pending.flushed_at = now;
            pending.hand_over();
        }
    }

    /// Hands the lines over now.
    pub fn flush(&self) {
        self.0.flush();
    }
}

#[derive(Debug, Default)]
struct Buffered {
    /// A [`Mode`]; off to begin with.
    mode: AtomicU8,
    lists_all_attempts: AtomicBool,
    pending: Mutex<Pending>,
}

#[derive(Debug, Default)]
struct Pending {
    bytes: Vec<u8>,
    n_lines: u64,
    flushed_at: Moment,
    /// `None` while the log is off.
    line: Option<Line>,
    sink: Option<Sink>,
}

impl Pending {
    fn hand_over(&mut self) {
        if let (1.., Some(sink)) = (self.n_lines, &self.sink) {
            sink.take(&mut self.bytes, std::mem::take(&mut self.n_lines));
        }
    }
}

impl Buffered {
    fn flush(&self) {
        lock(&self.pending).hand_over();
    }

    fn redirect(&self, target: &Target) {
        let mut pending = lock(&self.pending);
        pending.hand_over();
        let mode = match &target.config {
            None => Mode::Off,
            Some(config) if config.only == LogFilter::Errors => Mode::Errors,
            Some(_) => Mode::All,
        };
        pending.line = target.config.as_ref().map(|config| Line::new(config.format, config.query));
        pending.sink = target.sink.clone();
        // Whoever writes no log holds no memory for it.
        let capacity = if mode == Mode::Off { 0 } else { CHUNK_BYTES.as_usize() };
        pending.bytes = Vec::with_capacity(capacity);
        let lists_all = target.config.as_ref().is_some_and(|config| config.attempts == AttemptsInLog::All);
        self.lists_all_attempts.store(lists_all, Relaxed);
        self.mode.store(mode as u8, Relaxed);
    }
}

impl Drop for Buffered {
    fn drop(&mut self) {
        self.flush();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // A panic while a line was written leaves at worst half a line; the log must go on.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;
    use crate::config::checked::{LogFormat, QueryInLog};

    const PATIENCE: Duration = Duration::from_secs(10);

    /// A folder of its own, removed at the end of the test.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("portway-access-log-{}-{name}", std::process::id()));
            std::fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn log(&self, only: LogFilter) -> AccessLog {
            let (path, query) = (Some(self.0.join("access.log")), QueryInLog::Omitted);
            let attempts = AttemptsInLog::Repeated;
            let config = checked::AccessLog { path, only, query, attempts, format: LogFormat::Json };
            AccessLog::open(&config, &Metrics::new()).unwrap()
        }

        fn n_lines(&self, file: &str) -> usize {
            std::fs::read_to_string(self.0.join(file)).unwrap_or_default().lines().count()
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = std::fs::remove_dir_all(&self.0);
        }
    }

    fn record(status: u16) -> Record<'static> {
        Record {
            arrived_at_unix: Duration::from_secs(1_700_000_000),
            request_id: "id",
            trace_id: None,
            client_ip: None,
            method: "GET",
            host: None,
            path: b"/",
            query: None,
            proto: "HTTP/1.1",
            status,
            bytes_in: 0,
            bytes_out: 0,
            duration: Duration::ZERO,
            queue: None,
            held: None,
            connect: None,
            ttfb: None,
            service: None,
            backend: None,
            attempts: 0,
            attempt_list: &[],
            upstream_status: None,
            reason: None,
            tls_version: None,
            user_agent: None,
            referer: None,
        }
    }

    #[test]
    fn every_line_of_every_worker_arrives_whole() {
        let folder = Folder::new("workers");
        let log = folder.log(LogFilter::All);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                let writer = log.writer();
                scope.spawn(move || (0..5_000).for_each(|_| writer.write(&record(200))));
            }
        });
        drop(log);
        let text = std::fs::read_to_string(folder.0.join("access.log")).unwrap();
        assert_eq!(text.lines().count(), 20_000);
        assert!(text.lines().all(|line| line.starts_with('{') && line.ends_with('}')));
    }

    #[test]
    fn lines_leave_the_worker_when_they_are_due_and_not_before() {
        let folder = Folder::new("due");
        let log = folder.log(LogFilter::All);
        let writer = log.writer();
        let start = Moment(0).after(Duration::from_secs(1));
        writer.flush_if_due(start);
        writer.write(&record(200));
        writer.flush_if_due(start.after(FLUSH_EVERY / 2));
        assert!(lock(&log.target).sink.as_ref().unwrap().wait_idle(PATIENCE));
        assert_eq!(folder.n_lines("access.log"), 0);
        writer.flush_if_due(start.after(FLUSH_EVERY));
        assert!(lock(&log.target).sink.as_ref().unwrap().wait_idle(PATIENCE));
        assert_eq!(folder.n_lines("access.log"), 1);
    }

    #[test]
    fn only_errors_are_written_if_only_those_are_asked_for() {
        let folder = Folder::new("errors");
        let log = folder.log(LogFilter::Errors);
        let writer = log.writer();
        writer.write(&record(200));
        writer.write(&record(404));
        writer.write(&Record { reason: Some(FailureKind::UpstreamReset), ..record(200) });
        assert!(log.flush(PATIENCE));
        assert_eq!(folder.n_lines("access.log"), 2);
    }

    #[test]
    fn after_a_rotation_lines_go_to_the_new_file() {
        let folder = Folder::new("rotation");
        let log = folder.log(LogFilter::All);
        let writer = log.writer();
        writer.write(&record(200));
        std::fs::rename(folder.0.join("access.log"), folder.0.join("access.log.1")).unwrap();
        log.reopen();
        writer.write(&record(200));
        writer.write(&record(200));
        assert!(log.flush(PATIENCE));
        assert_eq!(folder.n_lines("access.log.1"), 1);
        assert_eq!(folder.n_lines("access.log"), 2);
    }

    #[test]
    fn a_file_that_cannot_be_opened_again_leaves_the_old_one() {
        let folder = Folder::new("reopen-fails");
        let log = folder.log(LogFilter::All);
        let writer = log.writer();
        std::fs::rename(folder.0.join("access.log"), folder.0.join("old.log")).unwrap();
        std::fs::create_dir(folder.0.join("access.log")).unwrap();
        log.reopen();
        writer.write(&record(200));
        assert!(log.flush(PATIENCE));
        assert_eq!(folder.n_lines("old.log"), 1);
    }
}
