//! How many replicas a service has, starts and should have, counted from what is there.
//! Promises the same numbers to people and to the metrics. It changes nothing.

use crate::config::checked::{self, Source};
use crate::runtime::group::Group;
use crate::runtime::standing::Admits;

/// Who says how many replicas of a service there should be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// The autoscaler, or a person in its place.
    Scaled,
    /// The same, of replicas behind addresses in the file: there may be more of them than addresses, or fewer.
    ScaledBehind,
    /// The configuration.
    Fixed(u32),
}

/// The replicas of a service at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Count {
    /// So many there should be.
    pub desired: u32,
    /// They take requests: members of the service, whose first probe has passed.
    pub ready: u32,
    /// They were started and have not answered yet.
    pub starting: u32,
    /// They finish what they have.
    pub draining: u32,
}

impl Wanted {
    /// `None` if Portway has no say in how many backends the service has.
    pub fn of(declared: &checked::Service) -> Option<Self> {
        match (&declared.autoscale, &declared.source) {
            (Some(_), Source::Backends(_)) => Some(Wanted::ScaledBehind),
            (Some(_), _) => Some(Wanted::Scaled),
            (None, Source::Container(container)) => Some(Wanted::Fixed(container.replicas)),
            (None, Source::Backends(_) | Source::Docker(_) | Source::Swarm(_)) => None,
        }
    }

    /// The replicas of the service with this group.
    pub fn count(self, group: &Group) -> Count {
        let set = group.members();
        let n_members = count(set.members.len());
        let intent = group.scale.intent();
        let ready = match self {
            Wanted::Scaled | Wanted::Fixed(_) => n_members,
            // Fewer addresses than replicas: each is not a replica, but something before them.
            Wanted::ScaledBehind if intent.desired > n_members => intent.desired,
            Wanted::ScaledBehind => {
                let takes_requests = |admits| matches!(admits, Admits::All | Admits::One);
                let members = set.members.iter();
                count(members.filter(|member| takes_requests(member.backend.standing.admits())).count())
            }
        };
        let desired = match self {
            Wanted::Fixed(n) => n,
            // Nobody has decided yet: what there is may stay.
            Wanted::Scaled | Wanted::ScaledBehind if intent.generation == 0 => ready,
            Wanted::Scaled | Wanted::ScaledBehind => intent.desired,
        };
        let state = group.scale.state();
        Count { desired, ready, starting: state.starting, draining: state.draining }
    }
}

fn count(n: usize) -> u32 {
    u32::try_from(n).unwrap_or(u32::MAX)
}

#[cfg(test)]
pub(crate) mod tests {
    use std::num::NonZeroU32;
    use std::sync::Arc;
    use std::time::Duration;

    use super::*;
    use crate::config::checked::{Autoscale, Balance, Target};
    use crate::runtime::group::Membership;
    use crate::runtime::registry::Registry;
    use crate::telemetry::metrics::Metrics;
    use crate::units::{ServiceName, Weight};

    /// Zero to ten replicas, six requests in flight each.
    pub(crate) fn up_to_ten() -> Autoscale {
        let max = NonZeroU32::new(10).unwrap();
        Autoscale { min: 0, target: Target::InFlight(6.0), ..Autoscale::up_to(max) }
    }

    fn group() -> Arc<Group> {
        let membership = Membership { balance: Balance::RoundRobin, limit: u32::MAX, slow_start: Duration::ZERO };
        let registry = Registry::new(Metrics::new());
        let name = ServiceName::new("web").unwrap();
        let backend = registry.backend(&name, "127.0.0.1:1".parse().unwrap());
        let group = Group::new(&membership);
        group.set_members(&membership, vec![(backend, Weight::ONE)], vec![]);
        group
    }

    #[test]
    fn members_are_ready_and_the_newest_intent_is_what_there_should_be() {
        let group = group();
        group.scale.state().starting = 2;
        let count = |wanted: Wanted| {
            let Count { desired, ready, starting, draining } = wanted.count(&group);
            [desired, ready, starting, draining]
        };
        assert_eq!(count(Wanted::Scaled), [1, 1, 2, 0], "nobody has decided yet");
        group.scale.intend(3, "load");
        assert_eq!(count(Wanted::Scaled), [3, 1, 2, 0]);
        assert_eq!(count(Wanted::Fixed(5)), [5, 1, 2, 0]);
        assert_eq!(count(Wanted::ScaledBehind), [3, 3, 2, 0], "one address, three processes behind it");
        group.members().members[0].backend.standing.add(crate::runtime::standing::Reason::Unhealthy);
        group.scale.intend(1, "load");
        assert_eq!(count(Wanted::ScaledBehind), [1, 0, 2, 0], "what nobody answers at is not there");
    }
}
