//! What the JSON of an engine becomes, from recorded answers.
//! Promises one fact per test. It talks to no engine.

use serde_json::{Value, json};

use super::*;

/// As dockerd 20.10 lists a container with two published addresses and a health check.
fn summary(change: impl FnOnce(&mut Value)) -> ContainerFacts {
    let mut recorded = json!({
        "Id": "f1d2", "Names": ["/proxy/web", "/web-1"], "Image": "my-app", "ImageID": "sha256:aa", "Command": "flask run",
        "Created": 1700000000,
        "Ports": [
            {"IP": "::", "PrivatePort": 5000, "PublicPort": 49153, "Type": "tcp"},
            {"IP": "0.0.0.0", "PrivatePort": 5000, "PublicPort": 49153, "Type": "tcp"},
            {"PrivatePort": 9000, "Type": "tcp"},
            {"IP": "0.0.0.0", "PrivatePort": 53, "PublicPort": 53, "Type": "udp"}
        ],
        "Labels": {"app": "orders"}, "State": "running", "Status": "Up 2 minutes (health: starting)",
        "HostConfig": {"NetworkMode": "default"},
        "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "172.17.0.2", "GlobalIPv6Address": ""}, "none": {"IPAddress": ""}}},
        "Mounts": []
    });
    change(&mut recorded);
    listed(serde_json::from_value(recorded).expect("what an engine says")).expect("it has an id")
}

fn look(change: impl FnOnce(&mut Value)) -> Inspected {
    let mut recorded = json!({
        "Id": "f1d2", "Name": "/web-1", "Created": "2023-11-14T22:13:20.5Z",
        "State": {"Status": "running", "Running": true, "ExitCode": 0, "Health": {"Status": "starting", "FailingStreak": 0, "Log": []}},
        "Image": "sha256:aa",
        "Config": {"Image": "my-app", "Labels": {"app": "orders"}, "StopSignal": "SIGQUIT"},
        "NetworkSettings": {
            "Ports": {"5000/tcp": [{"HostIp": "0.0.0.0", "HostPort": "49153"}, {"HostIp": "::", "HostPort": "49153"}],
                      "9000/tcp": null, "53/udp": [{"HostIp": "", "HostPort": "53"}]},
            "Networks": {"bridge": {"IPAddress": "172.17.0.2"}, "none": {"IPAddress": ""}}
        }
    });
    change(&mut recorded);
    inspected(serde_json::from_value(recorded).expect("what an engine says")).expect("it has an id")
}

fn heard(message: Value) -> Option<Event> {
    event(serde_json::from_value(message).expect("what an engine says"))
}

#[test]
fn the_list_and_a_single_look_say_the_same_of_a_container() {
    let facts = summary(|_| ());
    assert_eq!(&*facts.name, "web-1", "not the name that a link gives it");
    assert_eq!(facts.state, ContainerState::Running);
    assert_eq!(facts.health, ContainerHealth::Starting);
    let places: Vec<SocketAddr> = vec!["0.0.0.0:49153".parse().unwrap(), "[::]:49153".parse().unwrap()];
    assert_eq!(facts.published, BTreeMap::from([(5000, places), (9000, vec![])]));
    assert_eq!(facts.networks["bridge"], Some("172.17.0.2".parse().unwrap()));
    assert_eq!(facts.networks["none"], None);
    let look = look(|_| ());
    assert_eq!(look.facts, facts);
    assert_eq!(look.stop_signal, Some(3));
}

#[test]
fn the_state_and_the_health_of_a_container_are_read_from_the_prose_of_the_list() {
    for (state, status, word, health, exit_code) in [
        ("running", "Up 3 seconds", ContainerState::Running, ContainerHealth::None, None),
        ("running", "Up 3 seconds (healthy)", ContainerState::Running, ContainerHealth::Healthy, None),
        ("running", "Up 2 hours (unhealthy)", ContainerState::Running, ContainerHealth::Unhealthy, None),
        ("paused", "Up 2 hours (Paused)", ContainerState::Paused, ContainerHealth::None, None),
        ("exited", "Exited (137) 4 seconds ago", ContainerState::Exited, ContainerHealth::None, Some(137)),
        ("restarting", "Restarting (1) 1 second ago", ContainerState::Restarting, ContainerHealth::None, Some(1)),
        ("created", "Created", ContainerState::Created, ContainerHealth::None, None),
    ] {
        let facts = summary(|recorded| {
            recorded["State"] = state.into();
            recorded["Status"] = status.into();
        });
        assert_eq!((facts.state, facts.health, facts.exit_code), (word, health, exit_code), "{status}");
    }
}

#[test]
fn a_container_of_which_little_is_said_is_there_and_takes_no_requests() {
    let bare = listed(serde_json::from_value(json!({"Id": "a"})).unwrap()).unwrap();
    assert!(!bare.takes_requests());
    assert!(listed(serde_json::from_value(json!({"Names": ["/x"]})).unwrap()).is_none());
    let bare = inspected(serde_json::from_value(json!({"Id": "a"})).unwrap()).unwrap();
    assert!(!bare.facts.takes_requests());
    let strange = look(|recorded| {
        recorded["Created"] = "yesterday".into();
        recorded["NetworkSettings"]["Ports"] = json!({"5000/tcp": [{"HostIp": "here", "HostPort": "many"}], "x": null});
    });
    assert_eq!(strange.facts.created_unix, 0);
    assert_eq!(strange.facts.published, BTreeMap::from([(5000, vec![])]));
}

#[test]
fn what_an_event_means() {
    let container = |action: &str, attributes: Value| {
        heard(json!({"Type": "container", "Action": action, "Actor": {"ID": "f1d2", "Attributes": attributes}}))
            .map(|event| event.what)
    };
    for (action, attributes, what) in [
        ("create", json!({}), Some(What::Changed)),
        ("start", json!({}), Some(What::Started)),
        ("kill", json!({"signal": "15"}), Some(What::Signalled(Some(15)))),
        ("kill", json!({"signal": "SIGHUP"}), Some(What::Signalled(Some(1)))),
        ("kill", json!({}), Some(What::Signalled(None))),
        ("stop", json!({}), Some(What::Stopped)),
        ("pause", json!({}), Some(What::Paused)),
        ("unpause", json!({}), Some(What::Unpaused)),
        ("die", json!({"exitCode": "143"}), Some(What::Ended(Some(143)))),
        ("destroy", json!({}), Some(What::Gone)),
        ("health_status: unhealthy", json!({}), Some(What::Health(ContainerHealth::Unhealthy))),
        ("health_status: new", json!({}), None),
        ("exec_start: ls", json!({}), None),
        ("top", json!({}), None),
    ] {
        assert_eq!(container(action, attributes), what, "{action}");
    }
    let network = |action: &str| {
        heard(json!({"Type": "network", "Action": action,
                     "Actor": {"ID": "0a", "Attributes": {"container": "f1d2", "name": "shop", "type": "bridge"}}}))
    };
    let event = |what| Some(Event { container: "f1d2".into(), what });
    assert_eq!(network("connect"), event(What::Changed));
    assert_eq!(network("disconnect"), event(What::Disconnected("shop".to_owned())));
    assert_eq!(network("create"), None);
    assert_eq!(heard(json!({"Type": "image", "Action": "pull", "Actor": {"ID": "my-app", "Attributes": {}}})), None);
    assert_eq!(heard(json!({})), None);
}

#[test]
fn a_signal_is_known_by_its_name_and_by_its_number() {
    for (text, number) in
        [("SIGTERM", 15), ("term", 15), ("15", 15), ("SIGQUIT", 3), ("SIGRTMIN+3", 37), ("SIGWINCH", 28)]
    {
        assert_eq!(signal_number(text), Some(number), "{text}");
    }
    assert_eq!(signal_number("SIGNAL"), None);
}
