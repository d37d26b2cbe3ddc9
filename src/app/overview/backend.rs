//! A backend in a word, with the reason beside it.
//! Promises that of several reasons the one that outlasts the others is named. It changes nothing.

use super::{Overview, millis};
use crate::admin::{BackendState, BackendStatus, ContainerName};
use crate::balance::{Candidate as _, WHOLE_SHARE};
use crate::runtime::backend::Backend;
use crate::runtime::group::Member;
use crate::runtime::standing::Reason;
use crate::units::Moment;

impl Overview {
    /// What the API says of a member.
    pub(in crate::app) fn backend(&self, member: &Member, now: Moment) -> BackendStatus {
        let backend = &member.backend;
        let counted = backend.metrics.read();
        let state = state_of(member);
        let share = member.share(now);
        BackendStatus {
            address: backend.name.to_string(),
            container: backend
                .instance
                .as_ref()
                .map(|instance| ContainerName { id: instance.id.to_string(), name: instance.name.to_string() }),
            state,
            why: self.why(backend, state, now),
            share: (share < WHOLE_SHARE).then(|| f64::from(share) / f64::from(WHOLE_SHARE)),
            weight: member.weight.get(),
            in_flight: backend.in_flight().into(),
            requests: counted.attempts(),
            errors: counted.errors(),
            p50_ms: counted.duration.quantile(0.50).map(millis),
            p99_ms: counted.duration.quantile(0.99).map(millis),
        }
    }

    fn why(&self, backend: &Backend, state: BackendState, now: Moment) -> Option<String> {
        match state {
            BackendState::Ready | BackendState::Full | BackendState::Unresolved => None,
            BackendState::Ejected => self.sentences.of(backend.id, now),
            BackendState::Probation => Some("the next request decides".to_owned()),
            BackendState::Unhealthy => {
                Some(self.findings.of(backend.id).unwrap_or_else(|| "no probe has ended yet".to_owned()))
            }
            BackendState::Leaving => Some("it asked to be left alone".to_owned()),
            BackendState::Draining => Some(format!("by hand, {} left", backend.in_flight())),
            BackendState::Drained => Some("by hand".to_owned()),
        }
    }
}

/// A person's word first, then the backend's own, then what probes and answers have found.
fn state_of(member: &Member) -> BackendState {
    let (standing, in_flight) = (&member.backend.standing, member.backend.in_flight());
    let words = [
        (Reason::Drained, if in_flight > 0 { BackendState::Draining } else { BackendState::Drained }),
        (Reason::Leaving, BackendState::Leaving),
        (Reason::Unhealthy, BackendState::Unhealthy),
        (Reason::Ejected, BackendState::Ejected),
        (Reason::Probation, BackendState::Probation),
    ];
    let reason = words.into_iter().find(|(reason, _)| standing.has(*reason));
    let otherwise = if in_flight < member.limit { BackendState::Ready } else { BackendState::Full };
    reason.map_or(otherwise, |(_, state)| state)
}
