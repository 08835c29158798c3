//! The simulation as a program's own tests use it.

#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::process::Command;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use readiness::simulation::{Driven, Faults, PeerState, Program, Simulation, try_seeds};
use readiness::{CloseReason, ConnectionId, Deadline, Event, EventLoop, Limits};

fn echo(server: &mut EventLoop, event: Event) -> io::Result<()> {
    if let Event::Received(id) = event {
        server[id].send_received();
    }
    Ok(())
}

fn ignore(_: &mut EventLoop, _: Event) -> io::Result<()> {
    Ok(())
}

type Handle<T> = fn(&mut EventLoop<T>, Event) -> io::Result<()>;

/// Returns a program that listens, and where.
fn listening<T: Default + 'static>(
    simulation: &Simulation,
    handle: Handle<T>,
) -> (Program<T, Handle<T>>, SocketAddr) {
    let mut server = Program::new(simulation.event_loop(), handle);
    let listener = server.event_loop.listen("127.0.0.1:0").unwrap();
    let address = server.event_loop.listener_addr(listener).unwrap();
    (server, address)
}

/// Goes on until nothing can ever happen again, and returns that error.
fn until_stuck(simulation: &Simulation, programs: &mut [&mut dyn Driven]) -> String {
    loop {
        if let Err(error) = simulation.advance(programs) {
            assert_eq!(error.kind(), io::ErrorKind::TimedOut);
            return error.to_string();
        }
    }
}

/// What a client does: it sends some bytes, and keeps their echo.
#[derive(Default)]
struct Asked {
    received: Vec<u8>,
    closed: Option<CloseReason>,
}

fn pattern(count: usize) -> Vec<u8> {
    (0..count).map(|place| (place * 7 % 251) as u8).collect()
}

const ASKED: usize = 500;

fn ask(client: &mut EventLoop<Rc<RefCell<Asked>>>, event: Event) -> io::Result<()> {
    match event {
        Event::Connected(id) => client[id].send(&pattern(ASKED)),
        Event::Received(id) => {
            let (asked, stream) = client[id].split();
            let mut asked = asked.borrow_mut();
            asked.received.extend(stream.received());
            stream.consume(stream.received().len());
            if asked.received.len() == ASKED {
                stream.finish();
            }
        }
        Event::Closed(id, reason) => client[id].data.borrow_mut().closed = Some(reason),
        _ => {}
    }
    Ok(())
}

/// Returns the handler of a proxy, which knows of each half the other one.
fn proxy(
    target: SocketAddr,
) -> impl FnMut(&mut EventLoop<Option<ConnectionId>>, Event) -> io::Result<()> {
    move |proxy, event| {
        match event {
            Event::Accepted(_, id) => {
                let other = proxy.connect(target, Some(id));
                proxy[id].data = Some(other);
                proxy.couple(id, other);
                proxy.couple(other, id);
            }
            Event::Received(id) => {
                if let Some(other) = proxy[id].data {
                    proxy.transfer(id, other);
                }
            }
            Event::PeerFinished(id) => {
                proxy[id].allow_half_open(true);
                if let Some(other) = proxy[id].data.and_then(|other| proxy.get_mut(other)) {
                    other.finish();
                }
            }
            _ => {}
        }
        Ok(())
    }
}

#[test]
fn server_and_client_on_bad_networks_exchange_all_and_finish() {
    try_seeds(0..200, |simulation| {
        let (mut server, address) = listening(simulation, echo);
        let mut client = Program::new(simulation.event_loop(), ask);
        let asked = Rc::new(RefCell::new(Asked::default()));
        client.event_loop.connect(address, asked.clone());
        while client.event_loop.connection_count() + server.event_loop.connection_count() > 0 {
            simulation.advance(&mut [&mut server, &mut client])?;
        }
        assert_eq!(asked.borrow().received, pattern(ASKED));
        assert_eq!(asked.borrow().closed, Some(CloseReason::Finished));
        Ok(())
    })
    .unwrap();
}

#[test]
fn server_proxy_and_client_on_bad_networks_exchange_all_and_finish() {
    try_seeds(0..100, |simulation| {
        let (mut server, address) = listening(simulation, echo);
        let mut between = Program::new(simulation.event_loop(), proxy(address));
        let listener = between.event_loop.listen("127.0.0.1:0")?;
        let address = between.event_loop.listener_addr(listener)?;
        let mut client = Program::new(simulation.event_loop(), ask);
        let asked = Rc::new(RefCell::new(Asked::default()));
        client.event_loop.connect(address, asked.clone());
        while client.event_loop.connection_count() > 0 {
            simulation.advance(&mut [&mut server, &mut between, &mut client])?;
        }
        assert_eq!(asked.borrow().received, pattern(ASKED));
        assert_eq!(asked.borrow().closed, Some(CloseReason::Finished));
        Ok(())
    })
    .unwrap();
}

#[test]
fn two_programs_each_waits_for_the_other_is_an_error_that_names_both_connections() {
    let simulation = Simulation::new(1);
    let (mut server, address) = listening(&simulation, echo);
    let mut client = Program::new(simulation.event_loop(), ignore);
    client.event_loop.connect(address, ());
    let error = until_stuck(&simulation, &mut [&mut server, &mut client]);
    let lines: Vec<&str> = error.lines().collect();
    assert_eq!(lines.len(), 6, "{error}");
    assert_eq!(lines[0], "nothing can ever happen again in this simulation");
    assert_eq!(lines[1], "program 0: 1 connection, 1 listener");
    assert_eq!(lines[2], format!("  l0.1 at {address}: waits for a peer to connect"));
    assert!(lines[3].starts_with("  c0.1 with 127.0.0.1:"), "{error}");
    assert!(lines[3].ends_with("waits for the peer to send or to finish"), "{error}");
    assert_eq!(lines[4], "program 1: 1 connection, 0 listeners");
    assert!(lines[5].starts_with(&format!("  c0.1 with {address}: Open, interest readable")));
    assert!(lines[5].ends_with("waits for the peer to send or to finish"), "{error}");
}

#[test]
fn last_piece_comes_with_a_loop_that_finds_nothing_leaves_the_peer_its_chance_to_answer() {
    // A peer that has a question for each answer: at no time can anything happen but by it.
    for seed in 0..200 {
        let simulation = Simulation::with_faults(seed, Faults::drawn(seed).survivable());
        let (mut server, address) = listening(&simulation, echo);
        let mut peer = simulation.connect(address);
        for round in 0..20 {
            while peer.write(&[round]) == 0 {
                simulation.advance(&mut [&mut server]).unwrap();
            }
            while peer.read().is_empty() {
                simulation.advance(&mut [&mut server]).unwrap();
            }
        }
    }
}

#[test]
fn idle_connection_time_passes_to_its_deadline_and_no_further() {
    let simulation = Simulation::new(1);
    let (mut server, address) = listening(&simulation, ignore);
    let peer = simulation.connect(address);
    while server.event_loop.connection_count() == 0 {
        simulation.advance(&mut [&mut server]).unwrap();
    }
    let start = simulation.now();
    server.event_loop.connections_mut().for_each(|connection| {
        connection.set_idle_timeout(Some(Duration::from_secs(3600))).unwrap();
    });
    while peer.state() == PeerState::Open {
        simulation.advance(&mut [&mut server]).unwrap();
    }
    assert_eq!(simulation.now() - start, Duration::from_secs(3600));
    assert_eq!(peer.state(), PeerState::Ended, "nothing was given up");
}

#[test]
fn deadlines_of_two_programs_pass_in_the_order_of_their_times() {
    let simulation = Simulation::new(1);
    let order = Rc::new(RefCell::new(Vec::new()));
    let program = |name: &'static str| {
        let order = order.clone();
        Program::new(simulation.event_loop(), move |_: &mut EventLoop, event| {
            if let Event::Closed(_, CloseReason::TimedOut(Deadline::Idle)) = event {
                order.borrow_mut().push(name);
            }
            Ok(())
        })
    };
    let (mut early, mut late) = (program("early"), program("late"));
    let quiet = simulation.listen("127.0.0.1:0".parse().unwrap());
    for (program, seconds) in [(&mut late, 20), (&mut early, 10)] {
        let id = program.event_loop.connect(quiet.address(), ());
        program.event_loop[id].set_idle_timeout(Some(Duration::from_secs(seconds))).unwrap();
    }
    let start = simulation.now();
    while order.borrow().len() < 2 {
        simulation.advance(&mut [&mut late, &mut early]).unwrap();
    }
    assert_eq!(*order.borrow(), ["early", "late"]);
    assert_eq!(simulation.now() - start, Duration::from_secs(20));
}

#[test]
fn same_seed_run_twice_takes_the_same_steps() {
    let run = |seed| {
        let simulation = Simulation::with_faults(seed, Faults::drawn(seed).survivable());
        let (mut server, address) = listening(&simulation, echo);
        let trace = Arc::new(Mutex::new(Vec::new()));
        let seen = trace.clone();
        server.event_loop.set_observer(move |step| seen.lock().unwrap().push(format!("{step:?}")));
        let mut peer = simulation.connect(address);
        let (mut sent, mut received) = (0, Vec::new());
        while received.len() < 1000 {
            sent += peer.write(&pattern(1000)[sent..][..simulation.below(1001 - sent)]);
            simulation.advance(&mut [&mut server]).unwrap();
            received.extend(peer.read());
        }
        let steps = trace.lock().unwrap().clone();
        (steps, simulation.steps())
    };
    for seed in 0..20 {
        assert!(run(seed) == run(seed), "seed {seed}");
    }
    assert!(run(1) != run(2), "another seed is another run");
}

#[test]
fn addresses_of_peer_and_connection_agree_on_both_sides() {
    let simulation = Simulation::new(1);
    let (mut server, address) = listening(&simulation, ignore);
    let peer = simulation.connect(address);
    let quiet = simulation.listen("127.0.0.2:0".parse().unwrap());
    let connecting = server.event_loop.connect(quiet.address(), ());
    let mut called = None;
    while called.is_none() || server.event_loop.connection_count() < 2 {
        simulation.advance(&mut [&mut server]).unwrap();
        called = called.or_else(|| quiet.accept());
    }
    let called = called.unwrap();
    for connection in server.event_loop.connections() {
        let peer = if connection.id() == connecting { &called } else { &peer };
        assert_eq!(connection.peer_addr().unwrap(), peer.local_addr());
        assert_eq!(connection.local_addr().unwrap(), peer.remote_addr());
    }
}

#[test]
fn handler_that_fails_its_error_is_the_error_of_the_run() {
    let simulation = Simulation::new(1);
    let (mut server, address) = listening::<()>(&simulation, |_, _| Err(io::Error::other("no")));
    let _peer = simulation.connect(address);
    let error = loop {
        if let Err(error) = simulation.advance(&mut [&mut server]) {
            break error;
        }
    };
    assert_eq!(error.to_string(), "no");
}

#[test]
fn failing_seed_tells_its_number_its_cause_and_its_last_steps() {
    let failed = try_seeds(5..10, |simulation| {
        let (mut server, address) = listening(simulation, echo);
        let mut peer = simulation.connect(address);
        peer.write(b"Hello");
        while peer.read().is_empty() {
            simulation.advance(&mut [&mut server])?;
        }
        assert!(simulation.seed() < 7, "seven is too many");
        Ok(())
    })
    .unwrap_err();
    assert_eq!(failed.seed(), 7);
    assert_eq!(failed.cause(), "seven is too many");
    let text = failed.to_string();
    assert_eq!(text, format!("{failed:?}"), "unwrap shows all of it");
    assert!(text.starts_with("seed 7 fails: seven is too many\n"), "{text}");
    assert!(text.contains("  program 0 handles Received c0.1\n"), "{text}");
    assert!(text.ends_with("replay it with READINESS_SEED=7"), "{text}");
}

#[test]
fn example_runs_the_echo_program_works_and_the_planted_bug_is_found() {
    let mut path = std::env::current_exe().unwrap();
    path.pop();
    path.pop();
    path.push("examples/simulated_echo");
    assert!(path.exists(), "first: cargo build --features simulation --example simulated_echo");
    let run = |seed: Option<&str>| {
        let mut command = Command::new(&path);
        command.env_remove("READINESS_SEED");
        if let Some(seed) = seed {
            command.env("READINESS_SEED", seed);
        }
        let output = command.output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let text = run(None);
    assert!(text.starts_with("echo works on a thousand bad networks.\n"), "{text}");
    let found = text.trim_end().rsplit_once("READINESS_SEED=").expect("the bug is found").1;
    assert!(text.contains(&format!("forgetful_echo has a bug: seed {found} fails: ")), "{text}");
    assert_eq!(run(Some(found)), text, "the seed that it prints replays it");
    // Not the first that fails, but the one that is asked for.
    let first: u64 = found.parse().unwrap();
    let is_named = |seed: u64| run(Some(&seed.to_string())).contains(&format!("seed {seed} fails"));
    assert!((first + 1..first + 50).any(is_named), "another seed fails too");
}

#[test]
#[should_panic(expected = "a simulated loop cannot take over a real socket")]
fn simulated_loop_adopts_a_real_listener_panics() {
    let mut event_loop: EventLoop = Simulation::new(1).event_loop();
    let real = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let _ = event_loop.adopt_listener(real, |_| ());
}

#[cfg(unix)]
#[test]
#[should_panic(expected = "a simulated socket has no descriptor")]
fn simulated_connection_is_asked_for_its_descriptor_panics() {
    use std::os::fd::AsFd;

    let simulation = Simulation::new(1);
    let quiet = simulation.listen("127.0.0.1:0".parse().unwrap());
    let mut event_loop: EventLoop = simulation.event_loop();
    let id = event_loop.connect(quiet.address(), ());
    let _ = event_loop[id].as_fd();
}

#[test]
fn limits_that_contradict_each_other_are_refused() {
    let mut limits = Limits::default();
    limits.connection.low_water = 1 << 20;
    let error = Simulation::new(1).event_loop_with_limits::<()>(limits).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}

#[test]
fn peer_that_aborted_in_the_queue_is_skipped_and_the_next_is_accepted() -> io::Result<()> {
    let mut faults = Faults::none();
    faults.aborted_rate = 1000;
    let simulation = Simulation::with_faults(1, faults);
    let mut server: EventLoop = simulation.event_loop();
    let listener = server.listen("127.0.0.1:80")?;
    let address = server.listener_addr(listener)?;
    let gone = simulation.connect(address);
    while gone.state() == PeerState::Open {
        assert_eq!(server.poll_event(Some(Duration::ZERO))?, None, "nothing is delivered for it");
    }
    simulation.set_faults(Faults::none());
    let next = simulation.connect(address);
    let Event::Accepted(_, id) = server.next_event()? else {
        panic!("accepting goes on at once");
    };
    assert_eq!(server[id].peer_addr().unwrap(), next.local_addr());
    assert_eq!(server.connection_count(), 1);
    Ok(())
}

#[cfg(unix)]
mod unix_domain {
    use std::io::ErrorKind;
    use std::time::Duration;

    use readiness::simulation::{Faults, PeerState, Simulation};
    use readiness::{CloseReason, Deadline, Event, EventLoop, UnixAddress};

    fn next(event_loop: &mut EventLoop) -> Event {
        event_loop.poll_event(Some(Duration::from_secs(60))).unwrap().expect("an event in time")
    }

    #[test]
    fn names_are_free_in_use_left_behind_and_replaced_as_files_are() {
        let simulation = Simulation::new(1);
        let mut event_loop: EventLoop = simulation.event_loop();
        let listener = event_loop.listen_unix("/a").unwrap();
        assert_eq!(event_loop.listen_unix("/a").unwrap_err().kind(), ErrorKind::AddrInUse);
        assert_eq!(event_loop.listen_unix("").unwrap_err().kind(), ErrorKind::InvalidInput);
        let address = event_loop.unix_listener_addr(listener).unwrap();
        assert_eq!(UnixAddress::from(address), UnixAddress::from("/a"));
        assert_eq!(event_loop.listener_addr(listener).unwrap_err().kind(), ErrorKind::Unsupported);

        // Ours is removed with its listener.
        event_loop.close_listener(listener).unwrap();
        let gone = event_loop.connect_unix("/a", ());
        let Event::Closed(closed, CloseReason::Failed(failure)) = next(&mut event_loop) else {
            panic!("nothing is there");
        };
        assert_eq!((closed, failure.kind()), (gone, ErrorKind::NotFound));

        // A peer's is left behind, as std leaves it.
        drop(simulation.listen_unix("/b"));
        let refused = event_loop.connect_unix("/b", ());
        assert_eq!(next(&mut event_loop), Event::Closed(refused, CloseReason::Refused));
        assert_eq!(event_loop.listen_unix("/b").unwrap_err().kind(), ErrorKind::AddrInUse);
        event_loop.listen_unix(UnixAddress::from("/b").replacing()).unwrap();
        let client = event_loop.connect_unix("/b", ());
        while next(&mut event_loop) != Event::Connected(client) {}
        let peer = event_loop[client].unix_peer_addr().unwrap();
        assert_eq!(UnixAddress::from(peer), UnixAddress::from("/b"));
        assert!(event_loop[client].unix_local_addr().unwrap().is_unnamed());
        assert_eq!(event_loop[client].peer_addr().unwrap_err().kind(), ErrorKind::Unsupported);
    }

    #[test]
    fn full_backlog_is_tried_again_until_there_is_room_or_the_deadline() {
        let faults = || {
            let mut faults = Faults::none();
            faults.backlog_max = 0;
            faults
        };
        let simulation = Simulation::with_faults(1, faults());
        let listener = simulation.listen_unix("/full");
        let mut event_loop: EventLoop = simulation.event_loop();
        let first = event_loop.connect_unix("/full", ());
        assert_eq!(next(&mut event_loop), Event::Connected(first));
        let (begin, second) = (simulation.now(), event_loop.connect_unix("/full", ()));
        let end = Event::Closed(second, CloseReason::TimedOut(Deadline::Connect));
        assert_eq!(next(&mut event_loop), end);
        assert_eq!(simulation.now() - begin, Duration::from_secs(10));

        let (begin, third) = (simulation.now(), event_loop.connect_unix("/full", ()));
        let nothing = event_loop.poll_event(Some(Duration::from_millis(34))).unwrap();
        assert_eq!(nothing, None);
        let _peer = listener.accept().expect("the first waits");
        assert_eq!(next(&mut event_loop), Event::Connected(third));
        // After 5, 10 and 20 ms.
        assert_eq!(simulation.now() - begin, Duration::from_millis(35));
    }

    #[test]
    fn closing_with_bytes_unread_is_an_error_to_the_other_end_and_any_other_close_an_end() {
        for has_unread in [false, true] {
            let simulation = Simulation::new(1);
            let mut event_loop: EventLoop = simulation.event_loop();
            event_loop.listen_unix("/a").unwrap();
            let mut peer = simulation.connect_unix("/a");
            let Event::Accepted(_, id) = next(&mut event_loop) else {
                panic!("it is delivered first")
            };
            event_loop[id].send(b"taken");
            assert_eq!(event_loop.poll_event(Some(Duration::ZERO)).unwrap(), None);
            event_loop[id].pause();
            if has_unread {
                peer.write(b"unread");
            }
            event_loop[id].abort();
            assert_eq!(next(&mut event_loop), Event::Closed(id, CloseReason::Aborted));
            assert_eq!(event_loop.poll_event(Some(Duration::ZERO)).unwrap(), None);
            assert_eq!(peer.read(), b"taken");
            let state = if has_unread { PeerState::Reset } else { PeerState::Ended };
            assert_eq!(peer.state(), state);
            assert_eq!(peer.write(b"into the void"), 0);
        }
    }
}

#[test]
#[cfg(unix)]
fn simulated_connection_says_that_it_has_no_descriptor() -> io::Result<()> {
    let simulation = Simulation::new(1);
    let (mut server, address) = listening::<()>(&simulation, ignore);
    let _peer = simulation.connect(address);
    simulation.advance(&mut [&mut server])?;
    let connection = server.event_loop.connections().next().unwrap();
    assert_eq!(connection.try_as_fd().unwrap_err().kind(), io::ErrorKind::Unsupported);
    Ok(())
}
