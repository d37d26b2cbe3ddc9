//! Tells a hook by HTTP: `POST` of the intent as JSON, and any 2xx is a yes.
//! Promises an end within the timeout, a connection of its own, and bounded memory whatever comes back. Plain HTTP: a
//! hook stands beside Portway or in a private network. It follows no redirect.

use std::time::Duration;

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, HOST, USER_AGENT};
use http::{HeaderName, HeaderValue, Request, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1::Builder;
use hyper_util::rt::TokioIo;
use tokio::net::lookup_host;

use super::{Message, Refusal};
use crate::net::dial::dial;
use crate::net::stream::Stream;

const WHO_WE_ARE: &str = concat!("portway/", env!("CARGO_PKG_VERSION"));
/// Lets a hook drop what it has done already: draft-ietf-httpapi-idempotency-key-header.
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// Head of an answer.
const HEAD_BYTES_MAX: usize = 16 * 1024;
/// What is read of an answer that is no yes.
const WORDS_BYTES_MAX: usize = 4 * 1024;
/// What is shown of it.
const WORDS_CHARS_MAX: usize = 200;

/// Tells it once.
pub(super) async fn post(uri: &Uri, message: &Message, timeout: Duration) -> Result<(), Refusal> {
    tokio::time::timeout(timeout, exchange(uri, message, timeout)).await.unwrap_or(Err(Refusal::Timeout(timeout)))
}

/// The address without what may be a secret.
pub(super) fn shown(uri: &Uri) -> String {
    format!("http://{}{}", uri.authority().map_or("", |authority| host_and_port(authority.as_str())), uri.path())
}

fn host_and_port(authority: &str) -> &str {
    authority.rsplit_once('@').map_or(authority, |(_, host)| host)
}

async fn exchange(uri: &Uri, message: &Message, timeout: Duration) -> Result<(), Refusal> {
    let request = request(uri, message).ok_or_else(|| Refusal::Address(shown(uri)))?;
    let stream = connect(uri, timeout).await?;
    let mut client = Builder::new();
    client.max_header_size(HEAD_BYTES_MAX).max_buf_size(HEAD_BYTES_MAX);
    let (mut sender, connection) = client.handshake(TokioIo::new(stream)).await.map_err(Refusal::Broken)?;
    let ask = async {
        let response = sender.send_request(request).await.map_err(Refusal::Broken)?;
        let status = response.status();
        if status.is_success() {
            return Ok(());
        }
        Err(Refusal::Status { status: status.as_u16(), words: words(response.into_body()).await })
    };
    let mut ask = std::pin::pin!(ask);
    tokio::select! {
        told = &mut ask => told,
        _ = connection => ask.await,
    }
}

fn request(uri: &Uri, message: &Message) -> Option<Request<Full<Bytes>>> {
    let host = HeaderValue::from_str(host_and_port(uri.authority()?.as_str())).ok()?;
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let mut request = Request::post(target).body(Full::new(message.json().into())).ok()?;
    let headers = request.headers_mut();
    headers.insert(HOST, host);
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(USER_AGENT, HeaderValue::from_static(WHO_WE_ARE));
    headers.insert(IDEMPOTENCY_KEY, HeaderValue::from_str(&message.key()).ok()?);
    headers.insert(CONNECTION, HeaderValue::from_static("close"));
    Some(request)
}

/// To the first of its addresses that answers.
async fn connect(uri: &Uri, timeout: Duration) -> Result<Stream, Refusal> {
    const HTTP: u16 = 80;
    let name = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let (host, port) = (name.to_owned(), uri.port_u16().unwrap_or(HTTP));
    let found = lookup_host((name, port)).await;
    let addresses = found.map_err(|source| Refusal::Unresolved { host: host.clone(), source })?;
    let mut words = "it has no address".to_owned();
    for address in addresses {
        match dial(address, timeout).await {
            Ok(stream) => return Ok(stream),
            Err(error) => {
                words = std::error::Error::source(&error).map_or_else(|| error.to_string(), ToString::to_string)
            }
        }
    }
    Err(Refusal::Unreachable { host: format!("{host}:{port}"), words })
}

/// The beginning of what it said.
async fn words(mut body: Incoming) -> String {
    let mut bytes = Vec::new();
    while bytes.len() < WORDS_BYTES_MAX
        && let Some(Ok(frame)) = body.frame().await
    {
        bytes.extend_from_slice(frame.data_ref().map_or(&[], |data| data.as_ref()));
    }
    let text = String::from_utf8_lossy(&bytes);
    let first = text.lines().map(str::trim).find(|line| !line.is_empty()).unwrap_or_default();
    first.chars().filter(|c| !c.is_control()).take(WORDS_CHARS_MAX).collect()
}
