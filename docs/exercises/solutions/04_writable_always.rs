//! The interest rule of a loop of your own, on a level-triggered kernel such as `selectors` uses:
//! what a connection asks the kernel to report, from the room in its read buffer and the bytes that
//! it could not send yet.
//!
//! Everything arrives, and everything is answered. But the server needs a whole core, even while no
//! client says anything.
//!
//! About: the interest rule (chapter 11).

use readiness::Interest;

/// Returns what the kernel is to report about a connection.
pub fn interest(room_to_read: usize, unsent: usize) -> Interest {
    match (room_to_read, unsent) {
        (0, 0) => Interest::None,
        (0, _) => Interest::Writable,
        (_, 0) => Interest::Readable, // writable is nearly always true, and nobody needs it now
        (_, _) => Interest::ReadableWritable,
    }
}
