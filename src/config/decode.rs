//! From the tree to the raw configuration: which keys there are, and whether a value is text, a list or a mapping.
//! Promises to go on after every mistake and to report each once. Does not know what any value should be.

use std::path::PathBuf;

use super::diagnostic::Report;
use super::expand::{self, Environment};
use super::scalar::{Kind, Scalar};
use super::source::Span;
use super::tree::{Entry, Node, Style, Value, glued_key};

/// Something that is read from a node of the tree.
pub trait Decode: Sized {
    /// Reads it, or reports why that cannot be done.
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self>;
}

/// What reading needs besides the node.
pub struct Decoder<'a> {
    /// Where variables come from.
    pub environment: &'a dyn Environment,
    /// Where mistakes go.
    pub report: &'a mut Report,
    /// The folder of the file that is read, as an absolute path: what paths in it are relative to.
    pub folder: PathBuf,
    /// What we are inside of, outermost first, as messages call it.
    within: Vec<String>,
}

impl<'a> Decoder<'a> {
    /// A decoder at the top level of a file in this folder.
    pub fn new(environment: &'a dyn Environment, folder: PathBuf, report: &'a mut Report) -> Self {
        Self { environment, report, folder, within: Vec::new() }
    }

    /// What is being read, as messages call it: `` `timeouts` of service `shop` ``.
    pub fn context(&self) -> String {
        self.within.iter().rev().map(String::as_str).collect::<Vec<_>>().join(" of ")
    }

    /// Reads a value inside of something that messages call `name`.
    pub fn inside<T: Decode>(&mut self, name: String, node: &Node) -> Option<T> {
        self.within.push(name);
        let value = T::decode(node, self);
        self.within.pop();
        value
    }

    /// Reports that a node is not what belongs here.
    pub fn expected(&mut self, what: &str, node: &Node) {
        let message = match self.context() {
            context if context.is_empty() => format!("this must be {what}, not {}", node.kind()),
            context => format!("{context} must be {what}, not {}", node.kind()),
        };
        let glued = match &node.value {
            Value::Scalar(text) if text.style == Style::Plain => glued_key(&text.text),
            _ => None,
        };
        let help = glued.map_or_else(|| format!("write {what}"), |key| format!("write a space after `{key}`"));
        self.report.error(node.span, message, help);
    }

    /// Reads a mapping key by key and reports the keys that `read` did not ask for.
    pub fn mapping<T>(&mut self, node: &Node, example: &str, read: impl FnOnce(&mut Keys<'_, 'a>) -> T) -> Option<T> {
        let Value::Mapping(entries) = &node.value else {
            self.expected(example, node);
            return None;
        };
        let mut keys = Keys {
            decoder: self,
            entries,
            span: node.span,
            known: Vec::new(),
            later: &[],
            hints: &[],
            extension_help: None,
        };
        let value = read(&mut keys);
        keys.close();
        Some(value)
    }
}

/// The keys of one mapping while it is read.
pub struct Keys<'n, 'a> {
    /// The decoder, at this mapping.
    pub decoder: &'n mut Decoder<'a>,
    entries: &'n [Entry],
    span: Span,
    known: Vec<&'static str>,
    later: &'static [&'static str],
    hints: &'static [(&'static str, &'static str)],
    extension_help: Option<&'static str>,
}

impl Keys<'_, '_> {
    /// The value of a key; `None` if it is not there, is null, or was reported.
    pub fn get<T: Decode>(&mut self, key: &'static str) -> Option<T> {
        self.known.push(key);
        let entry = self.entries.iter().find(|entry| entry.key == key)?;
        if entry.value.is_null() {
            return None;
        }
        self.decoder.inside(format!("`{key}`"), &entry.value)
    }

    /// The value of a key that has no default: with nothing behind it, somebody has forgotten something.
    pub fn filled<T: Decode>(&mut self, key: &'static str) -> Option<T> {
        if let Some(entry) = self.entries.iter().find(|entry| entry.key == key && entry.value.is_null()) {
            let message = format!("`{key}` of {} is empty", self.decoder.context());
            self.decoder.report.error(entry.key_span, message, "write its value, or remove the line");
        }
        self.get(key)
    }

    /// The value of a key that this mapping cannot do without.
    pub fn required<T: Decode>(&mut self, key: &'static str) -> Option<T> {
        self.required_as(key, &format!("add `{key}:`"))
    }

    /// The value of a key that this mapping cannot do without, and what to do where it is missing.
    pub fn required_as<T: Decode>(&mut self, key: &'static str, help: &str) -> Option<T> {
        if !self.has_value(key) && !self.has_misspelled(key) {
            let message = format!("{} has no `{key}`", self.decoder.context());
            self.decoder.report.error(self.span, message, help);
        }
        self.get(key)
    }

    /// Whether a key is there and not null.
    pub fn has_value(&self, key: &str) -> bool {
        self.entries.iter().any(|entry| entry.key == key && !entry.value.is_null())
    }

    /// Whether there is a key that most likely should be this one.
    pub fn has_misspelled(&self, key: &'static str) -> bool {
        self.entries.iter().any(|entry| entry.key != key && meant(&entry.key, std::iter::once(key)) == Some(key))
    }

    /// Where a key stands, if it is there.
    pub fn span_of(&self, key: &str) -> Option<Span> {
        self.entries.iter().find(|entry| entry.key == key).map(|entry| entry.key_span)
    }

    /// Keys of the language that this version does not implement: an honest error each, not "unknown key".
    pub fn later(&mut self, keys: &'static [&'static str]) {
        self.later = keys;
    }

    /// Keys that people write here although they belong elsewhere, each with what to do instead.
    pub fn hints(&mut self, hints: &'static [(&'static str, &'static str)]) {
        self.hints = hints;
    }

    /// Warns of keys in `x-`: they are left out here as everywhere, but most likely mean something.
    pub fn doubt_extensions(&mut self, help: &'static str) {
        self.extension_help = Some(help);
    }

    fn close(self) {
        let Keys { decoder, entries, known, later, hints, extension_help, .. } = self;
        for entry in entries.iter().filter(|entry| !known.contains(&entry.key.as_str())) {
            if decoder.report.is_full() {
                continue;
            }
            if entry.key.starts_with("x-") {
                if let Some(help) = extension_help {
                    let message = format!("`{}` does nothing here: keys in `x-` are for notes and anchors", entry.key);
                    decoder.report.warning(entry.key_span, message, help);
                }
                continue;
            }
            if later.contains(&entry.key.as_str()) {
                let message = format!("`{}` is not in this version of Portway yet", entry.key);
                decoder.report.error(entry.key_span, message, "remove it for now");
                continue;
            }
            let place = match decoder.context() {
                context if context.is_empty() => "at the top level".to_owned(),
                context => format!("in {context}"),
            };
            let is_top_level = decoder.within.is_empty();
            let hint = hints.iter().find(|(key, _)| *key == entry.key);
            let help = match (hint, is_top_level && looks_like_service(&entry.value)) {
                (Some((_, help)), _) => (*help).to_owned(),
                (None, true) => format!("if `{}` is a service, indent it below `services:`", entry.key),
                (None, false) => help_for(&entry.key, &known, later, is_top_level),
            };
            decoder.report.error(entry.key_span, format!("unknown key `{}` {place}", entry.key), help);
        }
    }
}

/// What other tools call what we call otherwise.
const SYNONYMS: [(&str, &str); 55] = [
    ("upstreams", "backends"),
    ("upstream", "backends"),
    ("servers", "backends"),
    ("endpoints", "backends"),
    ("targets", "backends"),
    ("hosts", "host"),
    ("rule", "route"),
    ("match", "route"),
    ("location", "route"),
    ("strategy", "balance"),
    ("lb_policy", "balance"),
    ("load_balancing", "balance"),
    ("ports", "listen"),
    ("bind", "listen"),
    ("entrypoints", "listen"),
    ("prefix", "path"),
    ("healthcheck", "health"),
    ("health_check", "health"),
    ("interval", "every"),
    ("rise", "healthy_after"),
    ("fall", "unhealthy_after"),
    ("status", "expect"),
    ("outlier_detection", "ejection"),
    ("retry", "retries"),
    ("num_retries", "attempts"),
    ("retry_on", "when"),
    ("on", "when"),
    ("hedging", "hedge"),
    ("ports", "port"),
    ("containers", "container"),
    ("labels", "label"),
    ("env", "environment"),
    ("mem_limit", "memory"),
    ("mem", "memory"),
    ("cpu", "cpus"),
    ("pull_policy", "pull"),
    ("stop_grace_period", "stop_timeout"),
    ("grace_period", "stop_timeout"),
    ("scale", "replicas"),
    ("scale", "autoscale"),
    ("scaling", "autoscale"),
    ("autoscaling", "autoscale"),
    ("minReplicas", "min"),
    ("min_replicas", "min"),
    ("min_scale", "min"),
    ("maxReplicas", "max"),
    ("max_replicas", "max"),
    ("max_scale", "max"),
    ("target", "target_in_flight"),
    ("concurrency", "target_in_flight"),
    ("target_concurrency", "target_in_flight"),
    ("cooldown", "idle"),
    ("webhook", "hook"),
    ("exec", "command"),
    ("host", "endpoint"),
];

fn help_for(key: &str, known: &[&'static str], later: &[&'static str], is_top_level: bool) -> String {
    let synonym =
        SYNONYMS.into_iter().find(|(other, ours)| *other == key && known.contains(ours)).map(|(_, ours)| ours);
    if let Some(near) = synonym.or_else(|| nearest(key, known.iter().chain(later).copied())) {
        return format!("did you mean `{near}`?");
    }
    if is_top_level && SERVICE_ONLY.contains(&key) {
        return format!("it belongs to a service: services.NAME.{key}");
    }
    if !is_top_level && TOP_LEVEL_ONLY.contains(&key) {
        return "it belongs to the top level of the file".to_owned();
    }
    format!("known here: {}", known.join(", "))
}

/// A service that is not indented, or that stands there without `services:`.
fn looks_like_service(value: &Node) -> bool {
    let Value::Mapping(entries) = &value.value else { return false };
    entries.iter().any(|entry| SERVICE_ONLY.contains(&entry.key.as_str()))
}

/// The known key that was most likely meant.
fn meant(key: &str, known: impl Iterator<Item = &'static str> + Clone) -> Option<&'static str> {
    let is_known = |word: &str| known.clone().any(|known| known == word);
    let synonym = SYNONYMS.into_iter().find(|(other, ours)| *other == key && is_known(ours)).map(|(_, ours)| ours);
    synonym.or_else(|| nearest(key, known))
}

/// Keys that people put one level too high.
const SERVICE_ONLY: [&str; 12] = [
    "backends",
    "route",
    "balance",
    "timeout",
    "timeouts",
    "queue",
    "health",
    "retries",
    "docker",
    "container",
    "swarm",
    "autoscale",
];
/// Keys that people put one level too low.
const TOP_LEVEL_ONLY: [&str; 5] = ["listen", "admin", "workers", "services", "include"];

/// The word that was most likely meant: at most a third of its letters wrong.
pub fn nearest<'w>(typed: &str, words: impl Iterator<Item = &'w str>) -> Option<&'w str> {
    let lower = typed.to_ascii_lowercase().replace('-', "_");
    words
        .map(|word| (strsim::damerau_levenshtein(&lower, word), word))
        .filter(|(distance, word)| *distance <= (word.len().max(3)) / 3)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, word)| word)
}

impl<K: Kind> Decode for Scalar<K> {
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let Value::Scalar(text) = &node.value else {
            decoder.expected(K::EXPECTED, node);
            return None;
        };
        match expand::expand(&text.text, decoder.environment) {
            Ok(value) => Some(Scalar::new(&text.text, value, text.style, node.span)),
            Err(error) => {
                decoder.report.error(node.span, error.message, error.help);
                None
            }
        }
    }
}

impl<T: Decode> Decode for Vec<T> {
    /// A list of one may be written without the list.
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let Value::List(items) = &node.value else {
            return T::decode(node, decoder).map(|item| vec![item]);
        };
        let mut read = Vec::with_capacity(items.len());
        for item in items {
            if decoder.report.is_full() {
                break;
            }
            if item.is_null() {
                decoder.report.error(item.span, format!("an empty entry in {}", decoder.context()), "remove the `-`");
                continue;
            }
            read.extend(T::decode(item, decoder));
        }
        Some(read)
    }
}

/// A mapping whose keys are names that the user chose, in the order of the file.
#[derive(Clone, Debug)]
pub struct Named<T>(pub Vec<Name<T>>);

/// A name, where it stands, and what it names.
#[derive(Clone, Debug)]
pub struct Name<T> {
    /// The name.
    pub name: String,
    /// Where it stands.
    pub span: Span,
    /// What it names.
    pub value: T,
}

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T: Decode + Default> Name<T> {
    fn decode(entry: &Entry, name: String, decoder: &mut Decoder<'_>) -> Option<Self> {
        let value = if entry.value.is_null() { Some(T::default()) } else { decoder.inside(name, &entry.value) };
        value.map(|value| Name { name: entry.key.clone(), span: entry.key_span, value })
    }
}

impl<T: Decode + Default> Decode for Named<T> {
    /// Names may begin with `x-` here: those of header fields do.
    fn decode(node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let Value::Mapping(entries) = &node.value else {
            decoder.expected("a mapping such as { name: value }", node);
            return None;
        };
        let read = |entry: &Entry| Name::decode(entry, format!("`{}`", entry.key), decoder);
        Some(Self(entries.iter().filter_map(read).collect()))
    }
}

impl<T: Decode + Default> Named<T> {
    /// Reads a mapping whose entries messages call, for example, ``service `shop` ``; names in `x-` are left out.
    pub fn decode_as(noun: &str, node: &Node, decoder: &mut Decoder<'_>) -> Option<Self> {
        let Value::Mapping(entries) = &node.value else {
            decoder.expected("a mapping of names", node);
            return None;
        };
        let outer = std::mem::take(&mut decoder.within);
        let mut named = Vec::with_capacity(entries.len());
        for entry in entries.iter().filter(|entry| !entry.key.starts_with("x-")) {
            named.extend(Name::decode(entry, format!("{noun} `{}`", entry.key), decoder));
        }
        decoder.within = outer;
        Some(Self(named))
    }
}
