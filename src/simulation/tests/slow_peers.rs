//! Peers that read slowly, but steadily: each gets every byte, however the server ends and for
//! however long it reads.
//!
//! All that was sent may be with the kernels when the server closes, and the loop cannot see how
//! much of it the peer has read. So a deadline that passes then must not destroy it.

use std::fmt;
use std::io;
use std::time::Duration;

use super::draws::fill_bytes;
use crate::event::Event;
use crate::event_loop::EventLoop;
use crate::limits::Limits;
use crate::simulation::{Faults, PeerState, Simulation, try_seeds};
use crate::slots::ConnectionId;
use crate::system::simulated::Random;

/// How the server ends a connection that it has answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Close,
    Finish,
    /// With time left for everything.
    ShutDown,
    /// The program never ends it: the idle timeout does.
    Idle,
    /// Like `Idle`, with something from the peer that the program does not read.
    IdlePaused,
}

const ENDINGS: [Ending; 5] =
    [Ending::Close, Ending::Finish, Ending::ShutDown, Ending::Idle, Ending::IdlePaused];

const IDLE: Duration = Duration::from_secs(7);

struct Scene {
    simulation: Simulation,
    random: Random,
    ending: Ending,
    answer: &'static [u8],
    /// How much time passes between two bytes that a peer reads.
    tick: Duration,
}

impl Scene {
    fn drawn(simulation: &Simulation) -> Self {
        let seed = simulation.seed();
        let mut random = Random::new(seed ^ 0x510_57EE7);
        // Sizes at which a peer takes some hundred ticks at most, and a few faults.
        // A write that finds no room just before a deadline could do nothing about it.
        let drawn = Faults::drawn(seed).survivable();
        let mut faults = Faults { accept_rate: 0, no_room_rate: 0, ..drawn };
        faults.send_buffer = random.one_of(&[1, 7, 64, 64 * 1024]);
        faults.receive_buffer = random.one_of(&[1, 3, 64]);
        let count = 1 + random.below(200);
        let answer = fill_bytes(&mut random, count);
        let ending = random.one_of(&ENDINGS);
        if ending == Ending::IdlePaused {
            // A paused connection that finds nothing there can do nothing about it.
            faults.not_ready_rate = 0;
        }
        simulation.set_faults(faults);
        let tick = Duration::from_millis(100 + random.below(3_000) as u64);
        Self { simulation: simulation.clone(), random, ending, answer, tick }
    }

    fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        let is_idle = matches!(self.ending, Ending::Idle | Ending::IdlePaused);
        limits.connection.idle_timeout = is_idle.then_some(IDLE);
        limits
    }

    fn handle(&self, server: &mut EventLoop, id: ConnectionId) {
        let connection = &mut server[id];
        let count = connection.received().len();
        connection.consume(count);
        connection.send(self.answer);
        match self.ending {
            Ending::Close => connection.close(),
            Ending::Finish => connection.finish(),
            Ending::ShutDown => server.shutdown(Duration::from_secs(3600)),
            Ending::Idle => {}
            Ending::IdlePaused => connection.pause(),
        }
    }

    fn run(mut self) -> io::Result<()> {
        let mut server = self.simulation.event_loop_with_limits(self.limits())?;
        let listener = server.listen("127.0.0.1:80")?;
        let mut peer = self.simulation.connect(server.listener_addr(listener)?);
        assert_eq!(peer.write(b"?"), 1);
        let mut read = Vec::new();
        // A tick for each byte, and for what a closing connection may wait until its deadline.
        for _ in 0..self.answer.len() + 200 {
            self.settle(&mut server)?;
            let byte = peer.read_at_most(1);
            let is_first = read.is_empty() && !byte.is_empty();
            read.extend(byte);
            match peer.state() {
                PeerState::Open => {}
                PeerState::Ended => break,
                PeerState::Reset => panic!("a reset after {} bytes of {self}", read.len()),
            }
            if self.ending == Ending::IdlePaused && is_first {
                // It arrives before the deadline, and is not read.
                peer.write(b"!");
                while self.simulation.step() {}
            }
            self.simulation.pass_time(self.tick);
        }
        assert_eq!(peer.state(), PeerState::Ended, "after {} bytes of {self}", read.len());
        assert_eq!(read, self.answer);
        drop(peer);
        for _ in 0..100 {
            self.settle(&mut server)?;
            self.simulation.pass_time(Duration::from_secs(1));
        }
        assert_eq!(server.connection_count(), 0, "it has ended");
        Ok(())
    }

    /// Lets everything happen that needs no time to pass.
    fn settle(&mut self, server: &mut EventLoop) -> io::Result<()> {
        for _ in 0..4 + self.random.below(4) {
            let mut count = 0;
            while let Some(event) = server.poll_event(Some(Duration::ZERO))? {
                count += 1;
                assert!(count < 1_000, "a turn has no end: {event:?} of {self}");
                if let Event::Received(id) = event {
                    self.handle(server, id);
                }
            }
            while self.simulation.step() {}
        }
        Ok(())
    }
}

impl fmt::Display for Scene {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { answer, ending, tick, .. } = self;
        write!(f, "{}, after {ending:?}, one in {tick:?}", answer.len())
    }
}

#[test]
fn slow_but_steady_peer_gets_every_byte_however_the_server_ends() {
    let count = super::seeds::variable("READINESS_SEEDS").unwrap_or(2_000);
    try_seeds(0..count, |simulation| Scene::drawn(simulation).run()).unwrap();
}
