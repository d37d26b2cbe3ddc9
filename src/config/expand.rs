//! Variables in scalars: `${VAR}`, `${VAR:-default}`, `${VAR:?message}`, and `$$` for a dollar sign.
//! Promises that an error names the variable and never its value. Does not look into the value for more variables.

use std::collections::BTreeMap;

/// Where variables come from.
pub trait Environment {
    /// The value of a variable, `None` if it is not set.
    fn var(&self, name: &str) -> Option<String>;
}

/// The environment of this process.
#[derive(Clone, Copy, Debug, Default)]
pub struct ProcessEnvironment;

impl Environment for ProcessEnvironment {
    fn var(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }
}

impl Environment for BTreeMap<String, String> {
    fn var(&self, name: &str) -> Option<String> {
        self.get(name).cloned()
    }
}

/// Longest value that one scalar may become, in bytes.
pub const EXPANDED_BYTES_MAX: usize = 64 * 1024;

/// Why a scalar cannot be expanded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExpandError {
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub help: String,
    /// Byte where the `${` stands in the typed text.
    pub at: usize,
}

/// Whether [`expand`] would change a text.
pub fn has_variables(text: &str) -> bool {
    text.contains('$')
}

/// The text with its variables replaced.
///
/// A `$` before anything but `$` or `{` stays, and so does `${1}`: regular expressions and rewrites use them.
pub fn expand(text: &str, environment: &dyn Environment) -> Result<String, ExpandError> {
    let mut expanded = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        expanded.push_str(&rest[..at]);
        let offset = text.len() - rest.len() + at;
        rest = &rest[at + 1..];
        if let Some(after) = rest.strip_prefix('$') {
            expanded.push('$');
            rest = after;
        } else if rest.strip_prefix('{').is_some_and(|inside| !inside.starts_with(|c: char| c.is_ascii_digit())) {
            let Some(end) = rest.find('}') else { return Err(not_closed(offset)) };
            expanded.push_str(&variable(&rest[1..end], offset, environment)?);
            rest = &rest[end + 1..];
        } else {
            expanded.push('$');
        }
    }
    expanded.push_str(rest);
    if expanded.len() > EXPANDED_BYTES_MAX && text.contains("${") {
        let message = format!("this is longer than {EXPANDED_BYTES_MAX} bytes once its variables are replaced");
        return Err(ExpandError { message, help: "shorten the variable's value".to_owned(), at: 0 });
    }
    Ok(expanded)
}

fn variable(inside: &str, at: usize, environment: &dyn Environment) -> Result<String, ExpandError> {
    let is_name_char = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let name_end = inside.find(|c| !is_name_char(c)).unwrap_or(inside.len());
    let (name, operation) = inside.split_at(name_end);
    if name.is_empty() {
        return Err(not_a_variable(inside, at));
    }
    // As in Compose and in the shell: with a colon, an empty value counts as unset.
    let value = environment.var(name);
    match operation.split_at_checked(2) {
        Some((":-", default)) => Ok(value.filter(|value| !value.is_empty()).unwrap_or_else(|| default.to_owned())),
        Some((":?", message)) => value.filter(|value| !value.is_empty()).ok_or_else(|| unset(name, message, at)),
        _ if operation.is_empty() => value.ok_or_else(|| unset(name, "", at)),
        _ => Err(not_a_variable(inside, at)),
    }
}

fn unset(name: &str, reason: &str, at: usize) -> ExpandError {
    let message = match reason {
        "" => format!("the variable `{name}` is not set"),
        reason => format!("the variable `{name}` is not set: {reason}"),
    };
    ExpandError { message, help: format!("set it, or write ${{{name}:-default}}"), at }
}

fn not_a_variable(inside: &str, at: usize) -> ExpandError {
    let message = format!("`${{{inside}}}` is not a variable");
    let help = "write ${VAR}, ${VAR:-default} or ${VAR:?message}; a dollar sign itself is $$".to_owned();
    ExpandError { message, help, at }
}

fn not_closed(at: usize) -> ExpandError {
    let help = "close it, or write $$ for a dollar sign".to_owned();
    ExpandError { message: "`${` without `}`".to_owned(), help, at }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn environment() -> BTreeMap<String, String> {
        [("HOST", "db"), ("EMPTY", ""), ("NESTED", "${HOST}")]
            .map(|(name, value)| (name.to_owned(), value.to_owned()))
            .into()
    }

    #[test]
    fn variables_become_their_values_once() {
        let cases = [
            ("plain", "plain"),
            ("${HOST}:5432", "db:5432"),
            ("a${HOST}b${HOST}c", "adbbdbc"),
            ("${MISSING:-x:y}", "x:y"),
            ("${MISSING:-}", ""),
            ("${EMPTY:-x}", "x"),
            ("${EMPTY}", ""),
            ("${HOST:-x}", "db"),
            ("${HOST:?needed}", "db"),
            ("${NESTED}", "${HOST}"),
            ("$$HOME $${HOST}", "$HOME ${HOST}"),
            ("^/item/[0-9]+$", "^/item/[0-9]+$"),
            ("/new/$1/${2}", "/new/$1/${2}"),
            ("ends with $", "ends with $"),
            ("é${HOST}é", "édbé"),
        ];
        for (text, want) in cases {
            assert_eq!(expand(text, &environment()).as_deref(), Ok(want), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_expanded_says_why_and_where() {
        let cases = [
            ("a ${MISSING}", "the variable `MISSING` is not set", 2),
            ("${MISSING:?ask the platform team}", "the variable `MISSING` is not set: ask the platform team", 0),
            ("${EMPTY:?needed}", "the variable `EMPTY` is not set: needed", 0),
            ("x${HOST", "`${` without `}`", 1),
            ("${HOST+x}", "`${HOST+x}` is not a variable", 0),
            ("${}", "`${}` is not a variable", 0),
            ("${é}", "`${é}` is not a variable", 0),
            ("${HOST:é}", "`${HOST:é}` is not a variable", 0),
        ];
        for (text, message, at) in cases {
            let error = expand(text, &environment()).unwrap_err();
            assert_eq!((error.message.as_str(), error.at), (message, at), "{text}");
        }
    }
}
