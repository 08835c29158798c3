//! The events that a connection owes its program: a byte of bits, in the order of delivery.
//!
//! What this file deliberately does not do: it does not know what holds an event back. That is the
//! exchange's state.

/// An event that a connection can owe; one that stands earlier is delivered first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum Owed {
    Accepted,
    Connected,
    Received,
    Drained,
    Deadline,
    PeerFinished,
    Closed,
}

impl Owed {
    const ALL: [Self; 7] = [
        Self::Accepted,
        Self::Connected,
        Self::Received,
        Self::Drained,
        Self::Deadline,
        Self::PeerFinished,
        Self::Closed,
    ];

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of owed events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct OwedEvents(u8);

impl OwedEvents {
    pub(crate) const RECEIVED: Self = Self(1 << Owed::Received as u8);

    pub(crate) fn add(&mut self, event: Owed) {
        self.0 |= event.bit();
    }

    /// Takes an event back, or counts it as delivered.
    pub(crate) fn remove(&mut self, event: Owed) {
        self.0 &= !event.bit();
    }

    /// Drops all but `Closed`, if that is owed.
    pub(crate) fn keep_only_closed(&mut self) {
        self.0 &= Owed::Closed.bit();
    }

    pub(crate) fn clear(&mut self) {
        self.0 = 0;
    }

    /// Whether anything besides `Closed` is owed.
    pub(crate) fn has_news(self) -> bool {
        self.0 & !Owed::Closed.bit() != 0
    }

    #[cfg(test)]
    pub(crate) fn contains(self, event: Owed) -> bool {
        self.0 & event.bit() != 0
    }

    #[inline]
    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The first event that is not among those held back.
    #[inline]
    pub(crate) fn first_but(self, held_back: Self) -> Option<Owed> {
        let events = self.0 & !held_back.0;
        Owed::ALL.get(events.trailing_zeros() as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_their_order_however_they_were_added() {
        let mut owed = OwedEvents::default();
        for event in [Owed::Closed, Owed::Drained, Owed::Accepted, Owed::Received] {
            owed.add(event);
        }
        let next = || {
            let event = owed.first_but(OwedEvents::RECEIVED)?;
            owed.remove(event);
            Some(event)
        };
        let told: Vec<Owed> = std::iter::from_fn(next).take(9).collect();
        assert_eq!(told, [Owed::Accepted, Owed::Drained, Owed::Closed]);
        assert_eq!(owed.first_but(OwedEvents::default()), Some(Owed::Received));
    }

    #[test]
    fn after_a_close_only_closed_is_left() {
        let mut owed = OwedEvents::default();
        owed.add(Owed::Drained);
        owed.keep_only_closed();
        assert!(!owed.has_news());
        assert_eq!(owed.first_but(OwedEvents::default()), None);
        owed.add(Owed::Closed);
        owed.keep_only_closed();
        assert_eq!(owed.first_but(OwedEvents::default()), Some(Owed::Closed));
    }
}
