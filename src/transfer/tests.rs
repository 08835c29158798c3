//! Fill and flush against a socket that answers by a script, in every way a kernel can.

use std::collections::VecDeque;
use std::sync::Arc;

use super::*;
use crate::event::Deadline;
use crate::exchange::{Coupling, Phase};
use crate::interest::Interest;
use crate::limits::ConnectionLimits;
use crate::pending_events::Pending;

/// How the socket answers one call.
#[derive(Clone, Debug, PartialEq)]
enum Answer {
    /// These bytes are there to read; a read of fewer leaves the rest to the next.
    Bytes(Vec<u8>),
    /// There is room to write this many bytes.
    Room(usize),
    /// No byte, no error: to a read the peer's end, to a write nothing taken.
    Zero,
    WouldBlock,
    Interrupted,
    Error(ErrorKind),
}

use Answer::{Error, Interrupted, Room, WouldBlock, Zero};

fn bytes(bytes: &[u8]) -> Answer {
    Answer::Bytes(bytes.to_vec())
}

const READABLE: Readiness = Readiness::READABLE;
const WRITABLE: Readiness = Readiness::WRITABLE;
const HUP: Readiness = Readiness::HUP;

const RESET: Answer = Error(ErrorKind::ConnectionReset);

/// Panics if it is called more often than the script has answers: a call too many is a mistake.
#[derive(Debug, Default)]
struct Script {
    answers: VecDeque<Answer>,
    /// The size of the buffer in each call.
    asked: Vec<usize>,
    written: Vec<u8>,
}

impl Script {
    fn new(answers: &[Answer]) -> Self {
        Self { answers: answers.iter().cloned().collect(), ..Self::default() }
    }

    fn next(&mut self, asked: usize) -> io::Result<Answer> {
        self.asked.push(asked);
        match self.answers.pop_front().expect("a call that the script does not know of") {
            WouldBlock => Err(ErrorKind::WouldBlock.into()),
            Interrupted => Err(ErrorKind::Interrupted.into()),
            Error(kind) => Err(kind.into()),
            answer => Ok(answer),
        }
    }
}

impl Peek for Script {
    fn peek(&mut self) -> io::Result<bool> {
        match self.next(1)? {
            answer @ Answer::Bytes(_) => {
                self.answers.push_front(answer);
                Ok(true)
            }
            Zero => Ok(false),
            other => panic!("{other:?} is no answer to a peek"),
        }
    }
}

impl Read for Script {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.next(into.len())? {
            Answer::Bytes(mut bytes) => {
                let rest = bytes.split_off(bytes.len().min(into.len()));
                into[..bytes.len()].copy_from_slice(&bytes);
                if !rest.is_empty() {
                    self.answers.push_front(Answer::Bytes(rest));
                }
                Ok(bytes.len())
            }
            Zero => Ok(0),
            other => panic!("{other:?} is no answer to a read"),
        }
    }
}

impl Write for Script {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let taken = match self.next(from.len())? {
            Room(room) => room.min(from.len()),
            Zero => 0,
            other => panic!("{other:?} is no answer to a write"),
        };
        self.written.extend_from_slice(&from[..taken]);
        Ok(taken)
    }

    fn flush(&mut self) -> io::Result<()> {
        unreachable!("a socket has nothing to flush")
    }
}

/// Budgets of 8 and a read buffer of 12, so that each bound is met alone.
fn small() -> Arc<ConnectionLimits> {
    let mut limits = ConnectionLimits::default();
    (limits.read_budget, limits.read_buffer_max) = (BUDGET, 12);
    Arc::new(limits)
}

/// The most that one fill or flush moves here.
const BUDGET: usize = 8;

/// Returns an open exchange without a coupling, ready in both directions.
fn open() -> Exchange {
    let mut exchange = Exchange::accepted(small());
    exchange.set_coupling(Coupling::None);
    exchange.delivered(Pending::Accepted);
    exchange.set_readiness(READABLE | WRITABLE);
    exchange
}

fn sending(bytes: &[u8]) -> Exchange {
    let mut exchange = open();
    exchange.send(bytes);
    exchange
}

/// Returns an exchange whose write failed with `ConnectionReset`, while the kernel still holds
/// bytes for it.
fn broken() -> Exchange {
    let mut exchange = sending(b"gone");
    flush(&mut exchange, &mut Script::new(&[RESET]), BUDGET, true);
    assert_eq!(exchange.phase(), Phase::Broken);
    exchange
}

fn filled(exchange: &mut Exchange, answers: &[Answer], short_proves_empty: bool) -> Transferred {
    let mut socket = Script::new(answers);
    let filled = fill(exchange, &mut socket, &mut Pool::default(), short_proves_empty);
    assert_eq!(socket.answers, [], "the fill stopped before the script was over");
    filled
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

/// Returns all ways to cut `whole` into pieces.
fn chunkings(whole: &[u8]) -> impl Iterator<Item = Vec<&[u8]>> {
    (0..1_u32 << (whole.len() - 1)).map(move |cuts| {
        let ends = (1..whole.len()).filter(|end| cuts & (1 << (end - 1)) != 0);
        let ends: Vec<usize> = ends.chain([whole.len()]).collect();
        let starts = [0].into_iter().chain(ends.iter().copied());
        starts.zip(&ends).map(|(start, end)| &whole[start..*end]).collect()
    })
}

// Filling.

/// One fill of an open exchange.
struct Fill {
    name: &'static str,
    before: Readiness,
    short_proves_empty: bool,
    answers: Vec<Answer>,
    asked: &'static [usize],
    received: &'static [u8],
    stop: StopReason,
    after: Readiness,
}

/// Returns a fill that is brought to its end by a socket that is not ready for more.
fn fill_case(
    name: &'static str,
    before: Readiness,
    short_proves_empty: bool,
    answers: &[Answer],
) -> Fill {
    Fill {
        name,
        before,
        short_proves_empty,
        answers: answers.to_vec(),
        asked: &[8],
        received: b"",
        stop: StopReason::NotReady,
        after: Readiness::default(),
    }
}

fn fills_until_not_ready() -> Vec<Fill> {
    let one_by_one = [bytes(b"a"), bytes(b"b"), bytes(b"c"), WouldBlock];
    let three = [bytes(b"abc"), WouldBlock];
    let interrupted =
        [Interrupted, Interrupted, Interrupted, bytes(b"abc"), Interrupted, WouldBlock];
    let hup = READABLE | HUP;
    vec![
        fill_case("nothing there clears the bit", READABLE, true, &[WouldBlock]),
        fill_case("nothing there clears HUP too", hup, true, &[WouldBlock]),
        Fill {
            after: WRITABLE,
            ..fill_case("a read says nothing of writing", READABLE | WRITABLE, true, &[WouldBlock])
        },
        Fill {
            received: b"a",
            ..fill_case("a short read proves the socket empty", READABLE, true, &[bytes(b"a")])
        },
        Fill {
            asked: &[8, 7, 6, 5],
            received: b"abc",
            ..fill_case("a short read proves nothing", READABLE, false, &one_by_one)
        },
        Fill {
            asked: &[8, 5],
            received: b"abc",
            ..fill_case("with HUP a short read proves nothing", hup, true, &three)
        },
        Fill {
            asked: &[8, 8, 8, 8, 5, 5],
            received: b"abc",
            ..fill_case("interruptions are invisible", READABLE, false, &interrupted)
        },
    ]
}

fn fills_until_stopped() -> Vec<Fill> {
    let stopped = |stop, received, fill| Fill { stop, received, after: READABLE, ..fill };
    let hup = READABLE | HUP;
    let three_reads = [bytes(b"a"), bytes(b"bc"), bytes(b"defgh")];
    vec![
        stopped(StopReason::Ended, b"", fill_case("the end", READABLE, true, &[Zero])),
        Fill {
            asked: &[8, 5],
            after: hup,
            ..stopped(
                StopReason::Ended,
                b"abc",
                fill_case("the end that HUP announced", hup, true, &[bytes(b"abc"), Zero]),
            )
        },
        stopped(
            StopReason::Failed,
            b"",
            fill_case("a reset before data", READABLE, true, &[RESET]),
        ),
        Fill {
            asked: &[8, 5],
            ..stopped(
                StopReason::Failed,
                b"abc",
                fill_case("a reset behind data", READABLE, false, &[bytes(b"abc"), RESET]),
            )
        },
        stopped(
            StopReason::Ours,
            b"abcdefgh",
            fill_case("the budget, in one read", READABLE, true, &[bytes(b"abcdefgh")]),
        ),
        Fill {
            asked: &[8, 7, 5],
            ..stopped(
                StopReason::Ours,
                b"abcdefgh",
                fill_case("the budget, in several reads", READABLE, false, &three_reads),
            )
        },
    ]
}

#[test]
fn fill_goes_on_until_what_the_socket_answers_or_a_bound_stops_it() {
    for case in fills_until_not_ready().into_iter().chain(fills_until_stopped()) {
        let name = case.name;
        let mut exchange = open();
        exchange.set_readiness(case.before);
        let mut socket = Script::new(&case.answers);
        let short_proves_empty = case.short_proves_empty;
        let filled = fill(&mut exchange, &mut socket, &mut Pool::default(), short_proves_empty);
        assert_eq!(filled, Transferred { count: case.received.len(), stop: case.stop }, "{name}");
        assert_eq!(socket.asked, case.asked, "{name}");
        assert_eq!(socket.answers, [], "{name}");
        assert_eq!(exchange.received(), case.received, "{name}");
        assert_eq!(exchange.readiness(), case.after, "{name}");
        let reason = (case.stop == StopReason::Failed).then_some(CloseReason::Reset);
        assert_eq!(exchange.close_reason(), reason, "{name}");
        let mut pending = Vec::new();
        pending.extend((!case.received.is_empty()).then_some(Pending::Received));
        pending.extend((case.stop == StopReason::Ended).then_some(Pending::PeerFinished));
        pending.extend((case.stop == StopReason::Failed).then_some(Pending::Closed));
        assert_eq!(all_pending(&mut exchange), pending, "{name}");
    }
}

#[test]
fn full_read_buffer_stops_the_fill_and_keeps_the_bit() {
    let mut exchange = open();
    filled(&mut exchange, &[bytes(b"abcdefgh")], true);
    let mut socket = Script::new(&[bytes(b"ijklmnop")]);
    let filled = fill(&mut exchange, &mut socket, &mut Pool::default(), true);
    assert_eq!(filled, Transferred { count: 4, stop: StopReason::Ours });
    // Four bytes were read, and one behind them was looked at.
    assert_eq!((socket.asked, socket.answers), (vec![4, 1], VecDeque::from([bytes(b"mnop")])));
    assert_eq!(exchange.received(), b"abcdefghijkl");
    assert!(exchange.readiness().is_readable() && !exchange.can_fill());
    exchange.consume(1);
    assert!(exchange.can_fill(), "room is made, and no new event is needed");
}

#[test]
fn full_read_buffer_looks_for_the_end_behind_it() {
    let looked = |answers: &[Answer]| {
        let mut exchange = open();
        filled(&mut exchange, &[bytes(b"abcdefgh")], true);
        let filled = filled(&mut exchange, &[&[bytes(b"ijkl")], answers].concat(), true);
        (exchange, filled)
    };
    let (exchange, filled) = looked(&[Interrupted, Zero]);
    assert_eq!(filled, Transferred { count: 4, stop: StopReason::Ended });
    assert!(exchange.is_at_end());
    let (exchange, filled) = looked(&[WouldBlock]);
    assert_eq!(filled, Transferred { count: 4, stop: StopReason::NotReady });
    assert!(!exchange.can_fill() && exchange.interest().is_readable(), "the end may still arrive");
    let (exchange, filled) = looked(&[RESET]);
    assert_eq!(filled, Transferred { count: 4, stop: StopReason::Failed });
    assert_eq!(exchange.close_reason(), Some(CloseReason::Reset));
}

#[test]
fn budget_that_just_fills_the_read_buffer_leaves_the_look_behind_it_to_the_next_fill() {
    let mut exchange = open();
    filled(&mut exchange, &[bytes(b"abcdefgh")], true);
    exchange.consume(4);
    filled(&mut exchange, &[bytes(b"ijklmnop")], true);
    assert_eq!(exchange.received().len(), 12);
    assert!(exchange.can_fill() && exchange.wanted() == 0);
    let filled = filled(&mut exchange, &[Zero], true);
    assert_eq!(filled, Transferred { count: 0, stop: StopReason::Ended });
}

#[test]
fn read_buffer_that_grows_over_many_fills_doubles_whatever_the_budget() {
    let limits = ConnectionLimits { read_buffer_max: 4 << 20, ..ConnectionLimits::default() };
    let piece = vec![1; limits.read_budget];
    let mut exchange = Exchange::accepted(Arc::new(limits));
    exchange.set_coupling(Coupling::None);
    exchange.delivered(Pending::Accepted);
    let mut pool = Pool::default();
    let mut sizes = Vec::new();
    for _ in 0..64 {
        exchange.set_readiness(READABLE);
        let mut socket = Script::new(&[Answer::Bytes(piece.clone())]);
        fill(&mut exchange, &mut socket, &mut pool, true);
        pool.reclaim(exchange.read_buffer());
        sizes.push(exchange.read_buffer().size());
    }
    assert_eq!(exchange.received().len(), 4 << 20);
    sizes.dedup();
    // Each time all bytes are copied.
    assert_eq!(sizes, [64, 128, 256, 512, 1024, 2048, 4096].map(|size| size << 10));
}

#[test]
fn exchange_that_wants_no_read_is_not_filled() {
    let paused = || {
        let mut exchange = open();
        exchange.pause();
        exchange
    };
    let held_back = || {
        let mut exchange = sending(b"unsent");
        exchange.set_coupling(Coupling::Itself);
        exchange
    };
    for mut exchange in [paused(), held_back(), Exchange::connecting(small())] {
        let readiness = exchange.readiness();
        let filled = filled(&mut exchange, &[], true);
        assert_eq!(filled, Transferred { count: 0, stop: StopReason::Ours });
        assert_eq!(exchange.readiness(), readiness);
    }
}

#[test]
fn fill_that_brings_nothing_leaves_no_block_behind() {
    for answer in [WouldBlock, Zero, RESET] {
        let mut exchange = open();
        filled(&mut exchange, &[answer], true);
        assert_eq!(exchange.read_buffer().capacity(), 0);
    }
}

#[test]
fn closing_exchange_reads_and_throws_away() {
    // Closing has bytes to send, lingering has sent all; both only wait for the peer's end.
    for (unsent, reason_at_end) in [(&b"unsent"[..], None), (b"", Some(CloseReason::Closed))] {
        let mut exchange = sending(unsent);
        filled(&mut exchange, &[bytes(b"kept")], true);
        exchange.try_read();
        exchange.close();
        let _ = exchange.advance();
        assert!(exchange.discards());

        let thrown = filled(&mut exchange, &[bytes(b"a"), Interrupted, WouldBlock], false);
        assert_eq!(thrown, Transferred { count: 1, stop: StopReason::NotReady });
        assert!(!exchange.readiness().is_readable());
        exchange.try_read();
        let thrown = filled(&mut exchange, &[bytes(b"abcdefgh")], true);
        assert_eq!(thrown, Transferred { count: 8, stop: StopReason::Ours });
        assert_eq!(exchange.received(), b"kept");
        assert_eq!(all_pending(&mut exchange), []);

        let thrown = filled(&mut exchange, &[bytes(b"abc"), Zero], false);
        assert_eq!(thrown, Transferred { count: 3, stop: StopReason::Ended });
        assert_eq!(exchange.received(), b"kept");
        assert_eq!(exchange.close_reason(), reason_at_end);
        let pending: &[Pending] = if unsent.is_empty() { &[Pending::Closed] } else { &[] };
        assert_eq!(all_pending(&mut exchange), pending);
    }
}

#[test]
fn fill_that_throws_away_gives_its_block_back() {
    for answers in [&[bytes(b"abc"), WouldBlock][..], &[WouldBlock], &[Zero], &[RESET]] {
        let mut exchange = sending(b"unsent");
        exchange.close();
        exchange.try_read();
        let mut pool = Pool::default();
        fill(&mut exchange, &mut Script::new(answers), &mut pool, false);
        assert_eq!((pool.free_count(), exchange.read_buffer().capacity()), (1, 0), "{answers:?}");
    }
}

#[test]
fn reset_while_closing_closes() {
    let mut exchange = open();
    exchange.close();
    let _ = exchange.advance();
    let failed = filled(&mut exchange, &[bytes(b"abc"), RESET], false);
    assert_eq!(failed, Transferred { count: 3, stop: StopReason::Failed });
    assert_eq!(exchange.close_reason(), Some(CloseReason::Reset));
    assert_eq!(all_pending(&mut exchange), [Pending::Closed]);
}

#[test]
fn every_chunking_of_a_message_fills_the_same_bytes() {
    for pieces in chunkings(b"message!") {
        let mut exchange = open();
        for piece in &pieces {
            exchange.try_read();
            filled(&mut exchange, &[Interrupted, bytes(piece)], true);
        }
        assert_eq!(exchange.received(), b"message!", "{pieces:?}");
    }
}

// Flushing.

/// One flush of an open exchange that has sent `abcdef`, or what `unsent` says.
struct Flush {
    name: &'static str,
    unsent: &'static [u8],
    short_proves_full: bool,
    answers: Vec<Answer>,
    asked: &'static [usize],
    written: &'static [u8],
    stop: StopReason,
    still_writable: bool,
}

fn flushes() -> Vec<Flush> {
    let flush = |name, answers: &[Answer], written: &'static [u8], stop| Flush {
        name,
        unsent: b"abcdef",
        short_proves_full: true,
        answers: answers.to_vec(),
        asked: &[6],
        written,
        stop,
        still_writable: stop != StopReason::NotReady,
    };
    let slow = |flush| Flush { short_proves_full: false, ..flush };
    vec![
        flush("all at once", &[Room(100)], b"abcdef", StopReason::Ours),
        Flush { unsent: b"", asked: &[], ..flush("nothing", &[], b"", StopReason::Ours) },
        flush("a short write proves the socket full", &[Room(2)], b"ab", StopReason::NotReady),
        flush("no room", &[WouldBlock], b"", StopReason::NotReady),
        Flush {
            asked: &[6, 4, 3],
            ..slow(flush(
                "a short write proves nothing",
                &[Room(2), Room(1), WouldBlock],
                b"abc",
                StopReason::NotReady,
            ))
        },
        Flush {
            asked: &[6, 5, 4, 3, 2, 1],
            ..slow(flush("one byte at a time", &vec![Room(1); 6], b"abcdef", StopReason::Ours))
        },
        Flush {
            asked: &[6, 6, 6, 4, 4],
            ..slow(flush(
                "interruptions are invisible, however many",
                &[Interrupted, Interrupted, Room(2), Interrupted, WouldBlock],
                b"ab",
                StopReason::NotReady,
            ))
        },
        Flush {
            unsent: b"abcdefghij",
            asked: &[8],
            ..flush("the budget, in one write", &[Room(100)], b"abcdefgh", StopReason::Ours)
        },
        Flush {
            unsent: b"abcdefghij",
            asked: &[8, 7, 5],
            ..slow(flush(
                "the budget, in several writes",
                &[Room(1), Room(2), Room(5)],
                b"abcdefgh",
                StopReason::Ours,
            ))
        },
    ]
}

#[test]
fn flush_goes_on_until_what_the_socket_answers_or_a_bound_stops_it() {
    for case in flushes() {
        let name = case.name;
        let mut exchange = sending(case.unsent);
        let mut socket = Script::new(&case.answers);
        let flushed = flush(&mut exchange, &mut socket, BUDGET, case.short_proves_full);
        assert_eq!(flushed, Transferred { count: case.written.len(), stop: case.stop }, "{name}");
        assert_eq!(socket.asked, case.asked, "{name}");
        assert_eq!(socket.answers, [], "{name}");
        assert_eq!(socket.written, case.written, "{name}");
        assert_eq!(exchange.unsent_bytes(), &case.unsent[case.written.len()..], "{name}");
        assert_eq!(exchange.lost(), 0, "{name}");
        assert!(exchange.readiness().is_readable(), "{name}");
        assert_eq!(exchange.readiness().is_writable(), case.still_writable, "{name}");
        assert_eq!(exchange.interest().is_writable(), case.stop == StopReason::NotReady, "{name}");
        assert_eq!(all_pending(&mut exchange), [], "{name}");
    }
}

#[test]
fn every_chunking_of_a_message_flushes_the_same_bytes() {
    for pieces in chunkings(b"message!") {
        let mut exchange = sending(b"message!");
        let mut written = Vec::new();
        for piece in &pieces {
            exchange.try_write();
            let mut socket = Script::new(&[Interrupted, Room(piece.len())]);
            flush(&mut exchange, &mut socket, BUDGET, true);
            written.extend(socket.written);
        }
        assert_eq!(written, b"message!", "{pieces:?}");
        assert_eq!(exchange.unsent(), 0);
    }
}

#[test]
fn write_error_ends_our_direction_and_the_other_is_still_read() {
    let nothing_taken = io::Error::from(ErrorKind::WriteZero);
    for (error, reason) in [
        (RESET, CloseReason::Reset),
        (Error(ErrorKind::BrokenPipe), CloseReason::Reset),
        (Zero, CloseReason::of(&nothing_taken)),
    ] {
        let mut exchange = sending(b"abcdef");
        exchange.readiness().clear(READABLE);
        let mut socket = Script::new(&[Room(2), error.clone()]);
        let failed = flush(&mut exchange, &mut socket, BUDGET, false);
        assert_eq!(failed, Transferred { count: 2, stop: StopReason::Failed }, "{error:?}");
        assert_eq!(socket.written, b"ab");
        assert_eq!((exchange.unsent(), exchange.lost()), (0, 4), "{error:?}");
        assert_eq!((exchange.phase(), exchange.close_reason()), (Phase::Broken, None));
        assert_eq!(exchange.interest(), Interest::Readable);
        exchange.send(b"more");
        assert_eq!((exchange.unsent(), exchange.lost()), (0, 8), "nothing can leave any more");

        // What arrived before the error is read without a new event, also after a short read.
        assert!(exchange.can_fill());
        let rest = filled(&mut exchange, &[bytes(b"abc"), Zero], true);
        assert_eq!(rest, Transferred { count: 3, stop: StopReason::Ended });
        assert_eq!(exchange.received(), b"abc");
        assert_eq!(exchange.close_reason(), Some(reason));
        assert!(!exchange.is_at_end(), "the end behind an error is not the peer's");
        assert_eq!(all_pending(&mut exchange), [Pending::Received, Pending::Closed]);
    }
}

#[test]
fn write_error_remains_the_reason_however_reading_ends() {
    let read_error = Error(ErrorKind::TimedOut);
    for last in [Zero, read_error] {
        let mut exchange = broken();
        filled(&mut exchange, &[last], true);
        assert_eq!(exchange.close_reason(), Some(CloseReason::Reset));
    }
    let mut exchange = broken();
    filled(&mut exchange, &[bytes(b"abc"), WouldBlock], true);
    assert_eq!(exchange.phase(), Phase::Broken, "waits for what may still arrive");
    exchange.end(CloseReason::TimedOut(Deadline::Close));
    assert_eq!(exchange.close_reason(), Some(CloseReason::Reset));
}

#[test]
fn write_error_with_nothing_left_to_deliver_closes_at_once() {
    let after_the_peers_end = || {
        let mut exchange = sending(b"abcdef");
        filled(&mut exchange, &[Zero], true);
        all_pending(&mut exchange);
        exchange
    };
    let closing = || {
        let mut exchange = sending(b"abcdef");
        exchange.close();
        exchange
    };
    for mut exchange in [after_the_peers_end(), closing()] {
        let failed = flush(&mut exchange, &mut Script::new(&[Room(2), RESET]), BUDGET, false);
        assert_eq!(failed, Transferred { count: 2, stop: StopReason::Failed });
        assert_eq!(exchange.close_reason(), Some(CloseReason::Reset));
        assert_eq!((exchange.unsent_bytes(), exchange.lost()), (&b"cdef"[..], 0));
        assert_eq!(all_pending(&mut exchange), [Pending::Closed]);
    }
}
