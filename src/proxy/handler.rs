//! The shell around every exchange: begin it, decide where it goes, turn a failure into a local reply, let it end with
//! its body. It promises to answer every request and never to fail. What happens at a backend is [`forward`]'s.

use std::convert::Infallible;
use std::sync::Arc;

use http::header::{CONNECTION, HOST, HeaderValue, LOCATION};
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use hyper::body::Incoming;

use crate::config::checked::{Redirect, RouteAction};
use crate::error::{FailureKind, ProxyError};
use crate::http::authority::{self, Onward};
use crate::http::local_reply::X_REQUEST_ID;
use crate::proxy::body::ProxyBody;
use crate::proxy::connection::Connection;
use crate::proxy::exchange::{BodyExpected, Exchange};
use crate::proxy::forward;
use crate::proxy::stack::{self, Stack};
use crate::routing::table::Inquiry;
use crate::routing::{path, redirect};
use crate::runtime::route::Route;

/// A route with its finished filters.
pub(crate) type ActiveRoute = Route<Stack>;

/// The `tower::Service` that hyper serves a connection with.
pub(crate) fn service(
    connection: Arc<Connection>,
) -> impl tower::Service<Request<Incoming>, Response = Response<ProxyBody>, Error = Infallible, Future: Send> + Clone {
    // Always ready: overload is an answer, never a wait.
    tower::service_fn(move |request| {
        let connection = connection.clone();
        async move { Ok(handle(connection, request).await) }
    })
}

/// Answers one request.
async fn handle(connection: Arc<Connection>, request: Request<Incoming>) -> Response<ProxyBody> {
    let (mut head, body) = request.into_parts();
    let mut exchange = Exchange::begin(connection, &head);
    let is_head = head.method == Method::HEAD;
    let answer = match decide(&mut exchange, &mut head) {
        Err(kind) => Err(kind.into()),
        Ok(Decision::Answer(response)) => Ok(response),
        Ok(Decision::Forward(route)) => {
            exchange.take_route(&route);
            match &route.stack {
                None => forward::run(&mut exchange, &route, head, body).await,
                Some(filters) => {
                    let through = stack::call(filters, exchange, route.clone(), Request::from_parts(head, body));
                    let (same_exchange, answer) = Box::pin(through).await;
                    exchange = same_exchange;
                    answer
                }
            }
        }
    };
    let response = match answer {
        Ok(response) => response,
        Err(error) if error.kind == FailureKind::ClientClosed => return Box::pin(leave(exchange)).await,
        Err(error) => local_reply(&mut exchange, &error),
    };
    finish(exchange, response, is_head)
}

/// What happens to a request.
enum Decision {
    /// It is sent to a backend.
    Forward(Arc<ActiveRoute>),
    /// It is answered here.
    Answer(Response<ProxyBody>),
}

/// Settles what the request means and where it goes. Waits for nothing.
fn decide(exchange: &mut Exchange, head: &mut Parts) -> Result<Decision, FailureKind> {
    let onward = authority::settle(head)?;
    if path::is_ambiguous(head.uri.path()) {
        return Err(FailureKind::BadRequest);
    }
    let host = authority::routing_host(&head.headers);
    let inquiry = Inquiry {
        host: &host,
        method: &head.method,
        path: head.uri.path(),
        query: head.uri.query(),
        headers: &head.headers,
    };
    // One load of one snapshot; only the route travels on.
    let found = exchange.connection.worker.store.load().table.find(&inquiry).cloned();
    let route = found.ok_or(FailureKind::NoRoute)?;
    match (&route.action, onward) {
        (_, Onward::AnswerHere) => Ok(Decision::Answer(ours(exchange, options_reply()))),
        (RouteAction::Redirect(redirect), _) => {
            exchange.take_route(&route);
            Ok(Decision::Answer(ours(exchange, redirected(exchange, redirect, head)?)))
        }
        (RouteAction::Forward(_), _) => Ok(Decision::Forward(route)),
    }
}

/// What Portway answers by itself says which request it was.
fn ours(exchange: &Exchange, mut response: Response<ProxyBody>) -> Response<ProxyBody> {
    response.headers_mut().insert(X_REQUEST_ID, exchange.request_id.to_header());
    response
}

/// RFC 9110 §7.6.2: the answer of the last hop that an `OPTIONS` may reach.
fn options_reply() -> Response<ProxyBody> {
    let mut response = Response::new(ProxyBody::empty());
    response.headers_mut().insert("allow", HeaderValue::from_static("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"));
    response
}

fn redirected(exchange: &Exchange, to: &Redirect, head: &Parts) -> Result<Response<ProxyBody>, FailureKind> {
    let host = head.headers.get(HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let scheme = exchange.connection.listener.scheme.as_str();
    let parts = redirect::Parts { scheme, host, path: head.uri.path(), query: head.uri.query() };
    let location = HeaderValue::try_from(redirect::location(to, &parts)).map_err(|_| FailureKind::BadRequest)?;
    let mut response = Response::new(ProxyBody::empty());
    *response.status_mut() = to.status;
    response.headers_mut().insert(LOCATION, location);
    Ok(response)
}

fn local_reply(exchange: &mut Exchange, error: &ProxyError) -> Response<ProxyBody> {
    exchange.fail(error.kind);
    tracing::debug!(request_id = %exchange.request_id, reason = %error, source = ?error.source, "local reply");
    exchange.local_reply(error).response().map(ProxyBody::whole)
}

/// Nobody waits for an answer, and 499 stands in the log only: the connection is cut while this is pending.
async fn leave(mut exchange: Box<Exchange>) -> Response<ProxyBody> {
    exchange.fail(FailureKind::ClientClosed);
    exchange.connection.note_client_gone();
    std::future::pending().await
}

/// Notes what goes down, and lets the exchange end with the body.
fn finish(mut exchange: Box<Exchange>, mut response: Response<ProxyBody>, is_head: bool) -> Response<ProxyBody> {
    let switches = response.status() == StatusCode::SWITCHING_PROTOCOLS;
    // Only the end of the connection can end such a body for a client that knows no chunks. C-16.
    let ends_with_connection =
        exchange.version == Version::HTTP_10 && response.body().size_hint().exact().is_none() && !is_head;
    if (exchange.connection.must_close() || ends_with_connection) && !switches {
        response.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    let bodiless = is_head || response.body().is_end_stream();
    exchange.respond(response.status(), if bodiless { BodyExpected::No } else { BodyExpected::Yes });
    if switches {
        let connection = exchange.connection.clone();
        if let Some(tunnel) = connection.tunnel().as_mut() {
            tunnel.exchange = Some(exchange);
            return response;
        }
    }
    response.map(|body| body.finishing(exchange))
}
