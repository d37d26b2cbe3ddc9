//! Every way in which a file is saved, on a real file system with its real events.

use std::fs::{self, OpenOptions, Permissions};
use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use super::*;
use rustix::thread::{CapabilitySet, CapabilitySets, capabilities, set_capabilities};

/// Beyond the debounce and below the poll: what comes later than this was not an event.
const BY_EVENT: Duration = Duration::from_secs(4);

struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        static STEP: AtomicU32 = AtomicU32::new(0);
        let name = format!("portway-watch-{}-{}", std::process::id(), STEP.fetch_add(1, Ordering::Relaxed));
        let path = std::env::temp_dir().join(name);
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    fn write(&self, name: &str, text: &str) {
        fs::write(self.path(name), text).unwrap();
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn watch(main: &Path, includes: &[&str]) -> Watch {
    let includes = includes.iter().map(|pattern| (*pattern).to_owned()).collect();
    let inputs = Inputs { main: main.to_owned(), includes };
    let seen = inputs.fingerprint();
    Watch::new(inputs, seen)
}

/// Waits until the content is noticed; several reports are several steps of a save that took long.
async fn noticed(watch: &mut Watch, what: &str) {
    let wanted = watch.inputs.fingerprint();
    let until = async {
        while watch.seen != wanted {
            watch.changed().await;
        }
    };
    assert!(tokio::time::timeout(BY_EVENT, until).await.is_ok(), "not noticed: {what}");
}

#[tokio::test]
async fn every_way_of_saving_is_noticed_again_and_again() {
    let folder = Folder::new();
    let file = folder.path("portway.yaml");
    fs::write(&file, "0").unwrap();
    let mut watch = watch(&file, &[]);
    for round in 0..3 {
        let text = |way: &str| format!("{way} {round}");
        fs::write(&file, text("in place")).unwrap();
        noticed(&mut watch, "in place").await;

        // vim: the old file becomes the backup, the new one is written under the name.
        fs::rename(&file, folder.path("portway.yaml~")).unwrap();
        fs::write(&file, text("vim")).unwrap();
        fs::remove_file(folder.path("portway.yaml~")).unwrap();
        noticed(&mut watch, "vim").await;

        // sed -i, mv: another file is renamed over it.
        folder.write("sedXYZ", &text("sed"));
        fs::rename(folder.path("sedXYZ"), &file).unwrap();
        noticed(&mut watch, "sed").await;

        folder.write("other", &text("cp"));
        fs::copy(folder.path("other"), &file).unwrap();
        noticed(&mut watch, "cp").await;

        let mut truncated = OpenOptions::new().write(true).truncate(true).open(&file).unwrap();
        truncated.write_all(text("truncate").as_bytes()).unwrap();
        drop(truncated);
        noticed(&mut watch, "truncate").await;

        fs::remove_file(&file).unwrap();
        noticed(&mut watch, "deleted").await;
        fs::write(&file, text("recreated")).unwrap();
        noticed(&mut watch, "recreated").await;
    }
}

#[tokio::test]
async fn a_touch_is_no_change_and_neither_is_a_neighbour() {
    let folder = Folder::new();
    folder.write("portway.yaml", "a");
    let mut watch = watch(&folder.path("portway.yaml"), &[]);
    fs::File::open(folder.path("portway.yaml")).unwrap().set_modified(std::time::SystemTime::now()).unwrap();
    folder.write("portway.yaml", "a");
    folder.write("access.log", "x");
    folder.write("portway.yaml", "b");
    noticed(&mut watch, "the change after it").await;
    assert!(tokio::time::timeout(QUIET * 5, watch.changed()).await.is_err(), "one change, one report");
}

#[tokio::test]
async fn a_save_in_several_steps_is_one_change() {
    let folder = Folder::new();
    folder.write("portway.yaml", "a");
    let mut watch = watch(&folder.path("portway.yaml"), &[]);
    // A writer that holds the file open and pauses for longer than the debounce.
    let mut file = OpenOptions::new().write(true).truncate(true).open(folder.path("portway.yaml")).unwrap();
    let writer = tokio::task::spawn_blocking(move || {
        for piece in ["services:", "\n  web:", " {}"] {
            file.write_all(piece.as_bytes()).unwrap();
            std::thread::sleep(QUIET * 3);
        }
    });
    watch.changed().await;
    writer.await.unwrap();
    assert_eq!(watch.seen, watch.inputs.fingerprint(), "a piece was taken for the whole");
}

/// As long as it lives, this thread and those that it starts read no more than the modes of files allow, root's too.
struct Unprivileged(CapabilitySets);

impl Unprivileged {
    fn new() -> Self {
        let before = capabilities(None).expect("a thread may ask for its own");
        let reading = CapabilitySet::DAC_OVERRIDE | CapabilitySet::DAC_READ_SEARCH;
        let less = CapabilitySets { effective: before.effective - reading, ..before };
        set_capabilities(None, less).expect("a thread may lay down its own");
        Self(before)
    }
}

impl Drop for Unprivileged {
    fn drop(&mut self) {
        set_capabilities(None, self.0).expect("what was laid down may be taken up");
    }
}

#[tokio::test]
async fn a_file_that_cannot_be_read_any_more_is_a_change_once() {
    let folder = Folder::new();
    folder.write("portway.yaml", "a");
    let file = folder.path("portway.yaml");
    let _reads_like_others = Unprivileged::new();
    let mut watch = watch(&file, &[]);
    fs::set_permissions(&file, Permissions::from_mode(0o000)).unwrap();
    assert!(fs::read(&file).is_err(), "who reads everything sees no change");
    noticed(&mut watch, "chmod 000").await;
    fs::set_permissions(&file, Permissions::from_mode(0o644)).unwrap();
    noticed(&mut watch, "chmod 644").await;
}

/// Kubernetes' AtomicWriter: `..data` is a link to a directory with a time in its name, and swapped by a rename.
#[tokio::test]
async fn a_swapped_data_link_is_noticed_each_time() {
    let folder = Folder::new();
    let publish = |round: usize| {
        let directory = format!("..2024_{round}");
        fs::create_dir(folder.path(&directory)).unwrap();
        fs::write(folder.path(&directory).join("portway.yaml"), format!("round {round}")).unwrap();
        symlink(&directory, folder.path("..data_tmp")).unwrap();
        fs::rename(folder.path("..data_tmp"), folder.path("..data")).unwrap();
    };
    publish(0);
    symlink("..data/portway.yaml", folder.path("portway.yaml")).unwrap();
    let mut watch = watch(&folder.path("portway.yaml"), &[]);
    for round in 1..6 {
        publish(round);
        noticed(&mut watch, "a swap").await;
        fs::remove_dir_all(folder.path(&format!("..2024_{}", round - 1))).unwrap();
    }
}

#[tokio::test]
async fn a_chain_of_links_is_watched_at_every_link() {
    let folder = Folder::new();
    for name in ["a", "b", "c"] {
        fs::create_dir(folder.path(name)).unwrap();
        fs::write(folder.path(name).join("real.yaml"), name).unwrap();
    }
    symlink(folder.path("a"), folder.path("current")).unwrap();
    symlink("current/real.yaml", folder.path("link.yaml")).unwrap();
    symlink(folder.path("link.yaml"), folder.path("portway.yaml")).unwrap();
    let mut watch = watch(&folder.path("portway.yaml"), &[]);
    fs::write(folder.path("a/real.yaml"), "changed").unwrap();
    noticed(&mut watch, "what the chain leads to").await;
    symlink(folder.path("b"), folder.path("next")).unwrap();
    fs::rename(folder.path("next"), folder.path("current")).unwrap();
    noticed(&mut watch, "a link in the middle").await;
    fs::remove_file(folder.path("link.yaml")).unwrap();
    symlink("c/real.yaml", folder.path("link.yaml")).unwrap();
    noticed(&mut watch, "another link").await;
}

#[tokio::test]
async fn a_directory_that_goes_and_comes_back_is_watched_again() {
    let folder = Folder::new();
    fs::create_dir(folder.path("conf")).unwrap();
    folder.write("conf/portway.yaml", "a");
    let mut watch = watch(&folder.path("conf/portway.yaml"), &[]);
    for round in 0..3 {
        fs::remove_dir_all(folder.path("conf")).unwrap();
        noticed(&mut watch, "the directory is gone").await;
        fs::create_dir(folder.path("conf")).unwrap();
        folder.write("conf/portway.yaml", &format!("back {round}"));
        noticed(&mut watch, "the directory is back").await;
        folder.write("conf/portway.yaml", &format!("written {round}"));
        noticed(&mut watch, "a save in the new directory").await;
    }
}

#[tokio::test]
async fn included_files_are_watched_and_so_are_those_that_come_later() {
    let folder = Folder::new();
    folder.write("portway.yaml", "include");
    fs::create_dir(folder.path("services")).unwrap();
    folder.write("services/a.yaml", "a");
    let mut watch = watch(&folder.path("portway.yaml"), &["services/*.yaml"]);
    folder.write("services/a.yaml", "b");
    noticed(&mut watch, "an included file").await;
    folder.write("services/z.yaml", "z");
    noticed(&mut watch, "a new one").await;
    fs::remove_file(folder.path("services/a.yaml")).unwrap();
    noticed(&mut watch, "one that goes").await;
}

#[tokio::test]
async fn lost_events_mean_a_look() {
    let folder = Folder::new();
    folder.write("portway.yaml", "a");
    let mut watch = watch(&folder.path("portway.yaml"), &[]);
    watch.look().await;
    watch.watcher = None;
    folder.write("portway.yaml", "b");
    watch.sightings.note(Err(notify::Error::generic("overflow")));
    noticed(&mut watch, "what was written when events were lost").await;
}
