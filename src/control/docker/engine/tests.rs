//! Calls against an engine that is there, or is not.
//! Promises to remove what it makes. Tests of a real engine are ignored unless asked for.

use super::*;

#[test]
fn an_image_without_a_tag_is_the_latest_and_not_all_of_them() {
    for (image, asked) in [
        ("nginx", "nginx:latest"),
        ("localhost:5000/shop", "localhost:5000/shop:latest"),
        ("acme/shop:1.4", "acme/shop:1.4"),
        ("acme/shop@sha256:aa", "acme/shop@sha256:aa"),
    ] {
        assert_eq!(with_tag(image), asked);
    }
}

#[tokio::test]
async fn an_engine_that_is_not_there_is_an_error_of_each_call_and_not_of_opening() {
    let engine = Engine::open(&Endpoint::Unix("/nowhere/docker.sock".into()));
    let error = engine.containers(Which::All).await.unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::NoSocket);
    assert!(error.is_away());
    assert!(engine.events().next().await.unwrap().is_err());
    let closed = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = closed.local_addr().unwrap().port();
    drop(closed);
    let engine = Engine::open(&Endpoint::Tcp(crate::units::HostPort { host: "127.0.0.1".into(), port }));
    let error = engine.inspect("web").await.unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::Away, "{error}");
    assert!(error.to_string().contains("refused"), "{error}");
}

/// The image of the suite; any with a shell would do.
const IMAGE: &str = "portway-base";

#[tokio::test]
#[ignore = "needs a Docker engine with the image portway-base"]
async fn a_real_engine_does_what_it_is_asked() {
    let engine = Engine::open(&Endpoint::Default);
    let template = Template {
        image: IMAGE.to_owned(),
        port: std::num::NonZeroU16::new(5000).unwrap(),
        command: Some(vec!["sh".into(), "-c".into(), "echo one; echo two >&2; exec sleep 60".into()]),
        environment: vec![("GREETING".into(), "hello".into())],
        volumes: Vec::new(),
        networks: Vec::new(),
        labels: Vec::new(),
        memory: Some(crate::units::ByteSize(64 << 20)),
        nano_cpus: None,
    };
    let name = format!("portway-engine-test-{}", std::process::id());
    let labels = BTreeMap::from([("portway-engine-test".to_owned(), name.clone())]);
    let stop_timeout = Duration::from_secs(1);
    let new = NewContainer { name: &name, template: &template, labels, publish: Publish::LOOPBACK, stop_timeout };
    let id = engine.create(&new).await.unwrap();
    assert_eq!(engine.create(&new).await.unwrap_err().kind, EngineErrorKind::Conflict);
    engine.start(&id).await.unwrap();
    engine.start(&id).await.unwrap();
    let look = engine.inspect(&id).await.unwrap();
    assert!(look.facts.takes_requests());
    let place = look.facts.published[&5000][0];
    assert!(place.ip().is_loopback() && place.port() != 0, "{place}");
    let label = Which::Labelled(vec![format!("portway-engine-test={name}")]);
    let listed = engine.containers(label.clone()).await.unwrap();
    assert_eq!(listed, [look.facts]);
    engine.stop(&id, Duration::from_secs(1)).await.unwrap();
    engine.stop(&id, Duration::from_secs(1)).await.unwrap();
    assert_eq!(engine.last_lines(&id, 1).await.unwrap().len(), 1);
    let mut lines = engine.last_lines(&id, 9).await.unwrap();
    lines.sort();
    assert_eq!(lines, ["one", "two"]);
    let ended = engine.inspect(&id).await.unwrap().facts;
    assert_eq!((ended.state, ended.exit_code), (super::super::facts::ContainerState::Exited, Some(137)));
    engine.remove(&id).await.unwrap();
    engine.remove(&id).await.unwrap();
    assert_eq!(engine.inspect(&id).await.unwrap_err().kind, EngineErrorKind::NotFound);
    assert!(engine.image_id(IMAGE).await.unwrap().is_some());
    assert_eq!(engine.image_id("portway-nowhere:1").await.unwrap(), None);
    let refused = Template { image: "portway-nowhere:1".to_owned(), ..template.clone() };
    let error = engine.create(&NewContainer { template: &refused, ..new }).await.unwrap_err();
    assert_eq!(error.kind, EngineErrorKind::NotFound, "{error}");
}
