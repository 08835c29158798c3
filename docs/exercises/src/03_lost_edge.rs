//! The read half of a loop of your own, on an edge-triggered kernel: it reports once that bytes
//! have arrived, and not again until more arrive.
//!
//! A signal can interrupt a call, which is no end.
//!
//! The buffer should hold everything that has arrived. After a long message its end is missing
//! until the client sends again, which it does not, because it waits for the answer.
//!
//! About: the kernel reports a change, not a state (chapter 12).

use std::io::{self, ErrorKind, Read};

/// Called when the kernel reports the socket as readable. Returns whether more can follow.
pub fn on_readable(socket: &mut impl Read, buffer: &mut Vec<u8>) -> io::Result<bool> {
    let mut piece = [0; 8];
    match socket.read(&mut piece) {
        Ok(0) => Ok(false),
        Ok(count) => {
            buffer.extend_from_slice(&piece[..count]);
            Ok(true)
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(true),
        Err(error) => Err(error),
    }
}
