//! Tells a hook by running a program: the intent as JSON on its standard input and as `PORTWAY_…` variables, so that a
//! shell script needs no parser; exit status 0 is a yes.
//! Promises an end within the timeout, with everything that the program has started in its process group, and its last
//! line if it fails. What it leaves running on purpose is its own: see below.
//!
//! A program that starts servers and goes away leaves them our pipes. Nobody waits for those: the exit of the program is
//! the answer, and the pipes are closed then, so servers should have their output elsewhere. They should have a session of
//! their own too (`setsid`, or `gunicorn --daemon`), or a later timeout of the program that started them takes them along.

use std::process::Stdio;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::{Message, Refusal};

/// What is kept of the end of its output.
const TAIL_BYTES_MAX: usize = 4 * 1024;
/// What is shown of its last line.
const WORDS_CHARS_MAX: usize = 200;
/// What it wrote just before it ended is read for so long at most: whoever inherited its pipes may never close them.
const LAST_WORDS: Duration = Duration::from_millis(200);

/// Runs it once.
pub(super) async fn run(command: &[String], message: &Message, limit: Duration) -> Result<(), Refusal> {
    let (program, arguments) = command.split_first().ok_or_else(|| Refusal::Address("an empty command".to_owned()))?;
    let mut command = Command::new(program);
    command.args(arguments).envs(variables(message));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0).kill_on_drop(true);
    let started = command.spawn();
    let mut child = started.map_err(|source| Refusal::Unstartable { program: program.clone(), source })?;
    let mut group = Group::of(&child);
    let (mut tasks, heard) = attend(&mut child, message.json());
    let Ok(ended) = timeout(limit, child.wait()).await else {
        return Err(Refusal::Timeout(limit)); // the group ends with its value, and the child with it
    };
    group.release();
    let status = ended.map_err(|source| Refusal::Unstartable { program: program.clone(), source })?;
    if status.success() {
        return Ok(());
    }
    let _ = timeout(LAST_WORDS, async { while tasks.join_next().await.is_some() {} }).await;
    Err(Refusal::Exit { status, words: heard.words() })
}

fn variables(message: &Message) -> [(&'static str, String); 6] {
    [
        ("PORTWAY_SERVICE", message.service.clone()),
        ("PORTWAY_DESIRED", message.desired.to_string()),
        ("PORTWAY_CURRENT", message.current.to_string()),
        ("PORTWAY_REASON", message.reason.clone()),
        ("PORTWAY_GENERATION", message.generation.to_string()),
        ("PORTWAY_STARTED", message.started.to_string()),
    ]
}

/// Writes to it and listens to it, so that it never waits for us.
fn attend(child: &mut Child, message: Vec<u8>) -> (JoinSet<()>, Heard) {
    let (mut tasks, heard) = (JoinSet::new(), Heard::default());
    if let Some(mut stdin) = child.stdin.take() {
        tasks.spawn(async move {
            // One that does not read it has ended by then, or closed it.
            let _ = stdin.write_all(&message).await;
        });
    }
    if let Some(stdout) = child.stdout.take() {
        tasks.spawn(listen(stdout, heard.stdout.clone()));
    }
    if let Some(stderr) = child.stderr.take() {
        tasks.spawn(listen(stderr, heard.stderr.clone()));
    }
    (tasks, heard)
}

type Tail = Arc<Mutex<Vec<u8>>>;

/// The ends of what it wrote.
#[derive(Debug, Default)]
struct Heard {
    stdout: Tail,
    stderr: Tail,
}

impl Heard {
    /// The last line that says something: of its errors, or else of its output.
    fn words(&self) -> String {
        let last = |tail: &Tail| {
            let bytes = tail.lock().unwrap_or_else(PoisonError::into_inner);
            let text = String::from_utf8_lossy(&bytes);
            let line = text.lines().rev().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default().to_owned();
            line.chars().filter(|c| !c.is_control()).take(WORDS_CHARS_MAX).collect::<String>()
        };
        let words = last(&self.stderr);
        if words.is_empty() { last(&self.stdout) } else { words }
    }
}

async fn listen(mut pipe: impl AsyncRead + Unpin, tail: Tail) {
    let mut chunk = [0; 1024];
    while let Ok(n_bytes @ 1..) = pipe.read(&mut chunk).await {
        let mut tail = tail.lock().unwrap_or_else(PoisonError::into_inner);
        tail.extend_from_slice(&chunk[..n_bytes]);
        let too_many = tail.len().saturating_sub(TAIL_BYTES_MAX);
        tail.drain(..too_many);
    }
}

/// The process group of a program that has not ended; killed with the value.
#[derive(Debug)]
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }

    /// The program has ended: what it left behind is meant to stay, and its number may be another's soon.
    fn release(&mut self) {
        self.0 = None;
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(group) = self.0 {
            let _ = kill_process_group(group, Signal::KILL); // it may have ended just now
        }
    }
}
