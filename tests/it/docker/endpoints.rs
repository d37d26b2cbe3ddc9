//! One service on several engines: the containers of all of them share the load, and the end of one engine is the end of
//! nobody's requests.

use rustix::process::Signal;

use super::alone::{self, Daemon};
use super::{Books, ORDINARY, is_long_form};
use crate::support::{LABEL_TEST, Manner, PORT, Portway, wait_backends};

const NAME: &str = "docker::endpoints::containers_of_two_engines_are_backends_of_one_service";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn containers_of_two_engines_are_backends_of_one_service() {
    if !is_long_form("two Docker daemons of its own take a minute") {
        return;
    }
    let Some(inside) = alone::inside(NAME).await else { return };
    let (one, mut two) = (Daemon::start(&inside, 1).await, Daemon::start(&inside, 2).await);
    let (on_one, on_two) = (one.docker().await, two.docker().await);
    let fleet = on_one.start_many(2).await;
    on_two.start_many(2).await;
    let endpoints = [&one, &two].map(|daemon| format!("unix://{}", daemon.socket().display()));
    let source = format!("docker: {{ label: {LABEL_TEST}, port: {PORT}, address: network, endpoint: {endpoints:?} }}");
    let health = "health: { path: /healthz, every: 1s }";
    let portway = Portway::start(&format!("access_log: off\nservices: {{ web: {{ {source}, {health} }} }}")).await;
    wait_backends(&portway, "web", 4).await;

    // Their books are those of two; the first one's load is checked, and what the others executed belongs to it.
    let books = Books::open(&on_one, portway.address, ORDINARY);
    books.wait_more(200).await;
    two.down(Signal::TERM).await;
    books.wait_more(200).await;
    wait_backends(&portway, "web", 4).await;
    let away = &portway.status().await["services"][0]["engines_away"];
    assert!(away[0].as_str().is_some_and(|away| away.contains(&endpoints[1])), "{away}");
    // The other one is listened to meanwhile.
    let fifth = on_one.start(Manner::One, &["LINGER=0.5"]).await;
    fifth.wait_answer().await;
    wait_backends(&portway, "web", 5).await;
    fifth.stop(10).await;
    wait_backends(&portway, "web", 4).await;
    // So is this one, once it is back.
    two.up().await;
    let sixth = on_two.start(Manner::One, &[]).await;
    sixth.wait_answer().await;
    wait_backends(&portway, "web", 5).await;
    books.wait_more(200).await;

    let (sent, _) = books.close(&super::Contract::STRICT).await;
    let executed: Vec<_> = [&on_one, &on_two].into_iter().flat_map(super::executed).collect();
    super::assert_clean(&super::ledger::check(&sent, &executed, &super::Contract::STRICT), &portway);
    let n_used = |docker| super::executed(docker).len();
    println!("{} requests, {} on one engine and {} on the other", sent.len(), n_used(&on_one), n_used(&on_two));
    assert!(n_used(&on_one) > 100 && n_used(&on_two) > 100);
    assert_eq!(fleet.len(), 2);
    drop((on_one, on_two));
}
