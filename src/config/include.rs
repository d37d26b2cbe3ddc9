//! The files that `include` names: patterns such as `services/*.yaml`, relative to the file that holds them.
//! Promises sorted paths and an error where a file is missing. Reads directories, never what is in the files.

use std::path::{Path, PathBuf};
use std::{fs, io};

/// Most files that one pattern may name.
pub const FILES_MAX: usize = 10_000;

/// Why a pattern names no files.
#[derive(Debug)]
pub enum PatternError {
    /// A wildcard in a folder's name.
    WildcardInFolder,
    /// More files than [`FILES_MAX`].
    TooMany,
    /// The folder cannot be listed.
    Folder(io::Error),
}

/// The files that a pattern names, sorted. Without a wildcard that is the path itself, there or not.
pub fn files(base: &Path, pattern: &str) -> Result<Vec<PathBuf>, PatternError> {
    let path = base.join(pattern);
    if !has_wildcard(pattern) {
        return Ok(vec![path]);
    }
    let (folder, name) = (path.parent().unwrap_or(base), path.file_name().unwrap_or_default().to_string_lossy());
    if has_wildcard(&folder.strip_prefix(base).unwrap_or(folder).to_string_lossy()) {
        return Err(PatternError::WildcardInFolder);
    }
    let folder = if folder.as_os_str().is_empty() { Path::new(".") } else { folder };
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).map_err(PatternError::Folder)? {
        let entry = entry.map_err(PatternError::Folder)?;
        let entry_name = entry.file_name();
        let entry_name = entry_name.to_string_lossy();
        // As in a shell: `*` leaves hidden files alone. Editors put their swap files there.
        let is_hidden = entry_name.starts_with('.') && !name.starts_with('.');
        if !is_hidden && matches(name.as_bytes(), entry_name.as_bytes()) && entry.path().is_file() {
            found.push(path.with_file_name(&*entry_name));
        }
        if found.len() > FILES_MAX {
            return Err(PatternError::TooMany);
        }
    }
    found.sort_unstable();
    Ok(found)
}

/// Whether a pattern stands for more than itself.
pub fn has_wildcard(pattern: &str) -> bool {
    pattern.contains(['*', '?'])
}

/// Whether a name fits a pattern of `*` and `?`. Takes at most pattern × name steps: one place to come back to is enough.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        if pattern.get(p) == Some(&b'*') {
            retry = Some((p, n));
            p += 1;
        } else if pattern.get(p).is_some_and(|&byte| byte == b'?' || byte == name[n]) {
            p += 1;
            n += 1;
        } else if let Some((star, from)) = retry {
            retry = Some((star, from + 1));
            p = star + 1;
            n = from + 1;
        } else {
            return false;
        }
    }
    pattern[p..].iter().all(|&byte| byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks_match_as_in_a_shell() {
        for (pattern, name) in [("*.yaml", "a.yaml"), ("*", ""), ("a?c", "abc"), ("*a*b*", "xxaxxbxx"), ("a*", "a")] {
            assert!(matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
        for (pattern, name) in [("*.yaml", "a.yml"), ("a?c", "ac"), ("", "a"), ("*b", "abc")] {
            assert!(!matches(pattern.as_bytes(), name.as_bytes()), "{pattern} {name}");
        }
    }

    #[test]
    fn a_hostile_pattern_takes_no_exponential_time() {
        let pattern = "*a".repeat(50);
        assert!(!matches(pattern.as_bytes(), "a".repeat(49).as_bytes()));
        assert!(!matches(format!("{pattern}b").as_bytes(), "a".repeat(10_000).as_bytes()));
    }
}
