//! Whether what comes back from a server is a file, byte for byte, with a progress bar meanwhile.
//!
//! The file is read in step with what comes back, so that no more of it is in memory than that.

use std::fs::{self, File};
use std::io::{self, Read};
use std::path::Path;

use indicatif::ProgressBar;

/// A file, and how far what has come back is identical to it.
pub(crate) struct FileCheck {
    file: File,
    identical: u64,
    progress: ProgressBar,
}

impl FileCheck {
    pub(crate) fn new(path: &Path) -> io::Result<Self> {
        // A pipe cannot be read twice, and to open one can block.
        let metadata = fs::metadata(path)?;
        if !metadata.is_file() {
            return Err(io::Error::other("not a file"));
        }
        let file = File::open(path)?;
        // Where standard error is no terminal, the bar is not drawn.
        Ok(Self { file, identical: 0, progress: ProgressBar::new(metadata.len()) })
    }

    /// Compares what was received with what the file has next.
    pub(crate) fn take(&mut self, received: &[u8]) -> io::Result<()> {
        let mut expected = Vec::new();
        self.file.by_ref().take(received.len() as u64).read_to_end(&mut expected)?;
        let count = match received == expected {
            true => received.len(),
            false => received.iter().zip(&expected).take_while(|(one, other)| one == other).count(),
        };
        self.identical += count as u64;
        self.progress.set_position(self.identical);
        let identical = self.identical;
        match count {
            _ if count == received.len() => Ok(()),
            _ if count == expected.len() => {
                Err(failed(format!("more came back than the file's {identical} bytes")))
            }
            _ => Err(failed(format!("the byte after {identical} identical ones is another"))),
        }
    }

    /// The server has ended: returns how many bytes came back identical, if that is all of them.
    pub(crate) fn conclude(&mut self) -> io::Result<u64> {
        if self.file.read(&mut [0])? > 0 {
            return Err(failed(format!("only {} bytes came back", self.identical)));
        }
        self.progress.finish_and_clear();
        Ok(self.identical)
    }
}

fn failed(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, message)
}
