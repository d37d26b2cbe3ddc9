//! A source file as the rules look at it: its text, and its code without comments, literals and tests.
//! It promises that every line keeps its number. It is no parser: what it looks for is what rustfmt writes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;

/// One file below `src`.
pub(super) struct Source {
    /// Relative to `src`, such as `proxy/handler.rs`.
    pub(super) path: String,
    /// As it is.
    pub(super) text: String,
    /// Without comments, the content of literals, and tests: blanks stand in their place.
    pub(super) code: String,
}

/// A function in a file's code.
pub(super) struct Function<'a> {
    pub(super) name: &'a str,
    /// From the line before `fn` to the parameters: `pub(crate) async `.
    pub(super) qualifiers: &'a str,
    /// Between the parentheses.
    pub(super) parameters: &'a str,
    /// Where it begins.
    pub(super) line: usize,
    /// From `fn` to its last brace; 0 if it has no body.
    pub(super) n_lines: usize,
}

/// Every file below `src` that is not for tests alone, in the order of its path.
pub(super) fn all() -> &'static [Source] {
    static ALL: OnceLock<Vec<Source>> = OnceLock::new();
    ALL.get_or_init(read_all)
}

/// The text of every file below `folder` of the checkout, tests included.
pub(super) fn texts(folder: &str) -> Vec<String> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut sources = Vec::new();
    read_below(&root, &root, &mut sources);
    sources.into_iter().map(|source| source.text).collect()
}

fn read_all() -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut sources = Vec::new();
    read_below(&root, &root, &mut sources);
    let test_files: BTreeSet<String> = sources.iter().flat_map(test_modules).collect();
    let is_test = |path: &str| {
        let stem = path.trim_end_matches(".rs");
        test_files.iter().any(|test| stem == test || stem.starts_with(&format!("{test}/")))
    };
    sources.retain(|source| !is_test(&source.path));
    sources.sort_by(|a, b| a.path.cmp(&b.path));
    assert!(sources.len() > 50, "only {} files found below {}", sources.len(), root.display());
    sources
}

fn read_below(root: &Path, folder: &Path, sources: &mut Vec<Source>) {
    for entry in fs::read_dir(folder).expect("src can be listed") {
        let path = entry.expect("src can be listed").path();
        if path.is_dir() {
            read_below(root, &path, sources);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file is text");
            let relative = path.strip_prefix(root).expect("it is below").display().to_string();
            let code = without_tests(&blanked(&text));
            sources.push(Source { path: relative, text, code });
        }
    }
}

/// Files that `#[cfg(test)] mod NAME;` names, without their ending.
fn test_modules(source: &Source) -> Vec<String> {
    let stem = source.path.trim_end_matches(".rs");
    let folder = stem.strip_suffix("/mod").or_else(|| stem.strip_suffix("lib").map(|_| "")).unwrap_or(stem);
    let code = blanked(&source.text);
    let mut names = Vec::new();
    for (at, attribute) in code.match_indices("#[cfg(test)]") {
        let rest = code[at + attribute.len()..].trim_start();
        let Some((declared, _)) = rest.split_once([';', '{']) else { continue };
        let is_file = rest[declared.len()..].starts_with(';');
        if let (true, Some((_, name))) = (is_file, declared.rsplit_once("mod ")) {
            names.push(format!("{folder}/{name}").trim_start_matches('/').to_owned());
        }
    }
    names
}

impl Source {
    /// `proxy` of `proxy/handler.rs`, `app` of `app.rs`.
    pub(super) fn module(&self) -> &str {
        let first = self.path.split('/').next().expect("split gives at least one part");
        first.trim_end_matches(".rs")
    }

    /// Lines with code on them, tests aside.
    pub(super) fn n_code_lines(&self) -> usize {
        self.code.lines().filter(|line| !line.trim().is_empty()).count()
    }

    /// Every function with or without a body.
    pub(super) fn functions(&self) -> Vec<Function<'_>> {
        let code = &self.code;
        code.match_indices("fn ").filter_map(|(at, _)| function_at(code, at)).collect()
    }
}

fn function_at(code: &str, at: usize) -> Option<Function<'_>> {
    let qualifiers = &code[code[..at].rfind('\n').map_or(0, |newline| newline + 1)..at];
    if !qualifiers.is_empty() && !qualifiers.ends_with([' ', '\n']) {
        return None; // the end of another word
    }
    let rest = &code[at + "fn ".len()..];
    let name = &rest[..rest.find(|c: char| !c.is_alphanumeric() && c != '_')?];
    if name.is_empty() {
        return None; // the type `fn (…)`
    }
    let open = rest.find('(')?;
    let parameters = &rest[open + 1..open + closing(&rest[open..])?];
    let after = &rest[open + parameters.len() + 2..];
    let line = 1 + code[..at].matches('\n').count();
    let n_lines = match after.find(['{', ';']) {
        Some(brace) if after[brace..].starts_with('{') => {
            let end = code.len() - after.len() + brace + closing(&after[brace..])?;
            1 + code[at..end].matches('\n').count()
        }
        _ => 0,
    };
    Some(Function { name, qualifiers, parameters, line, n_lines })
}

/// Where the bracket that `text` begins with is closed.
fn closing(text: &str) -> Option<usize> {
    let (open, close) = match text.as_bytes().first()? {
        b'(' => (b'(', b')'),
        _ => (b'{', b'}'),
    };
    let mut depth = 0_usize;
    text.bytes().position(|byte| {
        depth += usize::from(byte == open);
        depth -= usize::from(byte == close);
        depth == 0
    })
}

/// The code with `#[cfg(test)] mod … { … }` and other test-only items blanked.
fn without_tests(code: &str) -> String {
    let mut code = code.to_owned();
    while let Some(at) = code.find("#[cfg(test)]") {
        let rest = &code[at..];
        let length = match rest.find(['{', ';']) {
            Some(brace) if rest[brace..].starts_with('{') => brace + closing(&rest[brace..]).unwrap_or(0) + 1,
            Some(semicolon) => semicolon + 1,
            None => rest.len(),
        };
        let blank = blank(&code[at..at + length]);
        code.replace_range(at..at + length, &blank);
    }
    code
}

fn blank(text: &str) -> String {
    text.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect()
}

/// The text with comments and the content of string and character literals blanked; bytes keep their places.
fn blanked(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while !rest.is_empty() {
        let n_hidden = hidden(rest, code.as_bytes().last().copied());
        if n_hidden > 0 {
            code += &blank(&rest[..n_hidden]);
            rest = &rest[n_hidden..];
            continue;
        }
        let next = rest.chars().next().expect("it is not empty");
        match next.is_ascii() {
            true => code.push(next),
            false => code += &" ".repeat(next.len_utf8()),
        }
        rest = &rest[next.len_utf8()..];
    }
    code
}

/// How many bytes of a comment or literal stand at the beginning.
fn hidden(text: &str, before: Option<u8>) -> usize {
    let follows_word = before.is_some_and(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    if text.starts_with("//") {
        return text.find('\n').unwrap_or(text.len());
    }
    if text.starts_with("/*") {
        return text.find("*/").map_or(text.len(), |end| end + 2);
    }
    if !text.starts_with(['"', '\'', 'r', 'b', 'c']) {
        return 0;
    }
    let prefix = ["br", "r", "b", "c"].into_iter().find(|p| !follows_word && text.starts_with(p)).unwrap_or("");
    let literal = &text[prefix.len()..];
    let n_hashes = if prefix.ends_with('r') { literal.bytes().take_while(|byte| *byte == b'#').count() } else { 0 };
    if literal[n_hashes..].starts_with('"') {
        let body = &literal[n_hashes + 1..];
        let n_body = match prefix.ends_with('r') {
            true => body.find(&format!("\"{}", "#".repeat(n_hashes))).map_or(body.len(), |end| end + 1 + n_hashes),
            false => escaped_end(body, b'"'),
        };
        return prefix.len() + n_hashes + 1 + n_body;
    }
    if literal.starts_with('\'') && n_hashes == 0 {
        // A lifetime has no quote after its first character.
        let mut chars = literal[1..].char_indices();
        let (first, second) = (chars.next(), chars.next());
        return match (first, second) {
            (Some((_, '\\')), _) => prefix.len() + 1 + escaped_end(&literal[1..], b'\''),
            (Some((_, first)), Some((_, '\''))) => prefix.len() + 1 + first.len_utf8() + 1,
            _ => 0,
        };
    }
    0
}

/// Behind the quote that ends a literal with escapes.
fn escaped_end(body: &str, quote: u8) -> usize {
    let mut is_escaped = false;
    let end = body.bytes().position(|byte| {
        let is_end = byte == quote && !is_escaped;
        is_escaped = byte == b'\\' && !is_escaped;
        is_end
    });
    end.map_or(body.len(), |end| end + 1)
}

#[test]
fn literals_comments_and_tests_are_no_code() {
    let text = "fn a<'x>(b: &'x str) { \"}\\\"{\"; '\\''; '{'; r#\"\"{\"#; } // {\n#[cfg(test)]\nmod tests { fn b() {} }\nfn c() {}\n";
    let code = without_tests(&blanked(text));
    assert_eq!(code.len(), text.len());
    let source = Source { path: "x.rs".to_owned(), text: text.to_owned(), code };
    let found: Vec<_> = source
        .functions()
        .iter()
        .map(|f| (f.name, f.parameters, f.line, f.n_lines))
        .map(|f| (f.0.to_owned(), f.1.to_owned(), f.2, f.3))
        .collect();
    assert_eq!(found, [("a".to_owned(), "b: &'x str".to_owned(), 1, 1), ("c".to_owned(), String::new(), 4, 1)]);
    assert_eq!(source.n_code_lines(), 2);
}
