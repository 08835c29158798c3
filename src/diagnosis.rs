//! Why nothing happens: what each connection waits for, in words (only for the simulation).
//!
//! A simulated wait that nothing can ever end is an error, and this is its text: one line for each
//! connection, with all that its wants follow from. So a test that stands still tells which
//! connection it is and whose turn it is to move.

use std::fmt::Write as _;
use std::io;

use crate::connection::Stream;
use crate::connections::Connections;
use crate::exchange::{Coupling, State};
use crate::listener::Listeners;
use crate::observer::shown;

/// One line for each connection of a loop, and one for its listeners.
pub(crate) fn diagnosis<T>(connections: &Connections<T>, listeners: &Listeners<T>) -> String {
    let mut text = format!("{} connections", connections.len());
    if !listeners.is_empty() {
        text.push_str(", and peers that connect");
    }
    for connection in connections.iter() {
        let writer = connections.writer_of(connection.id());
        let coupled = match connection.exchange.coupling() {
            Coupling::None => String::from("to none"),
            Coupling::Itself => String::from("to itself"),
            Coupling::Writer { has_unsent } => {
                let unsent = if has_unsent { "something" } else { "nothing" };
                let writer = writer.map_or(String::from("one that has gone"), |id| id.to_string());
                format!("to {writer}, which has {unsent} unsent")
            }
        };
        describe(&mut text, &connection.stream, &coupled);
    }
    text
}

/// The same as the end of an error that a wait returned.
pub(crate) fn diagnosed(error: &io::Error, diagnosis: &str) -> io::Error {
    io::Error::new(error.kind(), format!("{error}; the loop waits for {diagnosis}"))
}

fn describe(text: &mut String, stream: &Stream, coupled: &str) {
    let exchange = &stream.exchange;
    let paused = if exchange.is_paused() { ", paused" } else { "" };
    // Writing to a string cannot fail.
    let _ = write!(
        text,
        "\n  {} with {}: {:?}, interest {}, {} unsent, {} received{paused}, coupled {coupled}; \
         waits for {}",
        stream.id(),
        shown(stream.peer_addr().ok()),
        exchange.state(),
        stream.interest(),
        stream.unsent(),
        stream.received().len(),
        awaited(stream),
    );
}

/// Who must move next, as far as the state tells.
fn awaited(stream: &Stream) -> &'static str {
    let exchange = &stream.exchange;
    match exchange.state() {
        State::Connecting | State::ConnectingToFinish | State::ConnectingToClose => {
            "the connect to be answered"
        }
        State::Closed => "the program to take its Closed",
        State::PeerFinished if stream.unsent() == 0 && !exchange.is_paused() => {
            "the program to finish"
        }
        _ if stream.unsent() > 0 && exchange.wants_read() => "the peer to read or to send",
        _ if stream.unsent() > 0 => "the peer to read",
        _ if exchange.wants_read() => "the peer to send or to finish",
        _ if exchange.is_paused() => "the program to resume it",
        _ if exchange.room() == 0 => "the program to consume what was received",
        _ => "the connection that it is coupled to",
    }
}

#[cfg(test)]
mod tests {
    use std::io::ErrorKind;
    use std::time::Duration;

    use crate::simulation::{Faults, Peer, Simulation};
    use crate::{ConnectionId, ConnectionLimits, Event, EventLoop};

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

    /// Takes all events until the loop waits for ever, and returns the lines of the error.
    fn stuck(event_loop: &mut EventLoop) -> Vec<String> {
        loop {
            if let Err(error) = event_loop.next_event() {
                assert_eq!(error.kind(), ErrorKind::TimedOut);
                return error.to_string().lines().map(String::from).collect();
            }
        }
    }

    #[test]
    fn idle_loop_waits_for_ever_tells_who_it_listens_for() {
        let mut event_loop: EventLoop = Simulation::new(1).event_loop();
        assert_eq!(
            stuck(&mut event_loop),
            ["nothing in the simulation can ever end this wait; the loop waits for 0 connections"]
        );
        event_loop.listen("127.0.0.1:65432").unwrap();
        assert_eq!(
            stuck(&mut event_loop),
            [concat!(
                "nothing in the simulation can ever end this wait; ",
                "the loop waits for 0 connections, and peers that connect"
            )]
        );
    }

    #[test]
    fn quiet_peer_wait_without_end_tells_that_it_is_to_send() {
        let mut setting = accepted();
        assert_eq!(
            stuck(&mut setting.event_loop)[1],
            format!(
                "  c0.1 with {}: Open, interest readable, 0 unsent, 0 received, \
                 coupled to itself; waits for the peer to send or to finish",
                setting.peer.local_addr()
            )
        );
    }

    #[test]
    fn peer_that_does_not_read_wait_without_end_tells_that_it_is_to_read() {
        let mut setting = accepted();
        let id = setting.id;
        let limits = ConnectionLimits {
            stalled_write_deadline: Duration::MAX,
            ..ConnectionLimits::default()
        };
        setting.event_loop[id].set_limits(limits).unwrap();
        setting.event_loop[id].send(b"1234567890");
        let line = stuck(&mut setting.event_loop).remove(1);
        // Three bytes are in the peer's receive buffer and three in our send buffer.
        assert!(line.contains("Open, interest writable, 4 unsent, 0 received"), "{line}");
        assert!(line.ends_with("waits for the peer to read"), "{line}");
        setting.event_loop.uncouple(id);
        let line = stuck(&mut setting.event_loop).remove(1);
        assert!(line.contains("interest readable+writable"), "{line}");
        assert!(line.contains("coupled to none"), "{line}");
        assert!(line.ends_with("waits for the peer to read or to send"), "{line}");
    }

    #[test]
    fn paused_connection_wait_without_end_tells_that_it_is_paused() {
        let mut setting = accepted();
        setting.event_loop[setting.id].pause();
        let line = stuck(&mut setting.event_loop).remove(1);
        assert!(line.contains("interest none, 0 unsent, 0 received, paused"), "{line}");
        assert!(line.ends_with("waits for the program to resume it"), "{line}");
    }

    #[test]
    fn full_read_buffer_wait_without_end_tells_that_the_program_is_to_consume() {
        let mut setting = accepted();
        let limits = ConnectionLimits { read_buffer_max: 2, ..ConnectionLimits::default() };
        setting.event_loop[setting.id].set_limits(limits).unwrap();
        assert_eq!(setting.peer.write(b"123"), 3);
        let line = stuck(&mut setting.event_loop).remove(1);
        assert!(line.contains("interest none, 0 unsent, 2 received"), "{line}");
        assert!(line.ends_with("waits for the program to consume what was received"), "{line}");
    }

    #[test]
    fn half_open_connection_wait_without_end_tells_that_the_program_is_to_finish() {
        let mut setting = accepted();
        setting.event_loop[setting.id].allow_half_open(true);
        setting.peer.finish();
        let line = stuck(&mut setting.event_loop).remove(1);
        assert!(line.contains("PeerFinished, interest none"), "{line}");
        assert!(line.ends_with("waits for the program to finish"), "{line}");
    }

    #[test]
    fn coupled_connections_wait_without_end_tells_who_holds_back_whom() {
        let mut setting = accepted();
        let listener = setting.event_loop.connections().next().unwrap().listener().unwrap();
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
        assert!(lines[0].ends_with("2 connections, and peers that connect"), "{lines:?}");
        assert!(lines[1].contains("coupled to c1.2, which has something unsent"), "{lines:?}");
        assert!(lines[1].ends_with("waits for the connection that it is coupled to"), "{lines:?}");
        assert!(lines[2].ends_with("waits for the peer to read"), "{lines:?}");
    }
}
