//! The image of the Docker suites: a Flask app under gunicorn, made on `portway-base` by the engine itself.
//! It promises the same image for the same sources, built once. It pulls nothing.

use std::fs;
use std::process::Command;

use serde_json::Value;

use super::engine::Engine;
use crate::support::Scratch;

/// The base, which docker/local-base.sh makes.
const BASE: &str = "portway-base";
const FILES: [(&str, &str); 3] = [
    ("Dockerfile", include_str!("image/Dockerfile")),
    ("app.py", include_str!("image/app.py")),
    ("start.sh", include_str!("image/start.sh")),
];

/// What a container of the image does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// It serves, and says `x-version: 1`.
    One,
    /// It serves, and says `x-version: 2`.
    Two,
    /// It says why it cannot, and ends with 3.
    Exits,
    /// It runs and never listens.
    Deaf,
}

impl Manner {
    const ALL: [Manner; 4] = [Manner::One, Manner::Two, Manner::Exits, Manner::Deaf];

    fn word(self) -> &'static str {
        match self {
            Manner::One => "one",
            Manner::Two => "two",
            Manner::Exits => "exits",
            Manner::Deaf => "deaf",
        }
    }

    fn arguments(self) -> &'static str {
        match self {
            Manner::One => r#"{"VERSION":"1"}"#,
            Manner::Two => r#"{"VERSION":"2"}"#,
            Manner::Exits => r#"{"MANNER":"exits"}"#,
            Manner::Deaf => r#"{"MANNER":"deaf"}"#,
        }
    }
}

/// The images, by what their sources hash to.
#[derive(Clone, Debug)]
pub(crate) struct Images {
    hash: u64,
}

impl Images {
    /// Builds what the engine does not have yet.
    pub(super) fn make(engine: &Engine) -> Result<Self, String> {
        let call = |method: &str, path: &str, body: Option<(&str, &[u8])>| {
            engine.call_now(method, path, body).map_err(|e| format!("{path}: {e}"))
        };
        let base = call("GET", &format!("/images/{BASE}/json"), None)?;
        if !base.is_ok() {
            return Err(format!("the engine has no image `{BASE}`. As root: docker/local-base.sh"));
        }
        let base_id = base.json()["Id"].as_str().unwrap_or_default().to_owned();
        let sources = FILES.iter().flat_map(|(name, text)| [*name, *text]).chain([base_id.as_str()]);
        let images = Self { hash: sources.fold(0xcbf2_9ce4_8422_2325, hashed) };
        let mut context = None;
        for manner in Manner::ALL {
            let name = images.name(manner);
            if call("GET", &format!("/images/{name}/json"), None)?.is_ok() {
                continue;
            }
            let tar: &Vec<u8> = context.get_or_insert_with(tar);
            let path = format!("/build?t={name}&forcerm=1&buildargs={}", escaped(manner.arguments()));
            let built = call("POST", &path, Some(("application/x-tar", tar)))?;
            if !built.is_ok() || built.text().contains("\"error\"") {
                return Err(format!("building {name}: {}", built.text()));
            }
        }
        Ok(images)
    }

    /// `portway-test:1a2b-one`.
    pub(crate) fn name(&self, manner: Manner) -> String {
        format!("portway-test:{:016x}-{}", self.hash, manner.word())
    }
}

/// The images that a build names in its steps: ` ---> 7a72547dc0e3`, with its `>` escaped in JSON.
pub(super) fn named_in(told: &str) -> Vec<String> {
    let digits = |rest: &str| rest.chars().take_while(char::is_ascii_hexdigit).collect::<String>();
    told.split("---\\u003e ").skip(1).map(digits).filter(|id| id.len() == 12).collect()
}

/// Removes an image unless it has a name that no test gave it: the base is one of those that a build names.
pub(super) fn remove(engine: &Engine, id: &str) {
    let Ok(facts) = engine.call_now("GET", &format!("/images/{id}/json"), None) else { return };
    let is_ours = |name: &Value| name.as_str().is_some_and(|name| name.starts_with("portway-test-"));
    if facts.is_ok() && facts.json()["RepoTags"].as_array().into_iter().flatten().all(is_ours) {
        engine.call_now("DELETE", &format!("/images/{id}?force=1"), None).ok();
    }
}

/// FNV-1a, the end of a text being part of it.
fn hashed(hash: u64, text: &str) -> u64 {
    let bytes = text.bytes().chain([0xff]);
    bytes.fold(hash, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3))
}

/// The build context.
fn tar() -> Vec<u8> {
    let scratch = Scratch::new();
    for (name, text) in FILES {
        fs::write(scratch.0.join(name), text).expect("the scratch directory can be written");
    }
    let output = Command::new("tar").arg("-C").arg(&scratch.0).args(["-c", "."]).output();
    output.expect("tar is part of every system that runs an engine").stdout
}

/// For a query string: everything but letters and digits.
fn escaped(text: &str) -> String {
    let escape = |byte: u8| match byte.is_ascii_alphanumeric() {
        true => char::from(byte).to_string(),
        false => format!("%{byte:02X}"),
    };
    text.bytes().map(escape).collect()
}
