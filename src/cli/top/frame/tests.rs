//! What is drawn, as text, from statuses made by hand.
//! Promises no terminal.

#![cfg(test)]

use super::*;
use crate::admin::tests::{sample_cold, sample_scaled, sample_status};
use crate::admin::{ProcessState, RefusedConfig, ReplicaFailure};
use crate::cli::events::tests::sample_event;
use crate::config::render::Color;

fn view() -> View {
    let mut status = sample_status(ProcessState::Ready);
    let mut cold = sample_cold();
    cold.name = "resize".to_owned();
    status.services.extend([sample_scaled(), cold]);
    let events = vec![sample_event(1, "resize"), sample_event(2, "thumbs")];
    let selected = Some("thumbs".to_owned());
    View { address: "127.0.0.1:9900".to_owned(), status, events, selected, problem: None }
}

fn text(view: &View, size: Size) -> String {
    view.lines(size.rows).iter().map(|line| line.paint(size.columns, Color::Never) + "\n").collect()
}

const LARGE: Size = Size { columns: 200, rows: 60 };

#[test]
fn a_frame_shows_totals_services_containers_and_events() {
    let expected = "\
portway 0.1.0   ready   up 3 d 4 h   generation 42   2 workers   127.0.0.1:9900
1.2 k req/s   p50 4 ms   p99 31 ms   errors 0.02 %   32 in flight   2 queued   0 held   318 connections

  SERVICE  BACKENDS                         REQ/S  P50   P99    IN FLIGHT  QUEUE  ERRORS  HELD  REPLICAS
  shop     2/2 ready                        812    3 ms  22 ms  9          0      0 %     0     –
  orders   0/2 ready, 1 full, 1 unresolved  0      –     –      14         2      0 %     0     –
> thumbs   1/1 ready, 1 starting            812    3 ms  22 ms  9          0      0 %     0     1→2 (0–10)
  resize   cold                             0      –     –      0          0      0 %     0     0 (0–10), idle 2 h

thumbs   container: image acme/thumbs:1.4   /thumbs
  scaled 12 s ago from 1 to 2: 14.2 in flight on average, 6 wanted
  CONTAINER  BACKEND         STATE  IN FLIGHT  REQUESTS  ERRORS  P50   P99
  thumbs-1   10.0.0.11:5000  ready  4          1.0 k     2       3 ms  22 ms

  EVENTS (UTC)
  12:00:02  scaling up  service=thumbs from=0 to=1 because=\"1 request held\"
  12:00:01  scaling up  service=resize from=0 to=1 because=\"1 request held\"
";
    assert_eq!(text(&view(), LARGE), expected);
}

#[test]
fn a_frame_never_has_more_lines_or_columns_than_the_terminal() {
    let mut view = view();
    let one = view.status.services[0].clone();
    view.status.services.extend((0..100).map(|n| ServiceStatus { name: format!("s{n}"), ..one.clone() }));
    let backend = view.status.services[2].backends[0].clone();
    view.status.services[2].backends.extend(vec![backend; 50]);
    view.events.extend((0..100).map(|_| sample_event(3, "shop")));
    for rows in 0..80 {
        for columns in [0, 1, 20, 80, 300] {
            let lines = view.lines(rows);
            assert!(lines.len() <= rows, "{} lines of {rows}", lines.len());
            assert!(lines.iter().all(|line| line.paint(columns, Color::Never).chars().count() <= columns));
        }
    }
    let shown = text(&view, Size { columns: 120, rows: 24 });
    for part in ["portway ", "SERVICE", "> thumbs", "CONTAINER", "… and ", "EVENTS", "scaling up"] {
        assert!(shown.contains(part), "no {part:?} in\n{shown}");
    }
    assert_eq!(shown.lines().count(), 24, "all room is used:\n{shown}");
}

#[test]
fn the_chosen_service_stays_in_sight_and_within_the_list() {
    let mut view = view();
    let one = view.status.services[0].clone();
    view.status.services.extend((0..100).map(|n| ServiceStatus { name: format!("s{n}"), ..one.clone() }));
    for step in [1, 40, -3, 1_000, -1, -2_000, isize::MAX, isize::MIN] {
        view.choose(step);
        let chosen = view.selected.clone().unwrap();
        let shown = text(&view, Size { columns: 120, rows: 20 });
        assert!(shown.contains(&format!("> {chosen} ")), "no {chosen} in\n{shown}");
    }
    assert_eq!(view.selected.as_deref(), Some("shop"));
    view.status.services.clear();
    view.choose(1);
    assert_eq!(view.selected, None);
    assert!(text(&view, LARGE).contains("SERVICE"));
}

#[test]
fn a_service_that_went_is_not_shown_any_more() {
    let mut view = view();
    view.selected = Some("gone".to_owned());
    assert!(!text(&view, LARGE).contains('>'));
    view.choose(0);
    assert_eq!(view.selected.as_deref(), Some("shop"));
}

#[test]
fn what_is_wrong_stands_above_the_services() {
    let mut view = view();
    let error = "portway.yaml:9:5: unknown key `helth`".to_owned();
    view.status.refused_config = Some(RefusedConfig { age_s: 3, error });
    assert!(text(&view, LARGE).contains("\nconfig rejected, keeping generation 42: portway.yaml:9:5: unknown key"));
    view.problem = Some("nothing answers at 127.0.0.1:9900".to_owned());
    assert!(text(&view, LARGE).contains("\nnothing answers at 127.0.0.1:9900\n"));
}

#[test]
fn replicas_that_do_not_start_show_the_last_words_and_nothing_that_a_terminal_obeys() {
    let mut view = view();
    let words = "exit code 1\n\u{1b}]0;owned\u{7}boom\n3\n4\n5\n6".to_owned();
    let replicas = view.status.services[2].replicas.as_mut().unwrap();
    replicas.failure = Some(ReplicaFailure { age_s: 5, times: 2, words });
    view.status.services[2].backends[0].container.as_mut().unwrap().name = "a\u{1b}[2Jb".to_owned();
    let shown = text(&view, LARGE);
    assert!(
        shown.contains("\n  thumbs: 2 starts in a row have failed, the last 5 s ago:\n    exit code 1\n"),
        "{shown}"
    );
    assert!(shown.contains("1→2 (0–10), failing"), "{shown}");
    assert!(!shown.contains('\u{1b}') && !shown.contains('\u{7}') && !shown.contains("\n    5\n"), "{shown:?}");
}

#[test]
fn colour_says_what_the_words_say() {
    let lines = view().lines(LARGE.rows);
    let painted: Vec<String> = lines.iter().map(|line| line.paint(200, Color::Always)).collect();
    assert!(painted[0].contains("\x1b[32mready\x1b[0m"), "{:?}", painted[0]);
    assert!(painted[4].contains("\x1b[32m2/2 ready"), "{:?}", painted[4]);
    assert!(painted[5].contains("\x1b[31m0/2 ready"), "{:?}", painted[5]);
    assert!(painted[6].starts_with("\x1b[7m> thumbs"), "{:?}", painted[6]);
}
