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
    pub(crate) key: Rc<[u8]>,
    pub(crate) value: Vec<u8>,
    pub(crate) expires: Option<Instant>,
}

pub(crate) struct Store {
    /// The time of the event at hand.
    pub(crate) now: Instant,
    pub(crate) entries: Slab<Entry>,
    /// Where the entry of each key is.
    places: HashMap<Rc<[u8]>, usize>,
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
                Some((at, place)) if *at <= now => self.remove(&self.entries[*place].key.clone()),
                _ => return,
            };
        }
    }

    fn is_valid(&self, entry: &Entry) -> bool {
        entry.expires.is_none_or(|at| at > self.now)
    }

    /// Returns the keys at these places.
    pub(crate) fn keys(&self, places: Range<usize>) -> impl Iterator<Item = &Rc<[u8]>> {
        let entries = places.filter_map(|place| self.entries.get(place));
        entries.filter(|entry| self.is_valid(entry)).map(|entry| &entry.key)
    }

    /// Returns the place of a key.
    pub(crate) fn find(&self, key: &[u8]) -> Option<usize> {
        self.places.get(key).copied().filter(|place| self.is_valid(&self.entries[*place]))
    }

    pub(crate) fn value(&self, key: &[u8]) -> Option<&Vec<u8>> {
        self.find(key).map(|place| &self.entries[place].value)
    }

    /// Returns the place of a key, which has this value if it is new.
    pub(crate) fn find_or_insert(&mut self, key: &[u8], new: &[u8]) -> usize {
        if let Some(place) = self.find(key) {
            return place;
        }
        // It may have expired.
        self.remove(key);
        let key: Rc<[u8]> = key.into();
        let entry = Entry { key: key.clone(), value: new.to_vec(), expires: None };
        let place = self.entries.insert(entry);
        self.places.insert(key, place);
        place
    }

    /// Sets the value of a key, and when it expires.
    pub(crate) fn put(&mut self, key: &[u8], value: &[u8], at: Option<Instant>) {
        let place = self.find_or_insert(key, b"");
        let kept = &mut self.entries[place].value;
        kept.clear();
        kept.extend_from_slice(value);
        // After a much longer one.
        kept.shrink_to(4 * value.len());
        self.expire(place, at);
    }

    /// Sets when the key at a place expires, `None` for never. Returns when it would have.
    pub(crate) fn expire(&mut self, place: usize, at: Option<Instant>) -> Option<Instant> {
        let before = mem::replace(&mut self.entries[place].expires, at);
        before.map(|before| self.expiries.remove(&(before, place)));
        self.expiries.extend(at.map(|at| (at, place)));
        before
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<Vec<u8>> {
        let place = self.places.remove(key)?;
        let is_valid = self.is_valid(&self.entries[place]);
        self.expire(place, None);
        let entry = self.entries.remove(place);
        is_valid.then_some(entry.value)
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
