//! What is wrong with a configuration: every mistake with its place, its YAML path and its cure.
//! A [`Report`] collects and never stops at the first. How a mistake looks on a terminal is `config::render`'s business.

use std::collections::HashSet;
use std::fmt;

use serde_json::{Value, json};

use super::source::{Place, Sources, Span};
use super::tree::{self, Node};

/// Whether a configuration with this diagnostic may run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Severity {
    /// It may not.
    Error,
    /// It may, but surely does not do what was meant.
    Warning,
}

impl Severity {
    /// The word in `check --json` and in front of the message.
    pub fn word(self) -> &'static str {
        match self {
            Severity::Error => "error",
            Severity::Warning => "warning",
        }
    }
}

/// A second place that belongs to the mistake, with what to say about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    /// Where.
    pub span: Span,
    /// For example `first here`.
    pub text: String,
}

/// One mistake.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Whether it forbids running.
    pub severity: Severity,
    /// What is wrong: lower case, no full stop.
    pub message: String,
    /// What to do about it; stands beside the caret.
    pub help: String,
    /// The YAML path, such as `services.shop.backends[1]`; empty for the file as a whole.
    pub path: String,
    /// File, line and column.
    pub place: Place,
    /// What the caret underlines.
    pub span: Span,
    /// The other place of a mistake that has two.
    pub also: Option<Label>,
}

impl fmt::Display for Diagnostic {
    /// One line, for logs: ``portway.yaml:9:5 unknown key `helth` in service `shop` (did you mean `health`?)``.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.place.line > 0 {
            write!(f, "{}:{}:{} ", self.place.file, self.place.line, self.place.column)?;
        }
        f.write_str(&self.message)?;
        match self.help.is_empty() {
            true => Ok(()),
            false => write!(f, " ({})", self.help),
        }
    }
}

/// Every diagnostic of one reading, in the order of the file, with the text they point into.
#[derive(Clone, Debug, Default)]
pub struct Diagnostics {
    /// In the order of the files, then of their lines.
    pub list: Vec<Diagnostic>,
    /// What the spans point into.
    pub sources: Sources,
    /// The main file, as messages print it.
    pub file_name: String,
}

impl Diagnostics {
    /// How many of one severity there are.
    pub fn count(&self, severity: Severity) -> usize {
        self.list.iter().filter(|diagnostic| diagnostic.severity == severity).count()
    }

    /// An error that shows only when the configuration is put into effect, at a place of the same files.
    pub fn one_error(&self, span: Span, path: &str, message: &str, help: &str) -> Self {
        let error = Diagnostic {
            severity: Severity::Error,
            message: message.to_owned(),
            help: help.to_owned(),
            path: path.to_owned(),
            place: self.sources.place(span),
            span,
            also: None,
        };
        Self { list: vec![error], sources: self.sources.clone(), file_name: self.file_name.clone() }
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// What `check --json` prints.
    pub fn to_json(&self) -> Value {
        self.list
            .iter()
            .map(|diagnostic| {
                json!({
                    "severity": diagnostic.severity.word(),
                    "path": diagnostic.path,
                    "file": diagnostic.place.file,
                    "line": diagnostic.place.line,
                    "column": diagnostic.place.column,
                    "message": diagnostic.message,
                    "help": diagnostic.help,
                })
            })
            .collect()
    }

    /// `portway.yaml: 3 errors, 0 warnings`.
    pub fn summary(&self) -> String {
        let errors = count_of(self.count(Severity::Error), "error");
        let warnings = count_of(self.count(Severity::Warning), "warning");
        format!("{}: {errors}, {warnings}", self.file_name)
    }
}

impl fmt::Display for Diagnostics {
    /// The first mistake on one line and how many follow, for the log of a rejected reload.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(first) = self.list.iter().find(|d| d.severity == Severity::Error).or(self.list.first()) else {
            return f.write_str("nothing to report");
        };
        first.fmt(f)?;
        match self.list.len() {
            1 => Ok(()),
            n => write!(f, " and {} more: portway check", n - 1),
        }
    }
}

impl std::error::Error for Diagnostics {}

/// `1 route`, `2 routes`.
pub fn count_of(n: usize, noun: &str) -> String {
    match n {
        1 => format!("1 {noun}"),
        n => format!("{n} {noun}s"),
    }
}

/// Collects what is found while a configuration is read.
#[derive(Debug, Default)]
pub struct Report {
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    /// A value that many services inherit is checked for each of them and reported once.
    seen: HashSet<(Span, String)>,
}

impl Report {
    /// Most errors, and most warnings, that are kept: nobody reads more, and a hostile file must not fill the memory.
    pub const KEPT_MAX: usize = 1_000;

    /// Records an error at a place.
    pub fn error(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) -> Recorded<'_> {
        self.push(Severity::Error, span, message.into(), help.into())
    }

    /// Records a warning at a place.
    pub fn warning(&mut self, span: Span, message: impl Into<String>, help: impl Into<String>) -> Recorded<'_> {
        self.push(Severity::Warning, span, message.into(), help.into())
    }

    /// Whether one more error would be dropped: looking for more is of no use to anybody.
    pub fn is_full(&self) -> bool {
        self.errors.len() >= Self::KEPT_MAX
    }

    /// Whether the configuration must not run.
    pub fn has_errors(&self) -> bool {
        !self.errors.is_empty()
    }

    /// How many errors there are so far.
    pub fn n_errors(&self) -> usize {
        self.errors.len()
    }

    fn push(&mut self, severity: Severity, span: Span, message: String, help: String) -> Recorded<'_> {
        let list = match severity {
            Severity::Error => &mut self.errors,
            Severity::Warning => &mut self.warnings,
        };
        let (message, help) = (shortened(message), shortened(help));
        if list.len() >= Self::KEPT_MAX || !self.seen.insert((span, message.clone())) {
            return Recorded(None);
        }
        let (path, place) = (String::new(), Place::default());
        list.push(Diagnostic { severity, message, help, path, place, span, also: None });
        Recorded(list.last_mut())
    }

    /// Looks up places and YAML paths, and sorts by place.
    pub fn finish(self, sources: Sources, trees: &[Node], file_name: &str) -> Diagnostics {
        let mut list: Vec<Diagnostic> = self.errors.into_iter().chain(self.warnings).collect();
        if !list.is_empty() {
            let also = list.iter().filter_map(|diagnostic| diagnostic.also.as_ref()).map(|also| also.span);
            let paths = tree::paths(trees, list.iter().map(|diagnostic| diagnostic.span).chain(also));
            for diagnostic in &mut list {
                // The second of two equal keys is not in the tree; its path is that of the first.
                let spans = [Some(diagnostic.span), diagnostic.also.as_ref().map(|also| also.span)];
                let path = spans.into_iter().flatten().find_map(|span| paths.get(&span));
                diagnostic.path = path.cloned().unwrap_or_default();
                diagnostic.place = match diagnostic.span.is_some() {
                    true => sources.place(diagnostic.span),
                    // What is wrong with the file as a whole.
                    false => Place { file: file_name.to_owned(), line: 1, column: 1 },
                };
            }
            list.sort_by_key(|diagnostic| diagnostic.span);
        }
        Diagnostics { list, sources, file_name: file_name.to_owned() }
    }
}

/// What was just recorded, or nothing if it was dropped.
#[derive(Debug)]
pub struct Recorded<'r>(Option<&'r mut Diagnostic>);

impl Recorded<'_> {
    /// Adds a second place, if it is one.
    pub fn also(self, span: Span, text: &str) {
        if let Some(diagnostic) = self.0.filter(|_| span.is_some()) {
            diagnostic.also = Some(Label { span, text: text.to_owned() });
        }
    }
}

/// Messages quote what was typed, and that may be a megabyte.
fn shortened(text: String) -> String {
    const CHARS_MAX: usize = 240;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_mistake_at_the_same_place_is_reported_once() {
        let mut report = Report::default();
        for _ in 0..3 {
            report.error(Span::NONE, "wrong", "");
        }
        report.warning(Span::NONE, "odd", "do that");
        let diagnostics = report.finish(Sources::default(), &[], "a.yaml");
        assert_eq!(diagnostics.summary(), "a.yaml: 1 error, 1 warning");
        assert_eq!(diagnostics.to_string(), "a.yaml:1:1 wrong and 1 more: portway check");
    }

    #[test]
    fn a_hostile_file_cannot_fill_the_memory_with_errors() {
        let mut report = Report::default();
        for idx in 0..5_000 {
            report.error(Span::NONE, format!("wrong {idx}"), "");
        }
        assert!(report.is_full());
        report.error(Span::NONE, "one more", "").also(Span::NONE, "dropped as well");
        assert_eq!(report.finish(Sources::default(), &[], "a").list.len(), Report::KEPT_MAX);
    }

    #[test]
    fn a_message_never_quotes_a_megabyte() {
        let mut report = Report::default();
        report.error(Span::NONE, "é".repeat(1_000_000), "");
        assert!(report.finish(Sources::default(), &[], "a").list[0].message.len() < 1_000);
    }
}
