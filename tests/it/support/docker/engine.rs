//! The Docker engine's API over its socket, in HTTP/1.0, which has no framing to get wrong.
//! It promises an answer in bounded time or a failure that names the call. It shares no code with the client under test.

use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

/// Longest call: an image is built, a container ends by its timeout.
const CALL_MAX: Duration = Duration::from_secs(120);

/// An engine that answers.
#[derive(Clone, Debug)]
pub(crate) struct Engine {
    pub(crate) socket: PathBuf,
}

/// What a call came to.
#[derive(Clone, Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("not JSON ({error}): {}", self.text()))
    }

    pub(crate) fn is_ok(&self) -> bool {
        (200..300).contains(&self.status)
    }
}

impl Engine {
    /// The engine that `DOCKER_HOST` names, or the usual one.
    pub(crate) fn find() -> Result<Self, String> {
        let host = std::env::var("DOCKER_HOST").unwrap_or_else(|_| "unix:///var/run/docker.sock".to_owned());
        let Some(socket) = host.strip_prefix("unix://") else {
            return Err(format!("DOCKER_HOST={host}: these suites speak to an engine of this host, over unix://"));
        };
        let engine = Self::at(Path::new(socket));
        match engine.call_now("GET", "/_ping", None) {
            Ok(answer) if answer.is_ok() => Ok(engine),
            Ok(answer) => Err(format!("the engine at {host} answers {} {}", answer.status, answer.text())),
            Err(error) => Err(format!("no engine at {host}: {error}")),
        }
    }

    /// The engine behind a socket.
    pub(crate) fn at(socket: &Path) -> Self {
        Self { socket: socket.to_owned() }
    }

    /// One call that has to succeed.
    pub(crate) async fn call(&self, method: &'static str, path: &str, body: Option<Value>) -> Answer {
        let answer = self.try_call(method, path, body).await;
        assert!(answer.is_ok(), "{method} {path}: {} {}", answer.status, answer.text());
        answer
    }

    /// One call that may be refused.
    pub(crate) async fn try_call(&self, method: &'static str, path: &str, body: Option<Value>) -> Answer {
        let (engine, target) = (self.clone(), path.to_owned());
        let body = body.map(|body| ("application/json", body.to_string().into_bytes()));
        let call = move || {
            let body = body.as_ref().map(|(kind, body)| (*kind, body.as_slice()));
            engine.call_now(method, &target, body)
        };
        let answer = tokio::task::spawn_blocking(call).await.expect("a call does not panic");
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// One call on this very thread, for `Drop`. The body comes with its media type.
    pub(crate) fn call_now(&self, method: &str, path: &str, body: Option<(&str, &[u8])>) -> io::Result<Answer> {
        let (kind, body) = body.unwrap_or(("application/json", b""));
        let mut stream = UnixStream::connect(&self.socket)?;
        stream.set_read_timeout(Some(CALL_MAX))?;
        stream.set_write_timeout(Some(CALL_MAX))?;
        let length = body.len();
        let head = format!("{method} {path} HTTP/1.0\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\n\r\n");
        stream.write_all(head.as_bytes())?;
        stream.write_all(body)?;
        let mut raw = Vec::new();
        match stream.read_to_end(&mut raw) {
            // It closes without having read the padding of a tar; whatever it had said before has arrived.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset && !raw.is_empty() => {}
            read => drop(read?),
        }
        let end = memchr::memmem::find(&raw, b"\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
        let status = raw.get(9..12).and_then(|digits| std::str::from_utf8(digits).ok()?.parse().ok());
        Ok(Answer { status: status.ok_or(io::ErrorKind::InvalidData)?, body: raw.split_off(end + 4) })
    }
}
