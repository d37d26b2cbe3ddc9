//! Tells the manager of a Swarm how many replicas a service is to have.
//! Promises to change that number and nothing else: whoever changes the service at the same time wins, and it is read anew.
//! It starts and stops nothing; the Swarm does.

use super::Refusal;
use crate::config::checked::SwarmSource;
use crate::control::docker::engine::Engine;

/// The service may have been changed between the look at it and the change: by a deployment, say.
const TRIES: u32 = 3;
/// What engines answer then: `update out of sequence`.
const OUT_OF_SEQUENCE: &str = "out of sequence";

/// Tells it once.
pub(super) async fn scale(source: &SwarmSource, replicas: u32) -> Result<(), Refusal> {
    let engine = Engine::open(&source.endpoint);
    for nth in 1.. {
        let service = engine.swarm_service(&source.service).await?;
        let present = service.replicas.ok_or_else(|| Refusal::NotReplicated(source.service.clone()))?;
        if present == u64::from(replicas) {
            break;
        }
        match engine.set_swarm_replicas(&service, replicas).await {
            Err(error) if nth < TRIES && error.said.contains(OUT_OF_SEQUENCE) => {}
            told => return Ok(told?),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU16;
    use std::sync::{Arc, Mutex};

    use serde_json::{Value, json};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::UnixListener;

    use super::*;
    use crate::config::checked::{Endpoint, Reach};

    /// A manager that gives these answers one after another, and keeps what it was asked.
    fn manager(answers: Vec<(u16, Value)>) -> (SwarmSource, Arc<Mutex<Vec<String>>>) {
        static NEXT: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        let number = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("portway-manager-{}-{number}.sock", std::process::id()));
        let listener = UnixListener::bind(&path).unwrap();
        let asked: Arc<Mutex<Vec<String>>> = Arc::default();
        let kept = asked.clone();
        let endpoint = Endpoint::Unix(path.clone());
        tokio::spawn(async move {
            for (status, body) in answers {
                let (mut stream, _) = listener.accept().await.unwrap();
                let request = read(&mut stream).await;
                kept.lock().unwrap().push(request);
                let body = body.to_string();
                let head = "Content-Type: application/json\r\nConnection: close\r\n";
                let answer = format!("HTTP/1.1 {status} Word\r\n{head}Content-Length: {}\r\n\r\n{body}", body.len());
                stream.write_all(answer.as_bytes()).await.unwrap();
            }
            std::fs::remove_file(path).ok();
        });
        let reach = Reach::default();
        (SwarmSource { service: "shop".into(), port: NonZeroU16::MIN, reach, endpoint }, asked)
    }

    /// One request, head and body.
    async fn read(stream: &mut tokio::net::UnixStream) -> String {
        let mut bytes = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&bytes).into_owned();
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length =
                    head.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length: ")?.parse().ok());
                if body.len() >= length.unwrap_or(0) {
                    return text;
                }
            }
            assert_ne!(stream.read_buf(&mut bytes).await.unwrap(), 0);
        }
    }

    fn service(version: u64, mode: Value) -> (u16, Value) {
        let task = json!({ "ContainerSpec": { "Image": "shop:1" } });
        let spec = json!({ "Name": "shop", "Labels": { "a": "b" }, "TaskTemplate": task, "Mode": mode });
        (200, json!({ "ID": "s1", "Version": { "Index": version }, "Spec": spec }))
    }

    fn replicated(n: u64) -> Value {
        json!({ "Replicated": { "Replicas": n } })
    }

    #[tokio::test]
    async fn the_number_is_changed_and_nothing_else_also_if_somebody_else_was_faster() {
        let too_late = (500, json!({ "message": "rpc error: code = Unknown desc = update out of sequence" }));
        let done = (200, json!({ "Warnings": null }));
        let answers = vec![service(11, replicated(2)), too_late, service(12, replicated(2)), done];
        let (source, asked) = manager(answers);
        scale(&source, 5).await.unwrap();
        let asked = asked.lock().unwrap();
        assert!(asked[1].starts_with("POST /services/s1/update?version=11"), "{}", asked[1]);
        assert!(asked[3].starts_with("POST /services/s1/update?version=12"), "{}", asked[3]);
        let spec: Value = serde_json::from_str(asked[3].split_once("\r\n\r\n").unwrap().1).unwrap();
        let task = json!({ "ContainerSpec": { "Image": "shop:1" } });
        assert_eq!(
            spec,
            json!({ "Name": "shop", "Labels": { "a": "b" }, "TaskTemplate": task, "Mode": { "Replicated": { "Replicas": 5 } } })
        );
    }

    #[tokio::test]
    async fn a_service_that_has_the_number_is_left_alone() {
        let (source, asked) = manager(vec![service(11, replicated(5))]);
        scale(&source, 5).await.unwrap();
        assert_eq!(asked.lock().unwrap().len(), 1);
    }

    #[tokio::test]
    async fn what_cannot_be_scaled_says_why() {
        let (source, _) = manager(vec![service(11, json!({ "Global": {} }))]);
        let words = scale(&source, 5).await.unwrap_err().to_string();
        assert_eq!(words, "Swarm service `shop` has no number of replicas: it is not replicated");
        let (source, _) = manager(vec![(404, json!({ "message": "service shop not found" }))]);
        assert_eq!(scale(&source, 5).await.unwrap_err().to_string(), "service shop not found");
        let (source, _) = manager(vec![(503, json!({ "message": "This node is not a swarm manager." }))]);
        assert_eq!(scale(&source, 5).await.unwrap_err().to_string(), "This node is not a swarm manager.");
    }
}
