//! Whether a file is a mount of its own, as `docker run -v ./portway.yaml:/etc/portway/portway.yaml` makes it.
//! Such a file is one inode for ever: an editor that saves by renaming changes another file, and nobody in the container
//! ever sees it. Promises an answer where there is no `/proc`, too: no.

use std::fs;
use std::path::Path;

/// Whether `file`, links followed, is where something is mounted.
pub fn is_mount_point(file: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    fs::canonicalize(file).is_ok_and(|file| is_listed(&mounts, &file))
}

/// proc(5): the fifth field is the mount point; space, tab, line feed and backslash are octal.
fn is_listed(mounts: &str, file: &Path) -> bool {
    let Some(file) = file.to_str() else { return false };
    let points = mounts.lines().filter_map(|line| line.split(' ').nth(4));
    points.into_iter().any(|point| {
        let point = point.replace("\\040", " ").replace("\\011", "\t").replace("\\012", "\n").replace("\\134", "\\");
        point == file
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_mounted_alone_is_told_from_one_in_a_mounted_directory() {
        let mounts = "\
22 1 8:1 / / rw,relatime - ext4 /dev/sda1 rw
40 22 8:1 /home/me/portway.yaml /etc/portway/portway.yaml rw - ext4 /dev/sda1 rw
41 22 8:1 /home/me/conf /etc/my\\040conf rw - ext4 /dev/sda1 rw
";
        assert!(is_listed(mounts, Path::new("/etc/portway/portway.yaml")));
        assert!(is_listed(mounts, Path::new("/etc/my conf")));
        assert!(!is_listed(mounts, Path::new("/etc/my conf/portway.yaml")));
        assert!(!is_mount_point(Path::new("/nowhere/portway.yaml")));
    }
}
