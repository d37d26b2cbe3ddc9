//! The shell around every exchange: begin it, have it answered, turn a failure into a local reply, let it end with its
//! body. It promises to answer every request and never to fail. What happens in between is [`forward`]'s.

use std::convert::Infallible;
use std::future::Future;
use std::sync::Arc;

use http::{Method, Request, Response, StatusCode};
use hyper::body::Incoming;
use tower::ServiceExt as _;

use crate::config::checked::{Redirect, RouteAction};
use crate::error::ProxyError;
use crate::http::{authority, local_reply};
use crate::proxy::body::ProxyBody;
use crate::proxy::connection::Connection;
use crate::proxy::exchange::{BodyExpected, Exchange};
use crate::proxy::forward;
use crate::proxy::stack;
use crate::routing::table::Inquiry;
use crate::routing::{path, redirect};
use crate::runtime::route::Route;

/// Serves the requests of one connection: what hyper calls.
#[derive(Clone)]
pub(crate) struct Handler {
    connection: Arc<Connection>,
}

impl Handler {
    pub(crate) fn new(connection: Arc<Connection>) -> Self {
        Self { connection }
    }
}

/// Answers one request.
pub(crate) async fn handle(connection: Arc<Connection>, request: Request<Incoming>) -> Response<ProxyBody> {
    let mut exchange = Exchange::begin(&connection, &request);
    let is_head = request.method() == Method::HEAD;
    let wish = local_reply::Wish::of(request.headers());
    let mut response = match route_and_forward(&mut exchange, request).await {
        Ok(response) => response,
        Err(error) => local_reply(&mut exchange, &error, wish),
    };
    if connection.worker.is_draining() || exchange.reason().is_some() && connection.activity.is_mid_message() {
        response.headers_mut().insert(header::CONNECTION, CLOSE);
    }
    let body = if is_head || response.body().is_end_stream() { BodyExpected::No } else { BodyExpected::Yes };
    exchange.respond(response.status(), body);
    response.map(|body| body.finishing(exchange))
}

/// Finds the route of a request and lets it answer.
async fn route_and_forward(
    exchange: &mut Box<Exchange>,
    request: Request<Incoming>,
) -> Result<Response<ProxyBody>, ProxyError> {
    let host = authority::check(&request)?;
    let Some(route) = find_route(exchange, &request, host) else { return Err(FailureKind::NoRoute.into()) };
    exchange.take_route(&route);
    match (&route.action, &route.stack) {
        (RouteAction::Redirect(redirect), _) => redirected(redirect, &request),
        (RouteAction::Forward(_), None) => forward::run(exchange, &route, request).await,
        (RouteAction::Forward(_), Some(stack)) => stack::call(stack, exchange, route, request).await,
    }
}
