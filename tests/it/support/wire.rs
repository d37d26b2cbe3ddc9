//! HTTP/1.1 off a socket, byte for byte, for clients and origins of the tests.
//! It promises to keep the raw bytes of whatever it parsed, and to consume exactly one message at a time.
//! It is strict enough to frame honest messages and does not judge the others.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// Start line and fields of one message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Head {
    /// Exactly what was received, the empty line included.
    pub(crate) raw: Vec<u8>,
    /// Request line or status line, without its line end.
    pub(crate) first_line: String,
    /// Names as sent, values trimmed, in order.
    pub(crate) fields: Vec<(String, String)>,
}

impl Head {
    fn parse(raw: Vec<u8>) -> Self {
        let text = String::from_utf8_lossy(&raw).into_owned();
        let mut lines = text.split("\r\n");
        let first_line = lines.next().unwrap_or_default().to_owned();
        let fields = lines
            .filter_map(|line| line.split_once(':'))
            .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
            .collect();
        Self { raw, first_line, fields }
    }

    /// Every value of `name`, in order.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, v)| v.as_str()).collect()
    }

    /// The first value of `name`.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.all(name).first().copied()
    }

    /// The `idx`-th word of the first line; empty if there is none.
    pub(crate) fn word(&self, idx: usize) -> &str {
        self.first_line.split(' ').nth(idx).unwrap_or_default()
    }

    /// Whether the `Connection` field has the option `close`.
    pub(crate) fn says_close(&self) -> bool {
        self.all("connection").iter().flat_map(|v| v.split(',')).any(|v| v.trim().eq_ignore_ascii_case("close"))
    }

    fn body_framing(&self) -> Option<Framing> {
        if self.all("transfer-encoding").iter().any(|v| v.to_ascii_lowercase().contains("chunked")) {
            return Some(Framing::Chunked);
        }
        self.get("content-length").and_then(|v| v.parse().ok()).map(Framing::Length)
    }

    /// RFC 9112 §6.3 for requests.
    pub(crate) fn request_framing(&self) -> Framing {
        self.body_framing().unwrap_or(Framing::Length(0))
    }

    /// RFC 9112 §6.3 for responses to `method`.
    pub(crate) fn response_framing(&self, method: &str) -> Framing {
        let status = self.word(1);
        if method == "HEAD" || status.starts_with('1') || matches!(status, "204" | "304") {
            return Framing::Length(0);
        }
        self.body_framing().unwrap_or(Framing::UntilClose)
    }
}

/// Where a body ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// After so many bytes.
    Length(usize),
    /// After the chunk of size zero and its trailers.
    Chunked,
    /// Where the connection ends.
    UntilClose,
}

/// The body of one message.
#[derive(Clone, Debug, Default)]
pub(crate) struct Body {
    /// Exactly what was received, chunk sizes and trailers included.
    pub(crate) raw: Vec<u8>,
    /// The content alone.
    pub(crate) content: Vec<u8>,
    /// Trailer fields of a chunked body.
    pub(crate) trailers: Vec<(String, String)>,
    /// Whether the framing came to its end; a body that ends with the connection is always complete.
    pub(crate) is_complete: bool,
}

/// One whole response.
#[derive(Clone, Debug, Default)]
pub(crate) struct Response {
    /// From the status line: 0 if there was none.
    pub(crate) status: u16,
    /// Status line and fields.
    pub(crate) head: Head,
    /// Content, raw bytes, trailers.
    pub(crate) body: Body,
}

impl Response {
    /// The first value of a field.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.head.get(name)
    }

    /// The content as text.
    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body.content).into_owned()
    }
}

/// Reads messages off one half of a connection.
#[derive(Debug)]
pub(crate) struct Reader<S> {
    /// The socket.
    pub(crate) stream: S,
    /// Received, not yet consumed.
    pub(crate) pending: Vec<u8>,
}

impl<S: AsyncRead + Unpin> Reader<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, pending: Vec::new() }
    }

    /// One read; `false` at the end of the stream.
    pub(crate) async fn fill(&mut self) -> io::Result<bool> {
        Ok(self.stream.read_buf(&mut self.pending).await? > 0)
    }

    fn take(&mut self, n: usize) -> Vec<u8> {
        let rest = self.pending.split_off(n);
        std::mem::replace(&mut self.pending, rest)
    }

    /// The next head, or `None` if the stream ends before its first byte.
    pub(crate) async fn head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some(at) = find(&self.pending, b"\r\n\r\n") {
                return Ok(Some(Head::parse(self.take(at + 4))));
            }
            if !self.fill().await? {
                return match self.pending.is_empty() {
                    true => Ok(None),
                    false => Err(truncated("in a head", &self.pending)),
                };
            }
        }
    }

    /// The body that follows a head. A stream that ends early gives an incomplete body, not an error.
    pub(crate) async fn body(&mut self, framing: Framing) -> io::Result<Body> {
        match framing {
            Framing::Length(n) => self.body_of_length(n).await,
            Framing::Chunked => self.body_of_chunks().await,
            Framing::UntilClose => {
                while self.fill().await? {}
                let content = std::mem::take(&mut self.pending);
                Ok(Body { raw: content.clone(), content, is_complete: true, ..Body::default() })
            }
        }
    }

    async fn body_of_length(&mut self, n: usize) -> io::Result<Body> {
        while self.pending.len() < n && self.fill().await? {}
        let content = self.take(n.min(self.pending.len()));
        Ok(Body { raw: content.clone(), is_complete: content.len() == n, content, ..Body::default() })
    }

    async fn body_of_chunks(&mut self) -> io::Result<Body> {
        let mut body = Body::default();
        loop {
            let Some(line) = self.line(&mut body).await? else { return Ok(body) };
            let digits = line.split(';').next().unwrap_or_default().trim();
            let Ok(size) = usize::from_str_radix(digits, 16) else {
                return Err(io::Error::new(io::ErrorKind::InvalidData, format!("chunk size {line:?}")));
            };
            if size == 0 {
                return self.trailers(body).await;
            }
            while self.pending.len() < size + 2 && self.fill().await? {}
            let part = self.take((size + 2).min(self.pending.len()));
            body.raw.extend_from_slice(&part);
            body.content.extend_from_slice(&part[..size.min(part.len())]);
            if part.len() < size + 2 {
                return Ok(body);
            }
        }
    }

    async fn trailers(&mut self, mut body: Body) -> io::Result<Body> {
        while let Some(line) = self.line(&mut body).await? {
            let Some((name, value)) = line.split_once(':') else {
                body.is_complete = line.is_empty();
                return Ok(body);
            };
            body.trailers.push((name.to_owned(), value.trim().to_owned()));
        }
        Ok(body)
    }

    async fn line(&mut self, body: &mut Body) -> io::Result<Option<String>> {
        loop {
            if let Some(at) = find(&self.pending, b"\r\n") {
                let line = self.take(at + 2);
                body.raw.extend_from_slice(&line);
                return Ok(Some(String::from_utf8_lossy(&line[..at]).into_owned()));
            }
            if !self.fill().await? {
                body.raw.append(&mut self.pending);
                return Ok(None);
            }
        }
    }

    /// One whole response to `method`; interim ones (1xx, but for 101) are passed over.
    pub(crate) async fn response_to(&mut self, method: &str) -> io::Result<Response> {
        loop {
            let head = self.head().await?.ok_or_else(|| truncated("before a response", b""))?;
            let status: u16 = head.word(1).parse().unwrap_or_default();
            if (100..200).contains(&status) && status != 101 {
                continue;
            }
            let body = self.body(head.response_framing(method)).await?;
            if !body.is_complete {
                return Err(truncated("in a body", &body.raw));
            }
            return Ok(Response { status, head, body });
        }
    }
}

fn truncated(place: &str, bytes: &[u8]) -> io::Error {
    let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
    io::Error::new(io::ErrorKind::UnexpectedEof, format!("the connection ended {place} after {shown:?}"))
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    memchr::memmem::find(haystack, needle)
}
