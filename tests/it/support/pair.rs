//! One proxy in front of one scripted origin: what most suites need.
//! It promises one worker, so that every request to the origin goes through the same pool of upstream connections.
//! It asserts nothing but that the proxy lives.

use std::time::Duration;

use super::{Act, Client, Ending, Origin, PATIENCE, Portway, Received, Response, response};

/// A proxy and its only backend.
#[derive(Debug)]
pub(crate) struct Pair {
    /// Behind.
    pub(crate) origin: Origin,
    /// In front.
    pub(crate) portway: Portway,
}

/// What the YAML of a [`Pair`] says besides the backend.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Yaml<'a> {
    /// Lines at the top level.
    pub(crate) top: &'a str,
    /// Entries of the service `web`, after its backends: `"max_in_flight: 1, queue: { size: 1 }"`.
    pub(crate) service: &'a str,
}

impl Pair {
    /// A proxy without further configuration before an origin that runs `script`.
    pub(crate) async fn start(script: impl Fn(&Received) -> Vec<Act> + Send + Sync + 'static) -> Self {
        Self::with(Yaml::default(), script).await
    }

    /// The same, before an origin that reads every body and says `200 ok`.
    pub(crate) async fn hello() -> Self {
        Self::start(|_| read_and_answer()).await
    }

    /// A proxy with a configuration before an origin that runs `script`.
    pub(crate) async fn with(yaml: Yaml<'_>, script: impl Fn(&Received) -> Vec<Act> + Send + Sync + 'static) -> Self {
        Self::before(yaml, Origin::start(script).await).await
    }

    /// A proxy with a configuration before an origin of the test's.
    pub(crate) async fn before(yaml: Yaml<'_>, origin: Origin) -> Self {
        let Yaml { top, service } = yaml;
        let comma = if service.is_empty() { "" } else { ", " };
        let text = format!(
            "workers: 1\n{top}\nservices: {{ web: {{ backends: [\"{}\"]{comma}{service} }} }}\n",
            origin.address
        );
        Self { portway: Portway::start(&text).await, origin }
    }

    /// Sends `bytes` on a connection of their own and reads until the proxy ends it, or for `limit`.
    pub(crate) async fn send(&self, bytes: impl AsRef<[u8]>, limit: Duration) -> Answer {
        let mut client = self.portway.connect().await;
        client.send(bytes).await;
        let (raw, ending) = client.until_close(limit).await;
        Answer { raw, ending }
    }

    /// Sends `bytes`, which ask for the connection's end or are refused, and reads to that end.
    pub(crate) async fn send_to_end(&self, bytes: impl AsRef<[u8]>) -> Answer {
        let shown = String::from_utf8_lossy(bytes.as_ref()).into_owned();
        let answer = self.send(bytes, PATIENCE).await;
        assert_ne!(answer.ending, Ending::StillOpen, "the connection stays open after {shown:?}: {answer:?}");
        answer
    }

    /// One request on a connection of its own, and its whole answer.
    pub(crate) async fn ask(&self, method: &str, bytes: impl AsRef<[u8]>) -> Response {
        let mut client = self.portway.connect().await;
        client.send(bytes).await;
        client.response_to(method).await
    }

    /// A raw connection to the proxy.
    pub(crate) async fn connect(&self) -> Client {
        self.portway.connect().await
    }

    /// Fails if the origin has seen anything at all.
    pub(crate) fn assert_nothing_reached_the_origin(&self, case: &str) {
        assert_eq!(self.origin.n_requests(), 0, "{case}: {:#?}", self.origin.requests());
        assert_eq!(self.origin.leftovers(), Vec::<Vec<u8>>::new(), "{case}");
    }

    /// Fails if the process ended or panicked.
    pub(crate) fn assert_lives(&mut self) {
        let stderr = self.portway.stderr();
        assert!(self.portway.is_running() && !stderr.contains("panicked"), "{stderr}");
    }
}

/// What came back on one connection.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Every byte.
    pub(crate) raw: Vec<u8>,
    /// How it ended.
    pub(crate) ending: Ending,
}

impl Answer {
    /// The status of the first answer; 0 for none.
    pub(crate) fn status(&self) -> u16 {
        let line = self.raw.strip_prefix(b"HTTP/1.1 ").unwrap_or_default();
        std::str::from_utf8(&line[..line.len().min(3)]).ok().and_then(|digits| digits.parse().ok()).unwrap_or(0)
    }

    /// Everything as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.raw).into_owned()
    }

    /// How many answers there are: each has one `Date`.
    pub(crate) fn n_answers(&self) -> usize {
        memchr::memmem::find_iter(&self.raw, b"\r\ndate: ").count()
    }

    /// What follows the head of the first answer.
    pub(crate) fn after_head(&self) -> &[u8] {
        let at = memchr::memmem::find(&self.raw, b"\r\n\r\n").map_or(self.raw.len(), |at| at + 4);
        &self.raw[at..]
    }
}

/// Reads the body and says `200 ok`.
pub(crate) fn read_and_answer() -> Vec<Act> {
    vec![Act::ReadBody, Act::Send(response(200, &[], "ok"))]
}
