//! A slab keyed by generational ids: a stale id never refers to a later occupant of its slot.
//!
//! An id is a slot and a generation. A generation repeats only after 2^32 others. Listeners, timers
//! and sources are kept in [`Slots`]. Connections use the same generations, but have their own
//! slab, because a connection stores its id itself.

use std::fmt;
use std::num::NonZero;

use slab::Slab;

/// What all kinds of ids have in common.
pub(crate) trait Id: Copy + PartialEq {
    fn new(slot: u32, generation: NonZero<u32>) -> Self;
    fn slot(self) -> u32;
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $letter:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name {
            pub(crate) slot: u32,
            pub(crate) generation: NonZero<u32>,
        }

        impl Id for $name {
            fn new(slot: u32, generation: NonZero<u32>) -> Self {
                Self { slot, generation }
            }

            fn slot(self) -> u32 {
                self.slot
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($letter, "{}.{}"), self.slot, self.generation)
            }
        }
    };
}

id! {
    /// Names one connection of one loop, even after it has closed. Shown as `c<slot>.<generation>`.
    ConnectionId, "c"
}

id! {
    /// Names one listener of one loop, even after it has closed. Shown as `l<slot>.<generation>`.
    ListenerId, "l"
}

id! {
    /// Names one timer of one loop, even after it has fired or was cancelled. Shown as
    /// `t<slot>.<generation>`.
    TimerId, "t"
}

id! {
    /// Names one foreign source of one loop, even after it was deregistered. Shown as
    /// `s<slot>.<generation>`.
    SourceId, "s"
}

/// Hands out the generations of ids. Each repeats only after 2^32 others.
#[derive(Debug, Default)]
pub(crate) struct Generations {
    last: u32,
}

impl Generations {
    /// The last one handed out; zero if none was.
    pub(crate) fn last(&self) -> u32 {
        self.last
    }

    pub(crate) fn next(&mut self) -> NonZero<u32> {
        self.last = self.last.wrapping_add(1).max(1);
        NonZero::new(self.last).unwrap_or(NonZero::<u32>::MIN)
    }
}

/// A slab whose entries are named by ids of the kind `I`, which stand beside them.
#[derive(Debug)]
pub(crate) struct Slots<I, V> {
    slab: Slab<(I, V)>,
    generations: Generations,
}

impl<I, V> Default for Slots<I, V> {
    fn default() -> Self {
        Self { slab: Slab::new(), generations: Generations::default() }
    }
}

impl<I: Id, V> Slots<I, V> {
    pub(crate) fn insert(&mut self, value: V) -> I {
        let entry = self.slab.vacant_entry();
        let slot = u32::try_from(entry.key()).expect("there is no memory for 2^32 of them");
        let id = I::new(slot, self.generations.next());
        entry.insert((id, value));
        id
    }

    pub(crate) fn get(&self, id: I) -> Option<&V> {
        let (its, value) = self.slab.get(id.slot() as usize)?;
        (*its == id).then_some(value)
    }

    pub(crate) fn get_mut(&mut self, id: I) -> Option<&mut V> {
        let (its, value) = self.slab.get_mut(id.slot() as usize)?;
        (*its == id).then_some(value)
    }

    pub(crate) fn remove(&mut self, id: I) -> Option<V> {
        self.get(id)?;
        self.slab.try_remove(id.slot() as usize).map(|(_, value)| value)
    }

    /// Returns the entry that is in a slot now, with its id.
    pub(crate) fn at(&mut self, slot: u32) -> Option<(I, &mut V)> {
        self.slab.get_mut(slot as usize).map(|(id, value)| (*id, value))
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = (I, &mut V)> {
        self.slab.iter_mut().map(|(_, (id, value))| (*id, value))
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (I, &V)> {
        self.slab.iter().map(|(_, (id, value))| (*id, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_are_small_and_show_slot_and_generation() {
        let id = ConnectionId { slot: 3, generation: NonZero::<u32>::MIN };
        assert_eq!(id.to_string(), "c3.1");
        assert_eq!(size_of::<Option<ConnectionId>>(), 8);
        fn travels<T: Copy + Eq + std::hash::Hash + Ord + Send + fmt::Display>() {}
        travels::<ConnectionId>();
        travels::<ListenerId>();
        travels::<TimerId>();
        travels::<SourceId>();
    }

    #[test]
    fn an_id_that_has_gone_does_not_name_the_next_owner_of_its_slot() {
        let mut slots: Slots<TimerId, &str> = Slots::default();
        let first = slots.insert("first");
        assert_eq!(slots.remove(first), Some("first"));
        let second = slots.insert("second");
        assert_eq!(second.slot(), first.slot());
        assert_eq!(slots.get(first), None);
        assert_eq!(slots.get_mut(first), None);
        assert_eq!(slots.remove(first), None);
        assert_eq!(slots.get(second), Some(&"second"));
        assert_eq!(slots.at(0), Some((second, &mut "second")));
        assert_eq!(slots.iter().collect::<Vec<_>>(), [(second, &"second")]);
    }

    #[test]
    fn generations_are_never_zero() {
        let mut generations = Generations { last: u32::MAX - 1 };
        assert_eq!(generations.next().get(), u32::MAX);
        assert_eq!(generations.next().get(), 1);
    }
}
