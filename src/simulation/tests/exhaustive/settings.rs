//! Defines the worlds that are searched: what the network is like, what the program does by itself,
//! and what state the two connections begin in.

use super::world::Act;
use crate::event::Event;
use crate::limits::Limits;
use crate::simulation::Faults;
use crate::simulation::tests::acts::Change;
use crate::simulation::tests::run::Run;
use crate::slots::ConnectionId;

/// How a connection of the loop begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Beginning {
    /// A peer has connected, and waits to be accepted.
    Waiting,
    Accepted,
    /// The loop has connected, and the network has not moved yet.
    Connecting,
}

/// Whether a program does something.
pub(super) type Does = fn(Act) -> bool;

pub(super) struct Setting {
    pub(super) name: String,
    pub(super) faults: Faults,
    pub(super) limits: Limits,
    pub(super) begins: Vec<Beginning>,
    /// What the program does with an event.
    pub(super) handle: fn(&mut Run, Event, ConnectionId),
    /// What the program may do at any time, in addition.
    pub(super) does: Does,
    /// What is seldom happens too: waits report what is not so, the program connects and has its
    /// listener pause, peers mark bytes as urgent, read byte by byte and close.
    pub(super) is_wild: bool,
}

pub(super) fn settings() -> Vec<Setting> {
    use Beginning::{Accepted, Connecting, Waiting};
    let tiny = Faults { send_buffer: 2, receive_buffer: 2, piece_max: 2, ..Faults::none() };
    let world = |name: &str, faults: &Faults, begins: &[Beginning]| Setting {
        name: name.to_owned(),
        faults: faults.clone(),
        limits: tiny_limits(1),
        begins: begins.to_vec(),
        handle: |_, _, _| {},
        does: |_| true,
        is_wild: true,
    };
    let handles = |handle, setting| Setting { handle, does: |_| false, ..setting };
    let disarming = Faults { disarms_on_report: true, ..tiny.clone() };
    let separate = Faults { separate_edges: true, silent_rearm: true, ..tiny.clone() };
    let narrow = Faults { send_buffer: 1, receive_buffer: 1, event_capacity: 1, ..tiny.clone() };
    let stopping = Faults { not_ready_rate: 1, no_room_rate: 1, short_rate: 1, ..tiny.clone() };
    let failing = Faults { register_rate: 1, connect_rate: 1, discard_rate: 1, ..tiny.clone() };
    let few = Limits { connections_max: Some(1), ..tiny_limits(2) };
    let mut settings = vec![
        world("two accepted", &tiny, &[Accepted, Accepted]),
        world("one accepted, one connecting", &tiny, &[Accepted, Connecting]),
        world("calls fail", &failing, &[Waiting, Connecting]),
        Setting { limits: few.clone(), ..world("room for one", &tiny, &[Accepted, Waiting]) },
        handles(echo, world("echo", &tiny, &[Accepted, Accepted])),
        handles(echo, world("echo, calls stop short", &stopping, &[Accepted])),
        handles(echo, Setting { limits: few, ..world("echo to one", &tiny, &[Waiting, Waiting]) }),
        handles(relay, world("relay", &tiny, &[Accepted, Connecting])),
        handles(relay, world("relay, disarmed", &disarming, &[Accepted, Connecting])),
    ];
    // A program that does a few things only is followed further.
    let networks = [
        ("", &tiny),
        (", one event a wait", &narrow),
        (", disarmed", &disarming),
        (", separate edges, silent rearm", &separate),
    ];
    let programs: [(&str, Does); 4] =
        [("pauses", pauses), ("ends", ends), ("couples", couples), ("has bounds", has_bounds)];
    for (network, faults) in networks {
        for (name, does) in programs {
            settings.push(Setting {
                name: format!("{name}{network}"),
                does,
                is_wild: false,
                ..world("", faults, &[Accepted, Accepted])
            });
        }
    }
    settings
}

fn pauses(act: Act) -> bool {
    let pauses = matches!(act, Act::Change(Change::Pause | Change::Resume));
    pauses || matches!(act, Act::Consume(usize::MAX) | Act::Send(1))
}

fn ends(act: Act) -> bool {
    use Change::{Abort, AllowHalfOpen, Close, Finish};
    matches!(act, Act::Change(Finish | Close | Abort | AllowHalfOpen(_)) | Act::Send(3))
}

fn couples(act: Act) -> bool {
    matches!(act, Act::Couple(_) | Act::Uncouple | Act::Transfer(_) | Act::Send(1))
}

fn has_bounds(act: Act) -> bool {
    let sends = matches!(act, Act::Send(3) | Act::SendReceived | Act::Consume(1));
    sends || matches!(act, Act::SetDeadline | Act::SetBudgets(_))
}

fn tiny_limits(budget: usize) -> Limits {
    let mut limits = Limits::default();
    let connection = &mut limits.connection;
    (connection.high_water, connection.low_water, connection.unsent_max) = (1, 0, 3);
    connection.read_buffer_max = 2;
    (connection.read_budget, connection.write_budget) = (budget, budget);
    limits.accept_budget = 1;
    limits
}

fn echo(run: &mut Run, event: Event, id: ConnectionId) {
    if let Event::Received(_) = event {
        run.send_received(id);
    }
}

/// A proxy of two connections.
fn relay(run: &mut Run, event: Event, id: ConnectionId) {
    let other = run.checker.open().find(|other| *other != id);
    let Some(other) = other else { return };
    match event {
        Event::Accepted(..) | Event::Connected(_) => {
            run.couple(id, other);
            run.couple(other, id);
        }
        Event::Received(_) => run.transfer(id, other),
        Event::PeerFinished(_) => run.change(other, Change::Finish),
        Event::Closed(..) => run.change(other, Change::Close),
        _ => {}
    }
}
