//! Foreign sources: sockets and other things that the program reads and writes itself.
//!
//! The loop only watches them and hands on what the kernel says, once: their readiness is not
//! remembered. What the kernel said, and the program has not been told yet, waits here; of that, it
//! is told what it still asks for.

use std::collections::VecDeque;
use std::io;

use crate::event::SourceId;
use crate::interest::{Interest, Readiness};
use crate::slots::Slots;
use crate::system::{Source, System};

#[derive(Debug, Default)]
struct Watched {
    /// Invariant: what the kernel was told last.
    interest: Interest,
    /// What the program is to be told; nothing if it does not stand in the queue.
    news: Readiness,
}

#[derive(Debug, Default)]
pub(crate) struct Sources {
    slots: Slots<SourceId, Watched>,
    ready: VecDeque<SourceId>,
}

impl Sources {
    pub(crate) fn register(
        &mut self,
        source: &mut (impl Source + ?Sized),
        interest: Interest,
        system: &System,
    ) -> io::Result<SourceId> {
        let id = self.slots.insert(Watched::default());
        let told = self.tell(id, source, interest, system);
        if told.is_err() {
            self.slots.remove(id);
        }
        told.map(|()| id)
    }

    /// Tells the kernel another interest, or the same again.
    pub(crate) fn tell(
        &mut self,
        id: SourceId,
        source: &mut (impl Source + ?Sized),
        interest: Interest,
        system: &System,
    ) -> io::Result<()> {
        let watched = self.slots.get_mut(id).ok_or_else(|| stale(id))?;
        system.tell_source(source, id.slot, watched.interest, interest)?;
        watched.interest = interest;
        Ok(())
    }

    pub(crate) fn deregister(
        &mut self,
        id: SourceId,
        source: &mut (impl Source + ?Sized),
        system: &System,
    ) -> io::Result<()> {
        let told = self.tell(id, source, Interest::None, system);
        // Also if the kernel did not know it any more: it is closed, then.
        self.slots.remove(id);
        told
    }

    /// Notes what the kernel said of a source.
    pub(crate) fn fold(&mut self, slot: u32, news: Readiness) {
        let Some((id, watched)) = self.slots.at(slot) else { return };
        if watched.news == Readiness::default() {
            self.ready.push_back(id);
        }
        watched.news.fold(news);
    }

    pub(crate) fn ready_count(&self) -> usize {
        self.ready.len()
    }

    /// The next that is ready and its news, if it is still watched and asks for what came.
    pub(crate) fn take_ready(&mut self) -> Option<(SourceId, Readiness)> {
        let id = self.ready.pop_front()?;
        let watched = self.slots.get_mut(id)?;
        let mut news = std::mem::take(&mut watched.news);
        if !watched.interest.is_readable() {
            news.clear(Readiness::READABLE);
        }
        if !watched.interest.is_writable() {
            news.clear(Readiness::WRITABLE);
        }
        let is_asked_for = news.is_readable() || news.is_writable();
        is_asked_for.then_some((id, news))
    }
}

fn stale(id: SourceId) -> io::Error {
    io::Error::new(io::ErrorKind::NotFound, format!("there is no source {id}"))
}
