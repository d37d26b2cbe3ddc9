//! Who is new, and who is not. What a standing lets requests do is tested with who writes it: `control::outlier`.

use super::*;
use crate::runtime::registry::Registry;
use crate::telemetry::metrics::Metrics;
use crate::units::ServiceName;

const MEMBERSHIP: Membership =
    Membership { balance: Balance::LeastRequests, limit: u32::MAX, slow_start: Duration::from_secs(30) };

/// Sets members by their ports, and tells which of them warm up.
fn join(group: &Group, registry: &Registry, ports: &[u16], unresolved: usize) -> Vec<u16> {
    let service = ServiceName::new("web").unwrap();
    let backend = |port: &u16| (registry.backend(&service, ([127, 0, 0, 1], *port).into()), Weight::ONE);
    let name = HostPort { host: "gone".into(), port: 1 };
    group.set_members(&MEMBERSHIP, ports.iter().map(backend).collect(), vec![name; unresolved]);
    let members = group.members();
    let warming = members.members.iter().filter(|member| member.backend.standing.has(Reason::Ramping));
    warming.map(|member| member.backend.address.port()).collect()
}

const NOBODY: [u16; 0] = [];

#[test]
fn who_joins_others_warms_up_and_a_service_that_begins_does_not() {
    let (group, registry) = (Group::new(&MEMBERSHIP), Registry::new(Metrics::new()));
    assert_eq!(join(&group, &registry, &[1, 2], 0), NOBODY);
    assert_eq!(join(&group, &registry, &[1, 2, 3], 0), [3]);
    assert_eq!(join(&group, &registry, &[3, 1, 4], 0), [3, 4]);
}

#[test]
fn names_that_are_resolved_for_the_first_time_are_part_of_the_start() {
    let (group, registry) = (Group::new(&MEMBERSHIP), Registry::new(Metrics::new()));
    assert_eq!(join(&group, &registry, &[1], 1), NOBODY);
    assert_eq!(join(&group, &registry, &[1, 2, 3], 0), NOBODY);
    assert_eq!(join(&group, &registry, &[1, 2, 3, 4], 0), [4]);
}

#[test]
fn whoever_comes_to_a_service_without_anybody_takes_everything_at_once() {
    let (group, registry) = (Group::new(&MEMBERSHIP), Registry::new(Metrics::new()));
    assert_eq!(join(&group, &registry, &[1], 0), NOBODY);
    assert_eq!(join(&group, &registry, &[], 1), NOBODY);
    assert_eq!(join(&group, &registry, &[2, 3], 0), NOBODY);
}
