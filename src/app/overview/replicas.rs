//! What the API says of how many backends there should be.
//! Promises the numbers that the metrics have. It changes nothing.

use std::sync::Arc;

use super::{Overview, millis};
use crate::admin::{LastDecision, ReplicaFailure, ReplicaStatus};
use crate::config::checked;
use crate::lifecycle::clock;
use crate::runtime::replicas::{Count, Wanted};
use crate::runtime::scale::Decision;
use crate::runtime::service::Service;
use crate::units::Moment;

impl Overview {
    /// What the API says of the replicas of a service that is in the configuration.
    pub(in crate::app) fn replicas(&self, service: &Arc<Service>) -> Option<ReplicaStatus> {
        let snapshot = self.store.load_full();
        let (declared, service) = snapshot.declared(&service.name)?;
        of(declared, service, clock::now())
    }
}

/// `None` for a service that Portway neither scales nor runs.
pub(super) fn of(declared: &checked::Service, service: &Service, now: Moment) -> Option<ReplicaStatus> {
    let wanted = Wanted::of(declared)?;
    let Count { desired, ready, starting, draining } = wanted.count(&service.group);
    let (min, max) = match (&declared.autoscale, wanted) {
        (Some(autoscale), _) => (autoscale.min, autoscale.max.get()),
        (None, _) => (desired, desired),
    };
    let scale = &service.group.scale;
    let held = scale.n_held();
    let state = scale.state();
    let failure = state.failure.as_ref().map(|failure| ReplicaFailure {
        age_s: now.since(failure.at).as_secs(),
        times: failure.n_in_a_row,
        words: failure.words.to_string(),
    });
    let last_decision = state.decision.as_ref().map(|decision| told(decision, clock::unix_now().as_secs()));
    Some(ReplicaStatus {
        desired,
        ready,
        starting,
        draining,
        held,
        min,
        max,
        pinned: state.pinned,
        last_decision,
        last_cold_start_ms: state.cold_start.map(|start| millis(start.took)),
        failure,
    })
}

fn told(decision: &Decision, now_unix: u64) -> LastDecision {
    let at = i64::try_from(decision.at_unix).ok().and_then(|at| jiff::Timestamp::from_second(at).ok());
    LastDecision {
        at: at.map(|at| at.to_string()).unwrap_or_default(),
        age_s: now_unix.saturating_sub(decision.at_unix),
        from: decision.from,
        to: decision.to,
        because: decision.because.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::expand::ProcessEnvironment;
    use crate::config::load;
    use crate::runtime::replicas::tests::up_to_ten;
    use crate::runtime::scale::StartFailure;
    use crate::telemetry::metrics::Metrics;

    fn declared() -> checked::Service {
        let text = "services: { web: { swarm: { service: web, port: 80 } } }";
        load::parse(text, "test", &ProcessEnvironment).unwrap().config.services.remove(0)
    }

    #[test]
    fn a_service_that_is_scaled_tells_what_was_decided_and_what_failed() {
        let mut declared = declared();
        let service = Service::new(&declared, Metrics::new().service(&declared.name));
        let now = clock::now();
        assert_eq!(of(&declared, &service, now), None);
        declared.autoscale = Some(up_to_ten());
        service.group.scale.intend(1, "1 request held");
        let _held = service.group.scale.hold(10);
        let decision = Decision { at_unix: 1_700_000_000, from: 0, to: 1, because: "1 request held".into() };
        let failure = StartFailure { at: now, n_in_a_row: 3, words: "exit code 1: no module named flask".into() };
        service.group.scale.state().decision = Some(decision);
        service.group.scale.state().failure = Some(failure);
        let told = of(&declared, &service, now).unwrap();
        assert_eq!((told.desired, told.ready, told.held, told.min, told.max), (1, 0, 1, 0, 10));
        let decision = told.last_decision.unwrap();
        assert_eq!((decision.at.as_str(), decision.from, decision.to), ("2023-11-14T22:13:20Z", 0, 1));
        assert_eq!(told.failure.unwrap().times, 3);
    }
}
