//! What becomes of bytes: marks, the cap, what is lost, and blocks that move.

use super::*;

#[test]
fn clogged_exchange_drains_once_for_each_crossing() {
    // Sent or flushed; then: unsent, clogged, and whether `Drained` is pending.
    enum Moved {
        Sent(usize),
        Flushed(usize),
    }
    use Moved::{Flushed, Sent};
    let mut exchange = open();
    for (step, (moved, unsent, is_clogged, drains)) in [
        (Sent(8), 8, false, false), // at the high-water mark, not above it
        (Flushed(8), 0, false, false),
        (Sent(9), 9, true, false),
        (Sent(1), 10, true, false),
        (Flushed(4), 6, true, false), // below the high mark, above the low one
        (Flushed(3), 3, true, false),
        (Flushed(1), 2, false, true), // at the low-water mark
        (Flushed(2), 0, false, false),
        (Sent(5), 5, false, false),
        (Sent(5), 10, true, false),
        (Flushed(7), 3, true, false),
        (Sent(8), 11, true, false), // up again without having drained
        (Flushed(11), 0, false, true),
    ]
    .into_iter()
    .enumerate()
    {
        match moved {
            Sent(count) => exchange.send(&vec![7; count]),
            Flushed(count) => exchange.flushed(count),
        }
        assert_eq!((exchange.unsent(), exchange.is_clogged()), (unsent, is_clogged), "{step}");
        let pending: &[Pending] = if drains { &[Pending::Drained] } else { &[] };
        assert_eq!(all_pending(&mut exchange), pending, "{step}");
    }
}

#[test]
fn drained_is_not_delivered_if_the_exchange_clogs_first_until_it_drains_again() {
    let mut exchange = open();
    exchange.send(&[7; 9]);
    exchange.flushed(9);
    exchange.send(&[7; 9]);
    assert_eq!(all_pending(&mut exchange), []);
    exchange.flushed(9);
    assert_eq!(all_pending(&mut exchange), [Pending::Drained]);
}

#[test]
fn received_bytes_moved_above_the_mark_clog() {
    let mut exchange = open();
    exchange.send(b"seven..");
    receive(&mut exchange, b"xy");
    exchange.send_received();
    assert!(exchange.is_clogged());

    let (mut from, mut to) = (open(), open());
    to.send(b"seven..");
    receive(&mut from, b"xy");
    assert_eq!(from.transfer_to(&mut to), 2);
    assert!(to.is_clogged() && !from.is_clogged());
}

#[test]
fn bytes_sent_before_it_is_connected_clog_and_drained_follows_connected() {
    let mut exchange = Exchange::connecting(small());
    exchange.send(b"0123");
    assert!(!exchange.is_clogged(), "not above the mark");
    exchange.send(b"456789");
    assert!(exchange.is_clogged());
    exchange.connected();
    assert!(exchange.is_clogged());
    exchange.flushed(10);
    assert_eq!(all_pending(&mut exchange), [Pending::Connected, Pending::Drained]);
    assert!(!exchange.is_clogged());
}

/// Other marks than those of `small`.
fn marks(low_water: usize, high_water: usize) -> Arc<ConnectionLimits> {
    Arc::new(ConnectionLimits { low_water, high_water, ..ConnectionLimits::clone(&small()) })
}

#[test]
fn marks_raised_above_the_unsent_bytes_drain_it_at_once() {
    let mut exchange = open();
    exchange.send(b"0123456789");
    exchange.set_limits(marks(9, 11));
    assert!(exchange.is_clogged(), "between the marks it stays as it was");
    assert_eq!(all_pending(&mut exchange), []);
    exchange.set_limits(marks(10, 11));
    assert!(!exchange.is_clogged());
    assert_eq!(all_pending(&mut exchange), [Pending::Drained]);
}

#[test]
fn marks_lowered_below_the_unsent_bytes_clog_it_at_once() {
    let mut exchange = open();
    exchange.send(b"0123");
    assert!(!exchange.is_clogged());
    exchange.set_limits(marks(0, 3));
    assert!(exchange.is_clogged());
    exchange.flushed(4);
    assert_eq!(all_pending(&mut exchange), [Pending::Drained]);
}

#[test]
fn marks_raised_before_it_is_connected_drain_it_after_connected() {
    let mut exchange = Exchange::connecting(small());
    exchange.send(b"0123456789");
    exchange.set_limits(marks(10, 11));
    assert_eq!(exchange.next_pending(), None);
    exchange.connected();
    assert_eq!(all_pending(&mut exchange), [Pending::Connected, Pending::Drained]);
}

#[test]
fn where_nothing_can_leave_it_is_clogged_and_what_is_sent_is_lost() {
    use State::{Connecting, Open, PeerFinished};
    for (state, ..) in STATES {
        let takes_bytes = matches!(state, Connecting | Open | PeerFinished);
        let mut exchange = in_state(state);
        let unsent = exchange.unsent();
        let lost = exchange.lost();
        assert_eq!(exchange.takes_bytes(), takes_bytes, "{state:?}");
        assert_eq!(exchange.is_clogged(), !takes_bytes, "{state:?}");
        exchange.send(b"");
        exchange.send(b"ab");
        let (sent, gone) = if takes_bytes { (2, 0) } else { (0, 2) };
        assert_eq!(exchange.unsent(), unsent + sent, "{state:?}");
        assert_eq!(exchange.lost(), lost + gone, "{state:?}");
        assert_eq!(exchange.state, state);
    }
}

#[test]
fn received_bytes_sent_where_nothing_can_leave_are_consumed_and_lost() {
    let mut exchange = open();
    receive(&mut exchange, b"abc");
    exchange.finish();
    exchange.send_received();
    assert_eq!((exchange.received(), exchange.unsent(), exchange.lost()), (&b""[..], 0, 3));
}

#[test]
fn send_beyond_the_cap_takes_nothing_and_overflows() {
    type Send = fn(&mut Exchange);
    let send: Send = |exchange| exchange.send(b"abc");
    for begin in [open, || Exchange::connecting(small())] {
        for send in [send, Exchange::send_received] {
            let mut exchange = begin();
            exchange.send(&[7; 14]);
            receive(&mut exchange, b"ab");
            exchange.send_received();
            assert_eq!(exchange.unsent(), 16, "as many as the cap may wait");
            all_pending(&mut exchange);

            receive(&mut exchange, b"abc");
            exchange.delivered(Pending::Received);
            send(&mut exchange);
            assert_eq!(exchange.close_reason(), Some(CloseReason::Overflow));
            assert_eq!((exchange.unsent(), exchange.lost()), (16, 3));
            assert_eq!(exchange.interest(), Interest::None);
            assert_eq!(all_pending(&mut exchange), [Pending::Closed]);
        }
    }
}

#[test]
fn broken_exchange_loses_what_was_unsent() {
    let mut exchange = open();
    exchange.send(b"unsent");
    exchange.flushed(2);
    exchange.write_failed(BROKEN);
    assert_eq!((exchange.unsent(), exchange.lost()), (0, 4));
}

#[test]
fn closed_exchange_keeps_what_was_received_and_unsent() {
    let mut exchange = open();
    exchange.send(b"unsent");
    receive(&mut exchange, b"abc");
    exchange.abort();
    assert_eq!((exchange.received(), exchange.unsent_bytes()), (&b"abc"[..], &b"unsent"[..]));
    assert_eq!(exchange.lost(), 0);
}

#[test]
fn send_received_with_nothing_unsent_moves_the_block_and_copies_nothing() {
    let mut exchange = open();
    receive(&mut exchange, b"abc");
    let place = exchange.received().as_ptr();
    exchange.send_received();
    assert_eq!(exchange.received(), b"");
    assert_eq!((exchange.unsent_bytes(), exchange.unsent_bytes().as_ptr()), (&b"abc"[..], place));
}

#[test]
fn send_received_with_bytes_unsent_goes_behind_them() {
    let mut exchange = open();
    exchange.send(b"first ");
    receive(&mut exchange, b"then");
    exchange.send_received();
    assert_eq!((exchange.received(), exchange.unsent_bytes()), (&b""[..], &b"first then"[..]));
}

#[test]
fn transfer_moves_the_block_also_from_one_that_is_closed() {
    for end in [|_: &mut Exchange| (), |from: &mut Exchange| from.end(CloseReason::Reset)] {
        let (mut from, mut to) = (open(), open());
        receive(&mut from, b"abc");
        end(&mut from);
        let place = from.received().as_ptr();
        assert_eq!(from.transfer_to(&mut to), 3);
        assert_eq!(from.received(), b"");
        assert_eq!((to.unsent_bytes(), to.unsent_bytes().as_ptr()), (&b"abc"[..], place));
        receive(&mut from, b"def");
        assert_eq!(from.transfer_to(&mut to), 3);
        assert_eq!(to.unsent_bytes(), b"abcdef");
        assert_eq!(from.transfer_to(&mut to), 0, "nothing is left");
    }
}

#[test]
fn transfer_to_one_that_takes_no_more_moves_nothing() {
    for (state, _, _, _) in STATES {
        let (mut from, mut to) = (open(), in_state(state));
        receive(&mut from, b"abc");
        let lost = to.lost();
        let count = from.transfer_to(&mut to);
        assert_eq!(count, if to.takes_bytes() { 3 } else { 0 }, "{state:?}");
        assert_eq!(from.received().len(), 3 - count, "{state:?}");
        assert_eq!(to.lost(), lost, "what was not moved is not lost");
    }
    let (mut from, mut to) = (open(), open());
    to.send(&[7; 14]);
    receive(&mut from, b"abc");
    assert_eq!(from.transfer_to(&mut to), 0);
    assert_eq!((from.received(), to.unsent(), to.lost()), (&b"abc"[..], 14, 0));
    assert_eq!((from.state, to.close_reason()), (State::Open, Some(CloseReason::Overflow)));
}

#[test]
fn pending_end_waits_for_the_last_unsent_byte() {
    type Way = (&'static [Act], State, State);
    let ways: [Way; 4] = [
        (&[Finish], State::Finishing, State::Finished),
        (&[Close], State::Closing, State::Lingering),
        (&[PeersEnd, Finish], State::BothFinishing, State::Closed),
        (&[PeersEnd, Close], State::BothClosing, State::Closed),
    ];
    for (inputs, waits, goes_on) in ways {
        let mut exchange = open();
        exchange.send(b"ab");
        for input in inputs {
            input.apply(&mut exchange);
        }
        all_pending(&mut exchange);
        for _ in 0..2 {
            assert!(!exchange.advance());
            assert_eq!(exchange.state(), waits);
            exchange.flushed(1);
        }
        assert_eq!(exchange.advance(), goes_on != State::Closed);
        assert_eq!(exchange.state(), goes_on);
    }
}

#[test]
fn limits_that_are_set_count_from_then_on() {
    let mut exchange = open();
    exchange.set_limits(Arc::new(ConnectionLimits {
        high_water: 2,
        low_water: 1,
        ..(*small()).clone()
    }));
    exchange.send(b"abc");
    assert!(exchange.is_clogged());
}
