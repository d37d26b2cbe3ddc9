//! Where a configuration comes from: its file and the files that it includes, and what is in them as one number.
//! Promises that the number changes with the content of any of them, with a file that comes or goes, and with one that
//! cannot be read any more. It understands nothing of what it reads.

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};

use super::include;
use super::load::read_at_most;
use super::tree::FILE_BYTES_MAX;

/// The content of all files of a configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(u64);

/// Takes the files one after another.
#[derive(Debug, Default)]
pub(super) struct Hashing(DefaultHasher);

impl Hashing {
    /// The next file, and what was in it or why that cannot be told.
    pub(super) fn add(&mut self, file: &Path, content: &io::Result<Vec<u8>>) {
        file.hash(&mut self.0);
        content.as_ref().map_err(|error| error.kind().to_string()).hash(&mut self.0);
    }

    pub(super) fn finish(&self) -> Fingerprint {
        Fingerprint(self.0.finish())
    }
}

/// The files of a configuration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Inputs {
    /// The file that was named.
    pub main: PathBuf,
    /// Its `include` patterns, variables expanded; none if it could not be read that far.
    pub includes: Vec<String>,
}

impl Inputs {
    /// A file of which nothing is known yet.
    pub fn new(main: &Path) -> Self {
        Self { main: main.to_owned(), includes: Vec::new() }
    }

    /// What patterns are relative to.
    pub fn base(&self) -> &Path {
        self.main.parent().unwrap_or(Path::new(""))
    }

    /// Every file at present, once each, the main one first.
    pub fn files(&self) -> Vec<PathBuf> {
        // What cannot be listed is the business of whoever reads the configuration.
        let included =
            self.includes.iter().flat_map(|pattern| include::files(self.base(), pattern).unwrap_or_default());
        let mut seen = HashSet::new();
        std::iter::once(self.main.clone()).chain(included).filter(|file| seen.insert(file.clone())).collect()
    }

    /// What is in them now.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut hashing = Hashing::default();
        for file in self.files() {
            hashing.add(&file, &read_at_most(&file, FILE_BYTES_MAX + 1));
        }
        hashing.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn the_number_changes_with_the_content_and_with_nothing_else() {
        let folder = std::env::temp_dir().join(format!("portway-inputs-{}", std::process::id()));
        fs::create_dir_all(folder.join("more")).unwrap();
        let main = folder.join("portway.yaml");
        let inputs = Inputs { main: main.clone(), includes: vec!["more/*.yaml".to_owned()] };
        let mut seen = vec![inputs.fingerprint()];
        let mut changed = |what: &str| {
            let now = inputs.fingerprint();
            assert!(!seen.contains(&now), "{what}");
            seen.push(now);
        };
        fs::write(&main, "a").unwrap();
        changed("the file appears");
        fs::write(folder.join("more/a.yaml"), "x").unwrap();
        changed("an included file appears");
        fs::write(folder.join("more/a.yaml"), "y").unwrap();
        changed("an included file changes");
        fs::rename(folder.join("more/a.yaml"), folder.join("more/b.yaml")).unwrap();
        changed("an included file gets another name");
        fs::write(folder.join("more/ignored.txt"), "y").unwrap();
        let before = inputs.fingerprint();
        fs::write(&main, "a").unwrap();
        assert_eq!(inputs.fingerprint(), before);
        fs::remove_dir_all(folder).unwrap();
    }
}
