//! Wakes from other threads: none is lost, many are delivered as one, and a storm of them holds up
//! no connection.

#![cfg(unix)]
#![allow(clippy::unwrap_used, reason = "a failure here is the test's message")]

mod common;

use std::fs;
use std::io::{Read, Write};
use std::path::PathBuf;
use std::process;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc;
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use common::child::{alone, is_child};
use common::measure::{NO_TRACE, aloud, can_trace};
use common::steps::{Steps, assert_rests};
use common::{PATIENCE, await_arrival, next, pair, turns};
use readiness::{Event, EventLoop, Step, Waker};

fn new() -> EventLoop {
    EventLoop::new().unwrap()
}

/// Two threads that wake a loop again and again.
struct Storm {
    is_over: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Storm {
    fn of(event_loop: &EventLoop) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let wakes_again_and_again = |_| {
            let (waker, is_over) = (event_loop.waker(), Arc::clone(&is_over));
            thread::spawn(move || {
                while !is_over.load(Ordering::Relaxed) {
                    waker.wake().unwrap();
                }
            })
        };
        let threads = (0..2).map(wakes_again_and_again).collect();
        Self { is_over, threads }
    }

    /// Ends it. No wake of it may have failed.
    fn calm(self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads {
            thread.join().unwrap();
        }
    }
}

/// The calling thread, to be asked by another whether it sleeps.
struct Sleeper(PathBuf);

impl Sleeper {
    fn this_thread() -> Self {
        let thread = fs::read_link("/proc/thread-self").unwrap_or_default();
        Self(PathBuf::from("/proc").join(thread).join("stat"))
    }

    /// Waits until the thread sleeps in the kernel, where the system reports that.
    fn await_sleep(&self) {
        let end = Instant::now() + PATIENCE;
        while fs::read_to_string(&self.0).is_ok_and(|stat| !stat.contains(") S ")) {
            assert!(Instant::now() < end, "it does not go to sleep");
            thread::yield_now();
        }
    }
}

#[test]
fn wake_from_another_thread_ends_a_wait_that_is_under_way() {
    let mut event_loop = new();
    let steps = Steps::of(&mut event_loop);
    let (waker, sleeper) = (event_loop.waker(), Sleeper::this_thread());
    let (sender, answers) = mpsc::channel();
    let worker = thread::spawn(move || {
        sleeper.await_sleep();
        sender.send(42).unwrap();
        waker.wake().unwrap();
    });
    assert_eq!(event_loop.next_event().unwrap(), Event::Woken);
    assert_eq!(answers.try_recv(), Ok(42), "what was done before the wake can be seen");
    worker.join().unwrap();
    let expected = [Step::Waited { at_most: None, events: 1 }, Step::Woken];
    assert_eq!(steps.take(), expected);
    assert_rests(&mut event_loop, &steps);
}

#[test]
fn wakes_before_the_wait_come_as_one_and_a_later_one_comes_again() {
    let mut event_loop = new();
    let steps = Steps::of(&mut event_loop);
    let waker = event_loop.waker();
    for _ in 0..3 {
        for _ in 0..1_000 {
            waker.wake().unwrap();
        }
        assert_eq!(next(&mut event_loop), Event::Woken);
        assert_rests(&mut event_loop, &steps);
    }
}

#[test]
fn wake_while_woken_is_handled_comes_again() {
    let mut event_loop = new();
    let waker = event_loop.waker();
    waker.wake().unwrap();
    for _ in 0..10 {
        assert_eq!(next(&mut event_loop), Event::Woken);
        waker.wake().unwrap();
    }
    assert_eq!(turns(&mut event_loop, 5), [Event::Woken]);
}

#[test]
fn wake_within_a_turn_comes_in_the_next() {
    let mut event_loop = new();
    let (first, second) =
        (event_loop.set_timer(Duration::ZERO), event_loop.set_timer(Duration::ZERO));
    assert_eq!(next(&mut event_loop), Event::Timer(first));
    event_loop.waker().wake().unwrap();
    assert_eq!(turns(&mut event_loop, 1), [Event::Timer(second)]);
    assert_eq!(turns(&mut event_loop, 1), [Event::Woken]);
    assert_eq!(turns(&mut event_loop, 3), []);
}

#[test]
fn clones_wake_the_loop_that_their_original_came_from() {
    fn travels<W: Clone + Send + Sync>(_: &W) {}
    let (mut one, mut other) = (new(), new());
    let waker = one.waker();
    travels(&waker);
    let clones: Vec<Waker> = vec![waker.clone(), one.waker(), waker.clone().clone()];
    drop(waker);
    for clone in &clones {
        thread::scope(|scope| {
            scope.spawn(|| clone.wake().unwrap());
        });
        assert_eq!(turns(&mut one, 3), [Event::Woken]);
        assert_eq!(turns(&mut other, 3), []);
    }
}

#[test]
fn wake_after_the_loop_has_gone_does_nothing() {
    let event_loop = new();
    let waker = event_loop.waker();
    waker.wake().unwrap();
    drop(event_loop);
    for waker in [waker.clone(), waker] {
        thread::spawn(move || waker.wake().unwrap()).join().unwrap();
    }
}

#[test]
fn loop_that_goes_while_threads_wake_it_hurts_nobody() {
    for _ in 0..20 {
        let mut event_loop = new();
        let storm = Storm::of(&event_loop);
        assert_eq!(next(&mut event_loop), Event::Woken);
        drop(event_loop);
        storm.calm();
    }
}

#[test]
fn many_threads_that_count_and_wake_lose_no_wake() {
    const THREADS: u64 = 4;
    const EACH: u64 = 20_000;
    let mut event_loop = new();
    let count = Arc::new(AtomicU64::new(0));
    let threads: Vec<_> = (0..THREADS)
        .map(|_| {
            let (waker, count) = (event_loop.waker(), Arc::clone(&count));
            thread::spawn(move || {
                for _ in 0..EACH {
                    count.fetch_add(1, Ordering::Relaxed);
                    waker.wake().unwrap();
                }
            })
        })
        .collect();
    // The loop looks at the count only after a wake. A lost wake leaves it waiting.
    let mut woken = 0;
    let mut seen = 0;
    while seen < THREADS * EACH {
        assert_eq!(next(&mut event_loop), Event::Woken);
        woken += 1;
        seen = count.load(Ordering::Relaxed);
    }
    assert!(woken <= THREADS * EACH);
    for thread in threads {
        thread.join().unwrap();
    }
    // Wakes after those counts may be delivered once more.
    assert!(turns(&mut event_loop, 5).len() <= 1);
}

#[test]
fn storm_of_wakes_leaves_io_its_turns() {
    const ROUNDS: usize = 500;
    let (mut event_loop, id, mut peer) = pair::<()>();
    assert_eq!(turns(&mut event_loop, 1), []);
    let steps = Steps::of(&mut event_loop);
    let storm = Storm::of(&event_loop);
    let (mut rounds, mut woken) = (0, 0);
    let end = Instant::now() + PATIENCE;
    while rounds < ROUNDS || woken < ROUNDS {
        assert!(Instant::now() < end, "{woken} wakes in {rounds} rounds");
        peer.write_all(b"message").unwrap();
        await_arrival(&event_loop, id);
        // What has arrived is received and answered in the very next turn.
        let mut has_received = false;
        while let Some(event) = event_loop.poll_event(Some(Duration::ZERO)).unwrap() {
            match event {
                Event::Woken => woken += 1,
                Event::Received(_) => {
                    has_received = true;
                    event_loop[id].send_received();
                }
                other => panic!("{other:?} was not expected"),
            }
        }
        assert!(has_received, "round {rounds} was starved");
        peer.read_exact(&mut [0; 7]).unwrap();
        rounds += 1;
    }
    storm.calm();
    let steps = steps.take();
    let turns = steps.split(|step| matches!(step, Step::Waited { .. })).skip(1);
    let woken: Vec<usize> =
        turns.map(|turn| turn.iter().filter(|step| **step == Step::Woken).count()).collect();
    assert_eq!(woken.len(), rounds);
    assert!(woken.iter().all(|woken| *woken <= 1), "a turn delivers Woken once at most");
}

#[test]
fn wake_costs_one_system_call_on_each_side_and_none_where_one_is_pending() {
    const NAME: &str = "wake_costs_one_system_call_on_each_side_and_none_where_one_is_pending";
    const ROUNDS: u64 = 200;
    let file = format!("{}/{NAME}-{}.strace", env!("CARGO_TARGET_TMPDIR"), process::id());
    skip_unless!(is_child(NAME) || can_trace(), NO_TRACE);
    let before = format!("exec strace -f -qq -o '{file}' \"$0\" \"$@\";");
    alone(NAME, &before, || {
        let mut event_loop = new();
        let waker = event_loop.waker();
        let seen = Arc::new(AtomicU64::new(0));
        // Neither side makes another call for it: the worker looks at the number until the loop has
        // stored it.
        let worker = thread::spawn({
            let seen = Arc::clone(&seen);
            move || {
                let end = Instant::now() + PATIENCE;
                for round in 0..ROUNDS {
                    while seen.load(Ordering::Acquire) < round {
                        assert!(Instant::now() < end, "the loop does not answer");
                    }
                    waker.wake().unwrap();
                }
            }
        });
        for _ in 0..ROUNDS {
            assert_eq!(event_loop.next_event().unwrap(), Event::Woken);
            seen.fetch_add(1, Ordering::Release);
        }
        worker.join().unwrap();
        // While the loop is busy with something else.
        let waker = event_loop.waker();
        for _ in 0..1_000 {
            waker.wake().unwrap();
        }
        assert_eq!(event_loop.next_event().unwrap(), Event::Woken);
    });
    if is_child(NAME) {
        return;
    }
    let trace = fs::read_to_string(&file).unwrap();
    fs::remove_file(&file).unwrap();
    // A call that another thread's interrupts is printed in two lines, of which one begins it.
    let count = |begin: &str| trace.lines().filter(|line| line.contains(begin)).count() as u64;
    let rung =
        trace.lines().filter(|line| line.contains(" write(") && line.contains(", 8")).count();
    let waits = count(" epoll_wait(") + count(" epoll_pwait(") + count(" epoll_pwait2(");
    aloud(format!("{} wakes: {rung} writes, {waits} waits", ROUNDS + 1));
    assert_eq!(rung as u64, ROUNDS + 1, "a write for each wake that finds none pending");
    assert!(waits > ROUNDS, "the trace lacks waits");
    // A wake between the bell and the look at its flag leaves a bell that nothing is behind.
    assert!(waits <= 2 * (ROUNDS + 1), "{waits} waits");
}
