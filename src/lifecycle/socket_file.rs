//! The file of a unix socket: whose it is, and that it goes with its owner.
//! Promises to remove nothing but sockets: what else stands at a path is somebody's work. It binds nothing.

use std::io;
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

/// The file of a unix socket that is bound. It goes with this value, unless somebody else's has taken its place.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    identity: (u64, u64),
}

impl SocketFile {
    /// The file at a path that was just bound; `None` if it is gone again.
    pub fn at(path: &Path) -> Option<Self> {
        Some(Self { path: path.to_owned(), identity: identity(path)? })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        if identity(&self.path) == Some(self.identity) {
            // A file that is gone by now is what we want.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Makes way at a path that is in use: removes a socket on which nobody listens, left over from a process that died. Fails
/// with `AlreadyExists` for what is no socket, a symlink to one included, and with `AddrInUse` for one with an owner.
pub fn remove_left_over(path: &Path) -> io::Result<()> {
    if !std::fs::symlink_metadata(path)?.file_type().is_socket() {
        return Err(io::Error::new(io::ErrorKind::AlreadyExists, "there is something else, which is not a socket"));
    }
    // Any other error, such as a lack of permission, says nothing about who listens.
    match UnixStream::connect(path) {
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => std::fs::remove_file(path),
        _ => Err(io::ErrorKind::AddrInUse.into()),
    }
}

fn identity(path: &Path) -> Option<(u64, u64)> {
    let metadata = std::fs::symlink_metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}
