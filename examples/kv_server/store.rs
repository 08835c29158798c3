//! The keys, their values, and when they expire.
//!
//! Each key has a place, which it keeps for as long as it exists. A scan goes through the places,
//! so it yields each key once that exists from its beginning to its end. All times are in one
//! order, so the server needs one timer, for the earliest. A key that has expired is no longer
//! found, and takes memory until it is looked for or that timer fires.

use std::collections::{BTreeSet, HashMap};
use std::mem;
use std::rc::Rc;
use std::time::Instant;

use slab::Slab;

pub(crate) struct Entry {
    key: Rc<[u8]>,
    pub(crate) value: Vec<u8>,
    pub(crate) expires: Option<Instant>,
}

pub(crate) struct Store {
    /// The time of the event at hand.
    pub(crate) now: Instant,
    pub(crate) entries: Slab<Entry>,
    places: HashMap<Rc<[u8]>, usize>,
    /// Invariant: the time and the place of each key that expires.
    pub(crate) expiries: BTreeSet<(Instant, usize)>,
}

impl Store {
    pub(crate) fn new(now: Instant) -> Self {
        let (entries, places, expiries) = Default::default();
        Self { now, entries, places, expiries }
    }

    /// Returns the place of a key, if it exists.
    pub(crate) fn find(&mut self, key: &[u8]) -> Option<usize> {
        let place = *self.places.get(key)?;
        let has_expired = self.entries[place].expires.is_some_and(|at| at <= self.now);
        if has_expired {
            self.remove(place);
        }
        (!has_expired).then_some(place)
    }

    /// Returns the place of a key, which gets this value if it does not exist.
    pub(crate) fn find_or_insert(&mut self, key: &[u8], value: &[u8]) -> usize {
        self.find(key).unwrap_or_else(|| {
            let key: Rc<[u8]> = key.into();
            let entry = Entry { key: Rc::clone(&key), value: value.to_vec(), expires: None };
            let place = self.entries.insert(entry);
            self.places.insert(key, place);
            place
        })
    }

    /// Sets when a key expires, `None` for never. Returns whether it had such a time before.
    pub(crate) fn expire(&mut self, place: usize, at: Option<Instant>) -> bool {
        let before = mem::replace(&mut self.entries[place].expires, at);
        let had_one = before.is_some_and(|before| self.expiries.remove(&(before, place)));
        self.expiries.extend(at.map(|at| (at, place)));
        had_one
    }

    pub(crate) fn remove(&mut self, place: usize) -> Entry {
        self.expire(place, None);
        let entry = self.entries.remove(place);
        self.places.remove(&entry.key);
        entry
    }

    /// Returns the keys at `count` places from this one on, and the place to go on from: 0 at the
    /// end.
    pub(crate) fn scan(&self, from: usize, count: usize) -> (impl Iterator<Item = &[u8]>, usize) {
        let (places, end) = (self.entries.capacity(), from.saturating_add(count));
        let entries = (from..end.min(places)).filter_map(|place| self.entries.get(place));
        let exist = entries.filter(|entry| entry.expires.is_none_or(|at| at > self.now));
        (exist.map(|entry| &*entry.key), if end < places { end } else { 0 })
    }

    /// Removes the keys that have expired, at most this many.
    pub(crate) fn remove_expired(&mut self, most: usize) {
        let expired = self.expiries.iter().take_while(|(at, _)| *at <= self.now).take(most);
        let places: Vec<usize> = expired.map(|(_, place)| *place).collect();
        places.into_iter().for_each(|place| drop(self.remove(place)));
    }
}

/// Returns whether a text matches a pattern with `*`, `?`, `[a-c]`, `[^a]` and `\`, as Redis reads
/// them. It takes no longer than the product of their lengths, so a pattern above 1 KiB matches
/// nothing.
pub(crate) fn matches(mut pattern: &[u8], mut text: &[u8]) -> bool {
    if pattern.len() > 1024 {
        return false;
    }
    // What is behind the last star, and the text that this star has not taken.
    let mut star = None;
    loop {
        if let [b'*', behind @ ..] = pattern {
            (pattern, star) = (behind, Some((behind, text)));
        } else if let Some(behind) = text.first().and_then(|byte| behind_one(pattern, *byte)) {
            (pattern, text) = (behind, &text[1..]);
        } else if pattern.is_empty() && text.is_empty() {
            return true;
        } else if let Some((behind, [_, later @ ..])) = star {
            (pattern, text, star) = (behind, later, Some((behind, later)));
        } else {
            return false;
        }
    }
}

/// Returns the pattern behind what it begins with, if that stands for the byte.
fn behind_one(pattern: &[u8], byte: u8) -> Option<&[u8]> {
    let (fits, behind) = match pattern {
        [b'?', behind @ ..] => (true, behind),
        [b'[', class @ ..] => {
            let members = class.strip_prefix(b"^").unwrap_or(class);
            let end = members.iter().position(|sign| *sign == b']').unwrap_or(members.len());
            let is_negative = members.len() < class.len();
            let behind = members.get(end + 1..).unwrap_or_default();
            (is_in_class(&members[..end], byte) != is_negative, behind)
        }
        [b'\\', sign, behind @ ..] | [sign, behind @ ..] => (*sign == byte, behind),
        [] => (false, pattern),
    };
    fits.then_some(behind)
}

/// Returns whether the byte is one of these, or in one of these ranges.
fn is_in_class(members: &[u8], byte: u8) -> bool {
    match members {
        [low, b'-', high, rest @ ..] => {
            (low.min(high)..=low.max(high)).contains(&&byte) || is_in_class(rest, byte)
        }
        [sign, rest @ ..] => *sign == byte || is_in_class(rest, byte),
        [] => false,
    }
}
