//! The load generator: against servers on the simulated network, good ones and bad ones, and the
//! program itself against a real echo.

#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]
#![allow(unreachable_pub, reason = "what is shared is public within each test file")]

#[path = "../../../tests/common/mod.rs"]
mod common;
#[path = "../../../tests/common/programs.rs"]
mod programs;
mod support;

use std::cell::RefCell;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::rc::Rc;
use std::sync::mpsc;
use std::time::Duration;

use ::programs::load::{GRACE, Lane, Load, Plan};
use programs::{Program, TempFile};
use readiness::simulation::{self, Faults, Simulation, try_seeds};
use readiness::{Event, EventLoop};
use support::fuzz;

const PLAN: Plan = Plan {
    connections: 3,
    size: 20,
    depth: 2,
    time: Duration::from_millis(500),
    rate: Some(200.0),
};

fn echo<T>(server: &mut EventLoop<T>, event: Event) -> io::Result<()> {
    if let Event::Received(id) = event {
        server[id].send_received();
    }
    Ok(())
}

/// Runs a load against a server to its end.
fn run(
    simulation: &Simulation,
    plan: Plan,
    faults: Faults,
    serve: impl FnMut(&mut EventLoop<Vec<u8>>, Event) -> io::Result<()>,
) -> io::Result<Load> {
    let mut server = simulation::Program::new(simulation.event_loop(), serve);
    let listener = server.event_loop.listen("127.0.0.1:0")?;
    let address = server.event_loop.listener_addr(listener)?;
    simulation.set_faults(faults);
    let mut event_loop: EventLoop<Lane> = simulation.event_loop();
    let load = Rc::new(RefCell::new(Load::begin(plan, &[address], &mut event_loop)));
    let handled = load.clone();
    let mut client = simulation::Program::new(event_loop, |event_loop: &mut _, event| {
        handled.borrow_mut().handle(event_loop, event);
        Ok(())
    });
    while !load.borrow().is_over() {
        simulation.advance(&mut [&mut server, &mut client])?;
    }
    drop(client);
    drop(handled);
    Ok(Rc::into_inner(load).expect("the client is gone").into_inner())
}

fn run_calmly(
    plan: Plan,
    serve: impl FnMut(&mut EventLoop<Vec<u8>>, Event) -> io::Result<()>,
) -> Load {
    run(&Simulation::new(1), plan, Faults::none(), serve).unwrap()
}

/// Returns a handler that sends back what `change` makes of all that was received on a connection,
/// given how much of it is answered.
fn answering(
    mut change: impl FnMut(&[u8], usize) -> Vec<u8>,
) -> impl FnMut(&mut EventLoop<Vec<u8>>, Event) -> io::Result<()> {
    move |server, event| {
        if let Event::Received(id) = event {
            let (all, stream) = server[id].split();
            let answered = all.len();
            all.extend_from_slice(stream.received());
            stream.consume(stream.received().len());
            stream.send(&change(all, answered));
        }
        Ok(())
    }
}

#[track_caller]
fn assert_clean(load: &Load, count: u64) {
    assert_eq!((load.failed, &load.failure, load.unanswered), (0, &None, 0));
    assert_eq!(load.latencies.len(), count);
}

#[test]
fn messages_on_bad_networks_all_come_back_and_are_counted() {
    try_seeds(0..200, |simulation| {
        let mut faults = Faults::drawn(simulation.seed()).survivable();
        faults.clock_rate = 0; // single bytes would take longer than answers are waited for
        let load = run(simulation, PLAN, faults, echo)?;
        // The clock may be late by a few messages, and the last be due at the very end.
        let count = load.latencies.len();
        assert!((90..=101).contains(&count), "{count} messages");
        assert_clean(&load, count);
        Ok(())
    })
    .unwrap();
}

#[test]
fn messages_on_networks_that_break_are_never_taken_for_changed() {
    try_seeds(0..200, |simulation| {
        let load = run(simulation, PLAN, Faults::drawn(simulation.seed()), echo)?;
        let failure = load.failure.unwrap_or_default();
        assert!(!failure.contains("message"), "{failure}");
        Ok(())
    })
    .unwrap();
}

#[test]
fn answers_in_pieces_of_every_size_are_put_together() {
    for piece in 1..=2 * PLAN.size {
        let mut faults = Faults::none();
        faults.piece_max = piece;
        let load = run(&Simulation::new(1), PLAN, faults, echo).unwrap();
        let count = load.latencies.len();
        assert!(count >= 99, "{count} messages");
        assert_clean(&load, count);
    }
}

#[test]
fn byte_that_is_changed_anywhere_in_a_message_is_found() {
    let plan = Plan { connections: 1, ..PLAN };
    for place in 0..2 * plan.size {
        let load = run_calmly(
            plan.clone(),
            answering(|all, answered| {
                let mut all = all.to_vec();
                if let Some(byte) = all.get_mut(place) {
                    *byte ^= 0x10;
                }
                all.split_off(answered)
            }),
        );
        let message = place / plan.size + 1;
        let failure = format!("connection 1: message {message} came back changed");
        assert_eq!((load.failed, load.failure), (1, Some(failure)));
        assert!(load.unanswered > 0);
    }
}

#[test]
fn message_that_is_doubled_swapped_or_of_another_connection_is_found() {
    let size = PLAN.size;
    let plan = Plan { connections: 1, ..PLAN };
    let doubled = run_calmly(plan.clone(), answering(|all, answered| all[answered..].repeat(2)));
    let failure = doubled.failure.unwrap();
    assert!(failure.ends_with("more came back than was sent") || failure.ends_with("changed"));
    let swapped = run_calmly(
        Plan { rate: None, ..plan },
        answering(|all, answered| match (answered, all.len()) {
            (0, length) if length == 2 * size => [&all[size..], &all[..size]].concat(),
            _ => all[answered..].to_vec(),
        }),
    );
    assert_eq!(swapped.failure.unwrap(), "connection 1: message 1 came back changed");
    // The same answer for all: right for the first connection only.
    let mut first: Option<Vec<u8>> = None;
    let mixed = run_calmly(
        Plan { depth: 1, ..PLAN },
        answering(|all, answered| first.get_or_insert(all[answered..].to_vec()).clone()),
    );
    assert!(mixed.failed >= 2, "{}", mixed.failed);
}

#[test]
fn server_that_ends_or_resets_after_any_byte_is_a_failure_and_the_rest_unanswered() {
    for last in 0..=2 * PLAN.size {
        for resets in [false, true] {
            let plan = Plan { connections: 1, ..PLAN };
            let mut answered = 0;
            let load = run_calmly(plan, |server, event| {
                let Event::Received(id) = event else { return Ok(()) };
                let stream = &mut server[id];
                let received = stream.received().to_vec();
                stream.consume(received.len());
                let count = received.len().min(last - answered);
                answered += count;
                stream.send(&received[..count]);
                match resets {
                    true if answered == last => stream.abort(),
                    false if answered == last => stream.close(),
                    _ => {}
                }
                Ok(())
            });
            assert_eq!(load.failed, 1, "after {last} bytes");
            let failure = load.failure.unwrap();
            assert!(failure.starts_with("connection 1: "), "{failure}");
            let back = load.latencies.len() - load.unanswered;
            assert!(back <= (last / PLAN.size) as u64, "{back} were echoed of {last} bytes");
        }
    }
}

/// Returns a server that answers nothing in the second before this time has passed.
fn stalling(
    simulation: &Simulation,
    until: Duration,
) -> impl FnMut(&mut EventLoop<Vec<u8>>, Event) -> io::Result<()> {
    let start = simulation.now();
    let clock = simulation.clone();
    let mut held = Vec::new();
    move |server, event| {
        match event {
            Event::Received(id) if clock.now() - start >= until => server[id].send_received(),
            Event::Received(id) => {
                let wait = until.saturating_sub(clock.now() - start);
                if wait > Duration::from_secs(1) {
                    server[id].send_received();
                } else {
                    server[id].pause();
                    held.push(id);
                    server.set_timer(wait);
                }
            }
            Event::Timer(_) => held.drain(..).for_each(|id| server[id].resume()),
            _ => {}
        }
        Ok(())
    }
}

#[test]
fn stall_of_a_second_is_seen_by_every_message_that_was_due_in_it() {
    let plan =
        Plan { connections: 10, depth: 1, time: Duration::from_secs(4), rate: Some(100.0), ..PLAN };
    let slow = |load: &Load| {
        let half = Duration::from_millis(500).as_nanos() as u64;
        load.latencies.count_between(half, u64::MAX)
    };
    let simulation = Simulation::new(1);
    let serve = stalling(&simulation, Duration::from_secs(3));
    let open = run(&simulation, plan.clone(), Faults::none(), serve).unwrap();
    assert_clean(&open, open.latencies.len());
    // Of the hundred in that second, those of its first half have waited for more than half of it.
    assert!((49..=52).contains(&slow(&open)), "{}", slow(&open));
    let max = Duration::from_nanos(open.latencies.max());
    assert!(max > Duration::from_millis(980) && max < Duration::from_millis(1010), "{max:?}");

    // In closed loop only those under way saw it: what coordinated omission hides.
    let simulation = Simulation::new(1);
    let mut faults = Faults::none();
    faults.clock_rate = 1000; // a network where an answer takes its time
    let serve = stalling(&simulation, Duration::from_secs(3));
    let closed = run(&simulation, Plan { rate: None, ..plan }, faults, serve).unwrap();
    assert_eq!(slow(&closed), 10);
}

#[test]
fn latency_counts_from_the_due_time_also_where_the_generator_itself_was_held_up() {
    let simulation = Simulation::new(1);
    let clock = simulation.clone();
    let mut was_held_up = false;
    let plan = Plan { time: Duration::from_secs(2), rate: Some(100.0), ..PLAN };
    let load = run(&simulation, plan, Faults::none(), |server, event| {
        if matches!(event, Event::Received(_)) && !was_held_up {
            was_held_up = true;
            clock.pass_time(Duration::from_secs(1)); // the whole machine stood still
        }
        echo(server, event)
    });
    let load = load.unwrap();
    let half = Duration::from_millis(500).as_nanos() as u64;
    let slow = load.latencies.count_between(half, u64::MAX);
    assert!((49..=52).contains(&slow), "{slow}");
}

#[test]
fn server_that_never_reads_or_never_answers_is_waited_for_only_so_long() {
    for depth in [1, 1000] {
        let simulation = Simulation::new(1);
        let start = simulation.now();
        let plan = Plan { size: 100_000, depth, ..PLAN };
        let load = run(&simulation, plan, Faults::none(), |server, event| {
            if let Event::Accepted(_, id) = event {
                server[id].pause();
            }
            Ok(())
        });
        let load = load.unwrap();
        assert_eq!(simulation.now() - start, PLAN.time + GRACE);
        assert!(load.unanswered >= 99);
        assert_eq!((load.failed, load.latencies.len()), (0, load.unanswered));
        // The first of them has waited from its time to the end.
        let waited = Duration::from_nanos(load.latencies.max());
        assert!(waited + Duration::from_millis(10) >= PLAN.time + GRACE, "{waited:?}");
    }
}

#[test]
fn connection_that_fails_while_it_is_the_last_waited_for_ends_the_wait() {
    let simulation = Simulation::new(1);
    let start = simulation.now();
    let mut mute = None;
    let load = run(&simulation, PLAN, Faults::none(), |server, event| {
        match event {
            Event::Accepted(_, id) if mute.is_none() => {
                mute = Some(id);
                server.set_timer(PLAN.time + Duration::from_secs(1));
            }
            Event::Timer(_) => mute.into_iter().for_each(|id| server[id].abort()),
            Event::Received(id) if mute == Some(id) => {}
            event => echo(server, event)?,
        }
        Ok(())
    });
    assert_eq!(load.unwrap().failed, 1);
    assert_eq!(simulation.now() - start, PLAN.time + Duration::from_secs(1));
}

#[test]
fn servers_that_answer_anything_are_found_out() {
    fuzz(|seed| {
        let simulation = Simulation::new(seed);
        let choices = simulation.clone();
        let rate = [10, 100, 1000][simulation.below(3)];
        let mut was_changed = false;
        let serve = answering(|all, answered| {
            let changed: Vec<u8> = all[answered..]
                .iter()
                .flat_map(|byte| match choices.below(rate) {
                    0 => vec![byte ^ 1 << choices.below(8)],
                    1 => vec![*byte; 2 + choices.below(9)],
                    2 => vec![],
                    _ => vec![*byte],
                })
                .collect();
            was_changed |= changed != all[answered..];
            changed
        });
        let load = run(&simulation, PLAN, Faults::none(), serve).unwrap();
        let is_clean = load.failed == 0 && load.unanswered == 0;
        assert_eq!(is_clean, !was_changed, "{:?}", load.failure);
    });
}

// The program itself.

fn path() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_load"))
}

/// Returns an echo server in a thread, which lasts as long as the test process, and a channel that
/// says when something has arrived there.
fn server() -> (SocketAddr, mpsc::Receiver<()>) {
    let mut server: EventLoop = EventLoop::new().unwrap();
    let listener = server.listen("127.0.0.1:0").unwrap();
    let address = server.listener_addr(listener).unwrap();
    let (arrived, arrivals) = mpsc::sync_channel(1);
    std::thread::spawn(move || {
        loop {
            let event = server.next_event().unwrap();
            if let Event::Received(_) = event {
                let _ = arrived.try_send(());
            }
            echo(&mut server, event).unwrap();
        }
    });
    (address, arrivals)
}

/// Returns the value of a row of the table.
fn row(table: &str, name: &str) -> f64 {
    let line = table.lines().find_map(|line| line.strip_prefix(name)).expect("a row");
    line.trim().parse().unwrap()
}

#[test]
fn echo_is_measured_and_the_chart_is_drawn() {
    let (address, _) = server();
    let chart = TempFile::new("latency.svg", b"");
    let arguments = ["--seconds", "0.5", "--rate", "200", "--chart", chart.path()];
    let ended =
        Program::start_at(path(), &[&[&*address.to_string()], &arguments[..]].concat()).ended();
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    let count = row(&ended.stdout, "messages ");
    assert!((90.0..=101.0).contains(&count), "{}", ended.stdout);
    assert_eq!(row(&ended.stdout, "unanswered"), 0.0);
    assert!(ended.stdout.lines().all(|line| line.len() <= 40));
    let svg = std::fs::read_to_string(chart.path()).unwrap();
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    for text in ["p50", "p99", "max", "seconds", &address.to_string()] {
        assert!(svg.contains(text), "{text} is not in the chart");
    }
}

#[test]
fn thousand_connections_with_much_under_way_are_served_whole() {
    common::child::with_descriptors(test_name!(), 2_200, || {
        let (address, _) = server();
        let arguments = ["--connections", "1000", "--size", "5000", "--depth", "4"];
        let address = address.to_string();
        let arguments = [&[&*address], &arguments[..], &["--seconds", "1"]].concat();
        let ended = Program::start_at(path(), &arguments).ended();
        assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
        assert!(row(&ended.stdout, "messages ") >= 4000.0, "{}", ended.stdout);
    });
}

#[test]
fn ctrl_c_ends_early_and_prints_what_was_measured() {
    let (address, arrivals) = server();
    let program = Program::start_at(path(), &[&address.to_string(), "--seconds", "1000"]);
    arrivals.recv_timeout(common::PATIENCE).unwrap();
    program.signal("INT");
    let ended = program.ended();
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
    assert!(row(&ended.stdout, "messages ") >= 1.0, "{}", ended.stdout);
}

#[test]
fn too_few_descriptors_and_nobody_there_are_said_in_one_line() {
    let (address, _) = server();
    let address = address.to_string();
    let failed = |program: Program, about: &str| {
        let ended = program.ended();
        assert_eq!((ended.status, ended.stdout.as_str()), (Some(1), ""), "{ended:?}");
        assert!(ended.stderr.contains(about), "{ended:?}");
        assert_eq!(ended.stderr.lines().count(), 1, "{ended:?}");
    };
    let arguments = [&*address, "--connections", "100"];
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n 64; exec \"$0\" \"$@\""]).arg(path()).args(arguments);
    let program = Program::start_with(&mut command, Stdio::piped(), Stdio::piped());
    failed(program, "Too many open files");
    let nobody = common::refusing_address().to_string();
    failed(Program::start_at(path(), &[&nobody]), "connection 1: refused");
}

#[test]
fn help_fits_80_columns_and_options_that_are_wrong_are_named() {
    let help = Program::start_at(path(), &["--help"]).ended();
    assert_eq!(help.status, Some(0));
    assert!(help.stdout.lines().all(|line| line.chars().count() <= 80));
    for (arguments, about) in [
        (["--connections", "0"], "--connections takes a number from 1 to 1000000, not \"0\""),
        (["--size", "-1"], "--size takes a number"),
        (["--depth", "x"], "--depth takes a number"),
        (["--seconds", "NaN"], "--seconds takes a number"),
        (["--rate", "inf"], "--rate takes a number"),
        (["--rate", ""], "--rate takes a number, and this one is empty"),
        (["--chart", "/no/such/chart"], "cannot write /no/such/chart"),
        (["--color", "red"], "invalid option '--color'"),
    ] {
        let ended = Program::start_at(path(), &arguments).ended();
        assert_eq!(ended.status, Some(1), "{ended:?}");
        assert!(ended.stderr.starts_with("load: ") && ended.stderr.contains(about), "{ended:?}");
    }
}
