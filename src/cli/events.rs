//! `portway events`: what happened lately on a running instance, decisions of the autoscaler with their inputs among it.
//! Promises each event once, in order. It says nothing that the instance did not say.

use std::io::{self, Write as _};
use std::process::ExitCode;
use std::time::Duration;

use super::status::{self, escaped};
use super::{EventsArgs, admin_client};
use crate::config::checked::Admin;
use crate::telemetry::events::Event;

/// Between two looks with `--follow`.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Runs the command.
pub(super) fn run(args: &EventsArgs) -> ExitCode {
    status::finish(args.instance.admin().and_then(|admin| {
        if args.follow {
            return follow(&admin, args);
        }
        let events = wanted(fetch(&admin)?, args.service.as_deref());
        Ok(match args.json {
            true => format!("{}\n", serde_json::to_string(&events).expect("events have text keys")),
            false => events.iter().map(line).collect(),
        })
    }))
}

/// The events that the instance keeps, oldest first.
pub(super) fn fetch(admin: &Admin) -> Result<Vec<Event>, String> {
    let answer = admin_client::get(admin, "/api/v1/events").map_err(|error| error.to_string())?;
    let body = status::accepted(admin, answer)?;
    serde_json::from_slice(&body).map_err(|error| format!("the events cannot be read: {error}"))
}

fn wanted(events: Vec<Event>, service: Option<&str>) -> Vec<Event> {
    let Some(service) = service else { return events };
    let is_its = |event: &Event| event.fields.iter().any(|(name, value)| name == "service" && value == service);
    events.into_iter().filter(is_its).collect()
}

/// Prints what is new until nobody reads or nobody answers any more.
fn follow(admin: &Admin, args: &EventsArgs) -> Result<String, String> {
    let mut last_seq = 0;
    loop {
        for event in wanted(newer(fetch(admin)?, &mut last_seq), args.service.as_deref()) {
            let text = match args.json {
                true => format!("{}\n", serde_json::to_string(&event).expect("events have text keys")),
                false => line(&event),
            };
            if io::stdout().write_all(text.as_bytes()).is_err() {
                return Ok(String::new()); // whoever read has seen enough
            }
        }
        std::thread::sleep(LOOK_EVERY);
    }
}

/// Those after `last_seq`, which moves on. An instance that was started again counts from 1.
fn newer(mut events: Vec<Event>, last_seq: &mut u64) -> Vec<Event> {
    let newest = events.last().map_or(0, |event| event.seq);
    if newest >= *last_seq {
        events.retain(|event| event.seq > *last_seq);
    }
    *last_seq = newest;
    events
}

/// `2026-11-23T12:00:01Z  scaling up  service=thumbs from=0 to=1 because="1 request held"`.
fn line(event: &Event) -> String {
    let seconds = event.ts.split_once('.').map_or_else(|| event.ts.clone(), |(seconds, _)| format!("{seconds}Z"));
    format!("{seconds}  {}\n", sentence(event))
}

/// The same without the time.
pub(super) fn sentence(event: &Event) -> String {
    let quoted = |value: &str| match value.contains([' ', '"', '=']) {
        true => format!("{value:?}"),
        false => value.to_owned(),
    };
    let fields: Vec<String> = event.fields.iter().map(|(name, value)| format!("{name}={}", quoted(value))).collect();
    let text = format!("{}  {}", event.message, fields.join(" "));
    escaped(text.trim_end())
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::cli::admin_client::tests::answering;

    pub(in crate::cli) fn sample_event(seq: u64, service: &str) -> Event {
        let fields = [("service", service), ("from", "0"), ("to", "1"), ("because", "1 request held")];
        Event {
            seq,
            ts: format!("2026-11-23T12:00:0{seq}.500Z"),
            kind: "scaling".to_owned(),
            message: "scaling up".to_owned(),
            fields: fields.map(|(name, value)| (name.to_owned(), value.to_owned())).into(),
        }
    }

    #[test]
    fn an_event_is_a_line_with_its_inputs() {
        let expected = "2026-11-23T12:00:01Z  scaling up  service=thumbs from=0 to=1 because=\"1 request held\"\n";
        assert_eq!(line(&sample_event(1, "thumbs")), expected);
        let hostile = Event { message: "a\u{1b}[2Jb\nc".to_owned(), fields: vec![], ..sample_event(1, "x") };
        assert_eq!(sentence(&hostile), "a\\u{1b}[2Jb\\nc");
    }

    #[test]
    fn events_of_one_service_can_be_asked_for() {
        let events = vec![sample_event(1, "shop"), sample_event(2, "thumbs")];
        let body = serde_json::to_string(&events).unwrap();
        let fetched = fetch(&answering(format!("HTTP/1.0 200 OK\r\n\r\n{body}"))).unwrap();
        assert_eq!(fetched, events);
        assert_eq!(wanted(fetched.clone(), Some("thumbs")), events[1..]);
        assert_eq!(wanted(fetched, None), events);
    }

    #[test]
    fn each_event_is_followed_once_and_a_restart_begins_anew() {
        let mut last_seq = 0;
        let kept = |seqs: std::ops::Range<u64>| seqs.map(|seq| sample_event(seq, "shop")).collect::<Vec<_>>();
        let mut seqs = |events| newer(events, &mut last_seq).iter().map(|event| event.seq).collect::<Vec<_>>();
        assert_eq!(seqs(kept(1..4)), [1, 2, 3]);
        assert_eq!(seqs(kept(1..4)), [0; 0]);
        assert_eq!(seqs(kept(2..6)), [4, 5]);
        assert_eq!(seqs(kept(1..2)), [1], "another process");
    }
}
