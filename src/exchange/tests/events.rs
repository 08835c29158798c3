//! Which events are pending, in which order, and what holds them back.

use super::*;

/// Open, with a reply sent above the high-water mark and taken, a request received, and the peer's
/// end behind it.
fn with_much_pending() -> Exchange {
    let mut exchange = Exchange::accepted(small());
    exchange.set_coupling(Coupling::None);
    exchange.peer_ended();
    exchange.program_deadline_passed();
    exchange.send(b"0123456789");
    exchange.flushed(10);
    receive(&mut exchange, b"abc");
    exchange
}

#[test]
fn pending_events_come_in_their_order_whatever_the_order_of_their_causes() {
    let mut exchange = with_much_pending();
    exchange.end(CloseReason::Reset);
    assert_eq!(
        all_pending(&mut exchange),
        [
            Pending::Accepted,
            Pending::Received,
            Pending::Drained,
            Pending::Deadline,
            // Drained announces what is left.
            Pending::Received,
            Pending::PeerFinished,
            Pending::Closed
        ]
    );
}

#[test]
fn connected_exchange_says_so_first_and_a_failed_connect_only_that_it_closed() {
    let mut exchange = Exchange::connecting(small());
    assert_eq!(all_pending(&mut exchange), []);
    exchange.connected();
    receive(&mut exchange, b"abc");
    assert_eq!(all_pending(&mut exchange), [Pending::Connected, Pending::Received]);

    let mut exchange = Exchange::connecting(small());
    exchange.end(CloseReason::Refused);
    assert_eq!(all_pending(&mut exchange), [Pending::Closed]);
}

#[test]
fn connect_that_was_to_close_does_not_say_that_it_connected() {
    let mut exchange = in_state(State::ConnectingToClose);
    exchange.connected();
    assert_eq!((exchange.state, all_pending(&mut exchange)), (State::Closing, vec![]));
}

#[test]
fn pause_holds_what_comes_from_the_peer_and_nothing_else() {
    let mut exchange = with_much_pending();
    exchange.pause();
    assert_eq!(
        all_pending(&mut exchange),
        [Pending::Accepted, Pending::Drained, Pending::Deadline]
    );
    exchange.resume();
    assert_eq!(all_pending(&mut exchange), [Pending::Received, Pending::PeerFinished]);
}

#[test]
fn pause_and_couple_are_lifted_by_a_close_and_not_taken_behind_it() {
    for (state, ..) in STATES {
        let mut exchange = begin(state);
        exchange.send(b"unsent");
        for _ in 0..2 {
            exchange.pause();
            exchange.set_coupling(Coupling::Itself);
            if exchange.state != state {
                go_to(&mut exchange, state);
            }
        }
        let holds = !exchange.is_ending();
        let coupling = if holds { Coupling::Itself } else { Coupling::None };
        assert_eq!(exchange.coupling(), coupling, "{state:?}");
        assert_eq!(exchange.paused, holds, "{state:?}");
    }
}

#[test]
fn connected_exchange_may_write_at_once() {
    let mut exchange = in_state(State::Connecting);
    assert!(!exchange.can_flush());
    exchange.connected();
    assert!(exchange.can_flush());
    assert_eq!(exchange.interest(), Interest::Readable);
}

#[test]
fn closed_comes_through_a_pause_and_nothing_behind_it() {
    let mut exchange = with_much_pending();
    exchange.pause();
    exchange.end(CloseReason::Reset);
    assert_eq!(all_pending(&mut exchange).last(), Some(&Pending::Closed));
    exchange.end(CloseReason::Aborted);
    exchange.end(CloseReason::TimedOut(Deadline::Idle));
    assert_eq!(exchange.pending, PendingEvents::default());
}

#[test]
fn resumed_exchange_announces_again_what_was_left() {
    let mut exchange = open();
    exchange.resume();
    assert_eq!(all_pending(&mut exchange), [], "it was not paused");
    receive(&mut exchange, b"abc");
    exchange.resume();
    assert_eq!(all_pending(&mut exchange), [Pending::Received], "once for the fill");
    exchange.pause();
    exchange.resume();
    assert_eq!(all_pending(&mut exchange), [Pending::Received], "once more for what was left");
    exchange.pause();
    exchange.consume(3);
    exchange.resume();
    assert_eq!(all_pending(&mut exchange), [], "nothing was left");
}

#[test]
fn closed_or_aborted_exchange_hears_only_that_it_closed() {
    for end in [|exchange| exchange.close(), |exchange| exchange.abort()] as [fn(&mut Exchange); 2]
    {
        let mut exchange = with_much_pending();
        exchange.pause();
        exchange.set_coupling(Coupling::Itself);
        end(&mut exchange);
        AllSent.apply(&mut exchange);
        assert_eq!(exchange.coupling(), Coupling::None);
        assert_eq!(all_pending(&mut exchange), [Pending::Closed]);
    }
}

#[test]
fn closed_or_aborted_after_an_undelivered_end_gets_only_that() {
    for end in [|exchange| exchange.close(), |exchange| exchange.abort()] as [fn(&mut Exchange); 2]
    {
        let mut exchange = with_much_pending();
        exchange.end(CloseReason::Reset);
        exchange.delivered(Pending::Accepted);
        end(&mut exchange);
        assert_eq!(all_pending(&mut exchange), [Pending::Closed]);
        assert_eq!(exchange.close_reason(), Some(CloseReason::Reset), "the first reason stays");
    }
}

#[test]
fn programs_deadline_that_passes_is_delivered_between_the_first_event_and_a_close() {
    for (state, ..) in STATES {
        let mut exchange = in_state(state);
        exchange.program_deadline_passed();
        let is_delivered = !exchange.is_connecting() && !exchange.is_ending();
        let pending: &[Pending] = if is_delivered { &[Pending::Deadline] } else { &[] };
        assert_eq!(all_pending(&mut exchange), pending, "{state:?}");
        assert_eq!(exchange.state, state);
    }
}

#[test]
fn programs_deadline_that_passes_while_connecting_is_delivered_after_connected_or_not_at_all() {
    let mut exchange = in_state(State::Connecting);
    exchange.program_deadline_passed();
    exchange.connected();
    assert_eq!(all_pending(&mut exchange), [Pending::Connected, Pending::Deadline]);

    let mut exchange = in_state(State::Connecting);
    exchange.program_deadline_passed();
    exchange.end(CloseReason::Refused);
    assert_eq!(all_pending(&mut exchange), [Pending::Closed]);
}

#[test]
fn closing_exchange_that_drains_says_nothing() {
    let mut exchange = open();
    exchange.send(b"0123456789");
    exchange.close();
    exchange.flushed(10);
    assert_eq!(all_pending(&mut exchange), []);
}

#[test]
fn abort_overrides_every_close() {
    for state in [State::Closing, State::BothClosing, State::Lingering, State::ConnectingToClose] {
        let mut exchange = in_state(state);
        exchange.abort();
        assert_eq!(exchange.close_reason(), Some(CloseReason::Aborted), "{state:?}");
        assert_eq!(all_pending(&mut exchange), [Pending::Closed]);
    }
}

#[test]
fn peers_end_leaves_what_was_received_and_is_told_apart_from_a_broken_end() {
    for (state, _, inbound, _) in STATES.into_iter().filter(|row| row.2 == Arriving::Received) {
        let mut exchange = in_state(state);
        receive(&mut exchange, b"abc");
        exchange.peer_ended();
        assert_eq!(inbound, Arriving::Received);
        assert_eq!(exchange.received(), b"abc", "{state:?}");
        assert_eq!(exchange.is_at_end(), state != State::Broken, "{state:?}");
    }
}

#[test]
fn request_left_over_a_pause_behind_the_peers_end_can_be_answered() {
    let mut exchange = open();
    receive(&mut exchange, b"ask");
    exchange.peer_ended();
    assert_eq!(all_pending(&mut exchange), [Pending::Received, Pending::PeerFinished]);
    exchange.pause();
    let _ = exchange.advance();
    exchange.resume();
    let _ = exchange.advance();
    assert_eq!(all_pending(&mut exchange), [Pending::Received]);
    exchange.send_received();
    let _ = exchange.advance();
    assert_eq!((exchange.unsent_bytes(), exchange.lost()), (&b"ask"[..], 0));
}

#[test]
fn stream_behind_the_peers_end_goes_on_at_each_drained() {
    let mut exchange = open();
    exchange.peer_ended();
    exchange.send(b"0123456789");
    assert_eq!(all_pending(&mut exchange), [Pending::PeerFinished]);
    let _ = exchange.advance();
    // Once down to the low-water mark, and once with nothing unsent in between.
    for flushed in [9, 11] {
        exchange.flushed(flushed);
        let _ = exchange.advance();
        assert_eq!(all_pending(&mut exchange), [Pending::Drained]);
        exchange.send(b"0123456789");
        let _ = exchange.advance();
        assert_eq!((exchange.is_clogged(), exchange.lost()), (true, 0));
    }
    exchange.finish();
    exchange.flushed(10);
    exchange.delivered(Pending::Drained);
    let _ = exchange.advance();
    assert_eq!(exchange.close_reason(), Some(CloseReason::Finished));
}

#[test]
fn paused_exchange_that_was_aborted_or_closed_announces_nothing_when_resumed() {
    for end in [|exchange| exchange.abort(), |exchange| exchange.close()] as [fn(&mut Exchange); 2]
    {
        let mut exchange = open();
        receive(&mut exchange, b"abc");
        exchange.delivered(Pending::Received);
        exchange.pause();
        exchange.end(CloseReason::Reset);
        end(&mut exchange);
        exchange.resume();
        assert_eq!(all_pending(&mut exchange), [Pending::Closed]);
    }
    let mut exchange = open();
    receive(&mut exchange, b"abc");
    exchange.pause();
    exchange.abort();
    exchange.resume();
    assert_eq!(all_pending(&mut exchange), [Pending::Closed]);
}

#[test]
fn ended_exchange_that_is_paused_holds_back_what_it_had_received() {
    let mut exchange = open();
    receive(&mut exchange, b"abc");
    exchange.end(CloseReason::Reset);
    exchange.pause();
    assert_eq!(exchange.next_pending(), Some(Pending::Closed));
    exchange.resume();
    assert_eq!(all_pending(&mut exchange), [Pending::Received, Pending::Closed]);
    // Nothing is left to hold back, and so nothing to announce.
    exchange.pause();
    exchange.resume();
    assert_eq!(all_pending(&mut exchange), []);
}

#[test]
fn announced_again_and_consumed_before_its_delivery_is_not_delivered() {
    let mut exchange = open();
    receive(&mut exchange, b"abc");
    exchange.delivered(Pending::Received);
    exchange.pause();
    exchange.resume();
    exchange.consume(3);
    assert_eq!(exchange.next_pending(), None);
    receive(&mut exchange, b"d");
    assert_eq!(all_pending(&mut exchange), [Pending::Received]);
}

#[test]
fn deadline_set_anew_before_its_delivery_is_not_delivered() {
    let mut exchange = open();
    exchange.program_deadline_passed();
    exchange.forget_deadline();
    assert_eq!(all_pending(&mut exchange), []);
}

#[test]
fn only_an_end_that_leaves_bytes_behind_or_gives_up_on_the_peer_is_a_reset() {
    let ended = |send: &[u8], reason| {
        let mut exchange = open();
        exchange.send(send);
        exchange.end(reason);
        exchange.ends_by_reset()
    };
    let failed = CloseReason::of(&std::io::Error::from(std::io::ErrorKind::StorageFull));
    for reason in [CloseReason::Aborted, CloseReason::Overflow] {
        assert!(ended(b"", reason) && ended(b"abc", reason), "{reason:?}");
    }
    for reason in [CloseReason::Reset, failed] {
        assert!(!ended(b"", reason) && ended(b"abc", reason), "{reason:?}");
    }
    for reason in [CloseReason::Finished, CloseReason::Closed] {
        assert!(!ended(b"", reason), "{reason:?}");
    }
    let mut exchange = open();
    exchange.send(b"abc");
    exchange.write_failed(failed);
    exchange.peer_ended();
    assert!(exchange.ends_by_reset(), "what was unsent when the write failed is given up");
}
