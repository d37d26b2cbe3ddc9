//! A route as requests see it: finished when the snapshot is built, shared by every request that takes it.
//! It promises that nothing is looked up per request. It does not match: see `routing::table`.

use std::sync::Arc;

use crate::config::checked::RouteAction;
use crate::runtime::service::Service;

/// A route with its service and the finished filter stack of type `S`, which this module knows nothing about.
#[derive(Debug)]
pub struct Route<S> {
    /// As the user would write it in short.
    pub display: String,
    /// What happens to a request.
    pub action: RouteAction,
    /// Where it goes.
    pub service: Arc<Service>,
    /// What the user wrapped around the exchange; `None` skips it.
    pub stack: Option<S>,
}
