//! Joins the admin API, which asks for backends to be taken out and for replicas, with control, which does it.
//! Promises the same words for what became of them as the status has. It decides nothing.

use std::sync::Arc;

use super::overview::Overview;
use crate::admin::{self, BackendState, Handled, NotThere, ScaleTo, Scaled, Unscalable};
use crate::control::by_hand::{self, CannotScale, Named, Unknown};
use crate::lifecycle::clock;
use crate::proxy::stack::Stack;

/// Control's hands with the words of the status.
pub(super) struct Hands {
    pub(super) control: by_hand::ByHand<Stack>,
    pub(super) overview: Arc<Overview>,
}

impl Hands {
    fn handled(&self, result: Result<Named, Unknown>) -> Result<Handled, NotThere> {
        let Named { service, addresses } = result.map_err(|unknown| NotThere(unknown.to_string()))?;
        let (set, now) = (service.members(), clock::now());
        let (mut backends, mut ready) = (Vec::new(), 0);
        for member in &set.members {
            let status = self.overview.backend(member, now);
            ready += usize::from(status.state == BackendState::Ready);
            if addresses.contains(&member.backend.address) {
                backends.push(status);
            }
        }
        Ok(Handled { service: service.name.to_string(), backends, ready })
    }
}

impl admin::ByHand for Hands {
    fn drain(&self, service: &str, backend: &str) -> Result<Handled, NotThere> {
        self.handled(self.control.drain(service, backend))
    }

    fn undrain(&self, service: &str, backend: &str) -> Result<Handled, NotThere> {
        self.handled(self.control.undrain(service, backend))
    }

    fn scale(&self, service: &str, to: ScaleTo) -> Result<Scaled, Unscalable> {
        let done = match to {
            ScaleTo::Pinned(replicas) => self.control.pin(service, replicas),
            ScaleTo::Auto => self.control.release(service),
        };
        let service = done.map_err(|error| match error {
            CannotScale::Unknown(unknown) => Unscalable::NotThere(unknown.to_string()),
            CannotScale::NotScaled { .. } | CannotScale::AboveMax { .. } => Unscalable::NotPossible(error.to_string()),
        })?;
        // A reload may come in between; then the answer is that of the question after it.
        let replicas = self.overview.replicas(&service);
        let gone =
            || Unscalable::NotThere(format!("service `{}` was just taken out of the configuration", service.name));
        Ok(Scaled { service: service.name.to_string(), replicas: replicas.ok_or_else(gone)? })
    }
}
