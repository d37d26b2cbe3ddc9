//! A regular expression of the configuration.
//! Promises that two patterns are equal if their text is. It matches as `regex::Regex` does.

use std::fmt;
use std::ops::Deref;

use regex::Regex;

/// A compiled regular expression that knows what it was compiled from.
#[derive(Clone, Debug)]
pub struct Pattern(Regex);

impl From<Regex> for Pattern {
    fn from(regex: Regex) -> Self {
        Self(regex)
    }
}

impl Deref for Pattern {
    type Target = Regex;

    fn deref(&self) -> &Regex {
        &self.0
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.0.as_str() == other.0.as_str()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
