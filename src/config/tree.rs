//! A YAML file as a tree in which every key and every value knows its place.
//! Promises limits on size, depth and aliases, and one error per duplicate key. Does not know which keys mean something.

use std::collections::HashMap;
use std::ops::Range;

use saphyr_parser::{Event, Parser, ScalarStyle, ScanError, Span as Marks, Tag};

use super::diagnostic::Report;
use super::source::{FileId, Span};

/// Deepest nesting that is read. The language itself needs eight levels.
pub const DEPTH_MAX: usize = 64;

/// Most nodes that aliases may add to one file: far above any real file, far below what fills a memory.
pub const ALIASED_NODES_MAX: usize = 100_000;

/// Largest file that is read, in bytes: the limit of a Kubernetes ConfigMap. `include` splits what is larger.
pub const FILE_BYTES_MAX: usize = 1024 * 1024;

/// A value with its place. For a block mapping or list the place is the empty span where it begins.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// Where.
    pub span: Span,
    /// What.
    pub value: Value,
}

/// What a node is.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// Text, not yet expanded.
    Scalar(Text),
    /// A list.
    List(Vec<Node>),
    /// A mapping, in the order of the file, merge keys applied.
    Mapping(Vec<Entry>),
}

/// The text of a scalar.
#[derive(Clone, Debug, PartialEq)]
pub struct Text {
    /// As typed, quotes and escapes resolved, variables not.
    pub text: String,
    /// Whether quotes or a block style make it text whatever it looks like.
    pub style: Style,
}

/// How a scalar was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    /// Without quotes: `8080`, `off`, `null` have their YAML meaning.
    Plain,
    /// In quotes or as a block: always text.
    Quoted,
}

/// A key and its value.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// The key, as typed.
    pub key: String,
    /// Where the key stands.
    pub key_span: Span,
    /// The value.
    pub value: Node,
}

impl Node {
    /// Whether this is YAML's null: a key with nothing behind it, `~` or `null`.
    pub fn is_null(&self) -> bool {
        matches!(&self.value, Value::Scalar(Text { text, style: Style::Plain })
            if matches!(text.as_str(), "" | "~" | "null" | "Null" | "NULL"))
    }

    /// What messages call it.
    pub fn kind(&self) -> &'static str {
        match &self.value {
            Value::Scalar(_) if self.is_null() => "nothing",
            Value::Scalar(_) => "text",
            Value::List(_) => "a list",
            Value::Mapping(_) => "a mapping",
        }
    }

    fn n_nodes(&self) -> usize {
        match &self.value {
            Value::Scalar(_) => 1,
            Value::List(items) => 1 + items.iter().map(Node::n_nodes).sum::<usize>(),
            Value::Mapping(entries) => 1 + entries.iter().map(|entry| 1 + entry.value.n_nodes()).sum::<usize>(),
        }
    }
}

/// Reads one file. `None` if it is not YAML at all, or nothing; the report says why.
pub fn parse(file: FileId, text: &str, report: &mut Report) -> Option<Node> {
    let offsets = Offsets::of(text);
    let mut builder = Builder { file, offsets, report, open: Vec::new(), anchors: HashMap::new(), n_aliased: 0 };
    if let Some((span, message, help)) = forbidden_character(file, text) {
        builder.report.error(span, message, help);
        return None;
    }
    let mut root = None;
    for event in Parser::new_from_str(text) {
        let step = match event {
            Ok((event, marks)) => builder.step(event, marks, &mut root),
            Err(error) => Err(builder.not_yaml(&error, text)),
        };
        if let Err(mistake) = step {
            builder.report.error(mistake.span, mistake.message, mistake.help);
            return None;
        }
    }
    root
}

/// A mistake that ends the reading of a file.
struct Mistake {
    span: Span,
    message: String,
    help: String,
}

impl Mistake {
    fn new(span: Span, message: impl Into<String>, help: impl Into<String>) -> Self {
        Self { span, message: message.into(), help: help.into() }
    }
}

/// Characters that no configuration holds on purpose, found before the parser could take them for an end of file.
fn forbidden_character(file: FileId, text: &str) -> Option<(Span, String, &'static str)> {
    let is_bad = |c: char| matches!(c, '\0'..='\x08' | '\x0b' | '\x0c' | '\x0e'..='\x1f' | '\x7f' | '\u{feff}');
    let (at, bad) = text.char_indices().find(|&(_, c)| is_bad(c))?;
    let span = Span::new(file, at..at + bad.len_utf8());
    Some(match bad {
        '\u{feff}' if at == 0 => {
            (span, "the file begins with a byte order mark".to_owned(), "save it as UTF-8 without BOM")
        }
        '\0' => (span, "the file holds a NUL byte".to_owned(), "remove it; is this really a text file?"),
        bad => (span, format!("the file holds the control character U+{:04X}", bad as u32), "remove it"),
    })
}

/// The parser counts characters, a [`Span`] bytes.
enum Offsets {
    /// One is the other.
    Ascii,
    /// The byte where each character begins, and the length of the text.
    Bytes(Vec<u32>),
}

impl Offsets {
    fn of(text: &str) -> Self {
        if text.is_ascii() {
            return Offsets::Ascii;
        }
        let starts = text.char_indices().map(|(byte, _)| byte).chain(std::iter::once(text.len()));
        Offsets::Bytes(starts.map(|byte| u32::try_from(byte).unwrap_or(u32::MAX)).collect())
    }

    fn byte(&self, character: usize) -> usize {
        match self {
            Offsets::Ascii => character,
            Offsets::Bytes(starts) => {
                let start = starts.get(character).or(starts.last()).copied().unwrap_or(0);
                start as usize
            }
        }
    }
}

/// A list or mapping that has begun and not ended.
struct Open {
    span: Span,
    anchor: usize,
    children: Children,
}

enum Children {
    List(Vec<Node>),
    Mapping(OpenMapping),
}

#[derive(Default)]
struct OpenMapping {
    entries: Vec<Entry>,
    /// Where each key of `entries` stands: a mapping of 100,000 keys must not cost their square.
    seen: HashMap<String, Span>,
    /// What stands behind `<<`.
    merges: Vec<Node>,
    /// The key whose value comes next.
    key: Option<(String, Span, Style)>,
}

impl OpenMapping {
    /// <https://yaml.org/type/merge.html>: keys that are there win over merged ones, earlier merges over later ones.
    fn merge(&mut self, merged: Node, report: &mut Report) {
        match merged.value {
            Value::Mapping(merged) => {
                for entry in merged {
                    if !self.seen.contains_key(&entry.key) {
                        self.seen.insert(entry.key.clone(), entry.key_span);
                        self.entries.push(entry);
                    }
                }
            }
            Value::List(list) if list.iter().all(|item| matches!(item.value, Value::Mapping(_))) => {
                for item in list {
                    self.merge(item, report);
                }
            }
            _ => {
                report.error(merged.span, "`<<` merges a mapping", "write an alias to one, such as `<<: *name`");
            }
        }
    }
}

struct Builder<'a> {
    file: FileId,
    offsets: Offsets,
    report: &'a mut Report,
    open: Vec<Open>,
    anchors: HashMap<usize, Node>,
    n_aliased: usize,
}

impl Builder<'_> {
    fn span(&self, marks: Marks) -> Span {
        let start = self.offsets.byte(marks.start.index());
        Span::new(self.file, start..self.offsets.byte(marks.end.index()).max(start))
    }

    fn step(&mut self, event: Event<'_>, marks: Marks, root: &mut Option<Node>) -> Result<(), Mistake> {
        let span = self.span(marks);
        match event {
            Event::Nothing | Event::StreamStart | Event::StreamEnd | Event::DocumentEnd => Ok(()),
            Event::DocumentStart(_) if root.is_some() => {
                Err(Mistake::new(span, "a second YAML document begins here", "remove the `---`, or use `include`"))
            }
            Event::DocumentStart(_) => Ok(()),
            Event::Scalar(text, style, anchor, tag) => {
                let style = style_of(style, tag.as_deref(), span)?;
                let node = Node { span, value: Value::Scalar(Text { text: text.into_owned(), style }) };
                self.complete(node, anchor, root)
            }
            Event::Alias(anchor) => {
                let node = self.alias(anchor, span)?;
                self.complete(node, 0, root)
            }
            Event::SequenceStart(anchor, tag) => {
                core_tag(tag.as_deref(), span)?;
                self.begin(span, anchor, Children::List(Vec::new()))
            }
            Event::MappingStart(anchor, tag) => {
                core_tag(tag.as_deref(), span)?;
                self.begin(span, anchor, Children::Mapping(OpenMapping::default()))
            }
            Event::SequenceEnd | Event::MappingEnd => self.end(root),
        }
    }

    fn begin(&mut self, span: Span, anchor: usize, children: Children) -> Result<(), Mistake> {
        if self.open.len() >= DEPTH_MAX {
            let message = format!("nesting deeper than {DEPTH_MAX} levels");
            return Err(Mistake::new(span, message, "no configuration needs that; is a bracket left open?"));
        }
        if let Some(Open { children: Children::Mapping(OpenMapping { key: None, .. }), .. }) = self.open.last() {
            return Err(key_is_not_text(span));
        }
        // A flow collection's span is its bracket. A block collection has none of its own.
        self.open.push(Open { span: span.at_start(), anchor, children });
        Ok(())
    }

    fn end(&mut self, root: &mut Option<Node>) -> Result<(), Mistake> {
        let Some(open) = self.open.pop() else { return Ok(()) };
        let value = match open.children {
            Children::List(items) => Value::List(items),
            Children::Mapping(mut mapping) => {
                for merged in std::mem::take(&mut mapping.merges) {
                    mapping.merge(merged, self.report);
                }
                Value::Mapping(mapping.entries)
            }
        };
        self.complete(Node { span: open.span, value }, open.anchor, root)
    }

    /// Hands a finished node to its anchor and to the collection it stands in.
    fn complete(&mut self, node: Node, anchor: usize, root: &mut Option<Node>) -> Result<(), Mistake> {
        if anchor != 0 {
            self.anchors.insert(anchor, node.clone());
        }
        let Some(open) = self.open.last_mut() else {
            *root = Some(node);
            return Ok(());
        };
        match &mut open.children {
            Children::List(items) => items.push(node),
            Children::Mapping(mapping) => match mapping.key.take() {
                None => {
                    let Value::Scalar(Text { text, style }) = node.value else {
                        return Err(key_is_not_text(node.span));
                    };
                    mapping.key = Some((text, node.span, style));
                }
                Some((key, key_span, style)) => {
                    let is_merge = style == Style::Plain && key == "<<";
                    if let Some(&first) = mapping.seen.get(&key) {
                        let help = match is_merge {
                            true => "again here; merge several at once: `<<: [*one, *two]`",
                            false => "again here; keep one of them",
                        };
                        self.report.error(key_span, format!("`{key}` is here twice"), help).also(first, "first here");
                        return Ok(());
                    }
                    mapping.seen.insert(key.clone(), key_span);
                    match is_merge {
                        true => mapping.merges.push(node),
                        false => mapping.entries.push(Entry { key, key_span, value: node }),
                    }
                }
            },
        }
        Ok(())
    }

    fn alias(&mut self, anchor: usize, span: Span) -> Result<Node, Mistake> {
        let Some(node) = self.anchors.get(&anchor) else {
            return Err(Mistake::new(span, "this alias stands inside its own anchor", "an anchor cannot hold itself"));
        };
        self.n_aliased += node.n_nodes();
        if self.n_aliased > ALIASED_NODES_MAX {
            let message = format!("aliases add more than {ALIASED_NODES_MAX} values to this file");
            return Err(Mistake::new(span, message, "use fewer aliases of aliases"));
        }
        Ok(node.clone())
    }

    /// What the parser said, in words that lead somewhere.
    fn not_yaml(&self, error: &ScanError, text: &str) -> Mistake {
        let at = self.offsets.byte(error.marker().index()).min(text.len());
        if let Some(tab) = tab_in_indentation(text, at) {
            let span = Span::new(self.file, tab..tab + 1);
            return Mistake::new(span, "a tab in the indentation", "YAML indents with spaces only; use two");
        }
        if let Some(variable) = unquoted_variable(text, at) {
            let help = format!("write it in quotes: \"{}\"", &text[variable.clone()]);
            return Mistake::new(
                Span::new(self.file, variable),
                "a variable without quotes inside of `{ }` or `[ ]`",
                help,
            );
        }
        let misses_key = ["simple key", "mapping values are not allowed"].iter().any(|why| error.info().contains(why));
        if let Some(key) = key_without_space(text, at).filter(|_| misses_key) {
            let help = format!("write a space after `{}`", &text[key.clone()]);
            return Mistake::new(Span::new(self.file, key), "a key without a space after its colon", help);
        }
        let span = Span::new(self.file, at..at);
        match error.info() {
            info if info.contains("recursion limit") => {
                Mistake::new(span, "nesting too deep", "no configuration needs that; is a bracket left open?")
            }
            info if info.contains("unknown anchor") && text[at..].starts_with("*.") => {
                let host = text[at..].split([' ', ',', ']', '}', '\r', '\n']).next().unwrap_or_default();
                let help = format!("write it in quotes: \"{host}\"");
                Mistake::new(span, "a `*` without quotes: YAML takes it for an alias", help)
            }
            info if info.contains("expected '-' indicator") => {
                let help = "begin it with `-`, or indent it as far as the keys of the entry that it belongs to";
                Mistake::new(span, "this line is neither an entry of the list above it nor part of one", help)
            }
            info if info.contains("unknown anchor") => {
                Mistake::new(span, "no anchor of this name", "define it earlier in the file with `&name`")
            }
            info => {
                Mistake::new(span, format!("not valid YAML: {info}"), "check quotes, colons and indentation up to here")
            }
        }
    }
}

/// `timeout:` of a line such as `timeout:3s`, in the line of byte `at` or in the last one before it that says anything.
fn key_without_space(text: &str, at: usize) -> Option<Range<usize>> {
    let end = text[at..].find('\n').map_or(text.len(), |n| at + n);
    let mut start = end;
    let lines = text[..end].rsplit('\n').map(|line| {
        start -= line.len();
        let line_start = start;
        start = start.saturating_sub(1);
        (line_start, line)
    });
    let said = lines.take(LINES_LOOKED_BACK).filter(|(_, line)| !line.trim().is_empty()).take(2);
    said.filter_map(|(start, line)| {
        let n_before = line.len() - line.trim_start_matches(' ').len();
        let key = glued_key(&line[n_before..])?;
        Some(start + n_before..start + n_before + key.len())
    })
    .next()
}

/// Empty lines are few between a mistake and where the parser stumbles over it.
const LINES_LOOKED_BACK: usize = 16;

/// `backends:` of text such as `backends:[a]`, which YAML takes for text and nothing else.
pub(super) fn glued_key(text: &str) -> Option<&str> {
    let n_name = text.bytes().take_while(|byte| byte.is_ascii_lowercase() || *byte == b'_').count();
    let rest = text[n_name..].strip_prefix(':').filter(|_| n_name > 0)?;
    let is_glued = rest.starts_with(|next: char| !next.is_whitespace() && next != '/');
    is_glued.then(|| &text[..=n_name])
}

/// The tab that most likely caused an error at byte `at`: in the indentation of its line or of the line before.
fn tab_in_indentation(text: &str, at: usize) -> Option<usize> {
    let mut end = at;
    for _ in 0..2 {
        let start = text[..end].rfind('\n').map_or(0, |idx| idx + 1);
        let line = &text[start..];
        let indentation = line.len() - line.trim_start_matches([' ', '\t']).len();
        if let Some(tab) = line[..indentation].find('\t') {
            return Some(start + tab);
        }
        end = start.saturating_sub(1);
    }
    None
}

/// The `${VAR}` whose brace caused an error at byte `at`: inside of a flow collection it opens a mapping.
fn unquoted_variable(text: &str, at: usize) -> Option<Range<usize>> {
    let is_brace = text[at..].starts_with('{') && text[..at].ends_with('$');
    let end = text[at..].find(['}', '\n']).filter(|_| is_brace)?;
    text[at + end..].starts_with('}').then_some(at - 1..at + end + 1)
}

fn key_is_not_text(span: Span) -> Mistake {
    Mistake::new(span, "a key must be plain text", "for text that begins with `{`, `[` or `*`, use quotes")
}

fn style_of(style: ScalarStyle, tag: Option<&Tag>, span: Span) -> Result<Style, Mistake> {
    core_tag(tag, span)?;
    let is_str = tag.is_some_and(|tag| tag.suffix == "str");
    Ok(if style == ScalarStyle::Plain && !is_str { Style::Plain } else { Style::Quoted })
}

fn core_tag(tag: Option<&Tag>, span: Span) -> Result<(), Mistake> {
    match tag {
        Some(tag) if !tag.is_yaml_core_schema() => {
            Err(Mistake::new(span, format!("the tag `{tag}` means nothing here"), "remove it"))
        }
        _ => Ok(()),
    }
}

/// The YAML path of each of the places in `wanted`: of the key or value that stands there, or that the place is a part of.
///
/// Only these are spelled out: a tree has half a million nodes, a report a thousand places.
pub fn paths(trees: &[Node], wanted: impl Iterator<Item = Span>) -> HashMap<Span, String> {
    let mut wanted: Vec<Span> = wanted.filter(|span| span.is_some()).collect();
    wanted.sort_unstable();
    let mut search = PathSearch { wanted, found: HashMap::new(), path: Vec::new() };
    for tree in trees {
        search.visit(tree);
    }
    search.found.into_iter().map(|(span, (_, path))| (span, path)).collect()
}

/// Whether a key can stand in a path as it is; a name with a dot in it would look like two.
fn is_word(key: &str) -> bool {
    let is_plain = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '<');
    !key.is_empty() && key.len() <= KEY_SHOWN_MAX && key.chars().all(is_plain)
}

/// Longer keys are cut off where a path is printed, in bytes.
const KEY_SHOWN_MAX: usize = 64;

fn shortened(key: &str) -> String {
    match key.char_indices().nth(KEY_SHOWN_MAX) {
        Some((end, _)) => format!("{}…", &key[..end]),
        None => key.to_owned(),
    }
}

struct PathSearch<'n> {
    wanted: Vec<Span>,
    /// The path, and whether the place is all of what stands there.
    found: HashMap<Span, (Extent, String)>,
    path: Vec<Step<'n>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Extent {
    Part,
    Whole,
}

enum Step<'n> {
    Key(&'n str),
    Index(usize),
}

impl<'n> PathSearch<'n> {
    fn visit(&mut self, node: &'n Node) {
        self.match_span(node.span);
        match &node.value {
            Value::Scalar(_) => {}
            Value::List(items) => {
                for (idx, item) in items.iter().enumerate() {
                    self.path.push(Step::Index(idx));
                    self.visit(item);
                    self.path.pop();
                }
            }
            Value::Mapping(entries) => {
                for entry in entries {
                    self.path.push(Step::Key(&entry.key));
                    self.match_span(entry.key_span);
                    self.visit(&entry.value);
                    self.path.pop();
                }
            }
        }
    }

    fn match_span(&mut self, span: Span) {
        let from = self.wanted.partition_point(|wanted| *wanted < span.at_start());
        for wanted_idx in from..self.wanted.len() {
            let wanted = self.wanted[wanted_idx];
            if wanted.file() != span.file() || wanted.range().start > span.range().end {
                return;
            }
            let extent = if wanted == span { Extent::Whole } else { Extent::Part };
            let is_inside = wanted.range().end <= span.range().end && !span.range().is_empty();
            // Of an aliased value's paths, the first in the file.
            let is_better = match self.found.get(&wanted) {
                None => extent == Extent::Whole || is_inside,
                Some((found, _)) => extent == Extent::Whole && *found == Extent::Part,
            };
            if is_better {
                let path = self.spell();
                self.found.insert(wanted, (extent, path));
            }
        }
    }

    fn spell(&self) -> String {
        self.path.iter().fold(String::new(), |path, step| match step {
            Step::Key(key) if !is_word(key) => format!("{path}[{:?}]", shortened(key)),
            Step::Key(key) if path.is_empty() => (*key).to_owned(),
            Step::Key(key) => format!("{path}.{key}"),
            Step::Index(idx) => format!("{path}[{idx}]"),
        })
    }
}
