//! Command lines and the paths in them: taken apart as a shell would, relative paths made absolute.
//! Promises the words that `sh` would make of a line without variables, globs and operators. Runs nothing.

use std::path::{Component, Path, PathBuf};

use super::check::Check;
use crate::config::raw::{Command, kind};
use crate::config::scalar::Scalar;

/// What a shell would act upon, and a program takes for an argument.
const OPERATORS: [&str; 9] = ["&&", "||", "|", ";", "&", ">", ">>", "<", "2>&1"];

/// Why a line has no words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unclosed {
    /// A quote that is never closed.
    Quote(char),
    /// A backslash with nothing behind it.
    Backslash,
}

/// The words of a line, as POSIX `sh` splits it: blanks separate, quotes join, a backslash takes what follows as it is.
pub(crate) fn words(line: &str) -> Result<Vec<String>, Unclosed> {
    let mut words = Vec::new();
    let mut word: Option<String> = None;
    let mut quote: Option<char> = None;
    let mut chars = line.chars().peekable();
    while let Some(c) = chars.next() {
        match (quote, c) {
            (Some(open), c) if c == open => quote = None,
            // Inside of double quotes a backslash takes away the meaning of these four only. POSIX XCU §2.2.3.
            (Some('"'), '\\') if chars.peek().is_some_and(|next| matches!(next, '"' | '\\' | '$' | '`')) => {
                word.get_or_insert_default().extend(chars.next());
            }
            (Some(_), c) => word.get_or_insert_default().push(c),
            (None, '\'' | '"') => {
                quote = Some(c);
                word.get_or_insert_default();
            }
            (None, '\\') => match chars.next() {
                // A line that goes on.
                Some('\n') => {}
                Some(next) => word.get_or_insert_default().push(next),
                None => return Err(Unclosed::Backslash),
            },
            (None, c) if c.is_ascii_whitespace() => words.extend(word.take()),
            (None, c) => word.get_or_insert_default().push(c),
        }
    }
    match quote {
        Some(open) => Err(Unclosed::Quote(open)),
        None => {
            words.extend(word);
            Ok(words)
        }
    }
}

/// At least one word; `None` if there is none, which was reported. `without` says what to do instead of writing nothing.
pub(super) fn command(raw: &Command, without: &str, check: &mut Check<'_>) -> Option<Vec<String>> {
    let words = match raw {
        // Each of them was wrong, and was reported.
        Command::Words(words) if words.is_empty() => return None,
        Command::Words(words) => words.iter().map(|word| word.value().to_owned()).collect(),
        Command::Line(line) => split(line, check)?,
    };
    if words.first().is_none_or(String::is_empty) {
        check.error(raw.span(), "this command has no words", without);
        return None;
    }
    Some(words)
}

fn split(line: &Scalar<kind::Text>, check: &mut Check<'_>) -> Option<Vec<String>> {
    let words = match words(line.value()) {
        Ok(words) => words,
        Err(unclosed) => {
            let message = match unclosed {
                Unclosed::Quote(quote) => format!("a {quote} in this command is never closed"),
                Unclosed::Backslash => "this command ends in a backslash".to_owned(),
            };
            check.error(line.span(), message, "close it, or write the command as a list of its words");
            return None;
        }
    };
    if let Some(operator) = words.iter().find(|word| OPERATORS.contains(&word.as_str())) {
        let message = format!("no shell reads this command: `{operator}` is an argument like any other");
        check.report.warning(line.span(), message, "for a shell write [sh, -c, '…']");
    }
    Some(words)
}

/// Whether a text is a path that begins where its file stands.
pub(crate) fn is_relative(path: &str) -> bool {
    matches!(path, "." | "..") || path.starts_with("./") || path.starts_with("../")
}

/// A path below a folder, without `.` and `..`: as Compose makes it, which asks no file system either.
pub(crate) fn below(folder: &Path, path: &str) -> String {
    let mut whole = PathBuf::new();
    for component in folder.join(path).components() {
        match component {
            Component::CurDir => {}
            Component::ParentDir => {
                whole.pop();
            }
            component => whole.push(component),
        }
    }
    whole.display().to_string()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_line_has_the_words_that_a_shell_makes_of_it() {
        let cases: [(&str, &[&str]); 14] = [
            ("", &[]),
            ("  ", &[]),
            ("gunicorn -w 4 app:app", &["gunicorn", "-w", "4", "app:app"]),
            (" a\t b\n", &["a", "b"]),
            ("sh -c 'echo \"hi\" $HOME'", &["sh", "-c", "echo \"hi\" $HOME"]),
            ("echo \"a b\"c", &["echo", "a bc"]),
            ("echo ''", &["echo", ""]),
            ("echo \"\"", &["echo", ""]),
            (r"a\ b", &["a b"]),
            (r#""a\"b\\c\d""#, &[r#"a"b\c\d"#]),
            (r"'a\b'", &[r"a\b"]),
            ("a \\\n b", &["a", "b"]),
            ("--x='1 2'", &["--x=1 2"]),
            ("é 'ü ö'", &["é", "ü ö"]),
        ];
        for (line, want) in cases {
            assert_eq!(words(line).as_deref(), Ok(want.map_to_owned().as_slice()), "{line}");
        }
        assert_eq!(words("a 'b"), Err(Unclosed::Quote('\'')));
        assert_eq!(words("a \"b'"), Err(Unclosed::Quote('"')));
        assert_eq!(words("a \\"), Err(Unclosed::Backslash));
    }

    trait ToOwnedWords {
        fn map_to_owned(&self) -> Vec<String>;
    }

    impl ToOwnedWords for &[&str] {
        fn map_to_owned(&self) -> Vec<String> {
            self.iter().map(|word| (*word).to_owned()).collect()
        }
    }

    #[test]
    fn a_relative_path_begins_at_the_folder() {
        for (path, want) in [
            ("./data", "/etc/p/data"),
            ("../data", "/etc/data"),
            (".", "/etc/p"),
            ("..", "/etc"),
            ("/srv/./a", "/srv/a"),
        ] {
            assert_eq!(below(Path::new("/etc/p"), path), want);
        }
        assert_eq!(below(Path::new("/"), "../../a"), "/a");
        assert!(is_relative("./a") && is_relative("..") && !is_relative(".a") && !is_relative("/a"));
    }

    proptest! {
        #[test]
        fn quoted_words_are_read_back(typed in prop::collection::vec("[^\u{0}]{0,8}", 0..5)) {
            let line: Vec<String> = typed.iter().map(|word| format!("'{}'", word.replace('\'', r"'\''"))).collect();
            prop_assert_eq!(words(&line.join(" ")), Ok(typed));
        }

        #[test]
        fn no_line_makes_splitting_panic(line in ".{0,40}") {
            let _ = words(&line);
        }
    }
}
