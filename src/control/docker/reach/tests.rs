//! Where a container is reached, case by case.
//! Promises one fact per test. It talks to no engine.

use super::*;
use crate::control::docker::facts::{ContainerHealth, ContainerState};

const LOCAL: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn container(networks: &[(&str, &str)], published: &[&str]) -> ContainerFacts {
    ContainerFacts {
        id: "a".into(),
        name: "web".into(),
        image: String::new(),
        image_id: String::new(),
        labels: BTreeMap::new(),
        state: ContainerState::Running,
        health: ContainerHealth::None,
        networks: networks.iter().map(|(name, ip)| ((*name).to_owned(), ip.parse().ok())).collect(),
        published: BTreeMap::from([(5000, published.iter().map(|place| place.parse().unwrap()).collect())]),
        created_unix: 0,
        exit_code: None,
    }
}

fn reach(address: AddressFrom, network: Option<&str>) -> Reach {
    Reach { address, network: network.map(str::to_owned) }
}

fn port() -> NonZeroU16 {
    NonZeroU16::new(5000).unwrap()
}

#[test]
fn a_published_port_is_reached_where_the_host_has_it() {
    let far: IpAddr = "10.0.0.7".parse().unwrap();
    for (host, places, address) in [
        (LOCAL, &["0.0.0.0:4000", "[::]:4000"][..], Some("127.0.0.1:4000")),
        (LOCAL, &["[::]:4000"], Some("[::1]:4000")),
        (LOCAL, &["127.0.0.1:4001"], Some("127.0.0.1:4001")),
        (LOCAL, &["10.0.0.9:4001", "127.0.0.1:4002"], Some("127.0.0.1:4002")),
        (LOCAL, &["192.168.1.5:4001"], Some("192.168.1.5:4001")),
        (far, &["0.0.0.0:4000", "[::]:4000"], Some("10.0.0.7:4000")),
        (far, &["127.0.0.1:4001"], None),
        (far, &["127.0.0.1:4001", "10.0.0.7:4002"], Some("10.0.0.7:4002")),
        (LOCAL, &[], None),
    ] {
        let vantage = Vantage { own: None, host };
        for from in [AddressFrom::Auto, AddressFrom::Published] {
            let found = vantage.address(&container(&[("bridge", "172.17.0.2")], places), port(), &reach(from, None));
            assert_eq!(found.clone().ok(), address.map(|text| text.parse().unwrap()), "{places:?} {found:?}");
        }
    }
}

#[test]
fn portway_in_a_container_reaches_others_on_a_network_that_both_are_on() {
    let own = container(&[("shop", "172.18.0.9"), ("admin", "172.20.0.9")], &[]);
    let from = Vantage { own: Some(&own), host: LOCAL };
    let both = container(&[("bridge", "172.17.0.2"), ("shop", "172.18.0.2")], &["0.0.0.0:4000"]);
    let auto = reach(AddressFrom::Auto, None);
    assert_eq!(from.address(&both, port(), &auto), Ok("172.18.0.2:5000".parse().unwrap()));
    assert_eq!(from.publish(&auto), Publish::Nowhere);
    let apart = container(&[("bridge", "172.17.0.2")], &["0.0.0.0:4000"]);
    let error = from.address(&apart, port(), &auto).unwrap_err();
    assert_eq!(error, Unreachable::NoCommonNetwork("web".to_owned()));
    assert!(error.to_string().contains("docker network connect"), "{error}");
    let published = reach(AddressFrom::Published, None);
    assert_eq!(from.address(&apart, port(), &published), Ok("127.0.0.1:4000".parse().unwrap()));
    // With the host's network it sees what the host sees.
    let own = container(&[("host", "")], &[]);
    let from = Vantage { own: Some(&own), host: LOCAL };
    assert_eq!(from.address(&apart, port(), &auto), Ok("127.0.0.1:4000".parse().unwrap()));
    assert_eq!(from.publish(&auto), Publish::LOOPBACK);
}

#[test]
fn a_network_that_the_file_names_is_the_one() {
    let from = Vantage { own: None, host: LOCAL };
    let two = container(&[("a", "172.18.0.2"), ("b", "172.19.0.2")], &[]);
    let on = |network| from.address(&two, port(), &reach(AddressFrom::Network, network));
    assert_eq!(on(Some("b")), Ok("172.19.0.2:5000".parse().unwrap()));
    assert_eq!(on(None), Ok("172.18.0.2:5000".parse().unwrap()));
    let error = on(Some("c")).unwrap_err().to_string();
    assert!(error.contains("docker network connect c web") && error.contains("a, b"), "{error}");
    let alone = container(&[("none", "")], &[]);
    let error = from.address(&alone, port(), &reach(AddressFrom::Network, None)).unwrap_err();
    assert_eq!(error, Unreachable::NoAddress);
}

#[test]
fn a_container_on_the_network_of_the_host_listens_on_the_host() {
    let from = Vantage { own: None, host: LOCAL };
    let found = from.address(&container(&[("host", "")], &[]), port(), &reach(AddressFrom::Auto, None));
    assert_eq!(found, Ok("127.0.0.1:5000".parse().unwrap()));
}
