//! Binds a Unix-domain socket to its path, and removes the file that the bind creates.
//!
//! A bound path is a file that outlives its socket. It is removed when the listener is closed, but
//! only if it is still the file that we bound: another process may have put its own there. A file
//! is identified by its device and inode. While our socket is open, the kernel gives the inode to
//! no other file, so the file is removed first and the socket closed afterwards. The file belongs
//! to the process that bound it: a forked child that drops its copy of the loop leaves it alone.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use socket2::Socket;

use super::socket::system_address;
use crate::address::UnixAddress;

/// The file of a bound socket. Dropping this removes the file, if it is still the same file.
#[derive(Debug)]
pub(crate) struct Bound {
    /// Absolute, so that it is found from another working directory.
    path: PathBuf,
    device: u64,
    inode: u64,
    process: u32,
}

impl Bound {
    /// Binds a socket. An abstract name has no file.
    pub(super) fn bind(socket: &Socket, address: &UnixAddress) -> io::Result<Option<Self>> {
        let system = system_address(address)?;
        let path = address.as_path().map(std::path::absolute).transpose()?;
        let outcome = match socket.bind(&system) {
            Err(error) if error.kind() == ErrorKind::AddrInUse && address.replaces() => {
                address.as_path().map_or(Ok(()), remove_socket)?;
                socket.bind(&system)
            }
            outcome => outcome,
        };
        outcome.map_err(|error| explained(&error, address))?;
        Ok(path.and_then(Self::of))
    }

    /// Returns the file at a path; `None` if it was removed already.
    fn of(path: PathBuf) -> Option<Self> {
        let file = fs::symlink_metadata(&path).ok()?;
        let process = std::process::id();
        Some(Self { path, device: file.dev(), inode: file.ino(), process })
    }
}

impl Drop for Bound {
    fn drop(&mut self) {
        let is_ours = |file: fs::Metadata| (file.dev(), file.ino()) == (self.device, self.inode);
        let is_our_process = self.process == std::process::id();
        if is_our_process && fs::symlink_metadata(&self.path).is_ok_and(is_ours) {
            // The error cannot be reported; a file that is left blocks the next bind, as after a
            // crash.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Removes the existing file, if it is a socket file.
fn remove_socket(path: &Path) -> io::Result<()> {
    let removed = fs::symlink_metadata(path).and_then(|file| {
        if file.file_type().is_socket() {
            return fs::remove_file(path);
        }
        let message = format!("{} is not a socket, and is not replaced", path.display());
        Err(io::Error::new(ErrorKind::AlreadyExists, message))
    });
    match removed {
        // It was removed in the meantime.
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// Returns the error with the address that it is about.
fn explained(error: &io::Error, address: &UnixAddress) -> io::Error {
    let message = match error.kind() {
        ErrorKind::AddrInUse if address.as_path().is_some() => {
            format!(
                "something stands at {address} already; a socket there is replaced if asked for"
            )
        }
        ErrorKind::AddrInUse => format!("somebody listens at {address} already"),
        _ => format!("cannot listen at {address}: {error}"),
    };
    io::Error::new(error.kind(), message)
}
