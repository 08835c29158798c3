//! The keys, their values, and when they expire.
//!
//! Each key has a place, which it keeps for as long as it exists. A scan goes through the places,
//! so it yields each key once that exists from its beginning to its end. All times are in one
//! order, so the server needs one timer, for the earliest. A key that has expired is no longer
//! found, and takes memory until that timer fires.

use std::collections::{BTreeSet, HashMap};
use std::mem;
use std::rc::Rc;
use std::time::Instant;

use slab::Slab;

pub(crate) struct Entry {
    pub(crate) value: Vec<u8>,
    pub(crate) expires: Option<Instant>,
    place: usize,
}

impl Entry {
    fn expire(&mut self, at: Option<Instant>, expiries: &mut BTreeSet<(Instant, usize)>) {
        if let Some(before) = mem::replace(&mut self.expires, at) {
            expiries.remove(&(before, self.place));
        }
        expiries.extend(at.map(|at| (at, self.place)));
    }
}

pub(crate) struct Store {
    /// The time of the event at hand.
    pub(crate) now: Instant,
    entries: HashMap<Rc<[u8]>, Entry>,
    places: Slab<Rc<[u8]>>,
    /// Invariant: the time and the place of each key that expires.
    expiries: BTreeSet<(Instant, usize)>,
}

impl Store {
    pub(crate) fn new(now: Instant) -> Self {
        let (entries, places, expiries) = Default::default();
        Self { now, entries, places, expiries }
    }

    /// Returns how many keys there are, and how many of them expire some time.
    pub(crate) fn counts(&self) -> (usize, usize) {
        (self.entries.len(), self.expiries.len())
    }

    pub(crate) fn get(&self, key: &[u8]) -> Option<&Entry> {
        let is_valid = |entry: &&Entry| entry.expires.is_none_or(|at| at > self.now);
        self.entries.get(key).filter(is_valid)
    }

    pub(crate) fn get_mut(&mut self, key: &[u8]) -> Option<&mut Entry> {
        let is_valid = |entry: &&mut Entry| entry.expires.is_none_or(|at| at > self.now);
        self.entries.get_mut(key).filter(is_valid)
    }

    /// Sets the value of a key, and when it expires.
    pub(crate) fn set(&mut self, key: &[u8], value: &[u8], at: Option<Instant>) {
        let Some(entry) = self.entries.get_mut(key) else {
            let key: Rc<[u8]> = key.into();
            let place = self.places.insert(key.clone());
            self.expiries.extend(at.map(|at| (at, place)));
            self.entries.insert(key, Entry { value: value.to_vec(), expires: at, place });
            return;
        };
        entry.expire(at, &mut self.expiries);
        entry.value.clear();
        entry.value.extend_from_slice(value);
        if entry.value.capacity() > 4 * value.len() {
            entry.value.shrink_to_fit();
        }
    }

    /// Sets when a key expires, `None` for never. Returns whether there is such a key.
    pub(crate) fn expire(&mut self, key: &[u8], at: Option<Instant>) -> bool {
        let mut expiries = mem::take(&mut self.expiries);
        let found = self.get_mut(key).map(|entry| entry.expire(at, &mut expiries));
        self.expiries = expiries;
        found.is_some()
    }

    pub(crate) fn remove(&mut self, key: &[u8]) -> Option<Entry> {
        let is_valid = self.get(key).is_some();
        let mut entry = self.entries.remove(key)?;
        self.places.remove(entry.place);
        entry.expire(None, &mut self.expiries);
        is_valid.then_some(entry)
    }

    /// Returns the keys at `count` places from this one on, and the place to go on from: 0 at the
    /// end.
    pub(crate) fn scan(&self, from: usize, count: usize) -> (impl Iterator<Item = &[u8]>, usize) {
        let (places, end) = (self.places.capacity(), from.saturating_add(count));
        let keys = (from..end.min(places)).filter_map(|place| Some(&**self.places.get(place)?));
        (keys.filter(|key| self.get(key).is_some()), if end < places { end } else { 0 })
    }

    pub(crate) fn next_expiry(&self) -> Option<Instant> {
        self.expiries.first().map(|(at, _)| *at)
    }

    /// Removes the keys that have expired, at most this many.
    pub(crate) fn remove_expired(&mut self, most: usize) {
        for _ in 0..most {
            match self.expiries.first() {
                Some((at, place)) if *at <= self.now => self.remove(&self.places[*place].clone()),
                _ => return,
            };
        }
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
            let positive = class.strip_prefix(b"^").unwrap_or(class);
            let end = positive.iter().position(|sign| *sign == b']').unwrap_or(positive.len());
            let (mut members, behind) = positive.split_at(end);
            let mut is_in = false;
            while let [low, rest @ ..] = members {
                let (high, rest) = match rest {
                    [b'-', high, rest @ ..] => (high, rest),
                    _ => (low, rest),
                };
                is_in |= (low.min(high)..=low.max(high)).contains(&&byte);
                members = rest;
            }
            (is_in == (positive.len() == class.len()), behind.strip_prefix(b"]").unwrap_or(behind))
        }
        [b'\\', sign, behind @ ..] | [sign, behind @ ..] => (*sign == byte, behind),
        [] => (false, pattern),
    };
    fits.then_some(behind)
}
