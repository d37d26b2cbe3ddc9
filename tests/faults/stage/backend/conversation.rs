//! One connection of a backend process.
//! It promises to judge each message before it obeys it. It sends what its behaviour says, right or wrong.

use std::time::Duration;

use tokio::io::{AsyncWriteExt, copy};
use tokio::net::TcpStream;

use super::behaviour::{Behaviour, Health, Lie, Mode, Place};
use super::serve::Shared;
use crate::stage::payload::{self, ID};
use crate::support::{Head, Reader};

/// Longest head that an endless one gets, in case nobody stops it.
const ENDLESS_BYTES: usize = 64 << 20;

pub(crate) struct Conversation<'a> {
    reader: Reader<TcpStream>,
    connection: u64,
    shared: &'a Shared,
}

/// One request that was read.
struct Asked {
    id: u64,
    behaviour: Behaviour,
    size: usize,
    is_upgrade: bool,
}

impl<'a> Conversation<'a> {
    pub(crate) fn new(stream: TcpStream, connection: u64, shared: &'a Shared) -> Self {
        stream.set_nodelay(true).ok();
        Self { reader: Reader::new(stream), connection, shared }
    }

    pub(crate) async fn run(mut self) {
        for nth in 0_u64.. {
            let Some(head) = self.next_head(nth).await else { break };
            if let Err(what) = judge(&head) {
                self.shared.book.violation(&format!("{what} in {}", String::from_utf8_lossy(&head.raw)));
                self.send(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").await;
                break;
            }
            if self.exchange(&head).await.is_none() {
                return;
            }
        }
        if !self.reader.pending.is_empty() {
            let rest = String::from_utf8_lossy(&self.reader.pending).into_owned();
            // A client that goes away in mid-head leaves half a request; anything else is smuggled.
            self.shared.book.violation(&format!("bytes that are no request: {rest:?}"));
        }
    }

    /// `None` where the connection is over: closed by the other side, idle for too long, or the backend leaves.
    async fn next_head(&mut self, nth: u64) -> Option<Head> {
        let idle = self.shared.behaviour.borrow().idle.filter(|_| nth > 0);
        let mut leaving = self.shared.leaving.clone();
        let patience = tokio::time::sleep(idle.unwrap_or(Duration::from_secs(3_600)));
        tokio::select! {
            biased;
            head = self.reader.head() => head.ok().flatten(),
            () = patience => None,
            _ = leaving.wait_for(|is_leaving| *is_leaving) => None,
        }
    }

    async fn exchange(&mut self, head: &Head) -> Option<()> {
        let asked = match self.read(head).await? {
            Some(asked) => asked,
            None => return Some(()),
        };
        let capacity = asked.behaviour.capacity;
        let _place = match capacity {
            Some(_) => Some(self.shared.places.acquire().await.ok()?),
            None => None,
        };
        if let Some((_, takes)) = capacity {
            tokio::time::sleep(takes).await;
        }
        if asked.is_upgrade {
            return self.echo(asked.id).await;
        }
        self.answer(&asked).await
    }

    /// Reads the whole request and books it; `Some(None)` for a probe, which is answered here.
    async fn read(&mut self, head: &Head) -> Option<Option<Asked>> {
        let mut behaviour = *self.shared.behaviour.borrow();
        if head.word(1) == "/healthz" {
            self.shared.book.probe();
            let status = if behaviour.health == Health::Passes { "200 OK" } else { "503 Unavailable" };
            self.send(format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n").as_bytes()).await?;
            return Some(None);
        }
        if let Some(words) = head.get("x-act") {
            behaviour.mode = Mode::parse(words).unwrap_or_else(|wrong| panic!("{wrong}"));
        }
        if behaviour.mode == Mode::Die(Place::Unread) {
            return self.reset();
        }
        let own = self.reader.stream.local_addr().ok()?.to_string();
        if head.get("host") == Some(own.as_str()) {
            return None; // Not from the proxy, which keeps its client's Host: another program that tries its own port.
        }
        let Some(id) = head.get(ID).and_then(|id| id.parse().ok()) else {
            self.shared.book.violation(&format!("no id in {}", String::from_utf8_lossy(&head.raw)));
            return None;
        };
        let body = self.reader.body(head.request_framing()).await.ok()?;
        if !body.is_complete {
            return None; // Its client gave up, and the proxy has said so.
        }
        self.shared.book.executed(id, self.connection, payload::hash(&body.content));
        let size = head.word(1).rsplit('/').next().and_then(|size| size.parse().ok()).unwrap_or(64);
        Some(Some(Asked { id, behaviour, size, is_upgrade: head.get("upgrade").is_some() }))
    }

    async fn answer(&mut self, asked: &Asked) -> Option<()> {
        match asked.behaviour.mode {
            Mode::Ok => {}
            Mode::Delay(delay) => self.wait(delay).await?,
            Mode::Stall => self.stall().await,
            Mode::Status(status) => {
                let head = self.head(asked, &format!("{status} Told So"), "Content-Length: 3\r\n");
                return self.send(format!("{head}no\n").as_bytes()).await;
            }
            Mode::Large(mib) => return self.large(asked, mib).await,
            Mode::Die(place) => return self.die(asked, place).await,
            Mode::Lie(lie) => return self.lie(asked, lie).await,
        }
        let says_close = asked.behaviour.says_close || *self.shared.leaving.borrow();
        self.send(&self.right_answer(asked, if says_close { "Connection: close\r\n" } else { "" })).await?;
        if says_close {
            self.reader.stream.shutdown().await.ok();
            return None;
        }
        Some(())
    }

    /// Sized for even ids, chunked for odd ones.
    fn right_answer(&self, asked: &Asked, fields: &str) -> Vec<u8> {
        let body = payload::body_of(asked.id, asked.size);
        if asked.id.is_multiple_of(2) {
            let head = self.head(asked, "200 OK", &format!("{fields}Content-Length: {}\r\n", asked.size));
            return [head.as_bytes(), &body].concat();
        }
        let mut bytes = self.head(asked, "200 OK", &format!("{fields}Transfer-Encoding: chunked\r\n")).into_bytes();
        for chunk in body.chunks(4_000) {
            bytes.extend_from_slice(format!("{:x}\r\n", chunk.len()).as_bytes());
            bytes.extend_from_slice(chunk);
            bytes.extend_from_slice(b"\r\n");
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        bytes
    }

    async fn large(&mut self, asked: &Asked, mib: usize) -> Option<()> {
        let head = self.head(asked, "200 OK", &format!("Content-Length: {}\r\n", mib << 20));
        self.send(head.as_bytes()).await?;
        // The kernel shall not hold what the proxy does not take: thousands of these share one machine's memory for TCP.
        socket2::SockRef::from(&self.reader.stream).set_send_buffer_size(32 << 10).ok()?;
        let piece = vec![b'x'; 64 << 10];
        for _ in 0..mib * 16 {
            self.send(&piece).await?;
        }
        Some(())
    }

    fn head(&self, asked: &Asked, status: &str, fields: &str) -> String {
        format!("HTTP/1.1 {status}\r\n{ID}: {}\r\nx-service: {}\r\n{fields}\r\n", asked.id, self.shared.service)
    }

    /// Sleeps unless the other side goes away meanwhile.
    async fn wait(&mut self, delay: Duration) -> Option<()> {
        tokio::select! {
            () = tokio::time::sleep(delay) => Some(()),
            filled = self.reader.fill() => match filled {
                Ok(true) => {
                    self.shared.book.violation("bytes before the answer to the request before them");
                    None
                }
                _ => {
                    self.shared.book.gone();
                    None
                }
            },
        }
    }

    async fn stall(&mut self) {
        let mut behaviour = self.shared.behaviour.clone();
        behaviour.wait_for(|behaviour| behaviour.mode != Mode::Stall).await.ok();
    }

    async fn die(&mut self, asked: &Asked, place: Place) -> Option<()> {
        let whole = self.right_answer(&Asked { id: asked.id & !1, ..*asked }, "");
        let head_ends = memchr::memmem::find(&whole, b"\r\n\r\n").map_or(0, |at| at + 4);
        let bytes = match place {
            Place::Unread | Place::Read => &b""[..],
            Place::Continue => b"HTTP/1.1 100 Continue\r\n\r\n",
            Place::Head => &whole[..head_ends],
            Place::Body(n) => &whole[..whole.len().saturating_sub(1).min(head_ends + n)],
        };
        self.send(bytes).await?;
        // A reset overtakes bytes that the other side has not read: give it a moment to see them.
        tokio::time::sleep(Duration::from_millis(5)).await;
        self.reset()
    }

    async fn lie(&mut self, asked: &Asked, lie: Lie) -> Option<()> {
        let size = asked.size;
        match lie {
            Lie::TwoLengths => {
                let both = "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n";
                self.send(format!("{}5\r\nabcde\r\n0\r\n\r\n", self.head(asked, "200 OK", both)).as_bytes()).await?;
            }
            Lie::BadChunk => {
                let head = self.head(asked, "200 OK", "Transfer-Encoding: chunked\r\n");
                self.send(format!("{head}5\r\nabcde\r\n-2\r\nxy\r\n0\r\n\r\n").as_bytes()).await?;
            }
            Lie::Unsolicited101 => {
                let fields = "Connection: Upgrade\r\nUpgrade: websocket\r\n";
                self.send(format!("{}bytes", self.head(asked, "101 Surprise", fields)).as_bytes()).await?;
            }
            Lie::EndlessHead => {
                self.send(b"HTTP/1.1 200 OK\r\n").await?;
                self.send_for_ever(b"x-filler: xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\r\n").await?;
            }
            Lie::EndlessInterim => self.send_for_ever(b"HTTP/1.1 100 Continue\r\n\r\n").await?,
            Lie::Surplus => {
                let surplus = Asked { id: asked.id + (1 << 40), ..*asked };
                let answers = [self.right_answer(asked, ""), self.right_answer(&surplus, "")].concat();
                self.send(&answers).await?;
            }
            Lie::Nonsense => self.send(&payload::body_of(asked.id, size.max(64))).await?,
        }
        Some(())
    }

    async fn send_for_ever(&mut self, bytes: &[u8]) -> Option<()> {
        let many = bytes.repeat(1_000);
        for _ in 0..ENDLESS_BYTES / many.len() {
            self.send(&many).await?;
        }
        None
    }

    /// What follows a 101 goes back as it comes. Key and answer are the example of RFC 6455 §1.3.
    async fn echo(&mut self, id: u64) -> Option<()> {
        let head = format!(
            "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
             Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n{ID}: {id}\r\n\r\n"
        );
        self.send(head.as_bytes()).await?;
        let pending = std::mem::take(&mut self.reader.pending);
        self.send(&pending).await?;
        let (mut from, mut to) = self.reader.stream.split();
        copy(&mut from, &mut to).await.ok();
        None
    }

    async fn send(&mut self, bytes: &[u8]) -> Option<()> {
        self.reader.stream.write_all(bytes).await.ok()
    }

    fn reset<T>(&mut self) -> Option<T> {
        self.reader.stream.set_zero_linger().ok();
        None
    }
}

/// RFC 9112, to the letter: what is wrong with a head that an intermediary wrote.
fn judge(head: &Head) -> Result<(), String> {
    let text = std::str::from_utf8(&head.raw).map_err(|_| "bytes that are no text".to_owned())?;
    let lines: Vec<&str> = text.trim_end_matches("\r\n").split("\r\n").collect();
    let words: Vec<&str> = lines[0].split(' ').collect();
    let [method, target, "HTTP/1.1"] = words[..] else { return Err("a request line of other than three words".into()) };
    if method.is_empty() || !method.bytes().all(is_token) || !target.starts_with('/') {
        return Err("a method or a target that is none".into());
    }
    for line in &lines[1..] {
        let (name, value) = line.split_once(':').ok_or("a field without a colon")?;
        if name.is_empty() || !name.bytes().all(is_token) {
            return Err(format!("the field name {name:?}"));
        }
        if value.bytes().any(|byte| byte < b' ' && byte != b'\t' || byte == 127) {
            return Err(format!("a control character in {name}"));
        }
    }
    let (lengths, codings) = (head.all("content-length"), head.all("transfer-encoding"));
    match (&lengths[..], &codings[..]) {
        ([], []) => {}
        ([length], []) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => {}
        ([], [coding]) if coding.eq_ignore_ascii_case("chunked") => {}
        _ => return Err("an ambiguous length".into()),
    }
    match head.all("host").len() {
        1 => Ok(()),
        n => Err(format!("{n} Host fields")),
    }
}

/// RFC 9110 §5.6.2.
fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn verdict(raw: &str) -> Result<(), String> {
        let mut reader = Reader::new(raw.as_bytes());
        judge(&reader.head().await.expect("a head").expect("a head"))
    }

    #[tokio::test]
    async fn an_honest_head_passes() {
        let fields = "Host: a\r\nx-id: 1\r\n";
        for length in ["", "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"] {
            assert_eq!(verdict(&format!("POST /w/1 HTTP/1.1\r\n{fields}{length}\r\n")).await, Ok(()));
        }
    }

    #[tokio::test]
    async fn what_could_be_read_in_two_ways_does_not() {
        let lines = [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Content-Length: 5\r\nContent-Length: 5\r\n",
            "Content-Length: +5\r\n",
            "Transfer-Encoding: xchunked\r\n",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
            "Host: b\r\n",
            " folded: 1\r\n",
            "name : 1\r\n",
            "bare: 1\nlf: 2\r\n",
        ];
        for line in lines {
            assert!(verdict(&format!("GET / HTTP/1.1\r\nHost: a\r\n{line}\r\n")).await.is_err(), "{line:?}");
        }
        for line in ["GET  / HTTP/1.1", "GET / HTTP/1.0", "GET http://a/ HTTP/1.1", "GET /"] {
            assert!(verdict(&format!("{line}\r\nHost: a\r\n\r\n")).await.is_err(), "{line:?}");
        }
    }
}
