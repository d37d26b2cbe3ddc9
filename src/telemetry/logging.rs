//! The operator's log: one line per event on standard error, as text for people or as JSON for collectors.
//! Promises that no text from outside can add a line or a terminal escape, and that colour appears on a terminal only.
//! It is not the access log, and a standard error that nobody reads never stops the process.

use std::fmt::{self, Write};
use std::io::IsTerminal;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// What is logged unless `RUST_LOG` says otherwise.
const FILTER: &str = "info";
/// Messages are padded to this width, so that the fields of neighbouring lines begin below each other.
const MESSAGE_CHARS: usize = 28;
/// Names the format: `json` or `text`.
pub const FORMAT_VARIABLE: &str = "PORTWAY_LOG_FORMAT";

/// How lines look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// `11:02:14 INFO  config applied  generation=42`, in UTC.
    Text(Colour),
    /// One JSON object per line.
    Json,
}

/// Whether the level of a text line is coloured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Colour {
    /// ANSI escapes.
    Ansi,
    /// None.
    Plain,
}

impl Format {
    /// What the environment asks for: [`FORMAT_VARIABLE`], <https://no-color.org>, and whether people are looking.
    pub fn from_environment() -> Self {
        let is_set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
        match std::env::var(FORMAT_VARIABLE).as_deref() {
            Ok("json") => Format::Json,
            _ if std::io::stderr().is_terminal() && !is_set("NO_COLOR") => Format::Text(Colour::Ansi),
            _ => Format::Text(Colour::Plain),
        }
    }
}

/// Installs the log for the whole process. A second call changes nothing. A `RUST_LOG` that cannot be read is reported
/// in the log itself, with what is used instead.
pub fn init(format: Format) {
    let wanted = std::env::var(EnvFilter::DEFAULT_ENV).ok().filter(|wanted| !wanted.is_empty());
    let parsed = EnvFilter::try_new(wanted.as_deref().unwrap_or(FILTER));
    let rejected = parsed.as_ref().err().map(ToString::to_string);
    let filter = parsed.unwrap_or_else(|_| EnvFilter::new(FILTER));
    // Internal errors are printed with `eprintln!`, which panics when standard error is closed.
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).log_internal_errors(false);
    let installed = match format {
        Format::Json => builder.json().flatten_event(true).with_target(false).try_init(),
        Format::Text(colour) => builder.event_format(Text { colour }).try_init(),
    };
    if let (Ok(()), Some(error)) = (installed, rejected) {
        tracing::warn!(error, using = FILTER, "RUST_LOG cannot be read");
    }
}

/// The text format of the operator's log.
struct Text {
    colour: Colour,
}

impl<S, N> FormatEvent<S, N> for Text
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, _: &FmtContext<'_, S, N>, mut writer: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = EventText::default();
        event.record(&mut line);
        let time = jiff::Timestamp::now().strftime("%H:%M:%S").to_string();
        let (level, message) = (self.level(*event.metadata().level()), line.message);
        match line.fields.is_empty() {
            true => writeln!(writer, "{time} {level} {message}"),
            false => writeln!(writer, "{time} {level} {message:<MESSAGE_CHARS$} {}", line.fields),
        }
    }
}

impl Text {
    fn level(&self, level: Level) -> String {
        let (colour, word) = match level {
            Level::ERROR => ("31", "ERROR"),
            Level::WARN => ("33", "WARN "),
            Level::INFO => ("32", "INFO "),
            Level::DEBUG => ("34", "DEBUG"),
            Level::TRACE => ("35", "TRACE"),
        };
        match self.colour {
            Colour::Ansi => format!("\x1b[{colour}m{word}\x1b[0m"),
            Colour::Plain => word.to_owned(),
        }
    }
}

/// Message and fields of one event: ` generation=42 after="5 × connect_refused"`.
#[derive(Default)]
struct EventText {
    message: String,
    fields: String,
}

impl EventText {
    fn add(&mut self, field: &Field, value: &str) {
        match field.name() {
            "message" => push_safe(&mut self.message, value),
            name => {
                self.fields.push(' ');
                self.fields.push_str(name);
                self.fields.push('=');
                push_value(&mut self.fields, value);
            }
        }
    }
}

impl Visit for EventText {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.add(field, value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.add(field, &format!("{value:?}"));
    }
}

/// In quotes if it would not read as one word.
fn push_value(out: &mut String, value: &str) {
    let is_word = !value.is_empty() && !value.contains(|c: char| c.is_whitespace() || matches!(c, '"' | '='));
    if is_word {
        return push_safe(out, value);
    }
    out.push('"');
    push_safe(out, &value.replace('"', "'"));
    out.push('"');
}

fn push_safe(out: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            c if c.is_control() => write!(out, "{}", c.escape_default()).expect("writing to a String cannot fail"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use super::*;

    #[derive(Clone, Default)]
    struct Captured(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Captured {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn logged(colour: Colour, log: impl FnOnce()) -> String {
        let captured = Captured::default();
        let writer = captured.clone();
        let subscriber =
            tracing_subscriber::fmt().event_format(Text { colour }).with_writer(move || writer.clone()).finish();
        tracing::subscriber::with_default(subscriber, log);
        let bytes = captured.0.lock().unwrap().clone();
        // Without the time of day.
        String::from_utf8(bytes).unwrap()[9..].to_owned()
    }

    #[test]
    fn a_line_reads_time_level_message_fields() {
        let text = logged(Colour::Plain, || tracing::info!(generation = 42, took = "18ms", "config applied"));
        assert_eq!(text, "INFO  config applied                generation=42 took=18ms\n");
        assert_eq!(logged(Colour::Plain, || tracing::warn!("just this")), "WARN  just this\n");
    }

    #[test]
    fn values_of_several_words_are_quoted() {
        let text = logged(Colour::Plain, || tracing::info!(after = "5 × connect_refused", why = %"a \"b\"", "ejected"));
        assert!(text.ends_with(" after=\"5 × connect_refused\" why=\"a 'b'\"\n"), "{text}");
    }

    #[test]
    fn nothing_from_outside_adds_a_line_or_an_escape() {
        let text = logged(Colour::Plain, || tracing::error!(path = "/\n00:00:00 INFO  forged \x1b[2J", "a\nb\u{9b}c"));
        assert_eq!(text.matches('\n').count(), 1);
        assert!(!text.contains('\x1b') && !text.contains('\u{9b}'), "{text:?}");
        assert!(text.contains("a\\nb"), "{text}");
    }

    #[test]
    fn only_the_level_is_coloured() {
        let text = logged(Colour::Ansi, || tracing::warn!(n = 1, "x"));
        assert!(text.starts_with("\x1b[33mWARN \x1b[0m x"), "{text:?}");
    }
}
