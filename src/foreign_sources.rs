//! Foreign sources: sockets and other things that the program reads and writes itself.
//!
//! The loop only watches them and passes on what the kernel reports, once: their readiness is not
//! remembered. What the kernel has reported waits here until it is delivered, as far as the program
//! still asks for it.

use std::collections::VecDeque;
use std::io;

use crate::interest::Interest;
use crate::readiness::Readiness;
use crate::slots::{Slots, SourceId};
use crate::system::{Source, System, Watched};

#[derive(Debug, Default)]
struct Registration {
    /// Invariant: the interest last given to the kernel.
    interest: Interest,
    /// What is to be delivered; empty if the source is not in the queue.
    reported: Readiness,
}

#[derive(Debug, Default)]
pub(crate) struct Sources {
    slots: Slots<SourceId, Registration>,
    ready: VecDeque<SourceId>,
}

impl Sources {
    pub(crate) fn register(
        &mut self,
        source: &mut (impl Source + ?Sized),
        interest: Interest,
        system: &System,
    ) -> io::Result<SourceId> {
        let id = self.slots.insert(Registration::default());
        let outcome = self.update_interest(id, source, interest, system);
        if outcome.is_err() {
            self.slots.remove(id);
        }
        outcome.map(|()| id)
    }

    /// Gives the kernel an interest, or the same one again (`epoll_ctl`).
    pub(crate) fn update_interest(
        &mut self,
        id: SourceId,
        source: &mut (impl Source + ?Sized),
        interest: Interest,
        system: &System,
    ) -> io::Result<()> {
        let registration = self.slots.get_mut(id).ok_or_else(|| stale(id))?;
        let watched = Watched::Source(id.slot);
        system.update_registration(source, watched, registration.interest, interest)?;
        registration.interest = interest;
        Ok(())
    }

    pub(crate) fn deregister(
        &mut self,
        id: SourceId,
        source: &mut (impl Source + ?Sized),
        system: &System,
    ) -> io::Result<()> {
        let outcome = self.update_interest(id, source, Interest::None, system);
        // Also if the kernel has forgotten it because it was closed.
        self.slots.remove(id);
        outcome
    }

    /// Records what the kernel has reported about a source.
    pub(crate) fn record(&mut self, slot: u32, readiness: Readiness) {
        let Some((id, registration)) = self.slots.at(slot) else { return };
        if registration.reported == Readiness::default() {
            self.ready.push_back(id);
        }
        registration.reported.add(readiness);
    }

    pub(crate) fn ready_count(&self) -> usize {
        self.ready.len()
    }

    /// Takes the next ready source that is still watched and asks for what was reported.
    pub(crate) fn take_ready(&mut self) -> Option<(SourceId, Readiness)> {
        let id = self.ready.pop_front()?;
        let registration = self.slots.get_mut(id)?;
        let mut readiness = std::mem::take(&mut registration.reported);
        if !registration.interest.is_readable() {
            readiness.clear(Readiness::READABLE);
        }
        if !registration.interest.is_writable() {
            readiness.clear(Readiness::WRITABLE);
        }
        let is_asked_for = readiness.is_readable() || readiness.is_writable();
        is_asked_for.then_some((id, readiness))
    }
}

fn stale(id: SourceId) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("there is no source {id}"))
}
