//! The proxy's own code on simulated networks: what goes through is what was sent, and every end is
//! carried across, whenever a seed makes it arrive.

use std::io;
use std::time::Duration;

use readiness::simulation::{
    Faults, Peer, PeerListener, PeerState, Program, Simulation, try_seeds,
};
use readiness::{Event, EventLoop};

use crate::common::pattern;

#[expect(dead_code, reason = "the program around the proxy")]
#[path = "../../examples/proxy.rs"]
mod proxy;

use proxy::{Address, Half, Proxy};

type Handle = Box<dyn FnMut(&mut EventLoop<Half>, Event) -> io::Result<()>>;

/// One end: what it sends, and what has arrived.
struct End {
    peer: Peer,
    unsent: Vec<u8>,
    /// It ends when everything is sent.
    finishes: bool,
    arrived: Vec<u8>,
    reads: usize,
}

impl End {
    fn new(peer: Peer) -> Self {
        let (unsent, arrived) = (Vec::new(), Vec::new());
        Self { peer, unsent, finishes: false, arrived, reads: usize::MAX }
    }

    /// Sends and reads on, and returns whether there was anything to do.
    fn go_on(&mut self) -> bool {
        let count = self.peer.write(&self.unsent);
        self.unsent.drain(..count);
        let finishes = self.unsent.is_empty() && std::mem::take(&mut self.finishes);
        if finishes {
            self.peer.finish();
        }
        let read = self.peer.read_at_most(self.reads);
        self.arrived.extend_from_slice(&read);
        finishes || count + read.len() > 0
    }

    fn has_ended(&self) -> bool {
        self.peer.state() != PeerState::Open
    }
}

struct World<'s> {
    simulation: &'s Simulation,
    proxy: Program<Half, Handle>,
    upstream: PeerListener,
}

impl<'s> World<'s> {
    /// Returns a proxy that is called by TCP, before an upstream at a name or in the Unix domain.
    fn new(simulation: &'s Simulation, is_unix: bool, announces: bool) -> io::Result<Self> {
        let (upstream, address) = match is_unix {
            #[cfg(unix)]
            true => (simulation.listen_unix("/run/upstream"), "unix:/run/upstream"),
            _ => {
                let loopback = "127.0.0.1".parse().unwrap();
                simulation.set_host("localhost", Duration::from_millis(3), Ok(vec![loopback]));
                (simulation.listen("127.0.0.1:7000".parse().unwrap()), "localhost:7000")
            }
        };
        let address = Address::new(address.to_owned()).unwrap();
        let mut event_loop: EventLoop<Half> = simulation.event_loop();
        let listener = event_loop.listen("127.0.0.1:65432")?;
        let mut proxy = Proxy::new(listener, address, announces);
        let handle: Handle = Box::new(move |server, event| {
            proxy.handle(server, event);
            Ok(())
        });
        Ok(Self { simulation, proxy: Program::new(event_loop, handle), upstream })
    }

    fn client(&self) -> End {
        End::new(self.simulation.connect("127.0.0.1:65432".parse().unwrap()))
    }

    /// Returns a client and the upstream's end of its connection.
    fn pair(&mut self) -> io::Result<(End, End)> {
        let mut client = self.client();
        loop {
            self.advance(&mut [&mut client])?;
            if let Some(server) = self.upstream.accept() {
                return Ok((client, End::new(server)));
            }
        }
    }

    /// Lets the ends do what they can, and then one thing happen. An error means that nothing ever
    /// will.
    fn advance(&mut self, ends: &mut [&mut End]) -> io::Result<()> {
        let have_moved = ends.iter_mut().map(|end| end.go_on()).fold(false, |any, one| any | one);
        let outcome = self.simulation.advance(&mut [&mut self.proxy]);
        if have_moved { Ok(()) } else { outcome }
    }

    /// Goes on until these ends have seen the end of the other, and the proxy has nothing left.
    fn until_ended(&mut self, ends: &mut [&mut End]) -> io::Result<()> {
        while !ends.iter().all(|end| end.has_ended()) {
            self.advance(ends)?;
        }
        Ok(())
    }
}

#[test]
fn what_either_sends_arrives_whole_and_in_order_and_both_ends_end() {
    for is_unix in [false, true] {
        try_seeds(0..40, |simulation| {
            let mut world = World::new(simulation, is_unix, false)?;
            let mut pairs = Vec::new();
            for number in 0..2 {
                let (mut client, mut server) = world.pair()?;
                for end in [&mut client, &mut server] {
                    end.reads = 1 + simulation.below(3000);
                    end.unsent = pattern(number, simulation.below(2000));
                    end.finishes = true;
                }
                let sent = [client.unsent.clone(), server.unsent.clone()];
                pairs.push((client, server, sent));
            }
            for (client, server, sent) in &mut pairs {
                // Bytes of the others go on in the meantime, as far as the proxy holds them.
                world.until_ended(&mut [client, server])?;
                assert_eq!([&server.arrived, &client.arrived], [&sent[0], &sent[1]]);
                let states = [client.peer.state(), server.peer.state()];
                assert_eq!(states, [PeerState::Ended; 2]);
            }
            while world.proxy.event_loop.connection_count() > 0 {
                world.advance(&mut [])?;
            }
            Ok(())
        })
        .unwrap();
    }
}

/// Sends a piece, and lets things happen until all of it has arrived.
fn carry(world: &mut World<'_>, from: &mut End, to: &mut End, piece: &[u8]) -> io::Result<()> {
    let all = to.arrived.len() + piece.len();
    from.unsent = piece.to_vec();
    while to.arrived.len() < all {
        world.advance(&mut [from, to])?;
    }
    Ok(())
}

#[test]
fn bytes_go_through_however_they_are_cut() -> io::Result<()> {
    let sent = pattern(1, 40);
    for cut in 1..=sent.len() {
        // Two pieces, and pieces of one length.
        let (first, second) = sent.split_at(cut);
        for pieces in [vec![first, second], sent.chunks(cut).collect()] {
            let simulation = Simulation::new(1);
            let mut world = World::new(&simulation, false, false)?;
            let (mut client, mut server) = world.pair()?;
            for piece in pieces {
                carry(&mut world, &mut client, &mut server, piece)?;
                carry(&mut world, &mut server, &mut client, piece)?;
            }
            assert_eq!((&server.arrived, &client.arrived), (&sent, &sent));
        }
    }
    Ok(())
}

#[test]
fn name_that_cannot_be_reached_any_more_is_looked_up_again() -> io::Result<()> {
    let simulation = Simulation::new(1);
    let mut world = World::new(&simulation, false, false)?;
    let (mut client, mut server) = world.pair()?;
    carry(&mut world, &mut client, &mut server, b"to the old one")?;
    let moved = simulation.listen("127.0.0.2:7000".parse().unwrap());
    drop(std::mem::replace(&mut world.upstream, moved));
    let address = "127.0.0.2".parse().unwrap();
    simulation.set_host("localhost", Duration::from_millis(3), Ok(vec![address]));
    let mut late = world.client();
    world.until_ended(&mut [&mut late])?;
    assert_eq!(late.peer.state(), PeerState::Reset);
    for _ in 0..2 {
        let (mut client, mut server) = world.pair()?;
        carry(&mut world, &mut client, &mut server, b"to the new one")?;
    }
    Ok(())
}

#[test]
fn header_comes_first_and_once_on_bad_networks() {
    try_seeds(0..50, |simulation| {
        let mut world = World::new(simulation, false, true)?;
        let (mut client, mut server) = world.pair()?;
        client.unsent = b"question".to_vec();
        client.finishes = true;
        server.finishes = true;
        let ports = [client.peer.local_addr().port(), 65432].map(u16::to_be_bytes).concat();
        world.until_ended(&mut [&mut client, &mut server])?;
        let header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\x7f\0\0\x01\x7f\0\0\x01";
        assert_eq!(server.arrived, [&header[..], &ports, b"question"].concat());
        Ok(())
    })
    .unwrap();
}

#[test]
fn half_that_has_ended_leaves_the_other_open_for_an_hour() -> io::Result<()> {
    let simulation = Simulation::new(1);
    let mut world = World::new(&simulation, false, false)?;
    let (mut client, mut server) = world.pair()?;
    client.finishes = true;
    while !server.has_ended() {
        world.advance(&mut [&mut client, &mut server])?;
    }
    simulation.pass_time(Duration::from_secs(3600));
    server.unsent = b"late".to_vec();
    server.finishes = true;
    world.until_ended(&mut [&mut client, &mut server])?;
    assert_eq!((client.arrived.as_slice(), client.peer.state()), (&b"late"[..], PeerState::Ended));
    Ok(())
}

#[test]
fn reset_at_any_moment_is_one_for_the_other_side() {
    try_seeds(0..80, |simulation| {
        let mut world = World::new(simulation, false, false)?;
        let (mut client, mut server) = world.pair()?;
        for end in [&mut client, &mut server] {
            end.unsent = pattern(0, 3000);
            end.finishes = simulation.below(2) == 0;
        }
        for _ in 0..simulation.below(60) {
            if world.advance(&mut [&mut client, &mut server]).is_err() {
                break; // both wait for more
            }
        }
        let (gone, mut other) =
            if simulation.below(2) == 0 { (client, server) } else { (server, client) };
        let was_at_its_end = other.has_ended();
        gone.peer.reset();
        // With something to send, a client that has read the end before notices it too.
        other.finishes = false;
        while other.peer.state() != PeerState::Reset && !was_at_its_end {
            other.unsent.resize(1000, 0);
            world.advance(&mut [&mut other])?;
        }
        assert!(pattern(0, 3000).starts_with(&other.arrived));
        drop(other);
        while world.proxy.event_loop.connection_count() > 0 {
            world.advance(&mut [])?;
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn upstream_that_refuses_has_the_client_reset() {
    for is_unix in [false, true] {
        try_seeds(0..50, |simulation| {
            let mut world = World::new(simulation, is_unix, false)?;
            let nobody = simulation.listen("127.0.0.1:7001".parse().unwrap());
            drop(std::mem::replace(&mut world.upstream, nobody));
            let mut client = world.client();
            client.unsent = b"question".to_vec();
            world.until_ended(&mut [&mut client])?;
            assert_eq!(client.peer.state(), PeerState::Reset);
            Ok(())
        })
        .unwrap();
    }
}

#[test]
fn faults_of_every_kind_lose_connections_and_nothing_else() {
    for seed in 0..200 {
        let simulation = Simulation::new(seed);
        let mut world = World::new(&simulation, seed % 2 == 0, false).unwrap();
        let faults = Faults::drawn(seed);
        simulation.set_faults(faults.clone());
        let mut ends: Vec<End> = (0..4).map(|_| world.client()).collect();
        ends.iter_mut().for_each(|end| end.unsent = pattern(0, 1000));
        for _ in 0..simulation.below(3000) {
            let mut ends_now: Vec<&mut End> = ends.iter_mut().collect();
            if world.advance(&mut ends_now).is_err() {
                break; // nothing can ever happen again
            }
            if let Some(server) = world.upstream.accept() {
                ends.push(End { unsent: pattern(0, 1000), ..End::new(server) });
            }
            let place = simulation.below(ends.len() * 100);
            if let Some(end) = ends.get_mut(place) {
                end.finishes = true;
            }
        }
        let sent = pattern(0, 1000);
        assert!(ends.iter().all(|end| sent.starts_with(&end.arrived)), "seed {seed}");
        drop(ends);
        simulation.set_faults(faults.calmed());
        while world.proxy.event_loop.connection_count() > 0 {
            drop(world.upstream.accept());
            world.advance(&mut []).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
        // A new client is served, after those that were in the backlog and have left.
        let mut ends = vec![world.client()];
        ends[0].unsent = b"still there".to_vec();
        ends[0].finishes = true;
        while !ends[0].has_ended() || !ends.iter().any(|end| end.arrived == b"still there") {
            ends.extend(
                world.upstream.accept().map(|peer| End { finishes: true, ..End::new(peer) }),
            );
            let mut ends: Vec<&mut End> = ends.iter_mut().collect();
            world.advance(&mut ends).unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        }
        assert_eq!(ends[0].peer.state(), PeerState::Ended, "seed {seed}");
    }
}
