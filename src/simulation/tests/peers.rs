//! What the peers of a run do.

use super::draws::fill_bytes;
use super::flow::PeerEnd;
use super::run::{Line, Run};
use crate::simulation::Peer;

impl Run {
    pub(super) fn add_peer(&mut self) {
        let Some(place) = self.listeners.len().checked_sub(1) else { return };
        let (id, _) = self.listeners[self.random.below(place + 1)];
        let address = self.event_loop.listener_addr(id).unwrap();
        let peer = self.simulation.connect(address);
        let flow = self.checker.add_flow(peer.local_port());
        self.note(Line::Peer("connects", peer.local_port(), 0));
        self.checker.flows[flow].peer = Some(peer);
    }

    pub(super) fn accept_peers(&mut self) {
        while let Some(peer) = self.peer_listener.accept() {
            self.add_accepted(peer);
        }
    }

    fn add_accepted(&mut self, peer: Peer) {
        let flow = self.checker.flow_by_port(peer.local_port());
        let flow = flow.expect("a peer that was connected to");
        self.checker.flows[flow].peer = Some(peer);
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
        let flow = &mut self.checker.flows[place];
        let Some(peer) = &mut flow.peer else { return };
        let port = flow.port;
        let (what, size) = match choice {
            0 | 1 => {
                if flow.peer_end == PeerEnd::Open {
                    flow.peer_end = PeerEnd::Finished;
                }
                peer.finish();
                ("finishes", 0)
            }
            2 => {
                flow.peer_closes(true);
                ("resets", 0)
            }
            3 => {
                flow.peer_closes(false);
                ("closes", 0)
            }
            4..8 => {
                peer.mark_urgent();
                ("marks urgent", 0)
            }
            8..28 if flow.peer_end == PeerEnd::Open => {
                let count = peer.write(written);
                flow.wrote.extend(&written[..count]);
                ("writes", count)
            }
            _ => ("reads", flow.peer_reads(size)),
        };
        self.note(Line::Peer(what, port, size));
    }
}
