//! A worker thread hands its answer to the loop: it puts it into a mailbox, and wakes the loop. The
//! loop empties the mailbox whenever it is woken.
//!
//! Once in a thousand times an answer lies in the mailbox until the next one is put beside it.
//!
//! About: threads and the waker (chapter 18).

/// What the worker thread shares with the loop.
pub trait Mailbox {
    /// Puts an answer where the loop finds it when it looks.
    fn put(&mut self, answer: &str);
    /// Wakes the loop, which then looks once.
    fn wake(&mut self);
}

/// Hands over an answer. Between any two of its lines, the loop can have as many turns as it likes.
pub fn hand_over(mailbox: &mut impl Mailbox, answer: &str) {
    mailbox.wake();
    mailbox.put(answer);
}
