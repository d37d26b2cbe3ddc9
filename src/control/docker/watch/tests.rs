//! The watcher against the fake engine: cuts, silence, floods.
//! Promises real sockets. It starts no container.

use serde_json::json;

use super::*;
use crate::control::docker::facts::ContainerState;
use crate::control::docker::fake::{FakeEngine, Mood};

/// Longer than anything here takes, on a machine that has other things to do.
const PATIENCE: Duration = Duration::from_secs(20);

struct Watched {
    hub: Hub,
    engine: FakeEngine,
    census: watch::Receiver<Arc<Census>>,
}

impl Watched {
    async fn begin() -> Self {
        let engine = FakeEngine::start();
        engine.run("a", ("app", "web"), 4001);
        let hub = Hub::new(Arc::default());
        let census = hub.census(&engine.endpoint());
        let mut watched = Self { hub, engine, census };
        watched.until("it is open", |census| census.connection == Connection::Open).await;
        watched.until_listening().await;
        watched
    }

    async fn until(&mut self, what: &str, is_so: impl Fn(&Census) -> bool) -> Arc<Census> {
        let mut census = self.census.clone();
        match timeout(PATIENCE, census.wait_for(|census| is_so(census))).await {
            Ok(found) => found.expect("the watcher lives").clone(),
            Err(_) => panic!("not in {PATIENCE:?}: {what}; it is {:?}", *self.census.borrow()),
        }
    }

    async fn until_listening(&self) {
        let listens = async {
            while self.engine.listeners() == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, listens).await.expect("somebody listens");
    }

    async fn until_state(&mut self, state: ContainerState) {
        self.until(&format!("{state:?}"), |census| census.container("a").is_some_and(|a| a.state == state)).await;
    }
}

#[tokio::test]
async fn a_container_that_gets_sigterm_is_ending_before_it_has_ended() {
    let mut watched = Watched::begin().await;
    assert!(watched.census.borrow().container("a").unwrap().takes_requests());
    watched.engine.tell("a", "kill", &json!({"signal": "15"}));
    watched.until_state(ContainerState::Stopping).await;
    watched.engine.end("a", 143);
    watched.until_state(ContainerState::Exited).await;
    assert_eq!(watched.census.borrow().life("a"), 1);
    watched.engine.remove("a");
    watched.until("it is gone", |census| census.containers.is_empty()).await;
}

#[tokio::test]
async fn a_container_that_starts_is_known_with_its_address() {
    let mut watched = Watched::begin().await;
    watched.engine.run("b", ("app", "web"), 4002);
    let census = watched.until("b is there", |census| census.container("b").is_some()).await;
    assert_eq!(census.container("b").unwrap().published[&5000], ["127.0.0.1:4002".parse().unwrap()]);
}

#[tokio::test]
async fn what_happens_while_the_stream_is_cut_is_found() {
    let mut watched = Watched::begin().await;
    watched.engine.forget_events(true);
    watched.engine.run("b", ("app", "web"), 4002);
    watched.engine.end("a", 1);
    watched.engine.forget_events(false);
    watched.engine.cut();
    watched.until("b is found", |census| census.container("b").is_some()).await;
    watched.until_state(ContainerState::Exited).await;
    watched.until_listening().await;
    watched.engine.run("c", ("app", "web"), 4003);
    watched.until("events are heard again", |census| census.container("c").is_some()).await;
}

#[tokio::test]
async fn an_event_that_never_came_is_made_up_for_by_the_next_list() {
    let mut watched = Watched::begin().await;
    watched.engine.forget_events(true);
    watched.engine.change("a", |container| container["State"]["Health"] = json!({"Status": "unhealthy"}));
    // The second list of a session comes after a second, the next ones every half minute.
    watched.until("health", |census| !census.container("a").unwrap().takes_requests()).await;
}

#[tokio::test]
async fn an_engine_that_goes_away_keeps_its_census_and_comes_back() {
    let mut watched = Watched::begin().await;
    let lost = |census: &Census| matches!(census.connection, Connection::Lost(_));
    for mood in [Mood::Away, Mood::Failing] {
        watched.engine.be(mood);
        watched.engine.cut();
        let census = watched.until("lost", lost).await;
        assert!(census.container("a").unwrap().takes_requests(), "{mood:?}");
        assert!(census.is_known());
        watched.engine.be(Mood::Fine);
        watched.until("found again", |census| census.connection == Connection::Open).await;
    }
    watched.until_listening().await;
    watched.engine.end("a", 0);
    watched.until_state(ContainerState::Exited).await;
}

#[tokio::test]
async fn a_restart_while_the_engine_is_away_is_another_life_of_a_container_that_looks_the_same() {
    let mut watched = Watched::begin().await;
    let restart = |watched: &Watched, at: &str| {
        watched.engine.change("a", |container| container["State"]["StartedAt"] = json!(at));
    };
    restart(&watched, "2026-01-01T00:00:00.1Z");
    let looks = async {
        while watched.engine.looks() == 0 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    timeout(PATIENCE, looks).await.expect("it is looked at once in the beginning");
    watched.engine.be(Mood::Away);
    watched.until("lost", |census| matches!(census.connection, Connection::Lost(_))).await;
    restart(&watched, "2026-01-01T00:00:09.9Z");
    watched.engine.be(Mood::Fine);
    watched.until("another life", |census| census.life("a") == 1).await;
}

#[tokio::test]
async fn an_engine_that_never_was_there_is_known_to_be_lost_and_nothing_else() {
    let hub = Hub::new(Arc::default());
    let mut census = hub.census(&Endpoint::Unix("/nowhere/docker.sock".into()));
    let lost = census.wait_for(|census| census.connection != Connection::Opening);
    let census = timeout(PATIENCE, lost).await.unwrap().unwrap().clone();
    assert!(!census.is_known());
    assert!(matches!(&census.connection, Connection::Lost(error) if error.kind == EngineErrorKind::NoSocket));
}

#[tokio::test]
async fn a_crash_loop_costs_few_looks() {
    let mut watched = Watched::begin().await;
    for _ in 0..500 {
        watched.engine.end("a", 1);
        watched.engine.run("a", ("app", "web"), 4001);
    }
    watched.until("all its ends are counted", |census| census.life("a") == 500).await;
    assert!(watched.engine.looks() <= 40, "{} looks", watched.engine.looks());
}

#[tokio::test]
async fn a_watcher_ends_with_its_last_user_and_begins_again_with_what_was_known() {
    let mut watched = Watched::begin().await;
    let endpoint = watched.engine.endpoint();
    let second = watched.hub.census(&endpoint);
    assert!(second.borrow().container("a").is_some());
    drop(second);
    watched.engine.be(Mood::Frozen);
    let (unused, _) = (std::mem::replace(&mut watched.census, watch::channel(Arc::default()).1), ());
    drop(unused);
    watched.census = watched.hub.census(&endpoint);
    assert!(watched.census.borrow().container("a").is_some());
    watched.engine.be(Mood::Fine);
    watched.engine.run("b", ("app", "web"), 4002);
    watched.until("b is found", |census| census.container("b").is_some()).await;
}
