//! Tests the states of an exchange: its table and its wants. `bytes.rs` and `events.rs` test what
//! it does with bytes and events, and `walk.rs` takes long random paths through it.

mod bytes;
mod events;
mod exhaustive;
mod walk;

use std::hash::{Hash, Hasher};

use super::*;
use crate::event::Deadline;
use crate::interest::Interest;
use crate::pending_events::PendingEvents;
use crate::pool::Pool;
use crate::state::tests::table;

impl Exchange {
    /// Returns a number for everything that the exchange's behaviour depends on: not the bytes
    /// themselves, nor how many were lost.
    pub(crate) fn fingerprint(&self, hasher: &mut impl Hasher) {
        let WriteSide { state, pending, readiness, coupling, paused, half_open, .. } =
            &self.write_side;
        (self.received().len(), self.unsent(), state, pending, readiness).hash(hasher);
        (coupling, paused, half_open, self.clogged, self.behind).hash(hasher);
        (self.reason(), self.close_reason().is_some(), self.ends_by_reset()).hash(hasher);
        (self.limits.read_budget, self.limits.write_budget).hash(hasher);
        self.read_buffer.marks().hash(hasher);
    }

    pub(crate) fn capacity(&self) -> usize {
        self.read_buffer.capacity() + self.write_buffer.capacity()
    }
}

impl WriteSide {
    pub(crate) fn set_readiness(&mut self, readiness: Readiness) {
        self.readiness = readiness;
    }
}

/// High water at 8, low water at 2, at most 16 unsent, at most 4 received.
fn small() -> Arc<ConnectionLimits> {
    let mut limits = ConnectionLimits::default();
    (limits.high_water, limits.low_water, limits.unsent_max) = (8, 2, 16);
    limits.read_buffer_max = 4;
    Arc::new(limits)
}

/// Returns an open exchange without a coupling, whose `Accepted` was delivered.
fn open() -> Exchange {
    let mut exchange = Exchange::accepted(small());
    exchange.set_coupling(Coupling::None);
    exchange.delivered(Pending::Accepted);
    exchange
}

/// What a fill of these bytes does.
fn receive(exchange: &mut Exchange, bytes: &[u8]) {
    let room = Pool::default().room(exchange.read_buffer(), bytes.len());
    room.copy_from_slice(bytes);
    exchange.filled(bytes.len());
}

fn all_pending(exchange: &mut Exchange) -> Vec<Pending> {
    std::iter::from_fn(|| {
        let pending = exchange.next_pending()?;
        exchange.delivered(pending);
        Some(pending)
    })
    .take(9)
    .collect()
}

const BROKEN: CloseReason = CloseReason::Reset;

/// The columns of the table, and one input more, which leads to Closed from everywhere.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Act {
    Connected,
    PeersEnd,
    AllSent,
    Finish,
    Close,
    WriteError,
    Abort,
}

use Act::{Abort, AllSent, Close, Connected, Finish, PeersEnd, WriteError};

const COLUMNS: [(&str, Act); 6] = [
    ("connected", Connected),
    ("peer's end", PeersEnd),
    ("all sent", AllSent),
    ("`finish`", Finish),
    ("`close`", Close),
    ("write error", WriteError),
];

impl Act {
    /// Gives the input, and returns whether our end is to be sent now.
    fn apply(self, exchange: &mut Exchange) -> bool {
        match self {
            Connected => exchange.connected(),
            PeersEnd => exchange.peer_ended(),
            AllSent => {
                if exchange.can_flush() {
                    let unsent = exchange.unsent();
                    exchange.flushed(unsent);
                }
                return exchange.advance();
            }
            Finish => exchange.finish(),
            Close => exchange.close(),
            WriteError => exchange.write_failed(BROKEN),
            Abort => exchange.abort(),
        }
        false
    }

    /// Returns whether the loop can give this input in this state. The loop reads only what is
    /// wanted, and writes only what there is.
    fn can_come(self, exchange: &Exchange) -> bool {
        match self {
            Connected => exchange.is_connecting(),
            PeersEnd => exchange.wants_read(),
            WriteError => exchange.can_flush(),
            AllSent | Finish | Close | Abort => true,
        }
    }
}

/// Whether input is read, and what becomes of it.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Arriving {
    NotYet,
    Received,
    Discarded,
    Over,
}

/// What becomes of bytes that are unsent.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Leaving {
    NotYet,
    Leave,
    /// There are none.
    Gone,
    /// They stay, and will not leave.
    Stay,
}

/// Every state: the inputs that lead there, and what it means for the two directions.
const STATES: [(State, &[Act], Arriving, Leaving); 13] = [
    (State::Connecting, &[], Arriving::NotYet, Leaving::NotYet),
    (State::ConnectingToFinish, &[Finish], Arriving::NotYet, Leaving::NotYet),
    (State::ConnectingToClose, &[Close], Arriving::NotYet, Leaving::NotYet),
    (State::Open, &[], Arriving::Received, Leaving::Leave),
    (State::Finishing, &[Finish], Arriving::Received, Leaving::Leave),
    (State::Finished, &[Finish, AllSent], Arriving::Received, Leaving::Gone),
    (State::Broken, &[WriteError], Arriving::Received, Leaving::Gone),
    (State::Closing, &[Close], Arriving::Discarded, Leaving::Leave),
    (State::Lingering, &[Close, AllSent], Arriving::Discarded, Leaving::Gone),
    (State::PeerFinished, &[PeersEnd], Arriving::Over, Leaving::Leave),
    (State::BothFinishing, &[PeersEnd, Finish], Arriving::Over, Leaving::Leave),
    (State::BothClosing, &[PeersEnd, Close], Arriving::Over, Leaving::Leave),
    (State::Closed, &[Abort], Arriving::Over, Leaving::Stay),
];

fn begin(state: State) -> Exchange {
    use State::{Connecting, ConnectingToClose, ConnectingToFinish};
    match state {
        Connecting | ConnectingToFinish | ConnectingToClose => Exchange::connecting(small()),
        _ => open(),
    }
}

/// Returns an exchange in this state, with bytes unsent where there can be some, and nothing
/// pending.
fn in_state(state: State) -> Exchange {
    let mut exchange = begin(state);
    exchange.send(b"unsent");
    go_to(&mut exchange, state);
    all_pending(&mut exchange);
    exchange
}

fn go_to(exchange: &mut Exchange, state: State) {
    let (_, path, ..) = STATES.into_iter().find(|row| row.0 == state).unwrap();
    for input in path {
        input.apply(exchange);
    }
    assert_eq!(exchange.state, state);
}

#[test]
fn every_input_in_every_state_does_what_the_table_says() {
    let table = table();
    let head: Vec<&str> = ["state"].into_iter().chain(COLUMNS.map(|column| column.0)).collect();
    assert_eq!(table[0], head);
    let states: Vec<&str> = table[1..].iter().map(|row| row[0]).collect();
    assert_eq!(states, STATES.map(|row| format!("{:?}", row.0)));

    for (row, (state, ..)) in table[1..].iter().zip(STATES) {
        for (cell, (_, input)) in row[1..].iter().zip(COLUMNS) {
            let mut exchange = in_state(state);
            if cell.is_empty() {
                assert!(!input.can_come(&exchange), "{input:?} is possible in {state:?}");
                continue;
            }
            assert!(input.can_come(&exchange), "{input:?} is impossible in {state:?}");
            let action = input.apply(&mut exchange);
            let expected = match cell.split(' ').next() {
                Some("·") => format!("{state:?}"),
                name => name.unwrap().to_owned(),
            };
            assert_eq!(format!("{:?}", exchange.state), expected, "{input:?} in {state:?}");
            let finishes = cell.contains('⁴');
            assert_eq!(action, finishes, "{input:?} in {state:?}");
            let has_reason = matches!(exchange.state, State::Broken | State::Closed);
            assert_eq!(exchange.reason().is_some(), has_reason, "{input:?} in {state:?}");
        }
    }
}

#[test]
fn connect_under_way_with_nothing_unsent_closes_at_once() {
    for state in [State::Connecting, State::ConnectingToFinish] {
        let mut exchange = begin(state);
        go_to(&mut exchange, state);
        exchange.close();
        assert_eq!(exchange.close_reason(), Some(CloseReason::Closed), "{state:?}");
        assert_eq!(all_pending(&mut exchange), [Pending::Closed]);
    }
}

#[test]
fn behind_the_peers_end_it_closes_by_itself_only_when_nothing_holds_it() {
    type Hold = fn(&mut Exchange);
    let paused: Hold = |exchange| exchange.pause();
    let half_open: Hold = |exchange| exchange.allow_half_open(true);
    let holds: [(Hold, &str); 6] = [
        (paused, "paused"),
        (half_open, "half-open"),
        (|exchange| exchange.pending.add(Pending::PeerFinished), "peer's end unhandled"),
        (|exchange| receive(exchange, b"x"), "announced again, unhandled"),
        (|exchange| exchange.pending.add(Pending::Drained), "drained, unhandled"),
        (|exchange| exchange.pending.add(Pending::Deadline), "deadline, unhandled"),
    ];
    for state in [State::PeerFinished, State::BothFinishing] {
        for (hold, name) in holds {
            let mut exchange = in_state(state);
            assert!(!exchange.advance());
            assert_eq!(exchange.state, state, "bytes are unsent");
            hold(&mut exchange);
            AllSent.apply(&mut exchange);
            // Our last word is sent in BothFinishing, so half-open changes nothing there.
            let holds = state == State::PeerFinished || name != "half-open";
            assert_eq!((exchange.state == state, exchange.unsent()), (holds, 0), "{name}");
            all_pending(&mut exchange);
            exchange.allow_half_open(false);
            exchange.resume();
            assert!(!exchange.advance());
            assert_eq!(exchange.close_reason(), Some(CloseReason::Finished), "{state:?}, {name}");
        }
    }
}

#[test]
fn failure_in_every_state_closes_and_the_first_reason_stays() {
    type Fail = fn(&mut Exchange);
    let failures: [(Fail, CloseReason, &str); 3] = [
        (|exchange| exchange.end(CloseReason::Refused), CloseReason::Refused, "connect"),
        (
            |exchange| exchange.end(CloseReason::TimedOut(Deadline::Idle)),
            CloseReason::TimedOut(Deadline::Idle),
            "deadline",
        ),
        (|exchange| exchange.abort(), CloseReason::Aborted, "abort"),
    ];
    for (state, ..) in STATES {
        for (fail, reason, name) in failures {
            let mut exchange = in_state(state);
            fail(&mut exchange);
            let reason = match (state, name) {
                (State::Closed, _) => CloseReason::Aborted,
                (State::Broken, "connect" | "deadline") => BROKEN,
                _ => reason,
            };
            assert_eq!(exchange.state, State::Closed, "{name} in {state:?}");
            assert_eq!(exchange.close_reason(), Some(reason), "{name} in {state:?}");
            let pending: &[Pending] = if state == State::Closed { &[] } else { &[Pending::Closed] };
            assert_eq!(
                all_pending(&mut exchange),
                pending,
                "Closed is delivered once, {name} in {state:?}"
            );
        }
    }
}

#[test]
fn end_has_the_reason_of_what_led_to_it() {
    for (state, input, reason) in [
        (State::PeerFinished, AllSent, CloseReason::Finished),
        (State::BothFinishing, AllSent, CloseReason::Finished),
        (State::BothClosing, AllSent, CloseReason::Closed),
        (State::Lingering, PeersEnd, CloseReason::Closed),
        (State::Broken, PeersEnd, BROKEN),
        (State::Broken, Close, BROKEN),
        (State::PeerFinished, WriteError, BROKEN),
        (State::Closing, WriteError, BROKEN),
    ] {
        let mut exchange = in_state(state);
        input.apply(&mut exchange);
        assert_eq!(exchange.close_reason(), Some(reason), "{input:?} in {state:?}");
    }
}

#[test]
fn other_inputs_in_every_state_lead_nowhere() {
    type Do = fn(&mut Exchange);
    let inputs: [(Do, &str); 8] = [
        (|exchange| exchange.pause(), "pause"),
        (Exchange::resume, "resume"),
        (|exchange| exchange.allow_half_open(true), "allow_half_open"),
        (|exchange| exchange.set_coupling(Coupling::Itself), "set_coupling"),
        (|exchange| exchange.set_limits(Arc::default()), "set_limits"),
        (|exchange| exchange.send(b"more"), "send"),
        (Exchange::send_received, "send_received"),
        (|exchange| exchange.readiness.add(Readiness::HUP), "readiness"),
    ];
    for (state, ..) in STATES {
        for (input, name) in inputs {
            let mut exchange = in_state(state);
            input(&mut exchange);
            assert_eq!(exchange.state, state, "{name}");
        }
    }
}

// Wants.

/// Computes what an exchange wants by what is true of it: the interest rule, written a second time.
fn wants(
    (inbound, outbound): (Arriving, Leaving),
    (paused, coupling): (bool, Coupling),
    (has_unsent, is_overfull): (bool, bool),
    readiness: Readiness,
) -> (bool, bool) {
    let writer_has_unsent = match coupling {
        Coupling::None => false,
        Coupling::Itself => has_unsent,
        Coupling::Writer { has_unsent } => has_unsent,
    };
    let reads = match inbound {
        Arriving::NotYet | Arriving::Over => false,
        Arriving::Discarded => true,
        Arriving::Received => !(paused || is_overfull || writer_has_unsent),
    };
    let writes = match outbound {
        Leaving::NotYet => true,
        Leaving::Leave => has_unsent && !readiness.is_writable(),
        Leaving::Gone | Leaving::Stay => false,
    };
    (reads, writes)
}

const COUPLINGS: [Coupling; 4] = [
    Coupling::None,
    Coupling::Itself,
    Coupling::Writer { has_unsent: false },
    Coupling::Writer { has_unsent: true },
];

fn every_readiness() -> impl Iterator<Item = Readiness> {
    (0..8).map(|number: u8| {
        let part = |bit, reported| if number & bit == 0 { Readiness::default() } else { reported };
        part(1, Readiness::READABLE) | part(2, Readiness::WRITABLE) | part(4, Readiness::HUP)
    })
}

fn check_wants(row: usize, paused: bool, coupling: Coupling, has_unsent: bool, is_full: bool) {
    // A full buffer wants to find out whether the end follows it.
    for is_overfull in [false, true] {
        if is_full || !is_overfull {
            check_wants_when_full(row, (paused, coupling), has_unsent, (is_full, is_overfull));
        }
    }
}

fn check_wants_when_full(
    row: usize,
    (paused, coupling): (bool, Coupling),
    has_unsent: bool,
    (is_full, is_overfull): (bool, bool),
) {
    let (state, _, inbound, outbound) = STATES[row];
    let mut exchange = begin(state);
    exchange.send(if has_unsent { b"unsent" } else { b"" });
    if is_full {
        receive(&mut exchange, b"full");
    }
    // What a close lifts can have been set before it, and cannot be set after it.
    let hold = |exchange: &mut Exchange| {
        exchange.set_coupling(coupling);
        if paused {
            exchange.pause();
        }
    };
    hold(&mut exchange);
    go_to(&mut exchange, state);
    hold(&mut exchange);
    if is_overfull && !exchange.is_at_end() {
        exchange.found_more();
    }
    for readiness in every_readiness() {
        exchange.readiness = readiness;
        let context = format!(
            "{state:?} paused {paused} {coupling:?} unsent {has_unsent} full {is_full} {is_overfull}, {readiness}"
        );
        let (reads, writes) =
            wants((inbound, outbound), (paused, coupling), (has_unsent, is_overfull), readiness);
        assert_eq!(exchange.wants_read(), reads, "reads: {context}");
        assert_eq!(exchange.wants_write(), writes, "writes: {context}");
        let interest = match (reads, writes) {
            (true, false) => Interest::Readable,
            (true, true) => Interest::ReadableWritable,
            (false, true) => Interest::Writable,
            (false, false) => Interest::None,
        };
        assert_eq!(exchange.interest(), interest, "{context}");
        assert_eq!(exchange.can_fill(), reads && readiness.is_readable(), "{context}");
        let can_flush = outbound == Leaving::Leave && has_unsent && readiness.is_writable();
        assert_eq!(exchange.can_flush(), can_flush, "{context}");
    }
}

#[test]
fn interest_follows_the_rule_in_every_state_whatever_else_is_true() {
    let both = [false, true];
    for (row, (state, _, inbound, outbound)) in STATES.into_iter().enumerate() {
        for (paused, has_unsent, is_full) in both
            .into_iter()
            .flat_map(|one| both.map(|two| (one, two)))
            .flat_map(|(one, two)| both.map(|three| (one, two, three)))
        {
            // Nothing is received before it is connected; where all was sent nothing is unsent; a
            // close of a connect with nothing unsent ends it.
            let cannot_be = is_full && inbound == Arriving::NotYet
                || has_unsent && outbound == Leaving::Gone
                || !has_unsent && state == State::ConnectingToClose;
            if !cannot_be {
                for coupling in COUPLINGS {
                    check_wants(row, paused, coupling, has_unsent, is_full);
                }
            }
        }
    }
}

#[test]
fn phase_names_what_a_deadline_bounds() {
    for (state, _, _, outbound) in STATES {
        let mut exchange = in_state(state);
        let phase = match state {
            State::Broken => Phase::Broken,
            State::Lingering => Phase::Lingering,
            State::Closing | State::BothClosing => Phase::Closing,
            _ if outbound == Leaving::NotYet => Phase::Connecting,
            _ => Phase::Unbounded,
        };
        exchange.readiness = Readiness::WRITABLE;
        assert_eq!(exchange.phase(), phase, "{state:?}, which may write");
        exchange.readiness = Readiness::default();
        let stalls = outbound == Leaving::Leave && phase == Phase::Unbounded;
        let stalled = if stalls { Phase::Stalled } else { phase };
        assert_eq!(exchange.phase(), stalled, "{state:?}, which may not");
    }
}
