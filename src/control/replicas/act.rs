//! What is asked of an engine for one replica, from the first call to the last.
//! Promises that nothing half made is left behind, and words for people where something fails. It decides nothing, and
//! knows no service.
//!
//! A start is two calls, create and start, and no look before or after: an image that is not there shows in the answer to
//! the first. With Docker 20.10 on two busy cores both together took 500 to 1,300 ms, as `docker run -d` does there (570 to
//! 1,500 ms); what Portway adds is the way to the engine and back.

use std::sync::Arc;
use std::time::Duration;

use super::birth::Birth;
use super::fetched::Made;
use crate::config::checked::Pull;
use crate::control::docker::engine::{Engine, NewContainer};
use crate::control::docker::error::{EngineError, EngineErrorKind};

/// Lines of a container's last words: the end of a traceback.
const LINES_MAX: usize = 5;
/// Characters of each.
const LINE_CHARS_MAX: usize = 200;

/// A start that failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// What failed and what to do, for people.
    pub words: String,
    /// Whether another try may do.
    pub hope: Hope,
}

/// Whether another try may do without anybody's help.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hope {
    /// It may.
    Some,
    /// It will not, before somebody does something.
    None,
}

impl Refusal {
    fn of(error: &EngineError) -> Self {
        // What an engine that answers refuses, it refuses again.
        let hope = if error.is_away() || error.kind == EngineErrorKind::Conflict { Hope::Some } else { Hope::None };
        Self { words: error.to_string(), hope }
    }
}

/// Makes a replica called `name` and starts it.
pub async fn make(engine: &Engine, birth: &Birth, name: &str, project: &str) -> Result<Made, Refusal> {
    let template = &birth.source.template;
    let stop_timeout = birth.source.stop_timeout;
    let new = NewContainer { name, template, labels: birth.labels(project), publish: birth.publish, stop_timeout };
    let image = match birth.source.pull {
        Pull::Always => pull(engine, birth).await?,
        Pull::Missing | Pull::Never => None,
    };
    let id = match engine.create(&new).await {
        Ok(id) => id,
        Err(error) if error.kind == EngineErrorKind::NotFound && is_absent(engine, birth).await => {
            fetch_missing(engine, birth).await?;
            engine.create(&new).await.map_err(|error| Refusal::of(&error))?
        }
        Err(error) => return Err(Refusal::of(&error)),
    };
    match engine.start(&id).await {
        Ok(()) => Ok(Made { id, image }),
        Err(error) => {
            let _ = engine.remove(&id).await; // what stays is found as a leftover
            Err(Refusal::of(&error))
        }
    }
}

/// Sees to it that the engine has the image, before somebody waits for a replica; what it is, if it was fetched because it
/// always is.
pub async fn prepare(engine: &Engine, birth: &Birth) -> Result<Option<Arc<str>>, Refusal> {
    match birth.source.pull {
        Pull::Always => pull(engine, birth).await,
        Pull::Missing | Pull::Never if !is_absent(engine, birth).await => Ok(None),
        Pull::Missing | Pull::Never => fetch_missing(engine, birth).await.map(|()| None),
    }
}

/// Whether the engine says that it has no such image.
async fn is_absent(engine: &Engine, birth: &Birth) -> bool {
    matches!(engine.image_id(&birth.source.template.image).await, Ok(None))
}

async fn fetch_missing(engine: &Engine, birth: &Birth) -> Result<(), Refusal> {
    if birth.source.pull == Pull::Never {
        let image = &birth.source.template.image;
        let words =
            format!("the engine has no image {image}, and `pull: never` does not fetch it. Build or pull it there");
        return Err(Refusal { words, hope: Hope::None });
    }
    pull(engine, birth).await.map(drop)
}

/// Fetches the image; what the engine calls it, if it says so.
async fn pull(engine: &Engine, birth: &Birth) -> Result<Option<Arc<str>>, Refusal> {
    let image = &birth.source.template.image;
    let began = tokio::time::Instant::now();
    tracing::info!(service = %birth.service, image, "pulling image");
    match engine.pull(image).await {
        Ok(()) => {
            let took_ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
            tracing::info!(service = %birth.service, image, took_ms, "image pulled");
            Ok(engine.image_id(image).await.ok().flatten().map(Arc::from))
        }
        Err(error) => {
            let words =
                format!("image {image} cannot be pulled: {error}. Is its name right, and is the registry reached?");
            Err(Refusal { words, hope: Hope::None })
        }
    }
}

/// Asks a replica to end, waits for that, and removes it.
pub async fn end(engine: &Engine, id: &str, patience: Duration) -> Result<(), EngineError> {
    match engine.stop(id, patience).await {
        Ok(()) => {}
        Err(error) if error.kind == EngineErrorKind::NotFound => return Ok(()),
        // Removing kills what does not end.
        Err(error) if error.is_away() => return Err(error),
        Err(error) => tracing::debug!(id, %error, "container not stopped, killing it"),
    }
    engine.remove(id).await
}

/// The last lines that it printed, each cut and on one line; none if the engine keeps none.
pub async fn last_words(engine: &Engine, id: &str) -> Vec<String> {
    let lines = engine.last_lines(id, LINES_MAX).await.unwrap_or_default();
    lines.into_iter().map(|line| plain(&line)).collect()
}

fn plain(line: &str) -> String {
    line.chars().map(|c| if c.is_control() { ' ' } else { c }).take(LINE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_last_line_is_short_and_has_no_control_characters() {
        assert_eq!(plain("a\u{1b}[31mb\tc"), "a [31mb c");
        assert_eq!(plain(&"é".repeat(999)).chars().count(), LINE_CHARS_MAX);
    }
}
