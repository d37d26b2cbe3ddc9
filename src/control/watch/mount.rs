//! Where the system has mounted a file: on its own, as `docker run -v ./portway.yaml:/etc/portway/portway.yaml` does it, and
//! where it stands on the other side. A file that is a mount is one inode for ever: an editor that saves by renaming changes
//! another file, and nobody in the container ever sees it. Where there is no `/proc`, it promises the answer for a file that
//! is not mounted.

use std::fs;
use std::path::{Path, PathBuf};

/// Whether `file`, links followed, is where something is mounted.
pub fn is_mount_point(file: &Path) -> bool {
    fs::canonicalize(file).is_ok_and(|file| mounts(&mountinfo()).any(|mount| mount.point == file))
}

/// Where `file`, links followed, stands on its file system, if only a part of that is mounted: for a container, the path on
/// its host. Else where it stands here.
pub fn source(file: &Path) -> PathBuf {
    let file = fs::canonicalize(file).unwrap_or_else(|_| file.to_owned());
    source_by(&mountinfo(), file)
}

fn mountinfo() -> String {
    fs::read_to_string("/proc/self/mountinfo").unwrap_or_default()
}

fn source_by(mountinfo: &str, file: PathBuf) -> PathBuf {
    // Of several at one place, the last one hides the others.
    let around = mounts(mountinfo).filter(|mount| file.starts_with(&mount.point));
    let Some(mount) = around.max_by_key(|mount| mount.point.as_os_str().len()) else { return file };
    match file.strip_prefix(&mount.point) {
        // A whole file system; or this system's own root, wherever that comes from.
        Ok(_) if mount.root == Path::new("/") || mount.point == Path::new("/") => file,
        Ok(rest) if rest.as_os_str().is_empty() => mount.root,
        Ok(rest) => mount.root.join(rest),
        Err(_) => file,
    }
}

/// A line of mountinfo.
struct Mount {
    /// What of the file system is mounted.
    root: PathBuf,
    /// Where.
    point: PathBuf,
}

/// proc(5): the fourth field is the root within the file system, the fifth the mount point; space, tab, line feed and
/// backslash are octal.
fn mounts(mountinfo: &str) -> impl Iterator<Item = Mount> {
    let plain = |field: &str| {
        field.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\").into()
    };
    mountinfo.lines().filter_map(move |line| {
        let mut fields = line.split(' ').skip(3);
        Some(Mount { root: plain(fields.next()?), point: plain(fields.next()?) })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTINFO: &str = "\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
40 22 8:1 /home/me/portway.yaml /etc/portway/portway.yaml rw - ext4 /dev/sda1 rw
41 22 8:1 /home/me/conf /etc/my\\040conf rw - ext4 /dev/sda1 rw
42 22 8:2 / /srv rw - ext4 /dev/sda2 rw
";

    #[test]
    fn a_file_that_is_mounted_alone_is_told_from_one_in_a_mounted_directory() {
        let is_listed = |file: &str| mounts(MOUNTINFO).any(|mount| mount.point == Path::new(file));
        assert!(is_listed("/etc/portway/portway.yaml"));
        assert!(is_listed("/etc/my conf"));
        assert!(!is_listed("/etc/my conf/portway.yaml"));
        assert!(!is_mount_point(Path::new("/nowhere/portway.yaml")));
    }

    #[test]
    fn what_is_mounted_into_a_container_stands_where_its_host_has_it() {
        for (here, there) in [
            ("/etc/portway/portway.yaml", "/home/me/portway.yaml"),
            ("/etc/my conf/a/portway.yaml", "/home/me/conf/a/portway.yaml"),
            ("/etc/portway.yaml", "/etc/portway.yaml"),
            ("/srv/portway.yaml", "/srv/portway.yaml"),
        ] {
            assert_eq!(source_by(MOUNTINFO, here.into()), Path::new(there));
        }
        assert_eq!(source_by("", "/a".into()), Path::new("/a"));
        let subvolume = "29 1 0:26 /@root / rw,relatime - btrfs /dev/sda2 rw,subvol=/@root";
        assert_eq!(source_by(subvolume, "/etc/portway.yaml".into()), Path::new("/etc/portway.yaml"));
    }
}
