//! A file that is read twice while a program runs: to be sent, and to be compared with the echo.

use std::ffi::OsString;
use std::fs::{self, File, Metadata};
use std::io::{self, Read, Take};
use std::time::SystemTime;

pub(crate) struct SentFile {
    path: OsString,
    /// Open, so that it stays the same file whatever happens to its name.
    file: File,
    before: State,
}

/// What shows that a file was written to.
type State = (u64, Option<SystemTime>);

impl SentFile {
    pub(crate) fn open(path: OsString) -> io::Result<Self> {
        // A pipe cannot be read twice, and to open one can block.
        if !fs::metadata(&path)?.is_file() {
            return Err(io::Error::other("not a file"));
        }
        let file = File::open(&path)?;
        let before = state(&file.metadata()?);
        Ok(Self { path, file, before })
    }

    pub(crate) fn len(&self) -> u64 {
        self.before.0
    }

    /// Reads it from its beginning, up to the length that it had at first.
    pub(crate) fn read(&self) -> io::Result<Take<File>> {
        Ok(File::open(&self.path)?.take(self.len()))
    }

    /// Returns whether it was written to since it was opened, as far as the system reports that.
    pub(crate) fn has_changed(&self) -> bool {
        self.file.metadata().is_ok_and(|now| state(&now) != self.before)
    }
}

fn state(metadata: &Metadata) -> State {
    (metadata.len(), metadata.modified().ok())
}
