//! The server on simulated networks: each way to cut its input, times to the nanosecond, and many
//! bad networks.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use readiness::Event;
use readiness::simulation::{Faults, Peer, PeerState, Program, Simulation, try_seeds};

use crate::server::{Client, Clients, Server, limits};
use crate::words;

type Handle = Box<dyn FnMut(&mut Clients, Event) -> io::Result<()>>;

/// Returns a server, and where it listens.
fn listening(simulation: &Simulation) -> (Program<Client, Handle>, SocketAddr) {
    let mut clients: Clients = simulation.event_loop_with_limits(limits()).unwrap();
    let mut server = Server::new(clients.now());
    let listener = clients.listen("127.0.0.1:6379").unwrap();
    let address = clients.listener_addr(listener).unwrap();
    let handle = move |clients: &mut Clients, event| {
        server.handle(clients, event);
        Ok(())
    };
    (Program::new(clients, Box::new(handle)), address)
}

/// Returns what a new server answers to these pieces, each of which is handled before the next is
/// sent; and whether it has closed.
fn answer_to(pieces: &[&[u8]]) -> (String, bool) {
    let simulation = Simulation::new(1);
    let (mut server, address) = listening(&simulation);
    let mut peer = simulation.connect(address);
    let mut reply = Vec::new();
    for piece in pieces {
        peer.write(piece);
        // Until nothing can happen but by the peer.
        while simulation.advance(&mut [&mut server]).is_ok() && peer.state() == PeerState::Open {
            reply.extend(peer.read());
        }
    }
    (reply.escape_ascii().to_string(), peer.state() != PeerState::Open)
}

#[test]
fn input_cut_at_any_byte_is_answered_as_whole_input() {
    let pipeline = [
        words("SET a 1"),
        b"INCR a\r\n".to_vec(),
        b"\r\n*0\r\n".to_vec(),
        words("SUBSCRIBE x"),
        b"ECHO \"a b\"\r\n".to_vec(),
        words("UNSUBSCRIBE"),
        words("MULTI"),
        words("GET a"),
        words("EXEC"),
        b"*1\r\n$4\r\nPINGxx*1\r\n$x\r\nPING\r\n".to_vec(),
    ]
    .concat();
    let whole = answer_to(&[&pipeline]);
    assert!(
        whole.0.ends_with("-ERR Protocol error: invalid bulk length\\r\\n") && whole.1,
        "{whole:?}"
    );
    for first in 0..pipeline.len() {
        let (head, rest) = pipeline.split_at(first);
        assert_eq!(answer_to(&[head, rest]), whole, "cut at {first}");
        let (middle, tail) = rest.split_at(rest.len().min(3));
        assert_eq!(answer_to(&[head, middle, tail]), whole, "cut at {first} and 3 behind");
    }
    let bytes: Vec<&[u8]> = pipeline.chunks(1).collect();
    assert_eq!(answer_to(&bytes), whole, "byte by byte");
    for (bytes, ..) in crate::RAW {
        let bytes = &bytes[..bytes.len().min(500)];
        let whole = answer_to(&[bytes]);
        let one_by_one: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(answer_to(&one_by_one), whole, "{}", bytes.escape_ascii());
    }
}

/// Sends a request and waits for a reply of this many lines.
fn ask(
    simulation: &Simulation,
    server: &mut Program<Client, Handle>,
    peer: &mut Peer,
    request: &str,
) -> String {
    peer.write(&words(request));
    let mut reply = Vec::new();
    while !reply.ends_with(b"\n") {
        simulation.advance(&mut [server]).unwrap();
        reply.extend(peer.read());
    }
    String::from_utf8(reply).unwrap()
}

#[test]
fn keys_expire_at_their_times_by_one_timer() {
    let simulation = Simulation::new(1);
    let (mut server, address) = listening(&simulation);
    let mut peer = simulation.connect(address);
    for number in 0..3_000 {
        ask(
            &simulation,
            &mut server,
            &mut peer,
            &format!("SET key:{number} 1 PX {}", 1_000 + number),
        );
    }
    ask(&simulation, &mut server, &mut peer, "PEXPIRE key:2999 500");
    ask(&simulation, &mut server, &mut peer, "PERSIST key:0");
    ask(&simulation, &mut server, &mut peer, "SET key:1 1");
    let start = simulation.now();
    let mut left = |at: u64| {
        simulation.pass_time(Duration::from_millis(at) - (simulation.now() - start));
        ask(&simulation, &mut server, &mut peer, "DBSIZE")
    };
    assert_eq!(left(499), ":3000\r\n");
    assert_eq!(left(500), ":2999\r\n");
    assert_eq!(left(1_001), ":2999\r\n");
    assert_eq!(left(1_002), ":2998\r\n");
    assert_eq!(left(2_001), ":1999\r\n");
    // More than are removed at once.
    assert_eq!(left(3_998), ":2\r\n");
    assert_eq!(ask(&simulation, &mut server, &mut peer, "PTTL key:0"), ":-1\r\n");
    // No timer is left, so nothing can happen any more.
    assert!(simulation.advance(&mut [&mut server]).is_err());
    assert_eq!(simulation.now() - start, Duration::from_millis(3_998));
}

#[test]
fn client_that_reads_nothing_for_a_minute_is_cut_and_the_others_are_served() {
    let simulation = Simulation::new(1);
    let (mut server, address) = listening(&simulation);
    let mut other = simulation.connect(address);
    ask(&simulation, &mut server, &mut other, &format!("SET value {}", "x".repeat(1 << 14)));
    let mut greedy = simulation.connect(address);
    let requests = words("GET value").repeat(100);
    let (mut sent, start) = (0, simulation.now());
    while greedy.state() == PeerState::Open {
        sent += greedy.write(&requests[sent..]);
        simulation.advance(&mut [&mut server]).unwrap();
    }
    // The last try, when the minute is over, may find a little room that was not worth a report to
    // the kernel. Then there is a second minute.
    let time = (simulation.now() - start).as_secs();
    assert!([60, 120].contains(&time), "it was cut after {time} seconds");
    assert_eq!(greedy.state(), PeerState::Reset);
    assert_eq!(ask(&simulation, &mut server, &mut other, "STRLEN value"), ":16384\r\n");
}

/// A client that asks, and knows what is to be answered.
struct Asking {
    peer: Peer,
    requests: Vec<u8>,
    sent: usize,
    expected: Vec<u8>,
    received: Vec<u8>,
}

impl Asking {
    fn new(simulation: &Simulation, address: SocketAddr, own: usize) -> Self {
        let (mut requests, mut expected) = (Vec::new(), Vec::new());
        let mut keys: HashMap<usize, String> = HashMap::new();
        for _ in 0..simulation.below(40) {
            // No other client has these keys.
            let number = simulation.below(3);
            let key = format!("{own}:{number}");
            let value = keys.get(&number).cloned();
            let (request, reply) = match simulation.below(5) {
                0 => {
                    let new = "9".repeat(1 + simulation.below(12));
                    keys.insert(number, new.clone());
                    (format!("SET {key} {new}"), "+OK\r\n".to_owned())
                }
                1 => {
                    let sum = value.map_or(0, |value| value.parse::<i64>().unwrap()) + 1;
                    keys.insert(number, sum.to_string());
                    (format!("INCR {key}"), format!(":{sum}\r\n"))
                }
                2 => {
                    keys.remove(&number);
                    (format!("DEL {key}"), format!(":{}\r\n", i32::from(value.is_some())))
                }
                3 => (format!("PUBLISH news {own}"), String::new()),
                _ => {
                    let reply = value.map(|value| format!("${}\r\n{value}\r\n", value.len()));
                    (format!("GET {key}"), reply.unwrap_or_else(|| "$-1\r\n".to_owned()))
                }
            };
            // The number of subscribers that receive it is not known, so it is asked for once all
            // is over.
            if reply.is_empty() {
                continue;
            }
            match simulation.below(3) {
                0 => requests.extend(format!("{request}\r\n").bytes()),
                _ => requests.extend(words(&request)),
            }
            expected.extend(reply.bytes());
        }
        let peer = simulation.connect(address);
        Self { peer, requests, sent: 0, expected, received: Vec::new() }
    }

    /// Does what can be done now.
    fn go_on(&mut self) {
        self.sent += self.peer.write(&self.requests[self.sent..]);
        self.received.extend(self.peer.read());
        assert!(
            self.expected.starts_with(&self.received),
            "{} is not the beginning of {}",
            self.received.escape_ascii(),
            self.expected.escape_ascii()
        );
    }

    fn is_answered(&self) -> bool {
        self.received.len() == self.expected.len()
    }
}

#[test]
fn clients_on_bad_networks_have_the_right_answers() {
    try_seeds(0..300, |simulation| {
        let (mut server, address) = listening(simulation);
        let mut clients: Vec<Asking> =
            (0..3).map(|own| Asking::new(simulation, address, own)).collect();
        while !clients.iter().all(Asking::is_answered) {
            clients.iter_mut().for_each(Asking::go_on);
            if !clients.iter().all(Asking::is_answered) {
                simulation.advance(&mut [&mut server])?;
            }
        }
        Ok(())
    })
    .unwrap();
}

#[test]
fn clients_whose_connections_break_have_a_part_of_the_right_answers_and_the_server_goes_on() {
    try_seeds(0..300, |simulation| {
        let (mut server, address) = listening(simulation);
        simulation.set_faults(Faults::drawn(simulation.seed()));
        let mut clients: Vec<Asking> =
            (0..3).map(|own| Asking::new(simulation, address, own)).collect();
        for _ in 0..500 {
            clients.iter_mut().for_each(Asking::go_on);
            if simulation.below(100) == 0 && !clients.is_empty() {
                let client = clients.swap_remove(simulation.below(clients.len()));
                match simulation.below(2) {
                    0 => client.peer.reset(),
                    _ => drop(client),
                }
            }
            if simulation.advance(&mut [&mut server]).is_err() {
                break;
            }
        }
        // In good times it still serves.
        simulation.set_faults(Faults::none());
        let mut last = simulation.connect(address);
        last.write(&words("PING"));
        let mut reply = Vec::new();
        while reply.len() < 7 && last.state() == PeerState::Open {
            clients.iter_mut().for_each(Asking::go_on);
            simulation.advance(&mut [&mut server])?;
            reply.extend(last.read());
        }
        assert_eq!(reply, b"+PONG\r\n");
        Ok(())
    })
    .unwrap();
}

#[test]
fn subscribers_on_bad_networks_have_each_message_in_its_order() {
    try_seeds(0..100, |simulation| {
        let (mut server, address) = listening(simulation);
        let mut subscribers: Vec<(Peer, Vec<u8>)> =
            (0..3).map(|_| (simulation.connect(address), Vec::new())).collect();
        let subscribed = b"*3\r\n$9\r\nsubscribe\r\n$1\r\na\r\n:1\r\n";
        let request = words("SUBSCRIBE a");
        let mut sent = [0; 3];
        while subscribers.iter().any(|(_, received)| received.len() < subscribed.len()) {
            for ((peer, received), sent) in subscribers.iter_mut().zip(&mut sent) {
                *sent += peer.write(&request[*sent..]);
                received.extend(peer.read());
            }
            if subscribers.iter().any(|(_, received)| received.len() < subscribed.len()) {
                simulation.advance(&mut [&mut server])?;
            }
        }
        let count = 1 + simulation.below(20);
        let requests: Vec<u8> =
            (0..count).flat_map(|number| words(&format!("PUBLISH a {number:02}"))).collect();
        let message = |number| format!("*3\r\n$7\r\nmessage\r\n$1\r\na\r\n$2\r\n{number:02}\r\n");
        let messages: String = (0..count).map(message).collect();
        let expected = [&subscribed[..], messages.as_bytes()].concat();
        let (mut publisher, mut sent) = (simulation.connect(address), 0);
        while subscribers.iter().any(|(_, received)| *received != expected) {
            sent += publisher.write(&requests[sent..]);
            publisher.read();
            for (peer, received) in &mut subscribers {
                received.extend(peer.read());
                assert!(expected.starts_with(received), "{}", received.escape_ascii());
            }
            if subscribers.iter().any(|(_, received)| *received != expected) {
                simulation.advance(&mut [&mut server])?;
            }
        }
        Ok(())
    })
    .unwrap();
}
