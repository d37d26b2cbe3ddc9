//! How diagnostics look on a terminal: message, place, source line, caret, and what to do beside it.
//! Promises the same text with and without colour. Decides nothing about what is wrong.

use std::borrow::Cow;
use std::ops::Range;

use annotate_snippets::{Annotation, AnnotationKind, Group, Level, Origin, Renderer, Snippet};

use super::diagnostic::{Diagnostic, Diagnostics, Label, Severity};
use super::source::{SourceFile, Sources, Span};

/// Whether to colour what is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Color {
    /// Plain text.
    Never,
    /// With ANSI escapes.
    Always,
}

/// Most diagnostics that are drawn; the summary still counts them all.
pub const DRAWN_MAX: usize = 100;

/// Two labels further apart than this are drawn as two snippets: between them lies text that nobody needs to scan.
const LINES_APART_MAX: usize = 200;

/// Longer lines are not drawn: the renderer reads all of them to show eighty columns.
const LINE_BYTES_MAX: usize = 4 * 1024;

/// All diagnostics and the summary, as `portway check` prints them.
pub fn render(diagnostics: &Diagnostics, color: Color) -> String {
    let renderer = match color {
        Color::Never => Renderer::plain(),
        Color::Always => Renderer::styled(),
    };
    let drawn = &diagnostics.list[..diagnostics.list.len().min(DRAWN_MAX)];
    let mut report: Vec<Group<'_>> = drawn.iter().map(|diagnostic| group(diagnostic, &diagnostics.sources)).collect();
    let summary = match diagnostics.list.len() - drawn.len() {
        0 => diagnostics.summary(),
        n_more => format!("{}; {n_more} more are not shown", diagnostics.summary()),
    };
    report.push(Group::with_title(Level::NOTE.secondary_title("")));
    let text = tidied(&renderer.render(&report));
    let last_line = text.rfind('\n').map_or(0, |idx| idx + 1);
    format!("{}{summary}", &text[..last_line])
}

fn group<'d>(diagnostic: &'d Diagnostic, sources: &'d Sources) -> Group<'d> {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let title = level.primary_title(diagnostic.message.as_str());
    let group = drawn(diagnostic, sources, Group::with_title(title));
    match diagnostic.path.as_str() {
        "" => group,
        path => group.element(Level::NOTE.with_name("at").message(path)),
    }
}

/// The place of the mistake and its source line, below the title.
fn drawn<'d>(diagnostic: &'d Diagnostic, sources: &'d Sources, group: Group<'d>) -> Group<'d> {
    let is_drawable = |file: &&SourceFile| file.line_of(diagnostic.span).len() <= LINE_BYTES_MAX;
    let Some(file) = sources.file(diagnostic.span).filter(is_drawable) else {
        let place = &diagnostic.place;
        let origin = Origin::path(place.file.as_str()).line(place.line).char_column(place.column);
        return group.element(origin).element(Level::HELP.message(diagnostic.help.as_str()));
    };
    let mut primary = vec![Mark { span: diagnostic.span, text: &diagnostic.help, kind: AnnotationKind::Primary }];
    let Some(Label { span, text }) = &diagnostic.also else {
        return group.element(snippet(file, &primary));
    };
    let also = Mark { span: *span, text, kind: AnnotationKind::Context };
    let line_of = |span: Span| file.line_idx(span.range().start);
    let is_near =
        span.file() == diagnostic.span.file() && line_of(*span).abs_diff(line_of(diagnostic.span)) <= LINES_APART_MAX;
    if is_near {
        primary.push(also);
        return group.element(snippet(file, &primary));
    }
    let other = sources.file(*span).unwrap_or(file);
    group.element(snippet(file, &primary)).element(snippet(other, &[also]))
}

/// A label and how it is drawn.
struct Mark<'d> {
    span: Span,
    text: &'d str,
    kind: AnnotationKind,
}

/// The lines around the marks, and only those: a file has a megabyte, a report up to a hundred snippets.
fn snippet<'d>(file: &'d SourceFile, marks: &[Mark<'d>]) -> Snippet<'d, Annotation<'d>> {
    let lines = marks.iter().map(|mark| file.line_idx(mark.span.range().start));
    let first = lines.clone().min().unwrap_or(0);
    let shown = file.lines(first, lines.max().unwrap_or(0));
    let annotations = marks.iter().map(|mark| {
        let caret = caret(file, mark.span);
        let annotation = mark.kind.span(caret.start - shown.start..caret.end - shown.start);
        if mark.text.is_empty() { annotation } else { annotation.label(mark.text) }
    });
    let annotations: Vec<_> = annotations.collect();
    // A carriage return would be drawn as a symbol at the end of each line.
    let text: Cow<'d, str> = match &file.text[shown] {
        text if text.contains('\r') => text.replace('\r', " ").into(),
        text => text.into(),
    };
    Snippet::source(text).line_start(first + 1).path(file.name.as_str()).annotations(annotations)
}

/// What to underline: at most to the end of the line, at least one word where the span is empty.
fn caret(file: &SourceFile, span: Span) -> Range<usize> {
    let start = span.range().start.min(file.text.len());
    let line_idx = file.line_idx(start);
    let line = file.lines(line_idx, line_idx);
    let rest = file.text[start..line.end.max(start)].trim_end_matches('\r');
    let wanted = match span.range().len() {
        0 => rest
            .find(|c: char| !c.is_alphanumeric())
            .unwrap_or(rest.len())
            .max(rest.chars().next().map_or(0, char::len_utf8)),
        length => length,
    };
    start..start + wanted.min(rest.len())
}

/// Makes every snippet look alike: the renderer draws the closing bar of some only, and puts `...` between lines
/// that are far apart, which their numbers say already.
fn tidied(text: &str) -> String {
    let bar = text.lines().find(|line| plain(line).trim_start() == "|").unwrap_or_default();
    let mut lines: Vec<&str> = Vec::new();
    for line in text.lines().filter(|line| plain(line) != "...") {
        let ends_snippet = plain(line).starts_with(['e', 'w', 'n']) || plain(line).trim_start().starts_with("= at: ");
        let after_snippet = lines.last().is_some_and(|last| plain(last).contains(" | ") && *last != bar);
        if ends_snippet && after_snippet {
            lines.push(bar);
        }
        lines.push(line.trim_end());
    }
    lines.join("\n")
}

/// The text without ANSI escapes.
fn plain(line: &str) -> String {
    let mut parts = line.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').map_or("", |(_, rest)| rest))
}
