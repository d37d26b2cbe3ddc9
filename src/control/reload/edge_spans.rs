//! Where in its file a configuration names what has to be opened: a port that is taken is a mistake with a place like any other.
//! It promises a place only for what was typed. It opens nothing.

use std::sync::Arc;

use super::{Edge, EdgeError};
use crate::config::diagnostic::Diagnostics;
use crate::config::raw::{self, Switch};
use crate::config::source::Span;

/// The places of one file.
#[derive(Debug)]
pub(super) struct EdgeSpans {
    listeners: Vec<Span>,
    access_log: Span,
    admin: Span,
}

impl Default for EdgeSpans {
    fn default() -> Self {
        Self { listeners: Vec::new(), access_log: Span::NONE, admin: Span::NONE }
    }
}

impl EdgeSpans {
    pub(super) fn of(raw: &raw::Config) -> Self {
        let listeners = raw.listen.iter().flatten();
        let admin = raw.admin.as_ref().and_then(|admin| on(admin)?.address.as_ref());
        let access_log = raw.access_log.as_ref().and_then(|log| on(log)?.path.as_ref());
        Self {
            listeners: listeners.map(|listener| listener.address.as_ref().map_or(Span::NONE, |a| a.span())).collect(),
            access_log: access_log.map_or(Span::NONE, |path| path.span()),
            admin: admin.map_or(Span::NONE, |address| address.span()),
        }
    }

    /// The error at its place in the file that `warnings` were found in; `None` for what nobody typed.
    pub(super) fn show(&self, error: &EdgeError, warnings: &Diagnostics) -> Option<Arc<Diagnostics>> {
        let (span, path) = match error.edge {
            Edge::Listener(idx) => (*self.listeners.get(idx)?, "listen"),
            Edge::AccessLog => (self.access_log, "access_log"),
            Edge::Admin => (self.admin, "admin"),
        };
        let (message, help) = error.message.split_once(". ").unwrap_or((&error.message, ""));
        span.is_some().then(|| warnings.one_error(span, path, message, help).into())
    }
}

fn on<T>(switch: &Switch<T>) -> Option<&T> {
    match switch {
        Switch::On(value) => Some(value),
        Switch::Off => None,
    }
}
