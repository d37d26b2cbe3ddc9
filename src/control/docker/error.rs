//! What can go wrong between us and an engine, in words that say what to do.
//! Promises a small kind to branch on, and that an error can be shown again and again. It does not log.

use std::error::Error as _;
use std::io;
use std::time::Duration;

use bollard::errors::Error;

use super::place::Place;
use crate::config::quantity::spell_duration;

/// The longest text of an engine that is passed on.
const WORDS_MAX: usize = 400;

/// An engine that did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.words())]
pub struct EngineError {
    /// Whom we asked.
    pub place: Place,
    /// To branch on.
    pub kind: EngineErrorKind,
    /// What the engine or the system said; empty if the kind says it all.
    pub said: String,
}

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EngineErrorKind {
    /// There is no socket.
    NoSocket,
    /// There is one, and we may not use it.
    Denied,
    /// Nobody answers there, or it hung up.
    Away,
    /// No answer in time.
    TimedOut(Duration),
    /// What was named does not exist: a container, an image, a network.
    NotFound,
    /// It is in use, or there is one of that name already.
    Conflict,
    /// The engine refuses, for a reason that it gives.
    Refused,
    /// An answer that is none.
    Garbled,
    /// The endpoint is of a kind that we do not speak.
    Unsupported,
}

impl EngineError {
    pub(super) fn timed_out(place: &Place, after: Duration) -> Self {
        Self { place: place.clone(), kind: EngineErrorKind::TimedOut(after), said: String::new() }
    }

    pub(super) fn of(place: &Place, error: &Error) -> Self {
        let (kind, said) = read(error);
        Self { place: place.clone(), kind, said: said.chars().take(WORDS_MAX).collect() }
    }

    /// Whether the engine cannot be spoken to at all: nothing is known of what was asked.
    pub fn is_away(&self) -> bool {
        use EngineErrorKind::{Away, Denied, NoSocket, TimedOut, Unsupported};
        matches!(self.kind, Away | Denied | NoSocket | TimedOut(_) | Unsupported)
    }

    fn words(&self) -> String {
        let Self { place, kind, said } = self;
        match kind {
            EngineErrorKind::NoSocket => {
                format!("no Docker engine at {place}: no such socket. Is Docker running, and is this socket mounted?")
            }
            EngineErrorKind::Denied => format!(
                "no Docker engine at {place}: permission denied. Is this user in the group of the socket? \
                 In a container: --group-add with the number that `stat -c %g` prints for it"
            ),
            EngineErrorKind::Away => format!("no Docker engine at {place}: {said}. Is Docker running?"),
            EngineErrorKind::TimedOut(after) => {
                format!("the Docker engine at {place} did not answer within {}", spell_duration(*after))
            }
            EngineErrorKind::Unsupported => {
                format!("{place} is no endpoint that Portway speaks to: write unix:///PATH or tcp://HOST:PORT")
            }
            EngineErrorKind::Garbled => format!("the Docker engine at {place} gave an answer that is none: {said}"),
            EngineErrorKind::NotFound | EngineErrorKind::Conflict | EngineErrorKind::Refused => said.clone(),
        }
    }
}

fn read(error: &Error) -> (EngineErrorKind, String) {
    match error {
        Error::DockerResponseServerError { status_code, message } => {
            let kind = match status_code {
                404 => EngineErrorKind::NotFound,
                409 => EngineErrorKind::Conflict,
                _ => EngineErrorKind::Refused,
            };
            let said = match message.trim() {
                "" => format!("the Docker engine answered {status_code}"),
                // What a filtering proxy of the socket answers with.
                said if *status_code == 403 => format!("{said}. Does a proxy of the socket forbid this call?"),
                said => said.to_owned(),
            };
            (kind, said)
        }
        // In the middle of a pull.
        Error::DockerStreamError { error } => (EngineErrorKind::Refused, error.clone()),
        Error::SocketNotFoundError(_) => (EngineErrorKind::NoSocket, String::new()),
        Error::JsonDataError { .. } | Error::JsonSerdeError { .. } | Error::StrParseError { .. } => {
            (EngineErrorKind::Garbled, error.to_string())
        }
        Error::UnsupportedURISchemeError { .. } => (EngineErrorKind::Unsupported, String::new()),
        other => match io_error(other) {
            Some(error) => match error.kind() {
                io::ErrorKind::NotFound => (EngineErrorKind::NoSocket, String::new()),
                io::ErrorKind::PermissionDenied => (EngineErrorKind::Denied, String::new()),
                _ => (EngineErrorKind::Away, error.to_string()),
            },
            None => (EngineErrorKind::Away, last_cause(other)),
        },
    }
}

/// What lies at the bottom of it: the layers above say which library they are.
fn last_cause(error: &Error) -> String {
    let mut cause: &(dyn std::error::Error + 'static) = match error {
        Error::HyperLegacyError { err } => err,
        other => other,
    };
    while let Some(inner) = cause.source() {
        cause = inner;
    }
    cause.to_string()
}

/// The system's word, however deep it is wrapped.
fn io_error(error: &Error) -> Option<&io::Error> {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(inner) = cause {
        if let Some(found) = inner.downcast_ref::<io::Error>() {
            return Some(found);
        }
        cause = inner.source();
    }
    // bollard's own variant shows it transparently, so that its source is the source of what it wraps.
    match error {
        Error::IOError { err } => Some(err),
        Error::HyperLegacyError { err } => err.source().and_then(|cause| cause.downcast_ref()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(error: Error) -> (EngineErrorKind, String) {
        let error = EngineError::of(&Place::Unix("/run/docker.sock".into()), &error);
        (error.kind, error.to_string())
    }

    #[test]
    fn an_engine_that_is_away_says_where_it_was_looked_for_and_what_to_do() {
        let (kind, text) = words(Error::SocketNotFoundError("/run/docker.sock".into()));
        assert_eq!(kind, EngineErrorKind::NoSocket);
        assert!(text.contains("unix:///run/docker.sock") && text.contains("is this socket mounted?"), "{text}");
        let io = |kind: io::ErrorKind| Error::IOError { err: kind.into() };
        assert_eq!(words(io(io::ErrorKind::PermissionDenied)).0, EngineErrorKind::Denied);
        assert_eq!(words(io(io::ErrorKind::ConnectionRefused)).0, EngineErrorKind::Away);
    }

    #[tokio::test]
    async fn an_engine_that_hangs_up_is_away_and_no_library_is_named() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port is free");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                // Closed after a byte of the request, so that it is no reset.
                tokio::io::AsyncReadExt::read(&mut stream, &mut [0; 4_096]).await.ok();
            }
        });
        let docker = bollard::Docker::connect_with_http(&format!("http://{address}"), 5, bollard::API_DEFAULT_VERSION);
        let error = docker.expect("an address is enough").ping().await.expect_err("nobody answers");
        let (kind, text) = words(error);
        assert_eq!(kind, EngineErrorKind::Away);
        assert!(text.contains("connection closed") && !text.contains("legacy"), "{text}");
    }

    #[test]
    fn what_an_engine_says_is_passed_on_with_a_kind() {
        let answer = |status_code, message: &str| {
            words(Error::DockerResponseServerError { status_code, message: message.to_owned() })
        };
        assert_eq!(
            answer(404, "No such image: acme/shop:9"),
            (EngineErrorKind::NotFound, "No such image: acme/shop:9".to_owned())
        );
        assert_eq!(answer(409, "name is taken").0, EngineErrorKind::Conflict);
        assert_eq!(answer(500, "").1, "the Docker engine answered 500");
        assert!(answer(403, "Forbidden").1.contains("proxy of the socket"));
    }
}
