//! Invariants of the crate that need a running process to be seen. The crate docs name the test of each.
//! What a reader of the source can see is held in `architecture`.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::support::{Act, Load, Origin, Portway, eventually, free_address, response};

/// Three kinds of ends in one crowd: an answer of a backend, no route, a backend that is not there.
#[tokio::test]
async fn every_request_leaves_one_record_and_every_attempt_one_outcome() {
    const EACH: usize = 200;
    let origin = Origin::hello("hi").await;
    let portway = Portway::start(&format!(
        "services:\n  web: {{ route: /web, backends: [\"{}\"] }}\n  gone: {{ route: /gone, backends: [\"{}\"] }}\n",
        origin.address,
        free_address()
    ))
    .await;
    for path in ["/web", "/nowhere", "/gone"] {
        let load = Load { requests: EACH, connections: 8, ..Load::get(portway.address, path) };
        assert!(load.run().await.failures.is_empty());
    }
    eventually(Duration::from_secs(5), "all records", || async { portway.access_log().len() >= 3 * EACH }).await;

    let mut by_end: BTreeMap<String, usize> = BTreeMap::new();
    let mut ids: Vec<String> = Vec::new();
    let mut attempts = 0;
    for record in portway.access_log() {
        attempts += record["attempts"].as_u64().expect("a number");
        assert_ne!(record["attempt_list"].as_array().map(Vec::len), Some(1), "a list of more than one: {record}");
        // Nobody is there to try again, as long as the budget for that lasts.
        let end =
            format!("{} {}", record["status"], record["reason"]).replace("retry_budget_exhausted", "connect_refused");
        *by_end.entry(end).or_default() += 1;
        ids.push(record["request_id"].to_string());
    }
    let expected = [("200 null", EACH), ("404 \"no_route\"", EACH), ("502 \"connect_refused\"", EACH)];
    assert_eq!(by_end, expected.map(|(end, n)| (end.to_owned(), n)).into());
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 3 * EACH, "every request has an id of its own");

    let metrics = portway.metrics().await;
    let n = EACH as f64;
    assert_eq!(metrics.sum("portway_requests_total", &[]), 3.0 * n);
    assert_eq!(metrics.sum("portway_local_replies_total", &[("reason", "no_route")]), n);
    assert_eq!(metrics.sum("portway_backend_requests_total", &[("service", "web"), ("outcome", "success")]), n);
    assert_eq!(metrics.sum("portway_backend_requests_total", &[("service", "gone"), ("outcome", "success")]), 0.0);
    assert!(metrics.sum("portway_backend_requests_total", &[("outcome", "connect_refused")]) > n);
    assert_eq!(metrics.sum("portway_backend_requests_total", &[]), attempts as f64);
    assert!(metrics.has("portway_backend_in_flight"), "the gauge is there, so that its zero means something");
    assert_eq!(metrics.sum("portway_backend_in_flight", &[]), 0.0);
}

#[tokio::test]
async fn a_start_needs_no_backend() {
    let portway = Portway::start(&format!(
        "services:\n  gone: {{ route: /gone, backends: [\"{}\"] }}\n  unknown: {{ route: /unknown, backends: [\"nobody.invalid:5000\"] }}\n",
        free_address()
    ))
    .await;
    let reason = |response: &crate::support::Response| response.get("x-portway-reason").map(str::to_owned);
    let gone = portway.get("/gone").await;
    assert_eq!((gone.status, reason(&gone).as_deref()), (502, Some("connect_refused")));
    let unknown = portway.get("/unknown").await;
    assert_eq!((unknown.status, reason(&unknown).as_deref()), (503, Some("no_healthy_backend")));
    let log = portway.stderr();
    let warned = log.lines().filter(|line| line.contains("WARN") && line.contains("nobody.invalid:5000")).count();
    assert_eq!(warned, 1, "the operator learns of the name once: {log}");
}

/// What was matched is what is forwarded: the backend sees the target that the route was chosen by, and fields that are
/// written anew.
#[tokio::test]
async fn a_request_is_forwarded_as_it_was_understood() {
    let origin = Origin::start(|_| vec![Act::ReadBody, Act::Send(response(200, &[("X-Odd", "a")], "hi"))]).await;
    let portway = Portway::start(&format!("services: {{ web: {{ backends: [\"{}\"] }} }}", origin.address)).await;
    let mut client = portway.connect().await;
    client.send("GET http://shop.example.com/a%2Fb?c HTTP/1.1\r\nhOST: other.example\r\nx-odd:  a \t\r\n\r\n").await;
    assert_eq!(client.response().await.status, 200);

    let received = origin.only_request();
    assert_eq!(received.target(), "/a%2Fb?c");
    let raw = String::from_utf8_lossy(&received.raw()).to_lowercase();
    assert!(raw.contains("\r\nhost: shop.example.com\r\n"), "{raw}");
    assert!(!raw.contains("other.example"), "{raw}");
    assert!(raw.contains("\r\nx-odd: a\r\n"), "{raw}");
}
