//! What has to be watched to learn of every way in which a file can change.
//! Promises the directory of the file and of each link on the way to it, the directory above, so that one which is replaced
//! is noticed, and the file itself: writes through another mount of it are events of the file alone. It watches nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Component, Path, PathBuf};

use crate::config::include;
use crate::config::inputs::Inputs;

/// Links on the way to one file: as many as the kernel follows.
const LINKS_MAX: usize = 40;
/// Files that are watched themselves. Of more, only the directories are: watches are few on some systems.
const FILES_MAX: usize = 64;

/// Device and inode: what a path leads to at the moment.
pub(super) type Identity = (u64, u64);

/// Directories with the names in them that matter, and files.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Targets {
    directories: BTreeMap<PathBuf, BTreeSet<OsString>>,
    /// Directories in which every name matters: those of patterns.
    folders: BTreeSet<PathBuf>,
    files: BTreeSet<PathBuf>,
}

impl Targets {
    pub(super) fn of(inputs: &Inputs) -> Self {
        let mut targets = Self::default();
        for (idx, file) in inputs.files().iter().enumerate() {
            let found = targets.trace(file);
            if idx < FILES_MAX {
                targets.files.extend(found);
            }
        }
        for pattern in inputs.includes.iter().filter(|pattern| include::has_wildcard(pattern)) {
            let path = inputs.base().join(pattern);
            let folder = path.parent().and_then(|folder| targets.trace(folder));
            targets.folders.extend(folder);
        }
        targets
    }

    /// Notes every directory entry on which the meaning of `path` hangs; what it leads to, if that is there.
    fn trace(&mut self, path: &Path) -> Option<PathBuf> {
        let mut ahead = std::path::absolute(path).ok()?;
        for _ in 0..LINKS_MAX {
            match self.walk(&ahead) {
                Walked::Link(target) => ahead = target,
                Walked::Whole(path) => return Some(path),
                Walked::Missing => return None,
            }
        }
        None
    }

    /// Goes down to the first link, or to the end.
    fn walk(&mut self, path: &Path) -> Walked {
        let mut here = PathBuf::from("/");
        let mut components = path.components();
        while let Some(component) = components.next() {
            let name = match component {
                Component::Normal(name) => name,
                Component::ParentDir => {
                    here.pop();
                    continue;
                }
                _ => continue,
            };
            let next = here.join(name);
            match fs::symlink_metadata(&next) {
                Ok(metadata) if metadata.is_symlink() => {
                    self.note(&here, name);
                    let Ok(target) = fs::read_link(&next) else { return Walked::Missing };
                    return Walked::Link(here.join(target).join(components.as_path()));
                }
                Ok(_) => here = next,
                Err(_) => {
                    self.note_with_parent(&here, name);
                    return Walked::Missing;
                }
            }
        }
        if let (Some(folder), Some(name)) = (here.parent(), here.file_name()) {
            self.note_with_parent(folder, name);
        }
        Walked::Whole(here)
    }

    fn note_with_parent(&mut self, folder: &Path, name: &OsStr) {
        self.note(folder, name);
        if let (Some(above), Some(folder_name)) = (folder.parent(), folder.file_name()) {
            self.note(above, folder_name);
        }
    }

    fn note(&mut self, folder: &Path, name: &OsStr) {
        self.directories.entry(folder.to_owned()).or_default().insert(name.to_owned());
    }

    /// Everything to watch that is there, sorted, with what it is at the moment.
    pub(super) fn with_identities(&self) -> Vec<(PathBuf, Identity)> {
        let all: BTreeSet<&PathBuf> = self.directories.keys().chain(&self.folders).chain(&self.files).collect();
        let identity = |path: &PathBuf| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
        all.into_iter().filter_map(|path| Some((path.clone(), identity(path)?))).collect()
    }

    /// Whether an event at `path` may be about one of them.
    pub(super) fn concerns(&self, path: &Path) -> bool {
        let is_target =
            |path| self.files.contains(path) || self.directories.contains_key(path) || self.folders.contains(path);
        let (folder, name) = (path.parent(), path.file_name());
        let in_folder = folder.is_some_and(|folder| self.folders.contains(folder));
        let names = folder.and_then(|folder| self.directories.get(folder));
        is_target(path) || in_folder || names.zip(name).is_some_and(|(names, name)| names.contains(name))
    }
}

enum Walked {
    Whole(PathBuf),
    Link(PathBuf),
    Missing,
}
