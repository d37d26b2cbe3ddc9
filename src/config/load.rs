//! Reads a configuration: the file, what it includes, its variables; and writes YAML.
//! Promises every mistake of all files at once. The one place that names the YAML crate `serde_yaml`.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::io::{self, Read as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use rustix::fs::OFlags;
use serde::Serialize;

use super::checked;
use super::decode::{Decode, Decoder};
use super::diagnostic::{Diagnostics, Report};
use super::expand::Environment;
use super::include::{self, PatternError};
use super::inputs::{Fingerprint, Hashing, Inputs};
use super::raw::{self, kind};
use super::scalar::Scalar;
use super::source::{Sources, Span};
use super::tree::{self, FILE_BYTES_MAX, Node};
use super::validate;

/// A pipe such as `<(generate)` is given this much time for its next bytes, so many times in all.
const PIPE_WAIT: Duration = Duration::from_millis(20);
const PIPE_WAITS_MAX: u32 = 250;

/// A configuration that may run.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// What runs.
    pub config: checked::Config,
    /// What was typed, included services among it, for `config show`.
    pub raw: raw::Config,
    /// What is odd about it; never an error.
    pub warnings: Diagnostics,
    /// Every file that was read, the main one first.
    pub files: Vec<PathBuf>,
}

/// Reads a file and what it includes.
pub fn read(path: &Path, environment: &dyn Environment) -> Result<Loaded, Diagnostics> {
    read_all(path, environment).result
}

/// What came of reading a file, and where it was read from: known as far as it came, also if it is wrong.
#[derive(Debug)]
pub struct Outcome {
    /// The configuration or its mistakes.
    pub result: Result<Loaded, Diagnostics>,
    /// The files.
    pub inputs: Inputs,
    /// What was in them.
    pub fingerprint: Fingerprint,
}

/// Reads a file and what it includes, for whoever wants to know when to read it again.
pub fn read_all(path: &Path, environment: &dyn Environment) -> Outcome {
    let mut reading = Reading::new(environment, &path.display().to_string());
    let main = Named { path: path.to_owned(), shown: path.display().to_string(), at: Span::NONE };
    let tree = reading.file(&main);
    reading.finish(tree, path)
}

/// Where a file says that its instance is asked, however wrong the rest of it is: `None` if that cannot be told, or if nobody
/// can be asked.
pub fn admin(path: &Path, environment: &dyn Environment) -> Option<checked::Admin> {
    let text = String::from_utf8(read_at_most(path, FILE_BYTES_MAX).ok()?).ok()?;
    let is_flow = text.lines().find(|line| !line.trim().is_empty() && !line.starts_with('#'))?.starts_with('{');
    if is_flow {
        return None;
    }
    let part = top_level(&text, "admin:");
    if part.is_empty() {
        return validate::admin(None);
    }
    let mut reading = Reading::new(environment, &path.display().to_string());
    let tree_idx = reading.text(&path.display().to_string(), part)?;
    let raw = reading.decode::<raw::Config>(tree_idx)?;
    raw.admin.as_ref().and_then(|admin| validate::admin(Some(admin)))
}

/// The lines of a key at the top level of a block mapping; none if it is not there.
fn top_level(text: &str, key: &str) -> String {
    let mut lines = text.lines().skip_while(|line| !line.starts_with(key));
    let first = lines.next().into_iter();
    let below = lines.take_while(|line| line.is_empty() || line.starts_with([' ', '\t', '#']));
    first.chain(below).map(|line| format!("{line}\n")).collect()
}

/// Reads a text as if it stood in a file of that name; `include` is relative to it.
pub fn parse(text: &str, file_name: &str, environment: &dyn Environment) -> Result<Loaded, Diagnostics> {
    let mut reading = Reading::new(environment, file_name);
    let tree = match text.len() > FILE_BYTES_MAX {
        true => reading.too_large(file_name, Span::NONE),
        false => reading.text(file_name, text.to_owned()),
    };
    reading.finish(tree, Path::new(file_name)).result
}

/// Anything that serde can write, as YAML; what is `None` is left out.
pub fn to_yaml(value: &impl Serialize) -> String {
    let value = serde_yaml::to_value(value).expect("the raw configuration has text keys only");
    let mut text = serde_yaml::to_string(&without_nulls(value)).expect("a YAML value can be written");
    text.truncate(text.trim_end().len());
    text + "\n"
}

fn without_nulls(value: serde_yaml::Value) -> serde_yaml::Value {
    use serde_yaml::Value;
    match value {
        Value::Mapping(entries) => {
            let entries = entries.into_iter().filter(|(_, value)| !value.is_null());
            Value::Mapping(entries.map(|(key, value)| (key, without_nulls(value))).collect())
        }
        Value::Sequence(items) => Value::Sequence(items.into_iter().map(without_nulls).collect()),
        scalar => scalar,
    }
}

/// Whether a file says nothing: an included one may, as one does whose services are all commented out.
fn is_blank(text: &str) -> bool {
    text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with('#'))
}

/// A file and who names it.
struct Named {
    path: PathBuf,
    /// What messages call it: variables unexpanded.
    shown: String,
    /// Where another file names it.
    at: Span,
}

/// What gathers while files are read.
struct Reading<'a> {
    environment: &'a dyn Environment,
    name: String,
    sources: Sources,
    report: Report,
    trees: Vec<Node>,
    files: Vec<PathBuf>,
    inputs: Inputs,
    hashing: Hashing,
}

impl<'a> Reading<'a> {
    fn new(environment: &'a dyn Environment, name: &str) -> Self {
        let (sources, report) = (Sources::default(), Report::default());
        let (name, inputs) = (name.to_owned(), Inputs::new(Path::new(name)));
        let (trees, files, hashing) = (Vec::new(), Vec::new(), Hashing::default());
        Self { environment, name, sources, report, trees, files, inputs, hashing }
    }

    /// The tree of a file.
    fn file(&mut self, file: &Named) -> Option<usize> {
        let Named { path, shown, at } = file;
        self.files.push(path.clone());
        let content = read_at_most(path, FILE_BYTES_MAX + 1);
        self.hashing.add(path, &content);
        let bytes = match content {
            Ok(bytes) if bytes.len() > FILE_BYTES_MAX => return self.too_large(shown, *at),
            Ok(bytes) => bytes,
            Err(error) => {
                let help = match error.kind() {
                    io::ErrorKind::NotFound if shown.contains('[') => "a pattern may have `*` and `?`, no `[…]`",
                    io::ErrorKind::NotFound if at.is_some() => "it is looked for relative to this file",
                    io::ErrorKind::NotFound if shown == "-" => "standard input is /dev/stdin",
                    io::ErrorKind::NotFound => "`portway init` writes a file to begin with",
                    io::ErrorKind::PermissionDenied => "may this user read it, and its folder?",
                    io::ErrorKind::IsADirectory => "name the file in it",
                    _ => "",
                };
                self.report.error(*at, format!("cannot read {shown}: {}", reason(&error)), help);
                return None;
            }
        };
        let name = path.display().to_string();
        match String::from_utf8(bytes) {
            Ok(text) if at.is_some() && is_blank(&text) => None,
            Ok(text) => self.text(&name, text),
            Err(error) => self.not_utf8(&name, &error),
        }
    }

    fn text(&mut self, name: &str, text: String) -> Option<usize> {
        let file = self.sources.add(name, text.clone());
        let tree = tree::parse(file, &text, &mut self.report);
        let is_empty = tree.as_ref().is_some_and(Node::is_null) || (tree.is_none() && !self.report.has_errors());
        if is_empty {
            let help = "the smallest configuration is: services: { web: { backends: [\"127.0.0.1:5000\"] } }";
            self.report.error(Span::new(file, 0..0), format!("{name} is empty"), help);
            return None;
        }
        self.trees.push(tree?);
        Some(self.trees.len() - 1)
    }

    fn too_large(&mut self, name: &str, at: Span) -> Option<usize> {
        let message = format!("{name} is larger than {} KiB", FILE_BYTES_MAX / 1024);
        let help = "is this the right file? If it is, spread its services over several and `include` them";
        self.report.error(at, message, help);
        None
    }

    fn not_utf8(&mut self, name: &str, error: &std::string::FromUtf8Error) -> Option<usize> {
        let bytes = error.as_bytes();
        let (message, at) = match bytes {
            [0xff, 0xfe, ..] | [0xfe, 0xff, ..] => ("the file is UTF-16, not UTF-8", 0),
            _ => ("the file is not UTF-8 from here on", error.utf8_error().valid_up_to()),
        };
        let file = self.sources.add(name, String::from_utf8_lossy(bytes).into_owned());
        self.report.error(Span::new(file, at..at), message, "save it as UTF-8");
        None
    }

    fn decode<T: Decode>(&mut self, tree_idx: usize) -> Option<T> {
        let tree = &self.trees[tree_idx];
        let file = self.sources.file(tree.span).map_or("", |file| file.name.as_str());
        T::decode(tree, &mut Decoder::new(self.environment, folder_of(Path::new(file)), &mut self.report))
    }

    fn finish(mut self, tree_idx: Option<usize>, path: &Path) -> Outcome {
        let raw = tree_idx.and_then(|idx| self.decode::<raw::Config>(idx));
        let loaded = raw.and_then(|mut raw| {
            self.include(&mut raw, path);
            let config = validate::validate(&raw, &mut self.report)?;
            Some((config, raw))
        });
        let Reading { name, sources, report, trees, files, mut inputs, hashing, .. } = self;
        inputs.main = path.to_owned();
        let is_refused = report.has_errors();
        let diagnostics = report.finish(sources, &trees, &name);
        let result = match loaded {
            Some((config, raw)) if !is_refused => Ok(Loaded { config, raw, warnings: diagnostics, files }),
            _ => Err(diagnostics),
        };
        Outcome { result, inputs, fingerprint: hashing.finish() }
    }

    /// Adds the services of the included files.
    fn include(&mut self, raw: &mut raw::Config, path: &Path) {
        let base = path.parent().unwrap_or(Path::new(""));
        let patterns = raw.include.clone().unwrap_or_default();
        self.inputs.includes = patterns.iter().map(|pattern| pattern.value().to_owned()).collect();
        let mut services = raw.services.take().unwrap_or_default();
        let mut places: HashMap<String, Span> =
            services.0.iter().map(|named| (named.name.clone(), named.span)).collect();
        for file in patterns.iter().flat_map(|pattern| self.matching(base, pattern)).collect::<Vec<_>>() {
            if self.files.contains(&file.path) {
                continue;
            }
            let tree_idx = self.file(&file);
            let included = tree_idx.and_then(|idx| self.decode::<raw::Included>(idx));
            for named in included.and_then(|included| included.services).unwrap_or_default().0 {
                if let Some(&first) = places.get(&named.name) {
                    let message = format!("two files have a service `{}`", named.name);
                    self.report.error(named.span, message, "again here; rename one of them").also(first, "first here");
                    continue;
                }
                places.insert(named.name.clone(), named.span);
                services.0.push(named);
            }
        }
        raw.services = Some(services);
    }

    fn matching(&mut self, base: &Path, pattern: &Scalar<kind::Text>) -> Vec<Named> {
        let span = pattern.span();
        let shown = pattern.shown();
        let found = include::files(base, pattern.value());
        let (message, help) = match found {
            Ok(files) if files.is_empty() => {
                let message = format!("no file matches \"{shown}\"");
                self.report.warning(span, message, "it is looked for relative to this file");
                return Vec::new();
            }
            Ok(files) => {
                let shown = |path: &Path| match include::has_wildcard(pattern.value()) {
                    true => path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                    false => shown.to_owned(),
                };
                return files.into_iter().map(|path| Named { shown: shown(&path), path, at: span }).collect();
            }
            Err(PatternError::WildcardInFolder) => (
                format!("\"{shown}\" has a wildcard in a folder's name"),
                "wildcards are for the file's name; list the folders",
            ),
            Err(PatternError::TooMany) => {
                (format!("\"{shown}\" matches more than {} files", include::FILES_MAX), "use a narrower pattern")
            }
            Err(PatternError::Folder(error)) => (
                format!("cannot list the folder of \"{shown}\": {}", reason(&error)),
                "it is looked for relative to this file",
            ),
        };
        self.report.error(span, message, help);
        Vec::new()
    }
}

/// The folder of a file, as an absolute path; as it is if nobody knows where we are.
fn folder_of(file: &Path) -> PathBuf {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned())
}

/// What the system said, without its error number.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split_once(" (os error").map_or(text.as_str(), |(reason, _)| reason).to_lowercase()
}

/// Never more than a little above the limit, and never for long: the "file" may be an endless device, or a pipe into which
/// nobody writes.
pub(super) fn read_at_most(path: &Path, n_bytes: usize) -> io::Result<Vec<u8>> {
    let mut file = OpenOptions::new().read(true).custom_flags(OFlags::NONBLOCK.bits() as i32).open(path)?;
    let mut bytes = Vec::new();
    let mut n_waits = 0;
    loop {
        let left = n_bytes - bytes.len();
        match file.by_ref().take(left as u64).read_to_end(&mut bytes) {
            Ok(_) => return Ok(bytes),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock && n_waits < PIPE_WAITS_MAX => {
                n_waits += 1;
                thread::sleep(PIPE_WAIT);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                let waited = PIPE_WAIT * PIPE_WAITS_MAX;
                return Err(io::Error::new(io::ErrorKind::TimedOut, format!("nothing came out of it for {waited:?}")));
            }
            Err(error) => return Err(error),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::tree::Value;

    /// Our tree against the user's YAML crate: keys and lengths, since the tree leaves scalars as they were typed.
    fn same_shape(node: &Node, value: &serde_yaml::Value) -> bool {
        match (&node.value, value) {
            (Value::List(items), serde_yaml::Value::Sequence(values)) => {
                items.len() == values.len() && items.iter().zip(values).all(|(item, value)| same_shape(item, value))
            }
            (Value::Mapping(entries), serde_yaml::Value::Mapping(values)) => {
                entries.len() == values.len()
                    && entries
                        .iter()
                        .all(|entry| values.get(&entry.key).is_some_and(|value| same_shape(&entry.value, value)))
            }
            (Value::Scalar(text), value) => match value {
                serde_yaml::Value::String(string) => text.text == *string,
                serde_yaml::Value::Null => node.is_null(),
                value => !value.is_mapping() && !value.is_sequence(),
            },
            _ => false,
        }
    }

    #[test]
    fn where_to_ask_is_known_of_a_file_that_is_wrong_elsewhere() {
        let file = std::env::temp_dir().join(format!("portway-admin-{}.yaml", std::process::id()));
        for (text, address) in [
            ("services: { web: { tiemout: 1s } }\n", Some("127.0.0.1:9900")),
            ("# front\nadmin: \"127.0.0.1:7\"\nservices: [\n", Some("127.0.0.1:7")),
            ("services:\n  a: b: c\nadmin:\n  address: 127.0.0.1:8\n\n  token: abc\nlisten: :x\n", Some("127.0.0.1:8")),
            ("admin: off\nservices: 1\n", None),
            ("admin: nonsense\nservices: 1\n", None),
            ("{ admin: \"127.0.0.1:7\", services: [ }\n", None),
            ("", None),
        ] {
            std::fs::write(&file, text).unwrap();
            let admin = admin(&file, &crate::config::expand::ProcessEnvironment);
            assert_eq!(admin.map(|admin| admin.address.to_string()).as_deref(), address, "{text}");
        }
        std::fs::remove_file(file).unwrap();
    }

    #[test]
    fn two_yaml_parsers_agree_on_what_a_file_says() {
        let odd = "a: |\n  block\n  text\nb: >-\n  folded\n  text\nc: 'it''s'\nd: \"\\u00e9\\n\"\ne: [1, {f: ~}, off, 0x1f]\n\"g h\": &x {i: 1}\nj: *x\n";
        let examples = [
            include_str!("../../config/minimal.yaml"),
            include_str!("../../config/front-door.yaml"),
            include_str!("../../config/reference.yaml"),
            include_str!("../../config/containers.yaml"),
            odd,
        ];
        for text in examples {
            let file = Sources::default().add("a.yaml", text.to_owned());
            let tree = tree::parse(file, text, &mut Report::default()).expect("it is YAML");
            let value: serde_yaml::Value = serde_yaml::from_str(text).expect("it is YAML");
            assert!(same_shape(&tree, &value), "{tree:#?}\n{value:#?}");
        }
    }
}
