//! What follows an attempt that gave no answer, or not the one that is wanted: `retries`, `hedge`, deadlines.
//! It promises that nothing is executed twice that must not be, that another backend comes before the same, and that
//! retries never become a storm. Stale connections are `keepalive`'s; the decision itself has unit tests.

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::time::Instant;

use crate::support::{
    Act, Client, Ending, Load, Origin, PATIENCE, Portway, Received, Response, eventually, free_address,
    read_and_answer, response,
};

/// Some origins that count attempts together, and a proxy before them.
struct Fleet {
    origins: Vec<Origin>,
    portway: Portway,
}

impl Fleet {
    /// `script` learns which attempt of its request this is, from 0, whichever origin it came to.
    async fn start(
        n_origins: usize,
        top: &str,
        service: &str,
        script: impl Fn(usize, &Received) -> Vec<Act> + Send + Sync + 'static,
    ) -> Self {
        let (script, seen) = (Arc::new(script), Arc::new(Mutex::new(HashMap::<String, usize>::new())));
        let mut origins = Vec::new();
        for _ in 0..n_origins {
            let (script, seen) = (script.clone(), seen.clone());
            let origin = Origin::start(move |received| {
                let nth = {
                    let mut seen = seen.lock().expect("no test panics while it counts");
                    let n = seen.entry(received.target().to_owned()).or_default();
                    *n += 1;
                    *n - 1
                };
                script(nth, received)
            });
            origins.push(origin.await);
        }
        let addresses: Vec<_> = origins.iter().map(|origin| format!("\"{}\"", origin.address)).collect();
        let yaml = format!(
            "workers: 1\n{top}\nservices: {{ web: {{ ejection: false, backends: [{}], {service} }} }}\n",
            addresses.join(", ")
        );
        Self { origins, portway: Portway::start(&yaml).await }
    }

    async fn ask(&self, method: &str, target: &str, body: &str) -> Response {
        let mut client = self.portway.connect().await;
        client.send(request(method, target, body)).await;
        client.response_to(method).await
    }

    /// Every request for `target`, by origin.
    fn attempts(&self, target: &str) -> Vec<(usize, Received)> {
        let of = |(idx, origin): (usize, &Origin)| {
            origin.requests().into_iter().map(|received| (idx, received)).collect::<Vec<_>>()
        };
        let all = self.origins.iter().enumerate().flat_map(of);
        all.filter(|(_, received)| received.target() == target).collect()
    }

    fn n_requests(&self) -> usize {
        self.origins.iter().map(Origin::n_requests).sum()
    }

    async fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.portway.metrics().await.sum(name, labels)
    }

    /// The record of the request for `path`.
    async fn record(&self, path: &str) -> Value {
        let find = || self.portway.access_log().into_iter().find(|record| record["path"] == path);
        eventually(PATIENCE, "the record", || async { find().is_some() }).await;
        find().expect("just found")
    }

    async fn assert_idle(&self) {
        self.portway.wait_metric("portway_backend_in_flight", &[], 0.0).await;
        self.portway.wait_metric("portway_queue_length", &[], 0.0).await;
    }
}

fn request(method: &str, target: &str, body: &str) -> String {
    let length = if body.is_empty() { String::new() } else { format!("Content-Length: {}\r\n", body.len()) };
    format!("{method} {target} HTTP/1.1\r\nHost: a\r\n{length}\r\n{body}")
}

fn answer(status: u16, body: &str) -> Vec<Act> {
    vec![Act::ReadBody, Act::Send(response(status, &[], body))]
}

fn asks_to_wait(retry_after: &str) -> Vec<Act> {
    vec![Act::ReadBody, Act::Send(response(503, &[("Retry-After", retry_after)], "busy"))]
}

#[tokio::test]
async fn a_refused_connection_costs_no_request_of_any_method() {
    let origin = Origin::hello("hi").await;
    let portway = Portway::start(&format!(
        "services: {{ web: {{ ejection: false, backends: [\"{}\", \"{}\"] }} }}",
        origin.address,
        free_address()
    ))
    .await;
    for n in 0..24 {
        let method = ["GET", "POST", "PATCH"][n % 3];
        let mut client = portway.connect().await;
        client.send(request(method, "/", "data")).await;
        assert_eq!(client.response().await.status, 200, "{method} {n}");
    }
    assert_eq!(origin.n_requests(), 24);
    assert!(origin.requests().iter().all(|received| received.body.content == b"data"));
    assert!(portway.metrics().await.sum("portway_retries_total", &[("reason", "connect_refused")]) >= 1.0);
}

/// Nothing of it has gone down, so that it is as good as no answer: RFC 9110 §9.2.2 lets a GET be repeated.
#[tokio::test]
async fn an_answer_that_breaks_off_behind_its_head_is_no_answer_to_a_get() {
    let fleet = Fleet::start(2, "", "retries: { budget: 100% }", |nth, received| match (nth, received.target()) {
        (0, target) if target.starts_with("/get") => {
            let head = b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n".to_vec();
            vec![Act::ReadBody, Act::Send(head), Act::Close]
        }
        _ => read_and_answer(),
    })
    .await;
    for n in 0..100 {
        let mut client = fleet.portway.connect().await;
        client.send(request("GET", &format!("/get{n}"), "")).await;
        let head = client.head().await;
        // Where the head came alone it has gone down by the time that the end comes.
        assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    }
    assert!(fleet.n_requests() > 100, "it never came with its head: the test tests nothing");
}

#[tokio::test]
async fn a_reset_request_goes_to_another_backend_only_if_it_is_idempotent() {
    let fleet = Fleet::start(2, "", "", |nth, _| match nth {
        0 => vec![Act::ReadBody, Act::Reset],
        _ => read_and_answer(),
    })
    .await;
    for method in ["GET", "PUT", "DELETE"] {
        let target = format!("/{method}");
        assert_eq!(fleet.ask(method, &target, "data").await.status, 200, "{method}");
        let origins: Vec<_> = fleet.attempts(&target).iter().map(|(idx, _)| *idx).collect();
        assert!(origins == [0, 1] && fleet.attempts(&target).len() == 2, "{method}: {origins:?}");
    }
    for method in ["POST", "PATCH"] {
        let target = format!("/{method}");
        let answer = fleet.ask(method, &target, "data").await;
        let reason = answer.get("x-portway-reason").expect("our answer");
        // A pooled connection that breaks without a byte may have been closed before.
        assert!(answer.status == 502 && ["upstream_reset", "stale_connection"].contains(&reason), "{method}: {reason}");
        assert_eq!(fleet.attempts(&target).len(), 1, "{method}");
    }
    fleet.assert_idle().await;
}

#[tokio::test]
async fn attempts_go_round_before_one_comes_to_the_same_backend_again() {
    let fleet =
        Fleet::start(3, "", "retries: { attempts: 2, backoff: 0s }", |_, _| vec![Act::ReadBody, Act::Reset]).await;
    for n in 0..10 {
        let target = format!("/{n}");
        assert_eq!(fleet.ask("GET", &target, "").await.status, 502);
        let tried: BTreeSet<usize> = fleet.attempts(&target).iter().map(|(idx, _)| *idx).collect();
        assert_eq!((tried.len(), fleet.attempts(&target).len()), (3, 3), "request {n}");
    }
}

#[tokio::test]
async fn where_another_backend_is_required_the_same_is_not_asked_again() {
    let service = "retries: { when: [503, connection], other_backend: required }";
    let fleet = Fleet::start(1, "", service, |_, received| match received.target() {
        "/503" => answer(503, "busy"),
        _ => vec![Act::ReadBody, Act::Reset],
    })
    .await;
    assert_eq!(fleet.ask("GET", "/reset", "").await.status, 502);
    assert_eq!(fleet.ask("GET", "/503", "").await.text(), "busy");
    assert_eq!(fleet.n_requests(), 2);
}

#[tokio::test]
async fn a_status_is_retried_where_it_is_asked_for_and_the_last_answer_goes_down() {
    let service = "retries: { attempts: 2, when: [503], backoff: 1ms }";
    let fleet = Fleet::start(3, "", service, |nth, received| match received.target() {
        "/never" => answer(503, &format!("answer {nth}")),
        "/500" => answer(500, "sorry"),
        _ if nth < 2 => answer(503, "busy"),
        _ => read_and_answer(),
    })
    .await;
    assert_eq!(fleet.ask("GET", "/third", "").await.text(), "ok");
    let last = fleet.ask("GET", "/never", "").await;
    assert_eq!((last.status, last.text().as_str()), (503, "answer 2"));
    assert!(last.get("x-portway-reason").is_none(), "it is the backend's own answer");
    for (method, target, status) in [("POST", "/post", 503), ("GET", "/500", 500)] {
        assert_eq!(fleet.ask(method, target, "").await.status, status, "{method} {target}");
        assert_eq!(fleet.attempts(target).len(), 1, "{method} {target}");
    }
    assert_eq!(fleet.metric("portway_retries_total", &[("reason", "status")]).await, 4.0);
    fleet.assert_idle().await;
}

/// An answer that nobody gets leaves its connection to the next request, if it is here whole.
#[tokio::test]
async fn the_connection_of_a_retried_answer_is_used_again() {
    let fleet = Fleet::start(1, "", "retries: { when: [503], backoff: 1ms }, keepalive: { idle: 10s }", |nth, _| {
        if nth == 0 { answer(503, "busy") } else { read_and_answer() }
    })
    .await;
    for n in 0..5 {
        assert_eq!(fleet.ask("GET", &format!("/{n}"), "").await.status, 200);
    }
    let [origin] = &fleet.origins[..] else { unreachable!() };
    // The first attempt and the retry of the first request opened one each; the other first attempts opened none.
    let first_of_the_last = &fleet.attempts("/4")[0].1;
    assert!(first_of_the_last.nth > 0, "{first_of_the_last:?}");
    assert!(origin.n_accepted() <= 6, "{}", origin.n_accepted());
}

/// Linkerd's replay rule: a response that comes before the request body was read is not retried.
#[tokio::test]
async fn trap_an_answer_that_comes_before_the_body_was_read_is_not_retried() {
    let service = "retries: { when: [503] }, buffer: { request: 1KiB }";
    let fleet = Fleet::start(2, "", service, |_, _| vec![Act::Send(response(503, &[], "too early")), Act::Hang]).await;
    let mut client = fleet.portway.connect().await;
    client.send("PUT /x HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n").await;
    client.send("y".repeat(50_000)).await;
    let answer = client.response_to("PUT").await;
    assert_eq!((answer.status, answer.text().as_str()), (503, "too early"));
    assert_eq!(fleet.n_requests(), 1);
    drop(client);
    fleet.assert_idle().await;
}

#[tokio::test]
async fn a_replayed_body_is_the_same_byte_for_byte() {
    let fleet = Fleet::start(2, "", "retries: { when: [connection, 503] }", |nth, received| match nth {
        0 if received.target() == "/503" => answer(503, "busy"),
        0 => vec![Act::ReadBody, Act::Reset],
        _ => read_and_answer(),
    })
    .await;
    let body: String = std::iter::repeat_with(fastrand::alphanumeric).take(300_000).collect();
    for target in ["/reset", "/503"] {
        assert_eq!(fleet.ask("PUT", target, &body).await.status, 200);
        let mut client = fleet.portway.connect().await;
        let chunked = format!(
            "PUT {target}/chunked HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTrailer: x-t\r\n\r\n\
             493e0\r\n{body}\r\n0\r\nx-t: 1\r\n\r\n"
        );
        client.send(chunked).await;
        assert_eq!(client.response_to("PUT").await.status, 200);
        for target in [target.to_owned(), format!("{target}/chunked")] {
            let attempts = fleet.attempts(&target);
            assert_eq!(attempts.len(), 2, "{target}");
            assert!(attempts.iter().all(|(_, received)| received.body.content == body.as_bytes()), "{target}");
        }
    }
    let last = &fleet.attempts("/503/chunked")[1].1;
    assert_eq!(last.body.trailers, [("x-t".to_owned(), "1".to_owned())]);
}

#[tokio::test]
async fn retry_after_is_waited_for_at_the_same_backend_and_not_at_another() {
    let script = |nth, _: &Received| if nth == 0 { asks_to_wait("1") } else { read_and_answer() };
    let service = "retries: { when: [503] }, timeout: 5s";
    let (alone, two) = tokio::join!(Fleet::start(1, "", service, script), Fleet::start(2, "", service, script));
    let began_at = Instant::now();
    assert_eq!(two.ask("GET", "/", "").await.status, 200);
    assert!(began_at.elapsed() < Duration::from_millis(900), "{:?}", began_at.elapsed());
    let began_at = Instant::now();
    assert_eq!(alone.ask("GET", "/", "").await.status, 200);
    assert!(began_at.elapsed() >= Duration::from_secs(1), "{:?}", began_at.elapsed());

    let hurried = Fleet::start(1, "", "retries: { when: [503] }, timeout: 800ms", script).await;
    let answer = hurried.ask("GET", "/", "").await;
    assert_eq!((answer.status, answer.text().as_str()), (503, "busy"), "no time for the pause: the answer goes down");
}

#[tokio::test]
async fn a_budget_keeps_retries_from_becoming_a_storm() {
    let service = "retries: { attempts: 3, when: [503], backoff: 0s, budget: { ratio: 20%, per_second: 0 } }";
    let fleet = Fleet::start(2, "", service, |_, _| answer(503, "busy")).await;
    for n in 0..200 {
        let answer = fleet.ask("GET", &format!("/{n}"), "").await;
        assert_eq!((answer.status, answer.text().as_str()), (503, "busy"));
    }
    let n = fleet.n_requests();
    assert!((220..=240).contains(&n), "{n} attempts for 200 requests");
    let hits = fleet.metric("portway_limit_hits_total", &[("limit", "retry_budget")]).await;
    assert!(hits >= 150.0, "{hits}");
    let exhausted = || fleet.portway.access_log().iter().filter(|r| r["reason"] == "retry_budget_exhausted").count();
    eventually(PATIENCE, "the records", || async { exhausted() as f64 == hits }).await;
}

/// What ends the attempts is in the reason, what the last one met is in the status.
#[tokio::test]
async fn a_spent_budget_keeps_the_status_of_the_last_attempt() {
    let portway = Portway::start(&format!(
        "services: {{ web: {{ ejection: false, backends: [\"{}\"], retries: {{ budget: {{ ratio: 0%, per_second: 0 }} }} }} }}",
        free_address()
    ))
    .await;
    let answer = portway.get("/").await;
    assert_eq!((answer.status, answer.get("x-portway-reason")), (502, Some("retry_budget_exhausted")));
}

/// The time that is left for `target`, as its attempts were told.
fn told_ms(fleet: &Fleet, target: &str) -> Vec<Option<u64>> {
    let told = |received: &Received| received.head.get("x-portway-timeout-ms").map(|ms| ms.parse().expect("a number"));
    fleet.attempts(target).iter().map(|(_, received)| told(received)).collect()
}

async fn ask_with_timeout(fleet: &Fleet, target: &str, timeout_ms: &str) -> Response {
    let mut client = fleet.portway.connect().await;
    client.send(format!("GET {target} HTTP/1.1\r\nHost: a\r\nX-Portway-Timeout-Ms: {timeout_ms}\r\n\r\n")).await;
    client.response().await
}

#[tokio::test]
async fn the_deadline_is_handed_on_where_somebody_has_chosen_one() {
    let nobody = Fleet::start(1, "", "timeout: 60s", |_, _| read_and_answer()).await;
    nobody.ask("GET", "/", "").await;
    assert_eq!(told_ms(&nobody, "/"), [None], "the default is nobody's choice");

    let service = "timeout: 2s, timeouts: { response: 300ms }, retries: { when: [timeout] }";
    let fleet = Fleet::start(2, "", service, |nth, _| match nth {
        0 => vec![Act::ReadBody, Act::Hang],
        _ => read_and_answer(),
    })
    .await;
    assert_eq!(fleet.ask("GET", "/", "").await.status, 200);
    let mut told: Vec<u64> = told_ms(&fleet, "/").into_iter().map(|ms| ms.expect("both are told")).collect();
    told.sort_unstable();
    assert!((1_000..=1_700).contains(&told[0]) && (1_701..=2_000).contains(&told[1]), "{told:?}");
    // A stranger's word is not passed on.
    ask_with_timeout(&fleet, "/stranger", "5").await;
    assert!(told_ms(&fleet, "/stranger").iter().all(|ms| *ms > Some(1_000)), "{:?}", told_ms(&fleet, "/stranger"));
}

#[tokio::test]
async fn a_trusted_peers_deadline_holds_and_expired_work_touches_no_backend() {
    let script = |_, received: &Received| match received.target() {
        "/hang" => vec![Act::ReadBody, Act::Hang],
        _ => read_and_answer(),
    };
    let fleet = Fleet::start(1, "trusted_proxies: 127.0.0.1", "timeout: 3s", script).await;
    assert_eq!(ask_with_timeout(&fleet, "/ok", "700").await.status, 200);
    assert_eq!(ask_with_timeout(&fleet, "/longer", "90000").await.status, 200);
    assert!(told_ms(&fleet, "/ok")[0].is_some_and(|ms| (300..=700).contains(&ms)), "{:?}", told_ms(&fleet, "/ok"));
    assert!(told_ms(&fleet, "/longer")[0].is_some_and(|ms| ms <= 3_000), "{:?}", told_ms(&fleet, "/longer"));

    let began_at = Instant::now();
    let late = ask_with_timeout(&fleet, "/hang", "300").await;
    assert_eq!((late.status, late.get("x-portway-reason")), (504, Some("deadline")));
    assert!(began_at.elapsed() < Duration::from_secs(2), "{:?}", began_at.elapsed());

    let expired = ask_with_timeout(&fleet, "/expired", "0").await;
    assert_eq!((expired.status, expired.get("x-portway-reason")), (504, Some("deadline")));
    assert_eq!(fleet.attempts("/expired").len(), 0);
    assert_eq!(fleet.metric("portway_limit_hits_total", &[("limit", "deadline")]).await, 1.0);
}

#[tokio::test]
async fn a_hedge_answers_for_a_slow_backend() {
    let fleet = Fleet::start(2, "", "hedge: 60ms", |nth, received| match (nth, received.method()) {
        (0, _) => vec![Act::ReadBody, Act::Hang],
        _ => read_and_answer(),
    })
    .await;
    let began_at = Instant::now();
    assert_eq!(fleet.ask("GET", "/slow", "").await.status, 200);
    assert!(began_at.elapsed() >= Duration::from_millis(60) && began_at.elapsed() < Duration::from_secs(5));
    let origins: BTreeSet<usize> = fleet.attempts("/slow").iter().map(|(idx, _)| *idx).collect();
    assert_eq!(origins, BTreeSet::from([0, 1]));
    let record = fleet.record("/slow").await;
    assert_eq!(record["attempts"], 2, "{record}");
    let list = record["attempt_list"].as_array().expect("more than one is listed");
    assert_eq!((&list[0]["outcome"], &list[1]["because"]), (&"superseded".into(), &"hedge".into()), "{record}");
    assert_eq!(fleet.metric("portway_hedges_total", &[]).await, 1.0);
    assert_eq!(fleet.metric("portway_hedges_won_total", &[]).await, 1.0);
    assert_eq!(fleet.metric("portway_backend_requests_total", &[("outcome", "superseded")]).await, 1.0);
    fleet.assert_idle().await;
    // The loser's connection ends with it; the winner's may rest.
    let open = || fleet.origins.iter().map(Origin::n_open).sum::<usize>();
    eventually(PATIENCE, "the loser's connection to end", || async { open() <= 1 }).await;
}

#[tokio::test]
async fn a_hedge_is_for_what_may_be_sent_twice_and_within_the_budget() {
    let slow = || vec![Act::ReadBody, Act::Pause(Duration::from_millis(200)), Act::Send(response(200, &[], "ok"))];
    let service = "hedge: 20ms, retries: { budget: { ratio: 0%, per_second: 1 } }";
    let fleet = Fleet::start(2, "", service, move |_, _| slow()).await;
    assert_eq!(fleet.ask("POST", "/post", "data").await.status, 200);
    assert_eq!(fleet.attempts("/post").len(), 1);
    for n in 0..12 {
        assert_eq!(fleet.ask("GET", &format!("/{n}"), "").await.status, 200);
    }
    assert!(fleet.metric("portway_hedges_total", &[]).await <= 11.0, "ten in ten seconds");
    assert_eq!(fleet.attempts("/0").len(), 2, "the first was hedged");
    assert_eq!(fleet.attempts("/9").len() + fleet.attempts("/11").len(), 3, "and the last was not");
    fleet.assert_idle().await;
}

/// A bad answer does not win against one that may still be good.
#[tokio::test]
async fn the_first_good_answer_wins_and_not_the_first() {
    let fleet = Fleet::start(2, "", "hedge: 30ms", |nth, _| match nth {
        0 => vec![Act::ReadBody, Act::Pause(Duration::from_millis(400)), Act::Send(response(200, &[], "slow"))],
        _ => answer(500, "quick"),
    })
    .await;
    let answer = fleet.ask("GET", "/", "").await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "slow"));
    assert_eq!(fleet.metric("portway_hedges_won_total", &[]).await, 0.0);
    fleet.assert_idle().await;
}

#[tokio::test]
async fn the_log_lists_attempts_with_what_was_passed_by() {
    let fleet = Fleet::start(2, "access_log: { attempts: all }", "", |nth, received| match received.target() {
        "/twice" if nth == 0 => vec![Act::ReadBody, Act::Reset],
        _ => read_and_answer(),
    })
    .await;
    fleet.ask("GET", "/twice", "").await;
    fleet.ask("GET", "/once", "").await;
    let once = fleet.record("/once").await;
    assert_eq!(once["attempt_list"].as_array().map(Vec::len), Some(1), "{once}");
    assert_eq!(once["attempt_list"][0]["outcome"], "success");

    let twice = fleet.record("/twice").await;
    let list = twice["attempt_list"].as_array().expect("a list").clone();
    assert_eq!((list.len(), &twice["attempts"]), (2, &2.into()), "{twice}");
    assert_eq!(list[0]["outcome"], "upstream_reset");
    assert_eq!((&list[1]["because"], &list[1]["status"]), (&"upstream_reset".into(), &200.into()), "{twice}");
    let skipped = serde_json::json!([{ "backend": list[0]["backend"], "why": "tried" }]);
    assert_eq!(list[1]["skipped"], skipped, "{twice}");
    assert_ne!(list[0]["backend"], list[1]["backend"]);
}

/// A backend on its way out has not looked at the request: even a POST goes on.
#[tokio::test]
async fn what_a_leaving_backend_refuses_goes_to_another_whatever_its_method() {
    let leaving = response(503, &[("X-Portway-Drain", "1"), ("Connection", "close")], "bye");
    let fleet = Fleet::start(2, "", "", move |nth, _| match nth {
        0 => vec![Act::ReadBody, Act::Send(leaving.clone()), Act::Close],
        _ => read_and_answer(),
    })
    .await;
    assert_eq!(fleet.ask("POST", "/post", "data").await.text(), "ok");
    let attempts = fleet.attempts("/post");
    assert_eq!(attempts.len(), 2);
    assert!(attempts.iter().all(|(_, received)| received.body.content == b"data"));
    assert_eq!(fleet.metric("portway_retries_total", &[("reason", "leaving")]).await, 1.0);
    fleet.assert_idle().await;
}

/// The trap of a budget that forgets: what was set aside for a client that went away is there for the next one.
#[tokio::test]
async fn a_client_that_goes_away_in_back_off_gives_its_share_of_the_budget_back() {
    let service = "retries: { when: [503], budget: { ratio: 0%, per_second: 1 } }";
    let fleet = Fleet::start(1, "", service, |_, _| asks_to_wait("20")).await;
    let mut waiting: Vec<Client> = Vec::new();
    for n in 0..10 {
        let mut client = fleet.portway.connect().await;
        client.send(request("GET", &format!("/{n}"), "")).await;
        eventually(PATIENCE, "the first attempt", || async { fleet.n_requests() == n + 1 }).await;
        waiting.push(client);
    }
    assert_eq!(fleet.ask("GET", "/beyond", "").await.status, 503, "the budget is set aside for those that wait");
    assert_eq!(fleet.metric("portway_limit_hits_total", &[("limit", "retry_budget")]).await, 1.0);
    fleet.assert_idle().await; // who backs off holds no place
    waiting.into_iter().for_each(Client::reset);
    let gone = || fleet.portway.access_log().iter().filter(|record| record["status"] == 499).count();
    eventually(PATIENCE, "ten records of clients that went away", || async { gone() == 10 }).await;

    let mut again = fleet.portway.connect().await;
    again.send(request("GET", "/again", "")).await;
    let (raw, ending) = again.until_close(Duration::from_millis(500)).await;
    assert_eq!((raw.len(), ending), (0, Ending::StillOpen), "it waits: there is a share for it");
}

#[tokio::test]
async fn a_client_that_goes_away_while_two_attempts_race_ends_both() {
    let fleet = Fleet::start(2, "", "hedge: 20ms", |_, _| vec![Act::ReadBody, Act::Hang]).await;
    let mut client = fleet.portway.connect().await;
    client.send(request("GET", "/", "")).await;
    eventually(PATIENCE, "both attempts", || async { fleet.n_requests() == 2 }).await;
    client.reset();
    fleet.assert_idle().await;
    let open = || fleet.origins.iter().map(Origin::n_open).sum::<usize>();
    eventually(PATIENCE, "both connections to end", || async { open() == 0 }).await;
    assert_eq!(fleet.record("/").await["status"], 499);
}

/// Without `retries` in the file, an ordinary load with one backend gone loses nothing.
#[tokio::test]
async fn a_load_does_not_notice_that_one_of_three_is_gone() {
    let [one, two] = [Origin::hello("hi").await, Origin::hello("hi").await];
    let portway = Portway::start(&format!(
        "services: {{ web: {{ backends: [\"{}\", \"{}\", \"{}\"] }} }}",
        one.address,
        two.address,
        free_address()
    ))
    .await;
    Load { requests: 2_000, connections: 16, ..Load::get(portway.address, "/") }.run().await.assert_all_ok(2_000);
}
