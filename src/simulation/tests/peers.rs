//! What the peers of a run do.

use super::draws::fill_bytes;
use super::flow::PeerEnd;
use super::run::{Line, Run};
use crate::simulation::Peer;
use crate::slots::ConnectionId;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PeerMove<'b> {
    Finish,
    Reset,
    Close,
    MarkUrgent,
    /// Writes as many of these bytes as there is room for.
    Write(&'b [u8]),
    /// Reads at most this many bytes.
    Read(usize),
}

impl Run {
    pub(super) fn add_peer(&mut self) {
        let Some(place) = self.listeners.len().checked_sub(1) else { return };
        let (id, _) = self.listeners[self.random.below(place + 1)];
        let peer = match self.event_loop.listener_addr(id) {
            Ok(address) => self.simulation.connect(address),
            #[cfg(unix)]
            Err(_) => {
                let address = self.event_loop.unix_listener_addr(id).unwrap();
                self.simulation.connect_unix(address)
            }
            #[cfg(not(unix))]
            Err(error) => panic!("{error}"),
        };
        let flow = self.checker.add_flow(peer.local_port());
        self.note(Line::Peer("connects", peer.local_port(), 0));
        self.checker.flows[flow].peer = Some(peer);
    }

    pub(super) fn accept_peers(&mut self) {
        while let Some(peer) = self.peer_listener.accept() {
            self.add_accepted(peer);
        }
        #[cfg(unix)]
        while let Some(peer) = self.unix_peer_listener.accept() {
            self.add_accepted(peer);
        }
    }

    fn add_accepted(&mut self, peer: Peer) {
        match self.checker.flow_by_port(peer.local_port()) {
            Some(flow) => self.checker.flows[flow].peer = Some(peer),
            None => self.strays.push(peer),
        }
    }

    /// The peer of an attempt that has won.
    pub(super) fn claim_peer(&mut self, id: ConnectionId) {
        let port = self.checker.flow(id).port;
        let stray = self.strays.iter().position(|peer| peer.local_port() == port);
        if let Some(stray) = stray {
            self.checker.flow(id).peer = Some(self.strays.remove(stray));
        }
    }

    pub(super) fn move_peer(&mut self) {
        self.accept_peers();
        let count = self.checker.flows.len();
        if count == 0 {
            return;
        }
        let place = self.random.below(count);
        let size = 1 + self.random.below(self.piece_max);
        let written = fill_bytes(&mut self.random, size);
        let choice = self.random.below(48);
        let is_open = self.checker.flows[place].peer_end == PeerEnd::Open;
        self.peer_does(
            place,
            match choice {
                0 | 1 => PeerMove::Finish,
                2 => PeerMove::Reset,
                3 => PeerMove::Close,
                4..8 => PeerMove::MarkUrgent,
                8..28 if is_open => PeerMove::Write(written),
                _ => PeerMove::Read(size),
            },
        );
    }

    /// The peer in this place does it, if it is there.
    pub(super) fn peer_does(&mut self, place: usize, what: PeerMove<'_>) {
        let flow = &mut self.checker.flows[place];
        let Some(peer) = &mut flow.peer else { return };
        let port = flow.port;
        let (what, count) = match what {
            PeerMove::Finish => {
                if flow.peer_end == PeerEnd::Open {
                    flow.peer_end = PeerEnd::Finished;
                }
                peer.finish();
                ("finishes", 0)
            }
            PeerMove::Reset => {
                flow.peer_closes(true);
                ("resets", 0)
            }
            PeerMove::Close => {
                flow.peer_closes(false);
                ("closes", 0)
            }
            PeerMove::MarkUrgent => {
                peer.mark_urgent();
                ("marks urgent", 0)
            }
            PeerMove::Write(bytes) => {
                let count = peer.write(bytes);
                flow.wrote.extend(&bytes[..count]);
                ("writes", count)
            }
            PeerMove::Read(most) => ("reads", flow.peer_reads(most)),
        };
        self.note(Line::Peer(what, port, count));
    }
}
