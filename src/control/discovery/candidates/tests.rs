//! Which containers may become backends, as facts.
//! Promises one fact per test. It talks to no engine.

use super::*;
use crate::control::docker::facts::{ContainerFacts, ContainerHealth, ContainerState};
use crate::control::docker::reach::Unreachable;

const START: Moment = Moment(1_000_000_000);

fn web() -> ServiceName {
    ServiceName::new("web").unwrap()
}

fn address(port: u16) -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], port))
}

fn finding(id: &str, standing: Standing) -> (Arc<str>, Finding) {
    let container = Arc::new(ContainerFacts {
        id: id.into(),
        name: format!("web-{id}").into(),
        image: String::new(),
        image_id: String::new(),
        labels: BTreeMap::new(),
        state: ContainerState::Running,
        health: ContainerHealth::None,
        networks: BTreeMap::new(),
        published: BTreeMap::new(),
        created_unix: 0,
        exit_code: None,
    });
    (id.into(), Finding { container, life: 0, standing })
}

fn at(id: &str, port: u16) -> (Arc<str>, Finding) {
    finding(id, Standing::At(address(port)))
}

fn not_yet() -> Answer {
    Answer::NotYet { why: "connect_refused".to_owned(), closed_after: None }
}

/// Candidates of which `a`, at port 1, is a member.
fn one_ready() -> Candidates {
    let mut candidates = Candidates::default();
    candidates.update(&web(), Found::from([at("a", 1)]), START);
    let job = candidates.start(START).unwrap();
    candidates.answered(&job, &Answer::Ready, START.after(Duration::from_millis(40)));
    assert_eq!(ids(&candidates), ["a"]);
    candidates.take_changed();
    candidates.take_news();
    candidates
}

fn ids(candidates: &Candidates) -> Vec<String> {
    let ready = candidates.ready(&web());
    ready.into_iter().map(|located| located.instance.unwrap().id.to_string()).collect()
}

#[test]
fn a_container_is_asked_at_once_and_then_ever_more_seldom_until_it_answers() {
    let mut candidates = Candidates::default();
    candidates.update(&web(), Found::from([at("a", 1)]), START);
    assert!(!candidates.were_all_asked());
    let (mut now, mut asked) = (START, Vec::new());
    while now < START.after(Duration::from_secs(40)) {
        let job = candidates.start(now).expect("it is due");
        assert_eq!(candidates.start(now), None, "it is asked already");
        asked.push(now);
        candidates.answered(&job, &not_yet(), now);
        now = candidates.next().unwrap();
    }
    assert!(candidates.were_all_asked());
    assert_eq!(candidates.count(&web()), (0, 1));
    let pauses: Vec<_> = asked.windows(2).map(|pair| pair[1].since(pair[0])).collect();
    assert_eq!((pauses[0], *pauses.last().unwrap()), (PAUSE_FIRST, PAUSE_MAX));
    assert!(pauses.is_sorted(), "{pauses:?}");
    let news = candidates.take_news();
    assert!(matches!(&news[..], [News { what: What::Slow { .. }, .. }]), "once: {news:?}");
    assert_eq!(candidates.notes(&web(), now).len(), 1);
    let job = candidates.start(now).unwrap();
    candidates.answered(&job, &Answer::Ready, now);
    assert_eq!(ids(&candidates), ["a"]);
    assert_eq!(candidates.take_changed(), HashSet::from([web()]));
    assert_eq!(candidates.notes(&web(), now), []);
    assert_eq!(candidates.next(), None);
}

#[test]
fn a_member_leaves_at_once_whatever_takes_it_out() {
    let other_life = {
        let (id, finding) = at("a", 1);
        (id, Finding { life: 1, ..finding })
    };
    for (found, is_candidate, why) in [
        (Found::new(), false, "gone"),
        (Found::from([finding("a", Standing::Out("it is paused".to_owned()))]), false, "paused"),
        (Found::from([finding("a", Standing::Unreachable(Unreachable::NoAddress))]), false, "no address"),
        (Found::from([at("a", 2)]), true, "127.0.0.1:2"),
        (Found::from([other_life]), true, "restarted"),
    ] {
        let mut candidates = one_ready();
        candidates.update(&web(), found, START);
        assert!(ids(&candidates).is_empty(), "{why}");
        assert_eq!(candidates.take_changed(), HashSet::from([web()]));
        assert_eq!(candidates.start(START).is_some(), is_candidate, "{why}");
        let news = candidates.take_news();
        let [News { what: What::Left { why: told, .. }, .. }] = &news[..] else { panic!("{news:?}") };
        assert!(told.contains(why), "{told}");
    }
}

#[test]
fn new_containers_disturb_none_that_are_there() {
    let mut candidates = one_ready();
    candidates.update(&web(), Found::from([at("a", 1), at("b", 2)]), START);
    assert_eq!(candidates.take_changed(), HashSet::new());
    assert_eq!(ids(&candidates), ["a"]);
    assert_eq!(candidates.count(&web()), (1, 1));
    assert_eq!(candidates.take_news(), []);
}

#[test]
fn an_answer_about_a_life_that_is_over_counts_for_nothing() {
    let mut candidates = Candidates::default();
    candidates.update(&web(), Found::from([at("a", 1)]), START);
    let job = candidates.start(START).unwrap();
    candidates.update(&web(), Found::new(), START);
    candidates.answered(&job, &Answer::Ready, START);
    candidates.update(&web(), Found::from([at("a", 1)]), START);
    candidates.answered(&job, &Answer::Ready, START);
    assert!(ids(&candidates).is_empty());
    assert!(candidates.start(START).is_some());
}

#[test]
fn of_two_containers_at_one_address_the_younger_one_is_the_member() {
    let mut candidates = one_ready();
    let (id, mut younger) = at("b", 1);
    Arc::make_mut(&mut younger.container).created_unix = 9;
    candidates.update(&web(), Found::from([at("a", 1), (id, younger)]), START);
    let job = candidates.start(START).unwrap();
    candidates.answered(&job, &Answer::Ready, START);
    assert_eq!(ids(&candidates), ["b"]);
}

#[test]
fn a_container_that_cannot_be_reached_is_told_of_once_and_not_while_it_is_wired() {
    let unreachable = || Found::from([finding("a", Standing::Unreachable(Unreachable::NoAddress))]);
    let mut candidates = Candidates::default();
    candidates.update(&web(), unreachable(), START);
    assert_eq!(candidates.take_news(), []);
    assert_eq!(candidates.notes(&web(), START).len(), 1);
    for secs in 1..4 {
        candidates.update(&web(), unreachable(), START.after(Duration::from_secs(secs)));
    }
    assert_eq!(candidates.take_news().len(), 1);
    candidates.update(&web(), Found::new(), START);
    assert_eq!(candidates.notes(&web(), START), []);
}

#[test]
fn a_service_that_is_gone_leaves_nothing_behind() {
    let mut candidates = one_ready();
    candidates.update(&web(), Found::from([at("a", 1), at("b", 2)]), START);
    candidates.retain(&Services::new());
    assert!(!candidates.knows(&web()));
    assert_eq!((candidates.start(START), candidates.next()), (None, None));
}
