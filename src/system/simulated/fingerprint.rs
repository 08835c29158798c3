//! A state of the network as a number, for a search through all states: what can come of it is in
//! it, what has been is not. Which bytes there are is not, nor the time.

use std::hash::{Hash, Hasher};

use super::network::Network;
use super::socket::{Connect, Entry, Listener, Stream, Watch};

impl Network {
    pub(crate) fn fingerprint(&self, hasher: &mut impl Hasher) {
        let last = self.entries.iter().rposition(|entry| !matches!(entry, Entry::Free));
        for entry in &self.entries[..last.map_or(0, |last| last + 1)] {
            match entry {
                Entry::Free => 0.hash(hasher),
                Entry::Listener(Listener { poller, waiting, watch, .. }) => {
                    (1, poller, waiting).hash(hasher);
                    hash_watch(watch.as_ref(), hasher);
                }
                Entry::Stream(stream) => {
                    2.hash(hasher);
                    hash_stream(stream, hasher);
                    hash_watch(stream.watch.as_ref(), hasher);
                }
            }
        }
        self.listed.hash(hasher);
        self.script.spurious.hash(hasher);
    }

    /// Returns the sockets with which the network can do something.
    pub(crate) fn places(&self) -> std::ops::Range<usize> {
        0..self.entries.len()
    }

    /// Lets the network do what it does for one socket. Returns whether there was anything to do.
    pub(crate) fn step_at(&mut self, place: usize) -> bool {
        self.step_entry(place)
    }
}

fn hash_stream(stream: &Stream, hasher: &mut impl Hasher) {
    let Stream { poller, other, connect, send, receive, was_full, finished, .. } = stream;
    let Stream { finish_delivered, ended, is_reset, error, urgent, .. } = stream;
    let Stream { is_closed, resets_on_close, .. } = stream;
    let connect = match connect {
        Connect::UnderWay => (0, None),
        Connect::Failing(error) => (1, Some(error)),
        Connect::Hanging => (2, None),
        Connect::Done => (3, None),
        #[cfg(unix)]
        Connect::NotBegun => (4, None),
    };
    (poller, other, connect, send.len(), receive.len(), was_full, finished).hash(hasher);
    (finish_delivered, ended, is_reset, error, urgent, is_closed, resets_on_close).hash(hasher);
}

fn hash_watch(watch: Option<&Watch>, hasher: &mut impl Hasher) {
    let Some(watch) = watch else { return 0.hash(hasher) };
    let Watch { interest, listed, edges, armed_to_read, armed_to_write, .. } = watch;
    (1, interest, listed, edges, armed_to_read, armed_to_write).hash(hasher);
}
