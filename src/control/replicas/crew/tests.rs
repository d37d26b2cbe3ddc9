//! What is known of replicas from look to look, as facts.
//! Promises one fact per test. It talks to no engine.

use std::collections::BTreeMap;

use super::*;
use crate::control::docker::facts::ContainerHealth;
use crate::control::replicas::plan::Pace;
use crate::telemetry::metrics::Metrics;
use crate::units::ServiceName;

fn at(secs: u64) -> Moment {
    Moment(0).after(Duration::from_secs(secs))
}

fn container(id: &str, mark: &str, state: ContainerState) -> ContainerFacts {
    ContainerFacts {
        id: id.into(),
        name: format!("name-{id}").into(),
        image: "acme/thumbs".to_owned(),
        image_id: String::new(),
        labels: BTreeMap::from([(LABEL_TEMPLATE.to_owned(), mark.to_owned())]),
        state,
        health: ContainerHealth::None,
        networks: BTreeMap::new(),
        published: BTreeMap::new(),
        created_unix: 1_700_000_000,
        exit_code: None,
    }
}

fn backend() -> Arc<Backend> {
    let name = ServiceName::new("thumbs").unwrap();
    let metrics = Metrics::new().backend(&name, "127.0.0.1:1");
    let address: std::net::SocketAddr = "127.0.0.1:1".parse().unwrap();
    Backend::new(name, address.into(), metrics, Arc::default())
}

/// What the engine shows, what discovery shows, and the crew that looks at both.
struct Stage {
    crew: Crew,
    containers: Vec<ContainerFacts>,
    members: HashMap<Arc<str>, Arc<Backend>>,
    image: Option<Arc<str>>,
}

impl Stage {
    fn new(containers: impl Into<Vec<ContainerFacts>>) -> Self {
        Self { crew: Crew::default(), containers: containers.into(), members: HashMap::new(), image: None }
    }

    fn look(&mut self, now: Moment) -> Seen {
        let mark = Arc::from("t1");
        let containers: Vec<_> = self.containers.iter().collect();
        let sight = Sight {
            containers: &containers,
            members: &self.members,
            mark: Some(&mark),
            image: self.image.as_ref(),
            slow_start: Duration::from_secs(5),
            now,
            random: 0,
        };
        self.crew.look(&sight)
    }

    fn phase(&mut self, id: &str, now: Moment) -> Option<(Vintage, Phase)> {
        let seen = self.look(now);
        seen.replicas.iter().find(|replica| *replica.id == *id).map(|replica| (replica.vintage, replica.phase))
    }

    fn join(&mut self, id: &str) {
        self.members.insert(id.into(), backend());
    }

    fn set(&mut self, state: ContainerState) {
        self.containers[0].state = state;
    }
}

use ContainerState::{Created, Exited, Paused, Running, Stopping};

#[test]
fn what_runs_when_we_come_is_adopted_and_ready_as_soon_as_it_is_a_member() {
    let mut stage = Stage::new([container("a", "t1", Running), container("b", "t0", Running)]);
    let news = stage.look(at(1)).news;
    assert_eq!(news.iter().map(|news| &news.what).collect::<Vec<_>>(), [&What::Adopted, &What::Adopted]);
    let starting = Phase::Starting { since: at(1) };
    assert_eq!(stage.phase("a", at(2)), Some((Vintage::Current, starting)));
    assert_eq!(stage.phase("b", at(2)), Some((Vintage::Old, starting)));
    stage.join("a");
    let news = stage.look(at(3)).news;
    assert_eq!(news[0].what, What::Ready(Duration::from_secs(2)));
    assert_eq!(stage.phase("a", at(7)), Some((Vintage::Current, Phase::Ready(Weight::Growing))));
    assert_eq!(stage.phase("a", at(8)), Some((Vintage::Current, Phase::Ready(Weight::Whole))));
}

#[test]
fn one_that_is_made_counts_once_from_the_ask_to_the_engines_list() {
    let mut stage = Stage::new([]);
    let name: Arc<str> = "name-a".into();
    stage.crew.making(name.clone(), "t1".into(), at(1), 1_700_000_000);
    stage.containers.push(container("a", "t1", Created));
    assert_eq!(stage.look(at(1)).replicas.len(), 1);
    assert_eq!(stage.phase("name-a", at(1)), Some((Vintage::Current, Phase::Coming)));
    // The list may be older than the answer.
    stage.containers.clear();
    stage.crew.made(&name, "a".into(), at(2));
    assert_eq!(stage.phase("a", at(2)), Some((Vintage::Current, Phase::Starting { since: at(2) })));
    // Somebody has taken it away.
    assert_eq!(stage.phase("a", at(60)), None);
    assert!(stage.crew.is_empty());
}

#[test]
fn an_end_soon_after_a_start_is_a_failed_start_and_one_after_a_good_while_is_not() {
    let mark = Arc::from("t1");
    for (ready_for, end) in [(0, EndOf::Start), (9, EndOf::Start), (10, EndOf::Steady)] {
        let mut stage = Stage::new([container("a", "t1", Running)]);
        stage.join("a");
        stage.look(at(1));
        stage.set(Exited);
        stage.members.clear();
        let now = at(1 + ready_for);
        // The engine tells the end before discovery takes the member away.
        stage.join("a");
        assert_eq!(stage.look(now).news.last().map(|news| news.what.clone()), Some(What::Ended));
        assert_eq!(stage.look(now).news, []);
        assert_eq!(stage.crew.end_of("a", Some(&mark), now), end, "{ready_for} s");
        assert_eq!(stage.crew.brake.pace() == Pace::Free, end == EndOf::Steady);
        assert!(matches!(stage.phase("a", now), Some((_, Phase::Ended { told: Told::No, .. }))));
        stage.crew.told("a");
        assert!(matches!(stage.phase("a", now), Some((_, Phase::Ended { told: Told::Yes, .. }))));
        stage.set(Running);
        assert!(matches!(stage.phase("a", now), Some((_, Phase::Ready(_) | Phase::Starting { .. }))));
    }
}

#[test]
fn what_had_ended_before_we_came_is_a_leftover_and_no_failure() {
    let mut stage = Stage::new([container("a", "t1", Exited), container("b", "t1", Created)]);
    let news = stage.look(at(1)).news;
    assert_eq!(news.iter().map(|news| (&*news.id, &news.what)).collect::<Vec<_>>(), [("a", &What::Ended)]);
    assert_eq!(stage.crew.end_of("a", Some(&"t1".into()), at(1)), EndOf::Leftover);
    assert_eq!(stage.crew.brake.pace(), Pace::Free);
    assert!(matches!(stage.phase("b", at(1)), Some((_, Phase::Ended { told: Told::Yes, .. }))));
}

#[test]
fn a_retired_one_is_quiet_when_it_is_no_member_and_has_no_request() {
    let mut stage = Stage::new([container("a", "t1", Running)]);
    stage.join("a");
    stage.look(at(1));
    stage.crew.retired("a", at(2));
    let retiring = |quiet_since| Some((Vintage::Current, Phase::Retiring { since: at(2), quiet_since }));
    assert_eq!(stage.phase("a", at(3)), retiring(None));
    stage.members.clear();
    assert_eq!(stage.phase("a", at(4)), retiring(Some(at(4))));
    assert_eq!(stage.phase("a", at(5)), retiring(Some(at(4))));
    stage.crew.taken_back("a", at(6));
    assert_eq!(stage.phase("a", at(6)), Some((Vintage::Current, Phase::Starting { since: at(6) })));
}

#[test]
fn what_somebody_stops_is_no_failed_start() {
    let mut stage = Stage::new([container("a", "t1", Running)]);
    stage.join("a");
    stage.look(at(1));
    stage.members.clear();
    stage.set(Stopping);
    stage.look(at(2));
    stage.set(Exited);
    assert_eq!(stage.look(at(3)).news[0].what, What::Ended);
    assert_eq!(stage.crew.brake.pace(), Pace::Free);
}

#[test]
fn work_that_failed_is_tried_again_after_a_moment() {
    let mut stage = Stage::new([container("a", "t1", Running)]);
    stage.look(at(1));
    stage.crew.at_work("a");
    stage.crew.work_failed("a", at(2));
    assert_eq!(stage.phase("a", at(3)), Some((Vintage::Current, Phase::Going)));
    assert!(matches!(stage.phase("a", at(5)), Some((_, Phase::Starting { .. }))));
}

#[test]
fn what_somebody_stops_or_freezes_is_left_to_them() {
    let mut stage = Stage::new([container("a", "t1", Running)]);
    stage.join("a");
    stage.look(at(1));
    stage.set(Paused);
    stage.members.clear();
    assert_eq!(stage.phase("a", at(2)), Some((Vintage::Current, Phase::Frozen)));
    stage.set(Stopping);
    assert_eq!(stage.phase("a", at(3)), Some((Vintage::Current, Phase::Going)));
}

#[test]
fn what_a_task_removes_is_gone_before_the_engines_list_says_so() {
    let mut stage = Stage::new([container("a", "t1", Running)]);
    stage.look(at(1));
    stage.crew.at_work("a");
    stage.set(Exited);
    let seen = stage.look(at(2));
    assert_eq!((seen.replicas[0].phase, seen.news), (Phase::Going, vec![]));
    stage.crew.removed("a");
    assert_eq!(stage.look(at(3)).replicas, []);
    assert!(!stage.crew.is_empty());
    stage.containers.clear();
    stage.look(at(4));
    assert!(stage.crew.is_empty());
}
