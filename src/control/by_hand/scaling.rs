//! A number of replicas that a person asks for: `portway scale SERVICE=N`, `portway scale SERVICE=auto`.
//! Promises that what cannot be had is refused with what to do, and that the word holds until it is taken back or the
//! process ends. It starts and stops nothing: the autoscaler does what it is told.

use std::sync::Arc;

use super::{ByHand, Unknown};
use crate::config::checked::{self, Source};
use crate::runtime::service::Service;
use crate::units::ServiceName;

/// A number of replicas that cannot be had. The message is for people and says what to do.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CannotScale {
    /// No service of this name.
    #[error(transparent)]
    Unknown(#[from] Unknown),
    /// Portway does not decide how many it has.
    #[error("Portway does not scale service `{service}`: {cure}")]
    NotScaled {
        /// The service, which is there.
        service: ServiceName,
        /// What to write in the configuration.
        cure: &'static str,
    },
    /// More than the configuration allows.
    #[error("service `{service}` may have {max} replicas at most, not {asked}: raise `autoscale.max` first")]
    AboveMax {
        /// The service, which is scaled.
        service: ServiceName,
        /// What was asked for.
        asked: u32,
        /// `autoscale.max`.
        max: u32,
    },
}

impl<S> ByHand<S> {
    /// Pins the number of replicas of a service.
    pub fn pin(&self, service: &str, replicas: u32) -> Result<Arc<Service>, CannotScale> {
        let (service, max) = self.scaled(service)?;
        if replicas > max {
            return Err(CannotScale::AboveMax { service: service.name.clone(), asked: replicas, max });
        }
        if self.set_pin(&service, Some(replicas)) {
            tracing::info!(service = %service.name, replicas, "replicas pinned by hand");
            let fields: [(&str, &dyn std::fmt::Display); 2] = [("service", &service.name), ("replicas", &replicas)];
            self.events.push("scale_pinned", "replicas pinned by hand", &fields);
        }
        Ok(service)
    }

    /// Leaves the number of replicas of a service to the autoscaler again.
    pub fn release(&self, service: &str) -> Result<Arc<Service>, CannotScale> {
        let (service, _) = self.scaled(service)?;
        if self.set_pin(&service, None) {
            tracing::info!(service = %service.name, "replicas left to the autoscaler again");
            let message = "replicas left to the autoscaler again";
            self.events.push("scale_released", message, &[("service", &service.name)]);
        }
        Ok(service)
    }

    /// Tells whether that is news.
    fn set_pin(&self, service: &Service, pinned: Option<u32>) -> bool {
        let before = std::mem::replace(&mut service.group.scale.state().pinned, pinned);
        self.store.note_change();
        before != pinned
    }

    /// A service that Portway scales, and how many replicas it may have.
    fn scaled(&self, name: &str) -> Result<(Arc<Service>, u32), CannotScale> {
        let snapshot = self.store.load_full();
        let (declared, service) = Self::declared(&snapshot, name)?;
        match &declared.autoscale {
            Some(autoscale) => Ok((service.clone(), autoscale.max.get())),
            None => Err(CannotScale::NotScaled { service: service.name.clone(), cure: cure(declared) }),
        }
    }
}

const fn cure(declared: &checked::Service) -> &'static str {
    match declared.source {
        Source::Container(_) => "set `container.replicas` in its configuration, or add `autoscale: { min: 1, max: 4 }`",
        Source::Swarm(_) => "add `autoscale: { min: 1, max: 4 }` to its configuration",
        Source::Backends(_) | Source::Docker(_) => {
            "add `autoscale: { min: 1, max: 4, hook: … }` to its configuration, with a hook that starts and stops replicas"
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{Stage, TWO};
    use crate::runtime::scale::Intent;

    fn stage() -> Stage {
        Stage::scaled(TWO)
    }

    #[test]
    fn a_pin_holds_until_it_is_released_and_each_is_told_once() {
        let stage = stage();
        for _ in 0..2 {
            let service = stage.hands.pin("web", 3).unwrap();
            assert_eq!(service.group.scale.state().pinned, Some(3));
        }
        stage.hands.pin("web", 0).unwrap();
        for _ in 0..2 {
            let service = stage.hands.release("web").unwrap();
            assert_eq!(service.group.scale.state().pinned, None);
            assert_eq!(service.group.scale.intent(), Intent::default(), "whoever decides is one, and not this");
        }
        let kinds: Vec<_> = stage.hands.events.all().into_iter().map(|event| event.kind).collect();
        assert_eq!(kinds, ["scale_pinned", "scale_pinned", "scale_released"]);
    }

    #[test]
    fn what_cannot_be_had_says_what_to_do() {
        let stage = stage();
        for (service, replicas, message) in [
            ("wep", 1, "there is no service `wep`; did you mean `web`?"),
            ("web", 11, "service `web` may have 10 replicas at most, not 11: raise `autoscale.max` first"),
            ("api", 1, "Portway does not scale service `api`: add `autoscale: { min: 1, max: 4, hook: … }`"),
        ] {
            let error = stage.hands.pin(service, replicas).unwrap_err().to_string();
            assert!(error.starts_with(message), "{error}");
        }
        assert!(stage.hands.release("api").is_err());
        assert_eq!(stage.hands.events.all(), []);
    }
}
