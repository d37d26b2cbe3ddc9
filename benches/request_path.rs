//! What one request costs: heap allocations, bytes allocated, CPU time of the worker and time on the wall, in process.
//! A whole Portway serves over loopback; the client and the origin allocate nothing per request, so that every counted
//! allocation is Portway's. One connection at a time: this measures a request, `peers` measures many.

#![allow(unsafe_code, reason = "a global allocator that counts has to implement an unsafe trait; it only forwards")]

use std::alloc::{GlobalAlloc, Layout};
use std::fs;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

use portway::app::{App, Setup, TakeSignals};
use portway::config::expand::ProcessEnvironment;
use portway::config::load;
use portway::lifecycle::clock;
use portway::lifecycle::drain::Reason;

/// Before anything is counted: pools are filled, buffers have grown to their size.
const WARM_UP: u64 = 2_000;
/// Counted requests.
const COUNTED: u64 = 20_000;
/// The largest head or body that client and origin handle.
const BUFFER_BYTES: usize = 64 * 1024;
const BODY_16K: [u8; 16 * 1024] = [b'x'; 16 * 1024];
const ANSWER: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 13\r\n\r\nHello, World!";

/// The allocator of the product, counted.
struct Counting;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static BYTES: AtomicU64 = AtomicU64::new(0);

#[cfg(feature = "mimalloc")]
static BELOW: mimalloc::MiMalloc = mimalloc::MiMalloc;
#[cfg(not(feature = "mimalloc"))]
static BELOW: std::alloc::System = std::alloc::System;

fn count(bytes: usize) {
    ALLOCATIONS.fetch_add(1, Relaxed);
    BYTES.fetch_add(bytes as u64, Relaxed);
}

// SAFETY: every call goes on unchanged to an allocator that keeps the contract.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { BELOW.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        unsafe { BELOW.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        unsafe { BELOW.realloc(pointer, layout, size) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { BELOW.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// What is asked for, and behind which configuration.
struct Subject {
    name: &'static str,
    /// Top-level keys.
    yaml: &'static str,
    /// Keys of the service.
    service: &'static str,
    body: &'static [u8],
}

const SUBJECTS: [Subject; 4] = [
    Subject { name: "GET, 13 B back", yaml: "access_log: off", service: "", body: b"" },
    Subject { name: "the same, JSON access log", yaml: "access_log: { path: /dev/null }", service: "", body: b"" },
    Subject { name: "POST 16 KiB, 13 B back", yaml: "access_log: off", service: "", body: &BODY_16K },
    Subject {
        name: "GET through a filter stack",
        yaml: "access_log: off",
        service: "headers: { response: { set: { x-edge: portway } } }",
        body: b"",
    },
];

/// Figures of one subject, per request.
struct Figures {
    allocations: f64,
    bytes: f64,
    cpu: Duration,
    wall: Duration,
}

fn main() -> io::Result<()> {
    if cfg!(debug_assertions) {
        eprintln!("request_path: built without optimisation: the times mean nothing, use `cargo bench`");
    }
    println!("{COUNTED} requests on one keep-alive connection, one worker, one backend\n");
    println!("| request | allocations | bytes allocated | worker CPU | wall |\n|---|---:|---:|---:|---:|");
    for subject in &SUBJECTS {
        let Figures { allocations, bytes, cpu, wall } = measure(subject)?;
        let micros = |duration: Duration| duration.as_secs_f64() * 1e6;
        println!(
            "| {} | {allocations:.2} | {bytes:.0} | {:.2} µs | {:.1} µs |",
            subject.name,
            micros(cpu),
            micros(wall)
        );
    }
    Ok(())
}

fn measure(subject: &Subject) -> io::Result<Figures> {
    let origin = origin()?;
    let yaml = format!(
        "listen: \"127.0.0.1:0\"\nadmin: off\nworkers: 1\n{}\nservices:\n  web:\n    backends: [\"{origin}\"]\n    {}\n",
        subject.yaml, subject.service
    );
    let loaded = load::parse(&yaml, "bench.yaml", &ProcessEnvironment).expect("the bench's own configuration is valid");
    let app = App::start(Setup { config: loaded.config, file: None, yaml }).map_err(io::Error::other)?;
    let (address, trigger) = (app.addresses()[0], app.trigger());
    let running = std::thread::spawn(move || app.run(TakeSignals::No).map_err(io::Error::other));
    let mut client = Client::connect(address, subject.body)?;
    client.requests(WARM_UP)?;
    let worker = worker_task()?;
    let before = (ALLOCATIONS.load(Relaxed), BYTES.load(Relaxed), cpu_time(&worker)?, clock::now());
    client.requests(COUNTED)?;
    let wall = clock::now().since(before.3);
    let cpu = cpu_time(&worker)?.saturating_sub(before.2);
    let (allocations, bytes) = (ALLOCATIONS.load(Relaxed) - before.0, BYTES.load(Relaxed) - before.1);
    drop(client);
    trigger.request(Reason::Api);
    running.join().expect("the control thread does not panic")?;
    let per_request = |sum: u64| sum as f64 / COUNTED as f64;
    let n = u32::try_from(COUNTED).expect("a small constant");
    Ok(Figures { allocations: per_request(allocations), bytes: per_request(bytes), cpu: cpu / n, wall: wall / n })
}

/// One connection that sends the same request again and again.
struct Client {
    stream: TcpStream,
    request: Vec<u8>,
    buffer: Vec<u8>,
}

impl Client {
    fn connect(address: SocketAddr, body: &[u8]) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_nodelay(true)?;
        let head = match body.len() {
            0 => format!("GET /api HTTP/1.1\r\nHost: {address}\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n"),
            length => format!(
                "POST /api HTTP/1.1\r\nHost: {address}\r\nUser-Agent: bench\r\nAccept: */*\r\nContent-Length: {length}\r\n\r\n"
            ),
        };
        let request = [head.as_bytes(), body].concat();
        Ok(Self { stream, request, buffer: vec![0; BUFFER_BYTES] })
    }

    fn requests(&mut self, n: u64) -> io::Result<()> {
        for _ in 0..n {
            self.stream.write_all(&self.request)?;
            let n_bytes = read_message(&mut self.stream, &mut self.buffer)?;
            assert!(self.buffer[..n_bytes].starts_with(b"HTTP/1.1 200 "), "an answer that is not 200");
        }
        Ok(())
    }
}

/// A server that answers every request alike, on a thread per connection, until its last connection is closed.
fn origin() -> io::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            std::thread::spawn(move || {
                let mut buffer = vec![0; BUFFER_BYTES];
                stream.set_nodelay(true).ok();
                while read_message(&mut stream, &mut buffer).is_ok_and(|n_bytes| n_bytes > 0) {
                    if stream.write_all(ANSWER).is_err() {
                        return;
                    }
                }
            });
        }
    });
    Ok(address)
}

/// Reads one head and the body that its `Content-Length` announces; gives their length, 0 at the end of the stream.
fn read_message(stream: &mut TcpStream, buffer: &mut [u8]) -> io::Result<usize> {
    let mut n_read = 0;
    loop {
        let n_bytes = stream.read(&mut buffer[n_read..])?;
        if n_bytes == 0 {
            return Ok(0);
        }
        n_read += n_bytes;
        let Some(head) = memchr::memmem::find(&buffer[..n_read], b"\r\n\r\n") else { continue };
        if n_read >= head + 4 + content_length(&buffer[..head]) {
            return Ok(n_read);
        }
    }
}

fn content_length(head: &[u8]) -> usize {
    const NAME: &[u8] = b"content-length: ";
    let at = head.windows(NAME.len()).position(|window| window.eq_ignore_ascii_case(NAME));
    let digits = at.map_or(&[][..], |at| &head[at + NAME.len()..]);
    let value = digits.iter().take_while(|byte| byte.is_ascii_digit());
    value.fold(0, |sum, digit| sum * 10 + usize::from(digit - b'0'))
}

/// The worker's entry below `/proc/self/task`: there is one at a time.
fn worker_task() -> io::Result<std::path::PathBuf> {
    for entry in fs::read_dir("/proc/self/task")? {
        let task = entry?.path();
        if fs::read_to_string(task.join("comm")).is_ok_and(|name| name.trim() == "worker-0") {
            return Ok(task);
        }
    }
    Err(io::Error::other("no worker thread"))
}

/// proc(5): the first field of `schedstat` is the time on the CPU, in nanoseconds.
fn cpu_time(task: &std::path::Path) -> io::Result<Duration> {
    let text = fs::read_to_string(task.join("schedstat"))?;
    let nanos = text.split_whitespace().next().and_then(|field| field.parse().ok());
    Ok(Duration::from_nanos(nanos.unwrap_or_default()))
}
