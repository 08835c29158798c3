//! The pending events of a connection, those not yet delivered to the program: a byte of bits, in
//! the order of delivery.
//!
//! This file deliberately does not know what holds an event back: that is the exchange's state.

/// A kind of event of a connection; the earlier kind is delivered first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub(crate) enum Pending {
    Accepted,
    Connected,
    Received,
    Full,
    Drained,
    Deadline,
    PeerFinished,
    Closed,
}

impl Pending {
    const ALL: [Self; 8] = [
        Self::Accepted,
        Self::Connected,
        Self::Received,
        Self::Full,
        Self::Drained,
        Self::Deadline,
        Self::PeerFinished,
        Self::Closed,
    ];

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

/// A set of pending events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub(crate) struct PendingEvents(u8);

impl PendingEvents {
    pub(crate) const RECEIVED: Self = Self(1 << Pending::Received as u8);

    pub(crate) fn add(&mut self, event: Pending) {
        self.0 |= event.bit();
    }

    /// Removes an event: it was delivered, or is not due any more.
    pub(crate) fn remove(&mut self, event: Pending) {
        self.0 &= !event.bit();
    }

    /// Drops all but `Closed`, if that is pending.
    pub(crate) fn keep_only_closed(&mut self) {
        self.0 &= Pending::Closed.bit();
    }

    pub(crate) fn clear(&mut self) {
        self.0 = 0;
    }

    pub(crate) fn contains(self, event: Pending) -> bool {
        self.0 & event.bit() != 0
    }

    #[inline]
    pub(crate) fn bits(self) -> u8 {
        self.0
    }

    pub(crate) fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Returns the first event that is not among those held back.
    #[inline]
    pub(crate) fn first_but(self, held_back: Self) -> Option<Pending> {
        let events = self.0 & !held_back.0;
        Pending::ALL.get(events.trailing_zeros() as usize).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn events_come_in_their_order_however_they_were_added() {
        let mut pending = PendingEvents::default();
        for event in [Pending::Closed, Pending::Drained, Pending::Accepted, Pending::Received] {
            pending.add(event);
        }
        let next = || {
            let event = pending.first_but(PendingEvents::RECEIVED)?;
            pending.remove(event);
            Some(event)
        };
        let delivered: Vec<Pending> = std::iter::from_fn(next).take(9).collect();
        assert_eq!(delivered, [Pending::Accepted, Pending::Drained, Pending::Closed]);
        assert_eq!(pending.first_but(PendingEvents::default()), Some(Pending::Received));
    }

    #[test]
    fn after_a_close_only_closed_is_left() {
        let mut pending = PendingEvents::default();
        pending.add(Pending::Drained);
        pending.keep_only_closed();
        assert!(!pending.contains(Pending::Drained));
        assert_eq!(pending.first_but(PendingEvents::default()), None);
        pending.add(Pending::Closed);
        pending.keep_only_closed();
        assert_eq!(pending.first_but(PendingEvents::default()), Some(Pending::Closed));
    }
}
