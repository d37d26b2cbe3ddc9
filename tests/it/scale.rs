//! `portway scale` and what people see of replicas: the command, the API, the metrics, with a hook that does nothing.
//! What the autoscaler decides is tested next to it; here it is how a person's word gets there and is shown.

use std::process::Command;

use serde_json::{Value, json};

use crate::support::{Origin, PATIENCE, Portway, binary, eventually};

fn yaml(origin: &Origin, autoscale: &str) -> String {
    let address = origin.address;
    format!(
        "services:\n  web: {{ backends: [\"{address}\"], health: {{ tcp: true }}{autoscale} }}\n  \
         plain: {{ route: /plain, backends: [\"{address}\"] }}\n"
    )
}

const SCALED: &str = ", autoscale: { min: 1, max: 4, target_in_flight: 2, hook: { command: [\"true\"] } }";

/// Exit code and everything that was printed.
fn portway(instance: &Portway, line: &str) -> (i32, String) {
    let mut command = Command::new(binary());
    command.args(line.split_whitespace()).args(["--admin", &instance.admin.to_string()]);
    let output = command.output().expect("the binary can be run");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code().expect("it exits"), text(&output.stdout) + &text(&output.stderr))
}

async fn replicas(instance: &Portway) -> Value {
    let answer = instance.admin_get("/api/v1/services/web").await;
    let service: Value = serde_json::from_str(&answer.text()).expect("the API speaks JSON");
    service["replicas"].clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_pins_a_number_of_replicas_and_everybody_shows_it() {
    let origin = Origin::hello("hello").await;
    let instance = Portway::start(&yaml(&origin, SCALED)).await;
    let (code, text) = portway(&instance, "scale web=3");
    assert_eq!((code, text.starts_with("web: pinned at 3, ")), (0, true), "{text}");
    assert!(text.contains("`portway scale web=auto`"), "{text}");
    let told = replicas(&instance).await;
    assert_eq!((&told["pinned"], &told["min"], &told["max"]), (&json!(3), &json!(1), &json!(4)));
    eventually(PATIENCE, "what is wanted", || async { replicas(&instance).await["desired"] == 3 }).await;
    instance.wait_metric("portway_replicas", &[("service", "web"), ("kind", "desired")], 3.0).await;
    let (_, status) = portway(&instance, "status");
    assert!(status.contains("REPLICAS") && status.contains("pinned "), "{status}");
    assert!(portway(&instance, "status web").1.contains("pinned by hand"));
    assert!(portway(&instance, "top --once").1.contains("pinned "));
    assert!(portway(&instance, "events web").1.contains("replicas pinned by hand  service=web replicas=3"));

    let (code, text) = portway(&instance, "scale web=auto");
    assert_eq!((code, text.starts_with("web: as many as the load needs, 1 to 4; ")), (0, true), "{text}");
    assert_eq!(replicas(&instance).await["pinned"], Value::Null);
    let n_told = || async { instance.events().await.iter().filter(|kind| kind.starts_with("scale_")).count() };
    eventually(PATIENCE, "the events", || async { n_told().await == 2 }).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_pinned_says_what_to_do_and_changes_nothing() {
    let origin = Origin::hello("hello").await;
    let instance = Portway::start(&yaml(&origin, SCALED)).await;
    for (request, words) in [
        ("web=5", "service `web` may have 4 replicas at most, not 5: raise `autoscale.max` first"),
        ("plain=2", "Portway does not scale service `plain`: add `autoscale:"),
        ("wep=2", "there is no service `wep`; did you mean `web`?"),
    ] {
        let (code, text) = portway(&instance, &format!("scale {request}"));
        assert!(code == 1 && text.starts_with(&format!("error: {words}")), "{code} {text}");
    }
    let answer = instance.admin_get("/api/v1/scale?service=web&replicas=3").await;
    assert_eq!(answer.status, 405, "GET changes nothing");
    assert_eq!(replicas(&instance).await["pinned"], Value::Null);
    // The hook does nothing, so the one that is there stays.
    let (code, text) = portway(&instance, "scale web=0 --wait 0s");
    assert!(code == 1 && text.starts_with("error: 1 ready after 0s, 0 wanted; it goes on"), "{code} {text}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_not_scaled_any_more_has_no_replicas_to_show() {
    let origin = Origin::hello("hello").await;
    let instance = Portway::start(&yaml(&origin, SCALED)).await;
    instance.wait_metric("portway_replicas", &[("service", "web"), ("kind", "ready")], 1.0).await;
    instance.write(&yaml(&origin, ""));
    instance.wait_generation(2).await;
    assert_eq!(replicas(&instance).await, Value::Null);
    let is_gone = || async { !instance.admin_get("/metrics").await.text().contains("portway_replicas{") };
    eventually(PATIENCE, "the end of its series", is_gone).await;
    assert!(!portway(&instance, "status").1.contains("REPLICAS"));
}
