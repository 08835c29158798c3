//! The keys, their values, and when they expire.
//!
//! Each key has a place, which it keeps for as long as it exists. A scan goes through the places,
//! so it yields each key once that exists from its beginning to its end. All times are in one
//! order, so the server needs one timer, for the earliest. A key that has expired is no longer
//! found, and takes memory until it is removed.

use std::collections::{BTreeSet, HashMap};
use std::mem;
use std::ops::Range;
use std::rc::Rc;
use std::time::Instant;

use slab::Slab;

/// How many expired keys are removed at once.
const EXPIRED_AT_ONCE: usize = 1000;

pub(crate) struct Entry {
    pub(crate) value: Vec<u8>,
    pub(crate) expires: Option<Instant>,
    place: usize,
}

pub(crate) struct Store {
    /// The time of the event at hand.
    pub(crate) now: Instant,
    entries: HashMap<Rc<[u8]>, Entry>,
    /// The key at each place.
    pub(crate) places: Slab<Rc<[u8]>>,
    /// The time and the place of each key that expires.
    pub(crate) expiries: BTreeSet<(Instant, usize)>,
}

impl Store {
    pub(crate) fn new(now: Instant) -> Self {
        let (entries, places, expiries) = Default::default();
        Self { now, entries, places, expiries }
    }

    /// Sets the time and removes keys that have expired by then, a bounded number of them, so that
    /// clients are served in between. The others are no longer found.
    pub(crate) fn advance(&mut self, now: Instant) {
        self.now = now;
        for _ in 0..EXPIRED_AT_ONCE {
            match self.expiries.first() {
                Some((at, place)) if *at <= now => self.remove(&self.places[*place].clone()),
                _ => return,
            };
        }
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Entry> {
        self.entries.get(key).filter(|entry| entry.is_valid(self.now))
    }

    pub(crate) fn get_mut(&mut self, key: &[u8]) -> Option<&mut Entry> {
        self.entries.get_mut(key).filter(|entry| entry.is_valid(self.now))
    }

    pub(crate) fn value(&self, key: &[u8]) -> Option<&Vec<u8>> {
        self.get(key).map(|entry| &entry.value)
    }

    /// Returns the keys at these places.
    pub(crate) fn keys(&self, places: Range<usize>) -> impl Iterator<Item = &Rc<[u8]>> {
        let keys = places.filter_map(|place| self.places.get(place));
        keys.filter(|key| self.get(key).is_some())
    }

    /// Sets the value of a key, and when it expires.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8], at: Option<Instant>) {
        let Some(entry) = self.entries.get_mut(key) else {
            let key: Rc<[u8]> = key.into();
            let place = self.places.insert(key.clone());
            self.expiries.extend(at.map(|at| (at, place)));
            self.entries.insert(key, Entry { value: value.to_vec(), expires: at, place });
            return;
        };
        entry.value.clear();
        entry.value.extend_from_slice(value);
        // After a much longer one.
        entry.value.shrink_to(4 * value.len());
        entry.expire(at, &mut self.expiries);
    }

    /// Sets when a key expires, `None` for never. Returns whether there is such a key.
    pub(crate) fn expire(&mut self, key: &[u8], at: Option<Instant>) -> bool {
        let entry = self.entries.get_mut(key).filter(|entry| entry.is_valid(self.now));
        entry.map(|entry| entry.expire(at, &mut self.expiries)).is_some()
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        let mut entry = self.entries.remove(key)?;
        let is_valid = entry.is_valid(self.now);
        self.places.remove(entry.place);
        entry.expire(None, &mut self.expiries);
        is_valid.then_some(entry.value)
    }
}

impl Entry {
    fn is_valid(&self, now: Instant) -> bool {
        self.expires.is_none_or(|at| at > now)
    }

    fn expire(&mut self, at: Option<Instant>, expiries: &mut BTreeSet<(Instant, usize)>) {
        if let Some(before) = mem::replace(&mut self.expires, at) {
            expiries.remove(&(before, self.place));
        }
        expiries.extend(at.map(|at| (at, self.place)));
    }
}

/// The longest pattern: matching takes up to the product of its length and the text's.
const PATTERN_MAX: usize = 1024;

/// Returns whether a text matches a pattern with `*`, `?`, `[a-c]`, `[^a]` and `\`, as Redis reads
/// them. A longer pattern than [`PATTERN_MAX`] matches nothing.
pub(crate) fn matches(mut pattern: &[u8], mut text: &[u8]) -> bool {
    // What is behind the last star, and the text that this star has not taken.
    let mut star = None;
    while pattern.len() <= PATTERN_MAX {
        if let [b'*', behind @ ..] = pattern {
            (pattern, star) = (behind, Some((behind, text)));
        } else if let Some(behind) = text.first().and_then(|byte| behind_one(pattern, *byte)) {
            (pattern, text) = (behind, &text[1..]);
        } else if pattern.is_empty() && text.is_empty() {
            return true;
        } else if let Some((behind, [_, later @ ..])) = star {
            (pattern, text, star) = (behind, later, Some((behind, later)));
        } else {
            break;
        }
    }
    false
}

/// Returns the pattern behind what it begins with, if that stands for the byte.
fn behind_one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let (fits, behind) = match pattern {
        [b'?', behind @ ..] => (true, behind),
        [b'[', class @ ..] => {
            let positive = class.strip_prefix(b"^").unwrap_or(class);
            let mut parts = positive.splitn(2, |sign| *sign == b']');
            let members = parts.next().unwrap_or_default();
            let is_negated = positive.len() < class.len();
            (is_in(members, byte) != is_negated, parts.next().unwrap_or_default())
        }
        [b'\\', sign, behind @ ..] | [sign, behind @ ..] => (*sign == byte, behind),
        [] => (false, pattern),
    };
    fits.then_some(behind)
}

/// Returns whether a byte is one of these members, or in one of their ranges.
fn is_in(members: &[u8], byte: u8) -> bool {
    let (low, high, rest) = match members {
        [low, b'-', high, rest @ ..] => (low.min(high), low.max(high), rest),
        [member, rest @ ..] => (member, member, rest),
        [] => return false,
    };
    (low..=high).contains(&&byte) || is_in(rest, byte)
}
