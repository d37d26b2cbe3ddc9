//! A request that found no place at a backend: it is shown the waiting page, or stands in line.
//! It promises that whoever was held goes on under the configuration of the moment in which it is released. How the line
//! works is [`place`](crate::proxy::place)'s; a request that finds a place at once never comes here.

use std::borrow::Cow;
use std::sync::Arc;

use http::header::{HeaderName, RANGE};
use http::{Method, Request};

use super::Course;
use crate::config::checked::WaitingPage;
use crate::error::{FailureKind, ProxyError, Retry};
use crate::http::local_reply;
use crate::lifecycle::clock;
use crate::proxy::attempt::Attempt;
use crate::proxy::outbound::Upgrade;
use crate::proxy::place::{self, Wait};
use crate::proxy::request_body::RequestBody;
use crate::proxy::retry::Exposure;
use crate::runtime::group::{Unavailable, Wish};
use crate::runtime::service::Lease;

/// A request that was refused so often by backends which had just listened is not held again.
const ATTEMPTS_MAX: u32 = 16;

/// What a browser says about why it asks. <https://www.w3.org/TR/fetch-metadata/>
const SEC_FETCH_MODE: HeaderName = HeaderName::from_static("sec-fetch-mode");

impl Course<'_> {
    /// Stands in line for a place, because of what kept it from one at once.
    pub(super) async fn stand_in_line(
        &mut self,
        because: Unavailable,
        request: &Request<RequestBody>,
    ) -> Result<Lease, ProxyError> {
        if because == Unavailable::Empty && self.service.policy.hold.is_none() {
            return Err(FailureKind::NoHealthyBackend.into());
        }
        let began = clock::now();
        if self.gets_the_page(because, request) {
            place::expect_replica(&self.service, began)?;
            self.service.group.scale.show_page(began);
            return Err(FailureKind::Starting.into());
        }
        let wish = Wish { now: began, key: self.key, tried: &self.trail.tried, stake: self.stake };
        let wait = Wait { because, deadline: self.exchange.deadline };
        let turn = place::wait_in_line(&self.service, &wish, wait).await;
        let waits = &mut self.exchange.waits;
        *waits.queue.get_or_insert_default() += clock::now().since(began);
        if let Some(held) = turn.held {
            *waits.held.get_or_insert_default() += held;
        }
        let lease = turn.lease?;
        if !Arc::ptr_eq(&lease.service, &self.service) {
            self.exchange.take_service(&lease.service);
            self.service = Cow::Owned(lease.service.clone());
        }
        Ok(lease)
    }

    /// Whether the backend that was to take the request is as good as not there, and one is to be expected: nothing was
    /// sent, so that any method may wait.
    pub(super) fn is_held_for(&self, failure: FailureKind, exposure: Exposure) -> bool {
        let is_unsent = exposure == Exposure::Unsent && failure.retry() == Retry::AnotherBackend;
        is_unsent && self.service.policy.hold.is_some() && self.exchange.attempts < ATTEMPTS_MAX
    }

    /// Whether nobody but the backend of `attempt` could take the request.
    pub(super) fn is_the_only(&self, attempt: &Attempt) -> bool {
        let tried: Vec<_> = self.trail.tried.iter().copied().chain([attempt.backend().id]).collect();
        !self.service.group.has_other(&tried)
    }

    /// Begins another attempt as soon as somebody listens.
    pub(super) async fn begin_held(&mut self, request: &Request<RequestBody>) -> Result<Attempt, ProxyError> {
        self.exchange.connection.activity.leave_backend();
        match self.stand_in_line(Unavailable::Empty, request).await {
            Ok(lease) => self.begin_at(lease),
            Err(error) => Err(self.give_up(error)),
        }
    }

    fn gets_the_page(&self, because: Unavailable, request: &Request<RequestBody>) -> bool {
        let shows = self.service.policy.hold.is_some_and(|hold| hold.page == WaitingPage::On);
        if !shows || self.upgrade != Upgrade::No || !is_navigation(request) {
            return false;
        }
        because == Unavailable::Empty || self.service.group.scale.state().cold_since.is_some()
    }
}

/// Whether somebody looks at a browser window that waits for this answer: scripts, images and downloads cannot do
/// anything with a page.
fn is_navigation<B>(request: &Request<B>) -> bool {
    let headers = request.headers();
    let mode = headers.get(SEC_FETCH_MODE);
    *request.method() == Method::GET
        && mode.is_none_or(|mode| mode == "navigate")
        && !headers.contains_key(RANGE)
        && local_reply::wants_page(headers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_window_that_waits_is_shown_a_page() {
        const BROWSER: (&str, &str) = ("accept", "text/html,application/xhtml+xml,*/*;q=0.8");
        let is_navigation = |method: Method, fields: &[(&str, &str)]| {
            let mut request = Request::builder().method(method);
            for (name, value) in fields {
                request = request.header(*name, *value);
            }
            is_navigation(&request.body(()).unwrap())
        };
        assert!(is_navigation(Method::GET, &[BROWSER]));
        assert!(is_navigation(Method::GET, &[BROWSER, ("sec-fetch-mode", "navigate")]));
        assert!(!is_navigation(Method::POST, &[BROWSER]), "a form that was sent is not sent again");
        assert!(!is_navigation(Method::HEAD, &[BROWSER]));
        assert!(!is_navigation(Method::GET, &[BROWSER, ("sec-fetch-mode", "cors")]));
        assert!(!is_navigation(Method::GET, &[BROWSER, ("range", "bytes=0-")]));
        assert!(!is_navigation(Method::GET, &[("accept", "*/*")]));
        assert!(!is_navigation(Method::GET, &[]));
    }
}
