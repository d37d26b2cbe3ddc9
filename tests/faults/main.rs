//! The fault suite, in its short form: a real process, real sockets, a fault, and books of every request.
//! It promises that each scenario takes seconds and asserts counts alone: nothing lost, duplicate, corrupt, crossed,
//! misrouted or stuck. The full form, with figures and with peers, is `cargo bench --bench faults`; see the README here.

#[path = "../it/support/mod.rs"]
mod support;

mod scenarios;
mod stage;

use stage::front::Player;
use stage::scenario::{Form, Scenario, play};

/// Not a test: what `stage::backend` starts when it needs a backend process.
#[test]
#[ignore = "a backend process of the scenarios, no test"]
fn backend_process() {
    stage::backend::run_if_told();
}

/// `PORTWAY_FAULTS_SEED` repeats a run's choices, though not its timing.
async fn holds(name: &str) {
    support::raise_files_limit();
    let seed = std::env::var("PORTWAY_FAULTS_SEED").ok().and_then(|seed| seed.parse().ok());
    let outcome = play(named(name), &Player::portway(), Form::Short, seed.unwrap_or_else(|| fastrand::u64(..))).await;
    assert!(outcome.is_kept(), "{outcome}");
    println!("{outcome}");
}

/// The one with that name, or a failure: a test that plays nothing is worse than none.
fn named(name: &str) -> &'static Scenario {
    let known = || scenarios::all().map(|scenario| scenario.name).collect::<Vec<_>>().join(", ");
    let found = scenarios::all().find(|scenario| scenario.name == name);
    found.unwrap_or_else(|| panic!("no scenario {name:?}; there are {}", known()))
}

/// A scenario that no test plays is a gap that nobody would see.
#[test]
fn every_scenario_is_played_here() {
    let text = include_str!("main.rs");
    for scenario in scenarios::all() {
        assert!(text.contains(&format!("holds(\"{}\")", scenario.name)), "no test plays {}", scenario.name);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s01_clients_that_vanish_disturb_nobody_and_leave_nothing_behind() {
    holds("vanish").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s02_slow_clients_end_by_their_timeouts_and_slow_nobody_down() {
    holds("slow-clients").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s04_smuggled_requests_reach_no_backend_while_others_are_served() {
    holds("smuggling").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s05_a_storm_of_connections_is_served_up_to_the_limit_and_refused_fast_above() {
    holds("storm").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s06_a_rolling_kill_loses_no_get_and_repeats_no_post() {
    holds("rolling-kill").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s07_a_backend_that_dies_in_mid_response_corrupts_and_repeats_nothing() {
    holds("mid-response").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s08_a_connection_that_is_closed_when_it_is_used_loses_nothing() {
    holds("idle-race").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s09_a_slow_replica_gets_little() {
    holds("slow-replica").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s09_a_replica_that_fails_fast_gets_little() {
    holds("fast-failing").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s10_a_black_hole_fails_no_get() {
    holds("black-hole").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s11_when_all_backends_stop_every_request_has_its_answer_in_time() {
    holds("stopped").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s12_a_backend_that_lies_harms_nobody_else() {
    holds("lies").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s13_after_a_stall_the_system_returns_by_itself() {
    holds("metastable").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s15_checks_that_lie_cost_next_to_nothing() {
    holds("false-checks").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s16_reloads_lose_nothing_and_take_hold_when_they_are_acknowledged() {
    holds("reloads").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s17_the_last_whole_valid_save_is_the_configuration() {
    holds("editor-saves").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s18_a_swapped_config_map_is_the_configuration() {
    holds("config-map").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s19_half_a_file_is_never_the_configuration() {
    holds("partial-writes").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s20_a_bad_file_changes_nothing() {
    holds("bad-files").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s21_a_change_that_no_event_tells_is_found() {
    holds("lost-events").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s24_without_descriptors_open_connections_are_served_and_nothing_spins() {
    holds("descriptors").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s26_signals_lose_nothing() {
    holds("signals").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s50_cancelled_requests_leave_every_gauge_at_zero() {
    holds("cancelled").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n04_backends_that_leave_in_order_lose_nothing() {
    holds("leaving").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n04_backends_that_are_taken_out_lose_nothing() {
    holds("removed").await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn n09_three_times_the_capacity_costs_little_of_it() {
    holds("overload").await;
}
