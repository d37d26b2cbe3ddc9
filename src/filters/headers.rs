//! `headers:` sets and removes header fields on the way up and down.
//! It promises that `remove` comes before `set`, so that a field can be replaced in one go. It never touches framing:
//! the configuration refuses to name such fields.

use std::sync::Arc;
use std::task::{Context, Poll};

use http::{HeaderMap, Request, Response};
use tower::{Layer, Service};

use crate::config::checked::{HeaderEdit, HeaderEdits};

/// Makes [`EditHeaders`] of a service.
#[derive(Clone, Debug)]
pub struct EditHeadersLayer {
    edits: Arc<HeaderEdits>,
}

impl EditHeadersLayer {
    /// Applies `edits` in both directions.
    pub fn new(edits: HeaderEdits) -> Self {
        Self { edits: Arc::new(edits) }
    }
}

impl<S> Layer<S> for EditHeadersLayer {
    type Service = EditHeaders<S>;

    fn layer(&self, next: S) -> Self::Service {
        EditHeaders { next, edits: self.edits.clone() }
    }
}

/// The service that edits header fields.
#[derive(Clone, Debug)]
pub struct EditHeaders<S> {
    next: S,
    edits: Arc<HeaderEdits>,
}

impl<S, A, B> Service<Request<A>> for EditHeaders<S>
where
    S: Service<Request<A>, Response = Response<B>>,
    S::Future: Send + 'static,
    S::Error: Send + 'static,
    B: Send + 'static,
{
    type Response = Response<B>;
    type Error = S::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Response<B>, S::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.next.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<A>) -> Self::Future {
        apply(&self.edits.request, request.headers_mut());
        let response = self.next.call(request);
        let edits = self.edits.clone();
        Box::pin(async move {
            let mut response = response.await?;
            apply(&edits.response, response.headers_mut());
            Ok(response)
        })
    }
}

fn apply(edit: &HeaderEdit, headers: &mut HeaderMap) {
    for name in &edit.remove {
        headers.remove(name);
    }
    for (name, value) in &edit.set {
        // A map that is full of a client's fields keeps what it has: RFC 9110 knows no limit, the map does.
        let _ = headers.try_insert(name.clone(), value.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::{HeaderName, HeaderValue};
    use tower::ServiceExt;

    fn edit(set: &[(&'static str, &'static str)], remove: &[&'static str]) -> HeaderEdit {
        HeaderEdit {
            set: set.iter().map(|(n, v)| (HeaderName::from_static(n), HeaderValue::from_static(v))).collect(),
            remove: remove.iter().map(|n| HeaderName::from_static(n)).collect(),
        }
    }

    #[tokio::test]
    async fn fields_are_removed_and_set_in_both_directions() {
        let edits =
            HeaderEdits { request: edit(&[("x-a", "1")], &["cookie"]), response: edit(&[("x-b", "2")], &["server"]) };
        let echo = tower::service_fn(|request: Request<()>| async move {
            let mut response = Response::new(());
            *response.headers_mut() = request.headers().clone();
            response.headers_mut().insert("server", HeaderValue::from_static("flask"));
            Ok::<_, std::convert::Infallible>(response)
        });
        let request = Request::builder().header("cookie", "a").header("x-a", "0").body(()).unwrap();
        let response = EditHeadersLayer::new(edits).layer(echo).oneshot(request).await.unwrap();
        let names: Vec<_> = response.headers().iter().map(|(n, v)| format!("{n}={}", v.to_str().unwrap())).collect();
        assert_eq!(names, ["x-a=1", "x-b=2"]);
    }
}
