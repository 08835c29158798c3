//! Long random ways through an exchange, as a loop and a program could take it, and what must be
//! true after each step.

use super::*;

/// A small generator of numbers: the same seed takes the same way.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963);
        (self.0 >> 33) as usize % end
    }
}

/// An exchange on a random path, with its inputs and the events that it has delivered.
struct Walk {
    exchange: Exchange,
    numbers: Numbers,
    steps: Vec<&'static str>,
    events: Vec<Pending>,
    /// The program has called `resume`, so that `Received` may follow `PeerFinished`.
    resumed: bool,
    accepted: u64,
    flushed: u64,
}

impl Walk {
    fn new(seed: u64) -> Self {
        let is_accepted = seed.is_multiple_of(2);
        let make = if is_accepted { Exchange::accepted } else { Exchange::connecting };
        Self {
            exchange: make(small()),
            numbers: Numbers(seed),
            steps: Vec::new(),
            events: Vec::new(),
            resumed: false,
            accepted: 0,
            flushed: 0,
        }
    }

    /// One step: of the socket, of the program, or the delivery of an event.
    fn step(&mut self) {
        match self.numbers.below(4) {
            0 => self.socket(),
            1 => self.program(),
            2 => self.deliver(),
            _ => self.settle(),
        }
    }

    fn socket(&mut self) {
        let (exchange, numbers) = (&mut self.exchange, &mut self.numbers);
        match numbers.below(16) {
            0..3 if exchange.is_connecting() => {
                self.steps.push("connected");
                exchange.connected();
            }
            3..8 if exchange.wants_read() => {
                self.steps.push("filled");
                if exchange.looks_for_end() {
                    exchange.found_more();
                } else if !exchange.discards() {
                    receive(exchange, &b"abcd"[..1 + numbers.below(exchange.room())]);
                }
            }
            8 if exchange.wants_read() => {
                self.steps.push("peer_ended");
                exchange.peer_ended();
            }
            9..14 if exchange.can_flush() => {
                self.steps.push("flushed");
                let count = 1 + numbers.below(exchange.unsent());
                exchange.flushed(count);
                self.flushed += count as u64;
            }
            14 if exchange.can_flush() && numbers.below(3) == 0 => {
                self.steps.push("write_failed");
                exchange.write_failed(BROKEN);
            }
            15 if exchange.wants_read() && numbers.below(3) == 0 => {
                self.steps.push("read_failed");
                exchange.end(CloseReason::Reset);
            }
            15 if numbers.below(3) == 0 => {
                self.steps.push("deadline");
                exchange.program_deadline_passed();
            }
            _ => {}
        }
    }

    fn program(&mut self) {
        let (exchange, numbers) = (&mut self.exchange, &mut self.numbers);
        let (step, input): (_, fn(&mut Exchange)) = match numbers.below(40) {
            0..10 => {
                let count = numbers.below(6);
                self.steps.push("send");
                self.accepted += count as u64;
                return exchange.send(&vec![7; count]);
            }
            10..15 => ("consume", |exchange| exchange.consume(exchange.received().len())),
            15..20 => {
                self.accepted += exchange.received().len() as u64;
                ("send_received", Exchange::send_received)
            }
            20..24 => ("pause", |exchange| exchange.pause()),
            24..30 => {
                self.resumed = true;
                ("resume", Exchange::resume)
            }
            30 => ("finish", |exchange| exchange.finish()),
            31 => ("close", |exchange| exchange.close()),
            32 if numbers.below(4) == 0 => ("abort", |exchange| exchange.abort()),
            33 => ("half-open", |exchange| exchange.allow_half_open(true)),
            34 => ("not half-open", |exchange| exchange.allow_half_open(false)),
            35 => ("couple", |exchange| exchange.set_coupling(Coupling::Itself)),
            36 => ("uncouple", |exchange| exchange.set_coupling(Coupling::None)),
            _ => return,
        };
        self.steps.push(step);
        input(exchange);
    }

    fn settle(&mut self) {
        self.steps.push("settle");
        let (paused, had_ended) = (self.exchange.paused, self.exchange.close_reason().is_some());
        while self.exchange.advance() {}
        let ends = !had_ended && self.exchange.close_reason().is_some();
        assert!(!(paused && ends), "a paused exchange closed by itself: {:?}", self.steps);
    }

    fn deliver(&mut self) {
        let Some(event) = self.exchange.next_pending() else { return };
        self.steps.push("delivered");
        let held = matches!(event, Pending::Received | Pending::PeerFinished);
        assert!(!(held && self.exchange.paused), "{event:?} while paused: {:?}", self.steps);
        let only_closed = self.exchange.is_ending() && self.steps.contains(&"close");
        assert!(
            !only_closed || event == Pending::Closed,
            "{event:?} after close: {:?}",
            self.steps
        );
        if matches!(event, Pending::Received | Pending::Drained) {
            // The program sends in answer, which must be taken unless it has finished.
            let finished = ["finish", "close", "abort"].iter().any(|end| self.steps.contains(end));
            let ended = self.exchange.reason().is_some();
            assert!(finished || ended || self.exchange.takes_bytes(), "{:?}", self.steps);
        }
        self.exchange.delivered(event);
        self.events.push(event);
    }

    /// What is true at every time.
    fn check(&self) {
        let exchange = &self.exchange;
        let steps = &self.steps;
        let kept = self.flushed + exchange.unsent() as u64 + exchange.lost();
        assert_eq!(kept, self.accepted, "flushed + unsent + lost = accepted: {steps:?}");
        let has_reason = matches!(exchange.state, State::Broken | State::Closed);
        assert_eq!(exchange.reason().is_some(), has_reason, "{steps:?}");
        let waits = exchange.can_flush() || exchange.interest().is_writable();
        let must_leave = exchange.unsent() > 0 && exchange.state != State::Closed;
        assert!(waits || !must_leave, "unsent bytes that nothing moves: {steps:?}");
    }

    /// What is true of the events, all in all.
    fn check_events(&self) {
        let (events, steps) = (&self.events, &self.steps);
        let times = |event| events.iter().filter(|other| **other == event).count();
        let place = |event| events.iter().position(|other| *other == event);
        assert!(times(Pending::Accepted) + times(Pending::Connected) <= 1, "{events:?} {steps:?}");
        assert!(times(Pending::PeerFinished) <= 1, "{events:?} {steps:?}");
        assert_eq!(times(Pending::Closed), usize::from(self.has_closed()), "{events:?} {steps:?}");
        let greeting = place(Pending::Accepted).or(place(Pending::Connected));
        assert!(greeting.is_none_or(|place| place == 0), "{events:?} {steps:?}");
        let after = place(Pending::PeerFinished).map_or(&[][..], |place| &events[place..]);
        let again = after.contains(&Pending::Received);
        assert!(!again || self.resumed, "{events:?} {steps:?}");
    }

    fn has_closed(&self) -> bool {
        self.events.last() == Some(&Pending::Closed)
    }
}

#[test]
fn what_must_be_true_is_true_on_every_way() {
    let mut states = std::collections::HashSet::new();
    for seed in 0..4_000 {
        let mut walk = Walk::new(seed);
        for _ in 0..200 {
            walk.step();
            walk.check();
            states.insert(walk.exchange.state);
            if walk.has_closed() {
                break;
            }
        }
        walk.check_events();
    }
    assert_eq!(states.len(), STATES.len(), "every state was reached");
}
