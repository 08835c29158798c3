//! Why nothing happens: what each connection and listener waits for, as data and as one line each.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use crate::connection::{Connection, WaitsFor};
use crate::connections::Connections;
use crate::deadlines::Passed;
use crate::event::Deadline;
use crate::exchange::Coupling;
use crate::interest::Interest;
use crate::listener::{ListenerWaits, Listeners};
use crate::observer::shown;
use crate::readiness::Readiness;
use crate::resources::Resources;
use crate::slots::ConnectionId;

/// What each connection and listener waits for, as
/// [`EventLoop::explain`](crate::EventLoop::explain) returns it. `Display` shows a line for each.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct Explanation {
    /// All connections, except the one whose [`Closed`](crate::Event::Closed) is being handled.
    pub connections: Vec<ConnectionWaits>,
    /// All listeners.
    pub listeners: Vec<ListenerWaits>,
}

/// The state of one connection, and what it waits for.
#[non_exhaustive]
#[derive(Clone, Debug)]
pub struct ConnectionWaits {
    /// Its id.
    pub id: ConnectionId,
    /// The peer's address, unless it is unknown or a Unix-domain address.
    pub peer: Option<SocketAddr>,
    /// The name of its state.
    pub state: &'static str,
    /// The interest last given to the kernel.
    pub interest: Interest,
    /// The remembered readiness: what the kernel has reported and no call has disproved.
    pub readiness: Readiness,
    /// The number of bytes received and not consumed.
    pub received: usize,
    /// The number of bytes that the program has sent and the kernel has not taken.
    pub unsent: usize,
    /// Whether the program has paused it.
    pub is_paused: bool,
    /// The connection whose unsent bytes pause its reading: its own id if it is coupled to itself.
    pub coupled_to: Option<ConnectionId>,
    /// Who must move next.
    pub waits_for: WaitsFor,
    /// How long no byte has moved in either direction, to the millisecond.
    pub unmoved: Duration,
    /// The next deadline of its limits, and the time left until then.
    pub deadline: Option<(Deadline, Duration)>,
}

pub(crate) fn explain<T>(
    connections: &Connections<T>,
    listeners: &Listeners<T>,
    resources: &Resources,
) -> Explanation {
    Explanation {
        connections: connections.iter().map(|it| explained(it, connections, resources)).collect(),
        listeners: listeners.explain(),
    }
}

fn explained<T>(
    connection: &Connection<T>,
    connections: &Connections<T>,
    resources: &Resources,
) -> ConnectionWaits {
    let stream = &connection.stream;
    let exchange = &stream.exchange;
    let next = stream.deadlines.as_ref().and_then(|it| it.next(exchange.limits()));
    ConnectionWaits {
        id: stream.id(),
        peer: stream.peer_addr().ok(),
        state: exchange.state().name(),
        interest: stream.interest(),
        readiness: exchange.readiness(),
        received: stream.received().len(),
        unsent: stream.unsent(),
        is_paused: exchange.is_paused(),
        coupled_to: match exchange.coupling() {
            Coupling::None => None,
            Coupling::Itself => Some(stream.id()),
            Coupling::Writer { .. } => connections.writer_of(stream.id()),
        },
        waits_for: stream.waits_for(),
        unmoved: resources.since(stream.standing.moved_at),
        deadline: next.and_then(|(at, passed)| match passed {
            Passed::Limit(deadline) => {
                Some((deadline, at.saturating_duration_since(resources.system.now())))
            }
            Passed::Program | Passed::Again => None,
        }),
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (connections, listeners) = (self.connections.len(), self.listeners.len());
        let plural = |count| if count == 1 { "" } else { "s" };
        write!(f, "{connections} connection{}, ", plural(connections))?;
        write!(f, "{listeners} listener{}", plural(listeners))?;
        self.listeners.iter().try_for_each(|listener| write!(f, "\n  {listener}"))?;
        self.connections.iter().try_for_each(|connection| write!(f, "\n  {connection}"))
    }
}

impl fmt::Display for ConnectionWaits {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { id, state, interest, readiness, received, unsent, waits_for, .. } = self;
        write!(f, "{id} with {}: {state}, interest {interest}, ", shown(self.peer))?;
        write!(f, "ready for {readiness}, {received} received, {unsent} unsent")?;
        f.write_str(if self.is_paused { ", paused" } else { "" })?;
        match self.coupled_to {
            None => {}
            Some(writer) if writer == *id => f.write_str(", coupled to itself")?,
            Some(writer) => write!(f, ", coupled to {writer}")?,
        }
        write!(f, "; unmoved for {:?}; waits for ", self.unmoved)?;
        match (waits_for, self.coupled_to) {
            (WaitsFor::Writer, Some(writer)) => write!(f, "{writer}, which has unsent bytes")?,
            _ => write!(f, "{waits_for}")?,
        }
        match self.deadline {
            Some((deadline, left)) => write!(f, ", or the deadline {deadline:?} in {left:?}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;

    use super::*;
    use crate::connection::assert_somebody_moves;
    use crate::simulation::{Faults, Peer, Simulation};
    use crate::{ConnectionLimits, Event, EventLoop};

    struct Setting {
        simulation: Simulation,
        event_loop: EventLoop,
        peer: Peer,
        id: ConnectionId,
    }

    /// A loop with one accepted connection, on a network that holds three bytes each way.
    fn accepted() -> Setting {
        let mut faults = Faults::none();
        (faults.send_buffer, faults.receive_buffer) = (3, 3);
        let simulation = Simulation::with_faults(1, faults);
        let mut event_loop: EventLoop = simulation.event_loop();
        let listener = event_loop.listen("127.0.0.1:65432").unwrap();
        let peer = simulation.connect(event_loop.listener_addr(listener).unwrap());
        let Event::Accepted(_, id) = event_loop.next_event().unwrap() else {
            panic!("an accepted connection comes first");
        };
        Setting { simulation, event_loop, peer, id }
    }

    /// Takes all events until the loop waits forever, and returns the lines of the error but the
    /// first, which are the listener's and then the connections'.
    fn stuck(event_loop: &mut EventLoop) -> Vec<String> {
        loop {
            if let Err(error) = event_loop.next_event() {
                assert_eq!(error.kind(), ErrorKind::TimedOut);
                return error.to_string().lines().skip(1).map(String::from).collect();
            }
        }
    }

    #[test]
    fn loop_that_waits_forever_for_a_peer_to_connect_says_so() {
        let mut event_loop: EventLoop = Simulation::new(1).event_loop();
        let nothing = "nothing in the simulation can ever end this wait; the loop waits for ";
        let error = event_loop.next_event().unwrap_err();
        assert_eq!(error.to_string(), format!("{nothing}0 connections, 0 listeners"));
        event_loop.listen("127.0.0.1:65432").unwrap();
        let error = event_loop.next_event().unwrap_err();
        let listener = "l0.1 at 127.0.0.1:65432: waits for a peer to connect";
        let expected = format!("{nothing}0 connections, 1 listener\n  {listener}");
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn quiet_peer_is_waited_for_to_send() {
        let mut setting = accepted();
        let lines = stuck(&mut setting.event_loop);
        let peer = setting.peer.local_addr();
        assert_eq!(
            lines[1],
            format!(
                "  c0.1 with {peer}: Open, interest readable, ready for writable, 0 received, \
                 0 unsent, coupled to itself; unmoved for 0ns; waits for the peer to send or to \
                 finish"
            )
        );
    }

    #[test]
    fn peer_that_does_not_read_is_waited_for_until_a_deadline() {
        let mut setting = accepted();
        let id = setting.id;
        setting.event_loop[id].send(b"1234567890");
        let come_to_rest = |event_loop: &mut EventLoop| {
            for _ in 0..10 {
                assert_eq!(event_loop.poll_event(Some(Duration::ZERO)).unwrap(), None);
                while setting.simulation.step() {}
            }
        };
        come_to_rest(&mut setting.event_loop);
        setting.simulation.pass_time(Duration::from_secs(3));
        // Three bytes are in the peer's receive buffer and three in our send buffer.
        let waits = setting.event_loop.explain().connections.remove(0);
        assert_eq!((waits.unsent, waits.waits_for), (4, WaitsFor::PeerToRead));
        assert_eq!(waits.unmoved, Duration::from_secs(3));
        let left = Duration::from_secs(57);
        assert_eq!(waits.deadline, Some((Deadline::StalledWrite, left)));
        let line = waits.to_string();
        let end = "unmoved for 3s; waits for the peer to read, or the deadline StalledWrite in 57s";
        assert!(line.ends_with(end), "{line}");

        setting.event_loop.uncouple(id);
        come_to_rest(&mut setting.event_loop);
        let waits = setting.event_loop.explain().connections.remove(0);
        assert_eq!((waits.coupled_to, waits.waits_for), (None, WaitsFor::PeerToReadOrSend));
    }

    #[test]
    fn paused_connection_waits_for_the_program_to_resume_it() {
        let mut setting = accepted();
        setting.event_loop[setting.id].pause();
        let line = stuck(&mut setting.event_loop).remove(1);
        assert!(line.contains("interest none"), "{line}");
        assert!(line.contains("0 unsent, paused, coupled"), "{line}");
        assert!(line.ends_with("waits for the program to resume it"), "{line}");
    }

    #[test]
    fn full_read_buffer_waits_for_the_program_to_consume_until_a_deadline() {
        let mut setting = accepted();
        let limits = ConnectionLimits { read_buffer_max: 2, ..ConnectionLimits::default() };
        setting.event_loop[setting.id].set_limits(limits).unwrap();
        assert_eq!(setting.peer.write(b"123"), 3);
        let events: Vec<Event> = std::iter::from_fn(|| setting.event_loop.next_event().ok())
            .take_while(|event| !matches!(event, Event::Full(_)))
            .collect();
        assert_eq!(events, [Event::Received(setting.id)]);
        assert_eq!(setting.event_loop.poll_event(Some(Duration::ZERO)).unwrap(), None);
        let line = setting.event_loop.explain().connections[0].to_string();
        assert!(line.contains("interest none"), "{line}");
        let end = "waits for the program to consume: the read buffer is full, \
                   or the deadline StalledRead in 60s";
        assert!(line.ends_with(end), "{line}");
    }

    #[test]
    fn half_open_connection_waits_for_the_program_to_finish() {
        let mut setting = accepted();
        setting.event_loop[setting.id].allow_half_open(true);
        setting.peer.finish();
        let line = stuck(&mut setting.event_loop).remove(1);
        assert!(line.contains("PeerFinished, interest none"), "{line}");
        assert!(line.ends_with("waits for the program to finish"), "{line}");
    }

    #[test]
    fn coupled_connection_waits_for_its_writer_by_name() {
        let mut setting = accepted();
        let listener = setting.event_loop[setting.id].listener().unwrap();
        let address = setting.event_loop.listener_addr(listener).unwrap();
        let _other = setting.simulation.connect(address);
        let Event::Accepted(_, writer) = setting.event_loop.next_event().unwrap() else {
            panic!("the other is accepted");
        };
        let limits = ConnectionLimits {
            stalled_write_deadline: Duration::MAX,
            ..ConnectionLimits::default()
        };
        setting.event_loop[writer].set_limits(limits).unwrap();
        setting.event_loop[writer].send(b"1234567890");
        setting.event_loop.couple(setting.id, writer);
        let lines = stuck(&mut setting.event_loop);
        assert!(lines[1].contains("coupled to c1.2;"), "{lines:?}");
        assert!(lines[1].ends_with("waits for c1.2, which has unsent bytes"), "{lines:?}");
        assert!(lines[2].ends_with("waits for the peer to read"), "{lines:?}");
    }

    #[test]
    #[should_panic(expected = "a wake-up is lost: c0.1 waits for nobody")]
    fn connection_that_nobody_will_move_is_a_panic() {
        let mut setting = accepted();
        stuck(&mut setting.event_loop);
        let connection = setting.event_loop.get(setting.id).unwrap();
        assert_somebody_moves(&connection.stream);
        // A bug of the loop's: it has forgotten to ask for what it wants.
        let connection = setting.event_loop.get_mut(setting.id).unwrap();
        connection.stream.standing.dirty = false;
        connection.stream.exchange.send(b"lost");
        connection.stream.exchange.disproved(Readiness::WRITABLE);
        assert_somebody_moves(&connection.stream);
    }
}
