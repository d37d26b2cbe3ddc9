//! The thread that writes the access log, and the bounded queue in front of it.
//! Promises that taking lines never waits for I/O, that an error neither kills nor spins, and that the file recovers by
//! itself when the disk does. It does not look into the lines.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};

use super::{BACKLOG_MAX, CHUNK_BYTES, lock};
use crate::telemetry::metrics::{Limit, Metrics};

/// Buffers that are kept for the next chunk: a few per worker.
const SPARE_MAX: usize = 16;
/// How long a reader that reads nothing is waited for, where the descriptor is in non-blocking mode.
const STALL_MAX: Timespec = Timespec { tv_sec: 5, tv_nsec: 0 };

/// Where lines go. Clones are the same.
#[derive(Clone, Debug)]
pub(super) struct Sink {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    queue: Mutex<Queue>,
    /// Something to do.
    work: Condvar,
    /// Nothing left to do.
    idle: Condvar,
    metrics: Arc<Metrics>,
}

#[derive(Debug, Default)]
struct Queue {
    jobs: VecDeque<Job>,
    spare: Vec<Vec<u8>>,
    waiting_bytes: usize,
    is_writing: bool,
    is_closed: bool,
}

#[derive(Debug)]
enum Job {
    Write(Chunk),
    Reopen,
}

#[derive(Debug)]
struct Chunk {
    bytes: Vec<u8>,
    n_lines: u64,
}

impl Sink {
    pub(super) fn open(path: Option<PathBuf>, metrics: Arc<Metrics>) -> io::Result<Self> {
        Self::start(Output { file: open(path.as_ref())?, path, is_torn: false, is_failing: false }, metrics)
    }

    fn start(output: Output, metrics: Arc<Metrics>) -> io::Result<Self> {
        let shared = Shared { queue: Mutex::default(), work: Condvar::new(), idle: Condvar::new(), metrics };
        let shared = Arc::new(shared);
        let thread = std::thread::Builder::new().name("access-log".into());
        thread.spawn({
            let shared = shared.clone();
            move || shared.run(output)
        })?;
        Ok(Self { shared })
    }

    /// Takes the lines and leaves an empty buffer. Drops and counts them if too many wait already.
    pub(super) fn take(&self, bytes: &mut Vec<u8>, n_lines: u64) {
        let mut queue = lock(&self.shared.queue);
        if queue.is_closed || queue.waiting_bytes + bytes.len() > BACKLOG_MAX.as_usize() {
            drop(queue);
            bytes.clear();
            self.shared.metrics.limit_hit(Limit::AccessLogBacklog);
            self.shared.metrics.access_log_dropped().increment(n_lines);
            return;
        }
        let spare = queue.spare.pop().unwrap_or_else(|| Vec::with_capacity(CHUNK_BYTES.as_usize()));
        let bytes = std::mem::replace(bytes, spare);
        queue.waiting_bytes += bytes.len();
        queue.jobs.push_back(Job::Write(Chunk { bytes, n_lines }));
        self.shared.work.notify_one();
    }

    /// Whether both are the same.
    pub(super) fn is(&self, other: &Sink) -> bool {
        Arc::ptr_eq(&self.shared, &other.shared)
    }

    pub(super) fn reopen(&self) {
        lock(&self.shared.queue).jobs.push_back(Job::Reopen);
        self.shared.work.notify_one();
    }

    /// Whether everything taken was written, or given up, within `patience`.
    pub(super) fn wait_idle(&self, patience: Duration) -> bool {
        let queue = lock(&self.shared.queue);
        let is_busy = |queue: &mut Queue| queue.is_writing || !queue.jobs.is_empty();
        let waited = self.shared.idle.wait_timeout_while(queue, patience, is_busy);
        !waited.map_or(true, |(_, timeout)| timeout.timed_out())
    }

    /// Takes nothing more, and lets the thread end once it has written what it has.
    pub(super) fn close(&self) {
        lock(&self.shared.queue).is_closed = true;
        self.shared.work.notify_one();
    }
}

impl Shared {
    fn run(&self, mut output: Output) {
        let mut queue = lock(&self.queue);
        loop {
            let Some(job) = queue.jobs.pop_front() else {
                self.idle.notify_all();
                if queue.is_closed {
                    return;
                }
                queue = self.wait_for_work(queue);
                continue;
            };
            queue.is_writing = true;
            drop(queue);
            let spare = self.perform(job, &mut output);
            queue = lock(&self.queue);
            queue.is_writing = false;
            if let Some(mut bytes) = spare {
                queue.waiting_bytes -= bytes.len();
                bytes.clear();
                if queue.spare.len() < SPARE_MAX {
                    queue.spare.push(bytes);
                }
            }
        }
    }

    fn wait_for_work<'a>(&self, queue: MutexGuard<'a, Queue>) -> MutexGuard<'a, Queue> {
        self.work.wait(queue).unwrap_or_else(PoisonError::into_inner)
    }

    fn perform(&self, job: Job, output: &mut Output) -> Option<Vec<u8>> {
        match job {
            Job::Write(chunk) => {
                let n_lost = output.write(&chunk);
                self.metrics.access_log_dropped().increment(n_lost);
                Some(chunk.bytes)
            }
            Job::Reopen => {
                output.reopen();
                None
            }
        }
    }
}

/// The open file and what became of the last write.
struct Output {
    file: File,
    path: Option<PathBuf>,
    /// The last line in the file has no end, because a write stopped in its middle.
    is_torn: bool,
    is_failing: bool,
}

impl Output {
    /// How many lines were lost.
    fn write(&mut self, chunk: &Chunk) -> u64 {
        let mut n_written = 0;
        let written = self.end_torn_line().and_then(|()| write_all(&mut self.file, &chunk.bytes, &mut n_written));
        let Err(error) = written else {
            self.is_failing = false;
            return 0;
        };
        // A broken pipe stays broken and a full disk stays full for a while: say it once, count each line.
        if !self.is_failing {
            tracing::warn!(path = self.path_text(), %error, "access log cannot be written, dropping lines");
        }
        self.is_failing = true;
        self.is_torn |= n_written > 0 && chunk.bytes[n_written - 1] != b'\n';
        chunk.n_lines.saturating_sub(memchr::memchr_iter(b'\n', &chunk.bytes[..n_written]).count() as u64)
    }

    fn end_torn_line(&mut self) -> io::Result<()> {
        if self.is_torn {
            write_all(&mut self.file, b"\n", &mut 0)?;
            self.is_torn = false;
        }
        Ok(())
    }

    fn reopen(&mut self) {
        match open(self.path.as_ref()) {
            Ok(file) => (self.file, self.is_torn, self.is_failing) = (file, false, false),
            Err(error) => {
                tracing::warn!(path = self.path_text(), %error, "access log not reopened, keeping the old file")
            }
        }
    }

    fn path_text(&self) -> String {
        self.path.as_ref().map_or_else(|| "standard output".to_owned(), |path| path.display().to_string())
    }
}

fn open(path: Option<&PathBuf>) -> io::Result<File> {
    match path {
        // It holds addresses of people: readable by the owner and the group of the log collector.
        Some(path) => OpenOptions::new().append(true).create(true).mode(0o640).open(path),
        // A descriptor of its own: `io::stdout` would look for line ends in every chunk.
        None => Ok(File::from(io::stdout().as_fd().try_clone_to_owned()?)),
    }
}

/// Like `Write::write_all`, but it says how far it came, and waits if somebody made the descriptor non-blocking.
fn write_all(file: &mut File, bytes: &[u8], n_written: &mut usize) -> io::Result<()> {
    while *n_written < bytes.len() {
        match file.write(&bytes[*n_written..]) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(n) => *n_written += n,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait_writable(file)?,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

fn wait_writable(file: &File) -> io::Result<()> {
    let mut interest = [PollFd::new(file, PollFlags::OUT)];
    match rustix::event::poll(&mut interest, Some(&STALL_MAX)) {
        Ok(0) => Err(io::ErrorKind::TimedOut.into()),
        Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::os::fd::OwnedFd;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    fn sink_to(file: File) -> (Sink, Arc<Metrics>) {
        let metrics = Metrics::new();
        let output = Output { file, path: None, is_torn: false, is_failing: false };
        (Sink::start(output, metrics.clone()).unwrap(), metrics)
    }

    fn pipe() -> (std::io::PipeReader, File) {
        let (reader, writer) = std::io::pipe().unwrap();
        (reader, File::from(OwnedFd::from(writer)))
    }

    fn n_dropped(metrics: &Metrics) -> u64 {
        let page = metrics.render();
        let line = page.lines().find_map(|line| line.strip_prefix("portway_access_log_dropped_lines_total "));
        line.unwrap().parse().unwrap()
    }

    #[test]
    fn a_closed_pipe_costs_its_lines_and_nothing_else() {
        let (reader, writer) = pipe();
        let (sink, metrics) = sink_to(writer);
        drop(reader);
        sink.take(&mut b"a\nb\n".to_vec(), 2);
        sink.take(&mut b"c\n".to_vec(), 1);
        assert!(sink.wait_idle(PATIENCE));
        assert_eq!(n_dropped(&metrics), 3);
    }

    #[test]
    fn a_full_disk_is_counted() {
        let (sink, metrics) = sink_to(OpenOptions::new().write(true).open("/dev/full").unwrap());
        sink.take(&mut b"a\nb\n".to_vec(), 2);
        assert!(sink.wait_idle(PATIENCE));
        assert_eq!(n_dropped(&metrics), 2);
    }

    #[test]
    fn a_reader_that_stalls_costs_bounded_memory_and_holds_up_nobody() {
        let (reader, writer) = pipe();
        let (sink, metrics) = sink_to(writer);
        let n_chunks = 200;
        for _ in 0..n_chunks {
            let mut chunk = vec![b'x'; CHUNK_BYTES.as_usize()];
            sink.take(&mut chunk, 10);
            assert!(chunk.is_empty());
        }
        assert!(lock(&sink.shared.queue).waiting_bytes <= BACKLOG_MAX.as_usize());
        let n_fit = BACKLOG_MAX.0 / CHUNK_BYTES.0;
        // One more may have gone into the pipe itself.
        let n_lost = n_dropped(&metrics) / 10;
        assert!((n_chunks - n_fit - 1..=n_chunks - n_fit).contains(&n_lost), "{n_lost}");
        let hits = format!("portway_limit_hits_total{{limit=\"access_log_backlog\"}} {n_lost}\n");
        assert!(metrics.render().contains(&hits), "{hits}");
        assert!(!sink.wait_idle(Duration::from_millis(1)));
        drop(reader);
        assert!(sink.wait_idle(PATIENCE));
        assert_eq!(lock(&sink.shared.queue).waiting_bytes, 0);
    }

    #[test]
    fn a_non_blocking_descriptor_loses_nothing() {
        let (mut reader, writer) = pipe();
        rustix::io::ioctl_fionbio(&writer, true).unwrap();
        let (sink, metrics) = sink_to(writer);
        let n_bytes = 10 * CHUNK_BYTES.as_usize();
        for _ in 0..10 {
            sink.take(&mut vec![b'x'; CHUNK_BYTES.as_usize()], 1);
        }
        let mut read = vec![0; n_bytes];
        reader.read_exact(&mut read).unwrap();
        assert!(sink.wait_idle(PATIENCE));
        assert_eq!(n_dropped(&metrics), 0);
    }

    #[test]
    fn a_torn_line_is_ended_before_the_next() {
        let (mut reader, file) = pipe();
        let mut output = Output { file, path: None, is_torn: true, is_failing: true };
        assert_eq!(output.write(&Chunk { bytes: b"next\n".to_vec(), n_lines: 1 }), 0);
        drop(output);
        let mut text = String::new();
        reader.read_to_string(&mut text).unwrap();
        assert_eq!(text, "\nnext\n");
    }
}
