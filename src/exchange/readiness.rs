//! The readiness that a connection remembers: every change of it.

use super::WriteSide;
use crate::readiness::Readiness;

impl WriteSide {
    pub(crate) fn readiness(&self) -> Readiness {
        self.readiness
    }

    /// Remembers what the kernel has reported (edge-triggered: it does so once).
    pub(crate) fn reported(&mut self, readiness: Readiness) {
        self.readiness.add(readiness);
    }

    /// Forgets readiness that a transfer has disproved.
    pub(crate) fn disproved(&mut self, readiness: Readiness) {
        self.readiness.clear(readiness);
    }

    /// Makes one read due: no edge is promised for what arrived before readable was asked for.
    pub(crate) fn try_read(&mut self) {
        self.readiness.add(Readiness::READABLE);
    }

    /// Makes reads due until one finds the socket empty, however little each returns.
    pub(crate) fn try_read_to_the_end(&mut self) {
        self.readiness.add(Readiness::READABLE | Readiness::HUP);
    }

    /// Makes one write due: kernels take bytes long before they report that there is room.
    pub(crate) fn try_write(&mut self) {
        self.readiness.add(Readiness::WRITABLE);
    }

    /// Clears what was reported about a connect, which is checked now.
    pub(crate) fn take_readiness(&mut self) -> Readiness {
        std::mem::take(&mut self.readiness)
    }
}
