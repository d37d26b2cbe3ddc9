//! Orders the filters of a service: the only place that does, with a reason for each place.
//! It promises one erased `tower::Service` per service, built with the snapshot, and none for a service without filters.
//! It filters nothing itself.

use std::any::Any;
use std::sync::Arc;

use bytes::Bytes;
use http::header::{AUTHORIZATION, COOKIE, SET_COOKIE};
use http::{Request, Response};
use http_body::Body;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::Mutex;
use tower::util::BoxCloneSyncService;
use tower::{BoxError, Layer, Service, ServiceExt};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::compression::predicate::{DefaultPredicate, Predicate, SizeAbove};
use tower_http::cors::{AllowHeaders, AllowMethods, AllowOrigin, CorsLayer, ExposeHeaders};
use tower_http::sensitive_headers::SetSensitiveHeadersLayer;

use crate::config::checked::{self, Compression, Cors, Credentials};
use crate::error::{FailureKind, ProxyError};
use crate::filters::headers::EditHeadersLayer;
use crate::proxy::body::ProxyBody;
use crate::proxy::exchange::Exchange;
use crate::proxy::forward;
use crate::proxy::handler::ActiveRoute;

/// The finished filters of a service, around the forwarding of its requests.
pub type Stack = BoxCloneSyncService<Request<Incoming>, Response<ProxyBody>, ProxyError>;

/// Builds the stack of a service from the inside out; `None` if it has no filters.
pub fn build(service: &checked::Service) -> Option<Stack> {
    let filters = &service.filters;
    if filters.is_empty() {
        return None;
    }
    let mut stack = Stack::new(tower::service_fn(forward_in_stack));
    // Next to the backend: it has to see the bytes as the backend sent them.
    if let Some(compression) = filters.compression {
        let compress = compression_layer(compression).layer(stack);
        stack = Stack::new(compress.map_response(|response: Response<_>| response.map(filtered)));
    }
    // Around compression: a preflight has no body to compress and needs no backend.
    if let Some(cors) = &filters.cors {
        stack = Stack::new(cors_layer(cors).layer(stack));
    }
    // Outside of what answers by itself: the user's word on headers is the last one, for preflights as well.
    if let Some(edits) = &filters.headers {
        stack = Stack::new(EditHeadersLayer::new(edits.clone()).layer(stack));
    }
    // Around every filter: none of them may print a secret, and a panic in one is one local reply.
    let sensitive = SetSensitiveHeadersLayer::new([AUTHORIZATION, COOKIE, SET_COOKIE]);
    let caught = CatchPanicLayer::custom(panicked).layer(sensitive.layer(stack));
    Some(Stack::new(caught.map_response(|response: Response<_>| response.map(filtered))))
}

/// An answer of a filter that panicked: the shell replaces it by the local reply for `internal`.
#[derive(Clone, Copy)]
pub(crate) struct Panicked;

fn panicked(_: Box<dyn Any + Send>) -> Response<ProxyBody> {
    let mut response = Response::new(ProxyBody::empty());
    response.extensions_mut().insert(Panicked);
    response
}

/// What a layer made of a body; errors of the body below keep their kind.
fn filtered<B>(body: B) -> ProxyBody
where
    B: Body<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    ProxyBody::filtered(body.map_err(|error| match error.into().downcast::<ProxyError>() {
        Ok(ours) => *ours,
        Err(other) => ProxyError::new(FailureKind::Internal, other),
    }))
}

fn compression_layer(compression: Compression) -> CompressionLayer<impl Predicate> {
    let min_size = u16::try_from(compression.min_size.0).unwrap_or(u16::MAX);
    CompressionLayer::new().gzip(true).compress_when(DefaultPredicate::new().and(SizeAbove::new(min_size.into())))
}

fn cors_layer(cors: &Cors) -> CorsLayer {
    let origins = match &cors.origins {
        Some(origins) => AllowOrigin::list(origins.iter().cloned()),
        None => AllowOrigin::any(),
    };
    let methods = match cors.methods.as_slice() {
        [] => AllowMethods::mirror_request(),
        methods => AllowMethods::list(methods.iter().cloned()),
    };
    let headers = match cors.headers.as_slice() {
        [] => AllowHeaders::mirror_request(),
        headers => AllowHeaders::list(headers.iter().cloned()),
    };
    CorsLayer::new()
        .allow_origin(origins)
        .allow_methods(methods)
        .allow_headers(headers)
        .expose_headers(ExposeHeaders::list(cors.expose.iter().cloned()))
        .allow_credentials(cors.credentials == Credentials::Allowed)
        .max_age(cors.max_age)
}

/// What the innermost service needs, handed through the layers in the request's extensions. It stays here while it is
/// used, so that a panic behind a filter loses no exchange.
#[derive(Clone)]
struct Handed(Arc<Mutex<Option<InHand>>>);

type InHand = (Box<Exchange>, Arc<ActiveRoute>);

/// Sends a request through `stack`; gives the exchange back with the answer.
pub(crate) async fn call(
    stack: &Stack,
    exchange: Box<Exchange>,
    route: Arc<ActiveRoute>,
    mut request: Request<Incoming>,
) -> (Box<Exchange>, Result<Response<ProxyBody>, ProxyError>) {
    let handed = Handed(Arc::new(Mutex::new(Some((exchange, route)))));
    request.extensions_mut().insert(handed.clone());
    let answer = match stack.clone().ready().await {
        Ok(stack) => stack.call(request).await,
        Err(error) => Err(error),
    };
    let answer = answer.and_then(|response| match response.extensions().get::<Panicked>() {
        Some(_) => Err(FailureKind::Internal.into()),
        None => Ok(response),
    });
    let (exchange, _) = handed.0.lock().await.take().expect("it was put there above and is taken here only");
    (exchange, answer)
}

async fn forward_in_stack(mut request: Request<Incoming>) -> Result<Response<ProxyBody>, ProxyError> {
    let Some(Handed(handed)) = request.extensions_mut().remove::<Handed>() else {
        return Err(FailureKind::Internal.into()); // a layer that loses extensions is our bug
    };
    match handed.lock().await.as_mut() {
        Some((exchange, route)) => {
            let (head, body) = request.into_parts();
            forward::run(exchange, route, head, body).await
        }
        None => Err(FailureKind::Internal.into()),
    }
}
