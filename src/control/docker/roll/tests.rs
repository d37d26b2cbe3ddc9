//! How lists and events become a roll of containers, as facts.
//! Promises one fact per test. It talks to no engine.

use std::collections::BTreeMap;

use super::*;

const START: Moment = Moment(1_000_000_000);

fn facts(id: &str) -> ContainerFacts {
    ContainerFacts {
        id: id.into(),
        name: format!("web-{id}").into(),
        image: "my-app".to_owned(),
        image_id: String::new(),
        labels: BTreeMap::new(),
        state: ContainerState::Running,
        health: ContainerHealth::None,
        networks: BTreeMap::from([("bridge".to_owned(), Some("172.17.0.2".parse().unwrap()))]),
        published: BTreeMap::new(),
        created_unix: 7,
        exit_code: None,
    }
}

fn look(facts: ContainerFacts, stop_signal: Option<i32>) -> Option<Inspected> {
    Some(Inspected { facts, stop_signal, started: Some("2026-01-01T00:00:00Z".to_owned()) })
}

/// A roll with one running container, `a`.
fn roll() -> Roll {
    let mut roll = Roll::default();
    assert_eq!(roll.listed(vec![facts("a")], 0), (true, vec![]));
    roll
}

fn hear(roll: &mut Roll, what: What) -> Effect {
    roll.hear(&Event { container: "a".into(), what }, START)
}

fn state(roll: &Roll) -> ContainerState {
    roll.containers()[0].state
}

const NEWS: Effect = Effect { is_news: true, look: false };
const LOOK: Effect = Effect { is_news: false, look: true };
const NOTHING: Effect = Effect { is_news: false, look: false };

#[test]
fn a_signal_that_ends_a_process_makes_it_ending_before_it_has_ended() {
    for signal in [Some(15), Some(9), Some(2), Some(3), None] {
        let mut roll = roll();
        assert_eq!(hear(&mut roll, What::Signalled(signal)), NEWS);
        assert_eq!(state(&roll), ContainerState::Stopping, "{signal:?}");
        assert!(!roll.containers()[0].takes_requests());
        assert_eq!(hear(&mut roll, What::Ended(Some(143))), NEWS);
        assert_eq!((state(&roll), roll.containers()[0].exit_code), (ContainerState::Exited, Some(143)));
        assert_eq!(roll.ends()["a"], 1);
        assert_eq!(hear(&mut roll, What::Stopped), NOTHING, "what docker says afterwards");
    }
    let mut roll = roll();
    assert_eq!(hear(&mut roll, What::Stopped), NEWS);
    assert_eq!(state(&roll), ContainerState::Stopping);
}

#[test]
fn another_signal_changes_nothing_unless_the_image_is_stopped_with_it() {
    let mut roll = roll();
    assert_eq!(hear(&mut roll, What::Signalled(Some(1))), LOOK, "nobody knows yet what stops it");
    assert_eq!(roll.looked(&"a".into(), look(facts("a"), None), roll.heard(), START), NOTHING);
    assert_eq!(hear(&mut roll, What::Signalled(Some(1))), NOTHING);
    assert_eq!(state(&roll), ContainerState::Running);
    // Apache is stopped with SIGWINCH.
    let mut roll = self::roll();
    assert_eq!(hear(&mut roll, What::Signalled(Some(28))), LOOK);
    assert_eq!(roll.looked(&"a".into(), look(facts("a"), Some(28)), roll.heard(), START), NEWS);
    assert_eq!(state(&roll), ContainerState::Stopping);
}

#[test]
fn a_container_that_outlives_its_signal_counts_again_after_a_minute() {
    let mut roll = roll();
    hear(&mut roll, What::Signalled(Some(15)));
    assert!(!roll.spare_stubborn(START.after(TOLD_PATIENCE - Duration::from_secs(1))));
    assert!(roll.spare_stubborn(START.after(TOLD_PATIENCE)));
    assert_eq!(state(&roll), ContainerState::Running);
}

#[test]
fn an_answer_that_is_older_than_an_event_does_not_undo_it() {
    let mut roll = roll();
    let asked_at = roll.heard();
    hear(&mut roll, What::Signalled(Some(15)));
    assert_eq!(roll.listed(vec![facts("a")], asked_at), (false, vec!["a".into()]));
    assert_eq!(state(&roll), ContainerState::Stopping);
    assert_eq!(roll.looked(&"a".into(), look(facts("a"), None), asked_at, START), LOOK);
    assert_eq!(state(&roll), ContainerState::Stopping);
    // The next list comes while it still runs: that is no news.
    assert_eq!(roll.listed(vec![facts("a")], roll.heard()), (false, vec![]));
    assert_eq!(state(&roll), ContainerState::Stopping);
    // Removed while it was listed.
    let asked_at = roll.heard();
    hear(&mut roll, What::Gone);
    let (is_news, looks) = roll.listed(vec![facts("a")], asked_at);
    assert_eq!((is_news, looks), (false, vec!["a".into()]));
    assert_eq!(roll.containers(), []);
    assert_eq!(roll.looked(&"a".into(), None, roll.heard(), START), NOTHING);
}

#[test]
fn the_list_finds_what_no_event_told() {
    let mut roll = roll();
    let exited = ContainerFacts { state: ContainerState::Exited, exit_code: Some(1), ..facts("a") };
    assert_eq!(roll.listed(vec![exited, facts("b")], roll.heard()), (true, vec![]));
    assert_eq!(state(&roll), ContainerState::Exited);
    assert_eq!(roll.ends()["a"], 1, "another life begins when it runs again");
    assert_eq!(roll.listed(vec![facts("b")], roll.heard()), (true, vec![]));
    assert_eq!(roll.containers().len(), 1);
    assert_eq!(roll.listed(vec![facts("b")], roll.heard()), (false, vec![]));
}

#[test]
fn a_restart_of_which_only_the_start_was_heard_is_another_life() {
    let mut roll = roll();
    hear(&mut roll, What::Started);
    assert_eq!(roll.ends()["a"], 1);
    let mut roll = self::roll();
    hear(&mut roll, What::Ended(Some(0)));
    hear(&mut roll, What::Started);
    assert_eq!(roll.ends()["a"], 1);
}

#[test]
fn a_start_that_the_list_told_first_is_not_counted_again() {
    let mut roll = roll();
    hear(&mut roll, What::Ended(Some(0)));
    assert_eq!(roll.listed(vec![facts("a")], roll.heard()), (true, vec![]));
    hear(&mut roll, What::Started);
    assert_eq!(roll.ends()["a"], 1);
    hear(&mut roll, What::Started);
    assert_eq!(roll.ends()["a"], 2, "the end in between was not heard of");
}

#[test]
fn a_restart_of_which_nothing_was_heard_is_another_life_as_soon_as_it_is_looked_at() {
    let began = |roll: &mut Roll, at: &str| {
        let found = Inspected { started: Some(at.to_owned()), ..look(facts("a"), None).expect("it is there") };
        roll.looked(&"a".into(), Some(found), roll.heard(), START)
    };
    let mut roll = roll();
    assert_eq!(roll.running(), (vec![], vec!["a".into()]));
    assert_eq!(began(&mut roll, "12:00:00.1"), NOTHING, "nothing to compare with");
    assert_eq!(roll.running(), (vec!["a".into()], vec![]));
    assert_eq!(began(&mut roll, "12:00:00.1"), NOTHING);
    assert_eq!(began(&mut roll, "12:00:07.5"), NEWS);
    assert_eq!(roll.ends()["a"], 1);
    // A look may be faster than the event that it knows of already.
    hear(&mut roll, What::Ended(Some(0)));
    assert_eq!(began(&mut roll, "12:00:08.8"), NEWS);
    hear(&mut roll, What::Started);
    assert_eq!(began(&mut roll, "12:00:08.8"), NOTHING);
    assert_eq!(roll.ends()["a"], 2);
    // One of which something was heard is not counted twice.
    hear(&mut roll, What::Ended(Some(0)));
    hear(&mut roll, What::Started);
    assert_eq!(began(&mut roll, "12:00:09.9"), NEWS);
    assert_eq!(roll.ends()["a"], 3);
}

#[test]
fn pause_health_and_networks_count_at_once() {
    let mut roll = roll();
    assert_eq!(hear(&mut roll, What::Paused), NEWS);
    assert_eq!(state(&roll), ContainerState::Paused);
    assert_eq!(hear(&mut roll, What::Unpaused), NEWS);
    assert_eq!(hear(&mut roll, What::Health(ContainerHealth::Unhealthy)), NEWS);
    assert!(!roll.containers()[0].takes_requests());
    assert_eq!(hear(&mut roll, What::Disconnected("bridge".to_owned())), Effect { is_news: true, look: true });
    assert!(roll.containers()[0].networks.is_empty());
    assert_eq!(hear(&mut roll, What::Gone), NEWS);
    assert_eq!(hear(&mut roll, What::Changed), LOOK, "somebody new");
}
