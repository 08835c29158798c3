//! Time: timers, deadlines that activity moves, and how long a wait lasts.
//!
//! The clock is the system's, so a test here asserts what holds on a machine of any speed: bounds
//! are taken from the clock before and after a call, never from how long something should take.

#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use common::steps::{Steps, assert_rests};
use common::talker::Talker;
use common::{PATIENCE, next, pair, turns};
use readiness::{Event, EventLoop, Step, TimerId};

const MILLISECOND: Duration = Duration::from_millis(1);

fn new() -> EventLoop {
    EventLoop::new().unwrap()
}

/// Works for `duration`, as a program that does not return to its loop.
fn work(event_loop: &EventLoop, duration: Duration) {
    let start = event_loop.now();
    while event_loop.now() - start < duration {
        std::hint::spin_loop();
    }
}

/// Returns the next event, which must be a timer.
fn next_timer(event_loop: &mut EventLoop) -> TimerId {
    match next(event_loop) {
        Event::Timer(id) => id,
        other => panic!("{other:?} was not expected"),
    }
}

/// When something is due, as far as two looks at the clock around it can show.
#[derive(Clone, Copy, Debug)]
struct Between(Instant, Instant);

impl Between {
    /// Returns what `set` sets for `after` its call.
    fn of<R>(after: Duration, set: impl FnOnce() -> R) -> (Self, R) {
        let before = Instant::now();
        let outcome = set();
        (Self(before + after, Instant::now() + after), outcome)
    }

    fn later(self, by: Duration) -> Self {
        Self(self.0 + by, self.1 + by)
    }

    fn meets(self, other: Self) -> bool {
        self.0 <= other.1 && other.0 <= self.1
    }

    /// Returns the next alarm of a loop, after a turn that is over; none if it is due already.
    fn next_alarm_of(event_loop: &EventLoop) -> Option<Self> {
        let before = Instant::now();
        let timeout = event_loop.next_timeout().unwrap();
        let after = Instant::now();
        (!timeout.is_zero()).then_some(Self(before + timeout, after + timeout))
    }
}

#[test]
fn timers_of_several_times_come_once_each_in_order_and_never_early() {
    let mut event_loop = new();
    let steps = Steps::of(&mut event_loop);
    let mut set: Vec<(Between, TimerId)> = [30, 5, 20, 0, 10]
        .into_iter()
        .map(|millis| {
            let after = millis * MILLISECOND;
            Between::of(after, || event_loop.set_timer(after))
        })
        .collect();
    set.sort_by_key(|(at, _)| at.0);
    for (at, id) in set {
        assert_eq!(next_timer(&mut event_loop), id);
        assert!(event_loop.now() >= at.0, "{id} fired {:?} early", at.0 - event_loop.now());
    }
    assert_eq!(steps.count(|step| matches!(step, Step::TimerFired { .. })), 5);
    assert_rests(&mut event_loop, &steps);
    assert_eq!(event_loop.next_timeout(), None);
}

#[test]
fn timers_for_the_same_delay_come_in_the_order_they_were_set() {
    let mut event_loop = new();
    for delay in [Duration::ZERO, 3 * MILLISECOND] {
        let set: Vec<TimerId> = (0..100).map(|_| event_loop.set_timer(delay)).collect();
        let came: Vec<TimerId> = (0..100).map(|_| next_timer(&mut event_loop)).collect();
        assert_eq!(came, set);
    }
    assert_eq!(turns(&mut event_loop, 3), []);
}

#[test]
fn repeating_timer_comes_again_and_again_in_step_until_it_is_cancelled() {
    const PERIOD: Duration = Duration::from_millis(3);
    let mut event_loop = new();
    let steps = Steps::of(&mut event_loop);
    let (first, id) = Between::of(PERIOD, || event_loop.set_repeating_timer(PERIOD));
    let (mut came, mut looks) = (0, 0);
    let end = Instant::now() + PATIENCE;
    while looks < 20 {
        assert!(Instant::now() < end, "the timer does not go on");
        assert_eq!(next_timer(&mut event_loop), id);
        // It fires at most once for each of its times, so that many have passed.
        assert!(event_loop.now() >= first.0 + came * PERIOD, "time {came} was early");
        came += 1;
        came += u32::try_from(turns(&mut event_loop, 1).len()).unwrap();
        if let Some(alarm) = Between::next_alarm_of(&event_loop) {
            assert_is_in_step(first, PERIOD, alarm);
            looks += 1;
        }
    }
    assert!(event_loop.cancel_timer(id));
    assert!(!event_loop.cancel_timer(id));
    assert_rests(&mut event_loop, &steps);
}

/// Fails unless an alarm is a whole number of periods behind the first.
fn assert_is_in_step(first: Between, period: Duration, alarm: Between) {
    let mut time = first;
    while !time.meets(alarm) {
        assert!(time.0 < alarm.1, "{alarm:?} is not in step with {first:?} by {period:?}");
        time = time.later(period);
    }
}

#[test]
fn repeating_timer_that_was_held_up_comes_once_without_a_burst_and_in_step() {
    const PERIOD: Duration = Duration::from_millis(20);
    let mut event_loop = new();
    let (first, id) = Between::of(PERIOD, || event_loop.set_repeating_timer(PERIOD));
    work(&event_loop, 10 * PERIOD + PERIOD / 2);
    let resumed = event_loop.now();
    assert_eq!(turns(&mut event_loop, 1), [Event::Timer(id)]);
    if let Some(alarm) = Between::next_alarm_of(&event_loop) {
        assert_is_in_step(first, PERIOD, alarm);
    }
    let more = u32::try_from(turns(&mut event_loop, 20).len()).unwrap();
    let periods = 1 + (event_loop.now() - resumed).as_nanos() / PERIOD.as_nanos();
    assert!(u128::from(more) <= periods, "a burst of {more} in {periods} periods");
    assert_eq!(next_timer(&mut event_loop), id, "it goes on");
}

#[test]
fn timer_cancelled_in_the_turn_it_is_due_in_does_not_come() {
    let mut event_loop = new();
    let timers: Vec<TimerId> = (0..4).map(|_| event_loop.set_timer(Duration::ZERO)).collect();
    assert_eq!(next_timer(&mut event_loop), timers[0]);
    assert!(event_loop.cancel_timer(timers[1]));
    assert!(event_loop.cancel_timer(timers[3]));
    assert_eq!(turns(&mut event_loop, 1), [Event::Timer(timers[2])]);
    assert_eq!(turns(&mut event_loop, 3), []);
    assert_eq!(event_loop.next_timeout(), None);
}

#[test]
fn timer_cancelled_while_its_own_event_is_handled_comes_no_more() {
    let mut event_loop = new();
    let once = event_loop.set_timer(Duration::ZERO);
    assert_eq!(next_timer(&mut event_loop), once);
    assert!(!event_loop.cancel_timer(once), "it has fired");
    let repeating = event_loop.set_repeating_timer(Duration::ZERO);
    assert_eq!(next_timer(&mut event_loop), repeating);
    assert!(event_loop.cancel_timer(repeating), "it would fire again");
    assert_eq!(turns(&mut event_loop, 5), []);
    assert_eq!(event_loop.next_timeout(), None);
}

#[test]
fn id_of_a_timer_that_has_gone_does_not_cancel_its_slots_next_owner() {
    let mut event_loop = new();
    let came = event_loop.set_timer(Duration::ZERO);
    assert_eq!(next_timer(&mut event_loop), came);
    let cancelled = event_loop.set_timer(Duration::ZERO);
    assert!(event_loop.cancel_timer(cancelled));
    let third = event_loop.set_timer(Duration::ZERO);
    let slot = |id: TimerId| id.to_string().split('.').next().unwrap().to_owned();
    assert_eq!([slot(came), slot(cancelled)], [slot(third), slot(third)]);
    assert!(!event_loop.cancel_timer(came));
    assert!(!event_loop.cancel_timer(cancelled));
    assert_eq!(turns(&mut event_loop, 3), [Event::Timer(third)]);
}

/// Returns how many timers fired in each turn.
fn rang_in_each_turn(steps: &[Step]) -> Vec<usize> {
    let turns = steps.split(|step| matches!(step, Step::Waited { .. })).skip(1);
    let rang =
        |turn: &[Step]| turn.iter().filter(|step| matches!(step, Step::TimerFired { .. })).count();
    turns.map(rang).collect()
}

/// Runs an echo of `SIZE` bytes while a timer fires in every turn, each time set by `again`, and
/// fails unless the echo gets through at the same pace.
fn assert_echo_goes_on(again: fn(&mut EventLoop, TimerId), start: fn(&mut EventLoop) -> TimerId) {
    const SIZE: usize = 1 << 20;
    let (mut event_loop, id, peer) = pair::<()>();
    peer.set_nonblocking(true).unwrap();
    let mut talker = Talker { stream: peer, written: 0, read: 0, at_end: false };
    assert_eq!(turns(&mut event_loop, 1), []);
    let steps = Steps::of(&mut event_loop);
    start(&mut event_loop);
    let (mut came, mut turn) = (0, 0);
    while talker.read < SIZE {
        turn += 1;
        assert!(turn < 20_000, "the echo does not get through: {} of {SIZE}", talker.read);
        talker.write_to(SIZE);
        while let Some(event) = event_loop.poll_event(Some(Duration::ZERO)).unwrap() {
            match event {
                Event::Timer(timer) => {
                    came += 1;
                    again(&mut event_loop, timer);
                }
                Event::Received(of) if of == id => event_loop[id].send_received(),
                other => panic!("{other:?} was not expected"),
            }
        }
        talker.read_on();
    }
    let rang = rang_in_each_turn(&steps.take());
    assert_eq!(rang.len(), turn);
    assert!(rang.iter().all(|rang| *rang == 1), "a timer of no time fires once in each turn");
    assert_eq!(came, turn);
}

#[test]
fn timer_of_no_time_set_again_and_again_comes_once_a_turn_and_io_goes_on() {
    assert_echo_goes_on(
        |event_loop, _| {
            event_loop.set_timer(Duration::ZERO);
        },
        |event_loop| event_loop.set_timer(Duration::ZERO),
    );
}

#[test]
fn repeating_timer_of_no_time_comes_once_a_turn_and_io_goes_on() {
    assert_echo_goes_on(|_, _| {}, |event_loop| event_loop.set_repeating_timer(Duration::ZERO));
}

#[test]
fn timer_set_while_an_event_is_handled_comes_in_a_later_turn() {
    let mut event_loop = new();
    let first = event_loop.set_timer(Duration::ZERO);
    let second = event_loop.set_timer(Duration::ZERO);
    assert_eq!(next_timer(&mut event_loop), first);
    let third = event_loop.set_timer(Duration::ZERO);
    assert_eq!(turns(&mut event_loop, 1), [Event::Timer(second)]);
    assert_eq!(turns(&mut event_loop, 1), [Event::Timer(third)]);
}

#[test]
fn times_beyond_the_clock_never_come_and_overflow_nothing() {
    let (mut event_loop, id, _peer) = pair::<()>();
    let steps = Steps::of(&mut event_loop);
    assert_rests(&mut event_loop, &steps);
    let once = event_loop.set_timer(Duration::MAX);
    let repeating = event_loop.set_repeating_timer(Duration::MAX);
    event_loop[id].set_deadline(Some(Duration::MAX));
    event_loop[id].set_idle_timeout(Some(Duration::MAX)).unwrap();
    assert_rests(&mut event_loop, &steps);
    assert_eq!(event_loop.next_timeout(), None);
    let soon = event_loop.set_timer(Duration::ZERO);
    assert_eq!(event_loop.poll_event(Some(Duration::MAX)).unwrap(), Some(Event::Timer(soon)));
    assert!(event_loop.cancel_timer(once));
    assert!(event_loop.cancel_timer(repeating));
    assert!(!event_loop.cancel_timer(once));
}

#[test]
fn hundred_thousand_timers_with_every_second_cancelled_come_once_in_order_and_never_early() {
    const COUNT: u64 = 100_000;
    let mut event_loop = new();
    let mut set = HashMap::new();
    let mut cancelled = Vec::new();
    for number in 0..COUNT {
        // Mixed, so that setting follows no order.
        let micros = number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 48;
        let after = Duration::from_micros(micros);
        let (at, id) = Between::of(after, || event_loop.set_timer(after));
        if number % 2 == 0 {
            set.insert(id, at)
        } else {
            cancelled.push(id);
            None
        };
    }
    for id in &cancelled {
        assert!(event_loop.cancel_timer(*id));
    }
    let mut last: Option<Between> = None;
    while !set.is_empty() {
        let id = next_timer(&mut event_loop);
        let at = set.remove(&id).expect("each that was not cancelled fires once");
        assert!(event_loop.now() >= at.0, "{id} fired early");
        assert!(last.is_none_or(|last| last.0 <= at.1), "{id} fired late");
        last = Some(at);
    }
    assert_eq!(turns(&mut event_loop, 3), []);
    assert_eq!(event_loop.next_timeout(), None);
    assert!(cancelled.into_iter().all(|id| !event_loop.cancel_timer(id)));
}

#[test]
fn times_count_from_a_fresh_clock_after_long_work_by_the_program() {
    const WORK: Duration = Duration::from_millis(60);
    const AFTER: Duration = Duration::from_millis(20);
    let (mut event_loop, id, _peer) = pair::<()>();
    let soon = event_loop.set_timer(Duration::ZERO);
    assert_eq!(next(&mut event_loop), Event::Timer(soon));
    work(&event_loop, WORK);
    // A clock that was read when the turn began would make these fire at once.
    let (at, timer) = Between::of(AFTER, || event_loop.set_timer(AFTER));
    assert_eq!(next(&mut event_loop), Event::Timer(timer));
    assert!(event_loop.now() >= at.0);

    work(&event_loop, WORK);
    let (at, ()) = Between::of(AFTER, || event_loop[id].set_deadline(Some(AFTER)));
    assert_eq!(next(&mut event_loop), Event::Deadline(id));
    assert!(event_loop.now() >= at.0);

    let soon = event_loop.set_timer(Duration::ZERO);
    assert_eq!(next(&mut event_loop), Event::Timer(soon));
    work(&event_loop, WORK);
    let start = event_loop.now();
    assert_eq!(turns(&mut event_loop, 1), []);
    assert_eq!(event_loop.poll_event(Some(AFTER)).unwrap(), None);
    assert!(event_loop.now() >= start + AFTER);
}

#[test]
fn wait_lasts_until_the_next_alarm_or_the_callers_time_whichever_comes_first() {
    const LONG: Duration = Duration::from_secs(1_000);
    let mut event_loop = new();
    let steps = Steps::of(&mut event_loop);
    let waits = |steps: &Steps| -> Vec<Option<Duration>> {
        let waited =
            |step| if let Step::Waited { at_most: most, .. } = step { Some(most) } else { None };
        steps.take().into_iter().filter_map(waited).collect()
    };

    // Nothing to wait for but the wake: forever.
    event_loop.waker().wake().unwrap();
    assert_eq!(event_loop.next_event().unwrap(), Event::Woken);
    assert_eq!(turns(&mut event_loop, 1), []);
    assert_eq!(waits(&steps), [None]);

    // The caller's time, with no alarm and with a later one.
    let later = event_loop.set_timer(LONG);
    assert_eq!(event_loop.poll_event(Some(2 * MILLISECOND)).unwrap(), None);
    let times = waits(&steps);
    assert!(times[0].is_some_and(|time| time <= 2 * MILLISECOND && !time.is_zero()), "{times:?}");

    // The alarm, before the caller's time and without one.
    for timeout in [Some(PATIENCE), None] {
        let soon = event_loop.set_timer(5 * MILLISECOND);
        let event = event_loop.poll_event(timeout).unwrap();
        assert_eq!(event, Some(Event::Timer(soon)));
        let times = waits(&steps);
        assert!(times.iter().all(|time| time.is_some_and(|time| time <= 5 * MILLISECOND)));
        assert_eq!(turns(&mut event_loop, 1), []);
        steps.take();
    }

    // A timer that is due already: the wait does not block.
    let due = event_loop.set_timer(Duration::ZERO);
    assert_eq!(next(&mut event_loop), Event::Timer(due));
    assert_eq!(waits(&steps), [Some(Duration::ZERO)]);

    // The far one, when it is all there is.
    assert_eq!(turns(&mut event_loop, 1), []);
    let timeout = event_loop.next_timeout().unwrap();
    assert!(timeout <= LONG && timeout > LONG - PATIENCE);
    assert!(event_loop.cancel_timer(later));
    assert_eq!(event_loop.next_timeout(), None);
}

#[test]
fn wait_of_zero_on_an_empty_loop_is_one_wait_that_returns_at_once() {
    let mut event_loop = new();
    let steps = Steps::of(&mut event_loop);
    assert_eq!(event_loop.poll_event(Some(Duration::ZERO)).unwrap(), None);
    assert_eq!(steps.take(), [Step::Waited { at_most: Some(Duration::ZERO), events: 0 }]);
}

/// Idle timeouts, where a test can look for what has arrived.
#[cfg(unix)]
mod idle {
    use std::io::Write;
    use std::net::TcpStream;

    use super::*;
    use crate::common::{
        accepted, await_arrival, connection_limits, listening_with, pair_with, peer, until_closed,
    };
    use readiness::{CloseReason, ConnectionId, Deadline, Limits};

    const IDLE: Duration = Duration::from_millis(50);

    /// Tries a test until the machine was fast enough for it: a turn that takes as long as the idle
    /// timeout is silence, too.
    fn until_fast_enough(test: fn() -> Option<()>) {
        let end = Instant::now() + PATIENCE;
        while test().is_none() {
            assert!(Instant::now() < end, "each time a turn took as long as the idle timeout");
        }
    }

    /// Returns the events of one turn, unless it takes as long as the idle timeout.
    fn quick_turn(event_loop: &mut EventLoop) -> Option<Vec<Event>> {
        let start = event_loop.now();
        let events = turns(event_loop, 1);
        (event_loop.now() - start < IDLE).then_some(events)
    }

    /// Keeps a connection active for longer than its idle timeout, and then leaves it alone.
    fn idle_deadline_moves() -> Option<()> {
        let limits = connection_limits(|limits| limits.idle_timeout = Some(IDLE));
        let (mut event_loop, id, mut peer) = pair_with::<()>(limits);
        assert_eq!(quick_turn(&mut event_loop)?, []);
        let mut moved = event_loop.now();
        for comes_in in [true, false, false, true] {
            // What is there before the loop looks at its deadlines is activity, however late it looks.
            if comes_in {
                peer.write_all(b"x").unwrap();
                await_arrival(&event_loop, id);
            } else {
                event_loop[id].send(b"x");
            }
            work(&event_loop, IDLE + MILLISECOND);
            moved = event_loop.now();
            let events = quick_turn(&mut event_loop)?;
            assert_eq!(events, if comes_in { vec![Event::Received(id)] } else { vec![] });
        }
        let (events, reason) = until_closed(&mut event_loop, id);
        assert_eq!((events.len(), reason), (1, CloseReason::TimedOut(Deadline::Idle)));
        assert!(event_loop.now() >= moved + IDLE, "early");
        Some(())
    }

    #[test]
    fn idle_deadline_moves_with_activity_in_either_direction_and_passes_after_silence() {
        until_fast_enough(idle_deadline_moves);
    }

    /// A wait reports one connection only, and the deadlines of all have passed in the meantime.
    /// Bytes that the kernel has not reported yet count as well.
    fn arrived_bytes_count() -> Option<()> {
        let mut limits = Limits::default();
        limits.event_capacity = 1;
        let (mut event_loop, address) = listening_with::<()>(limits);
        let mut peers: Vec<TcpStream> = (0..4).map(|_| peer(address)).collect();
        let mut ids: Vec<ConnectionId> = (0..4).map(|_| accepted(&mut event_loop)).collect();
        assert_eq!(turns(&mut event_loop, 3), []);
        ids.iter().for_each(|id| event_loop[*id].set_idle_timeout(Some(IDLE)).unwrap());
        assert_eq!(quick_turn(&mut event_loop)?, []);
        peers.iter_mut().for_each(|peer| peer.write_all(b"x").unwrap());
        ids.iter().for_each(|id| await_arrival(&event_loop, *id));
        work(&event_loop, IDLE + MILLISECOND);
        while !ids.is_empty() {
            match next(&mut event_loop) {
                Event::Received(received) => ids.retain(|id| *id != received),
                Event::Closed(id, _) if !ids.contains(&id) => {} // silent for as long since then
                other => panic!("{other:?}, though bytes have arrived"),
            }
        }
        Some(())
    }

    #[test]
    fn idle_timeouts_of_many_pass_while_the_program_is_busy_and_what_arrived_meanwhile_counts() {
        until_fast_enough(arrived_bytes_count);
    }
}
