//! What each program must do.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::io::{self, ErrorKind, Read};
use std::rc::Rc;
use std::time::Duration;

use exercises::*;
use readiness::simulation::Driven;
use readiness::{ConnectionLimits, Event, EventLoop, Limits};

use crate::record::Record;
use crate::stage::{Client, Stage};

/// Runs a program on a network. It fails by an error or a panic, as a check of `try_seeds` does.
pub(crate) type Check = fn(&Stage) -> io::Result<()>;

/// One exercise.
pub(crate) struct Exercise {
    /// The name of its file, without the extension.
    pub(crate) file: &'static str,
    /// What the program should do.
    pub(crate) promise: &'static str,
    /// A part of the cause by which it fails as it is shipped.
    pub(crate) symptom: &'static str,
    pub(crate) check: Check,
}

impl Exercise {
    /// Returns the number with which its file begins.
    pub(crate) fn number(&self) -> usize {
        self.file[..2].parse().unwrap()
    }
}

const fn exercise(
    file: &'static str,
    promise: &'static str,
    symptom: &'static str,
    check: Check,
) -> Exercise {
    Exercise { file, promise, symptom, check }
}

const STUCK: &str = "nothing can ever happen again";

#[rustfmt::skip]
pub(crate) const EXERCISES: [Exercise; 20] = [
    exercise("01_half_a_line", "a name is greeted once, and whole", "instead of \"Hello, Ada!", check_half_a_line),
    exercise("02_rest_of_the_read", "each question has its answer", STUCK, check_rest_of_the_read),
    exercise("03_lost_edge", "what has arrived is read", "no edge follows", check_lost_edge),
    exercise("04_writable_always", "the loop sleeps while there is nothing to do", "a core burns", check_writable_always),
    exercise("05_stale_id", "a token never names another client", "Bob is given", check_stale_id),
    exercise("06_reset_ends_all", "a lost client harms no other", "ends, for all its clients", check_reset_ends_all),
    exercise("07_short_write", "each client receives the whole text", "Ada has heard", check_short_write),
    exercise("08_unbounded_feed", "a slow reader costs no memory", "bytes wait for a client that does not read", check_unbounded_feed),
    exercise("09_two_writers", "a long text comes back whole", STUCK, check_two_writers),
    exercise("10_one_at_a_time", "each line has its answer", STUCK, check_one_at_a_time),
    exercise("11_early_end", "the end of file follows the last number", "the end of file too soon", check_early_end),
    exercise("12_error_answer_lost", "an error answer arrives", "is reset", check_error_answer_lost),
    exercise("13_answer_after_the_end", "a client that half-closes has its answer", "the end of file too soon", check_answer_after_the_end),
    exercise("14_claimed_length", "a claimed length costs no memory", "bytes of memory for", check_claimed_length),
    exercise("15_own_echo", "all others hear what one says", "has heard", check_own_echo),
    exercise("16_timer_per_message", "only silent clients are closed", "the end of file too soon", check_timer_per_message),
    exercise("17_spin", "the loop sleeps until the next second", "the loop never sleeps", check_spin),
    exercise("18_lost_wake_up", "an answer that is put is seen", STUCK, check_lost_wake_up),
    exercise("19_shutdown_never_ends", "the program ends in time", STUCK, check_shutdown_never_ends),
    exercise("20_accepting_stopped", "waiting clients are accepted when there is room", STUCK, check_accepting_stopped),
];

/// Limits with which little is much.
fn small(change: impl FnOnce(&mut ConnectionLimits)) -> Limits {
    let mut limits = Limits::default();
    change(&mut limits.connection);
    limits
}

fn check_half_a_line(stage: &Stage) -> io::Result<()> {
    let (mut server, address) = stage.server(Limits::default(), half_a_line::handle)?;
    let mut ada = stage.client("Ada", address);
    ada.say("Ada\n");
    ada.expect("Hello, Ada!\n");
    stage.converse(&mut [&mut server], &mut [&mut ada])?;
    ada.say("Ada, once more\n");
    ada.expect("Hello, Ada, once more!\n");
    stage.converse(&mut [&mut server], &mut [&mut ada])
}

fn check_rest_of_the_read(stage: &Stage) -> io::Result<()> {
    let (mut server, address) = stage.server(Limits::default(), rest_of_the_read::handle)?;
    let mut ada = stage.client("Ada", address);
    ada.say("1 2\n3 4\n5");
    ada.expect("3\n7\n");
    stage.converse(&mut [&mut server], &mut [&mut ada])?;
    ada.say("0 6\n");
    ada.expect("56\n");
    stage.converse(&mut [&mut server], &mut [&mut ada])
}

/// A socket of an edge-triggered kernel.
struct EdgeSocket<'r> {
    arrived: VecDeque<u8>,
    has_ended: bool,
    is_interrupted: bool,
    record: &'r Record,
}

impl Read for EdgeSocket<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        if std::mem::take(&mut self.is_interrupted) {
            self.record.note("read: interrupted by a signal");
            return Err(ErrorKind::Interrupted.into());
        }
        let count = self.arrived.read(into)?;
        if count == 0 && !self.has_ended {
            self.record.note("read: it would block");
            return Err(ErrorKind::WouldBlock.into());
        }
        self.record.note(format!("read: {count} bytes"));
        Ok(count)
    }
}

fn check_lost_edge(stage: &Stage) -> io::Result<()> {
    let record = &stage.record;
    let mut socket =
        EdgeSocket { arrived: VecDeque::new(), has_ended: false, is_interrupted: false, record };
    let mut buffer = Vec::new();
    let mut sent = 0;
    for burst in 0..=stage.simulation.below(3) {
        socket.is_interrupted = burst == 2;
        // No buffer on the stack is large enough for the second one.
        let size = if burst == 1 { 10_000 } else { 1 };
        let count = size * (1 + stage.simulation.below(20));
        socket.arrived.extend(vec![b'x'; count]);
        sent += count;
        record.note(format!("{count} bytes arrive, and the kernel reports the socket as readable"));
        let goes_on = lost_edge::on_readable(&mut socket, &mut buffer)?;
        assert!(goes_on, "it takes the connection for ended");
        let unread = socket.arrived.len();
        assert!(unread == 0, "{unread} of {sent} bytes are unread, and no edge follows");
        assert_eq!(buffer.len(), sent, "what was read is in the buffer");
    }
    record.note("the end of file arrives, and the kernel reports the socket as readable");
    socket.has_ended = true;
    assert!(!lost_edge::on_readable(&mut socket, &mut buffer)?, "it has not seen the end of file");
    Ok(())
}

/// An echo connection with a small read buffer, on a level-triggered kernel: what is ready is
/// reported at every turn.
fn check_writable_always(stage: &Stage) -> io::Result<()> {
    let say = |text: String| stage.record.note(text);
    let (buffer_size, kernel_size) = (8, 1 + stage.simulation.below(8));
    let (mut arrived, mut unsent, mut kernel_room) = (0, 0, kernel_size);
    let mut left_to_say = stage.simulation.below(40);
    let mut turns_for_nothing = 0;
    while left_to_say > 0 || arrived > 0 || unsent > 0 || turns_for_nothing < 3 {
        let interest = writable_always::interest(buffer_size - unsent, unsent);
        let is_readable = interest.is_readable() && arrived > 0;
        let is_writable = interest.is_writable() && kernel_room > 0;
        if !is_readable && !is_writable {
            say(format!("interest {interest}: the loop sleeps"));
            let can_read = arrived > 0 && unsent < buffer_size;
            assert!(!can_read, "it sleeps, although {arrived} bytes can be read");
            let can_send = unsent > 0 && kernel_room > 0;
            assert!(!can_send, "it sleeps, although there is room for what is unsent");
            if left_to_say == 0 && kernel_room == kernel_size {
                return Ok(());
            }
            say(format!("the client sends {left_to_say} bytes and reads"));
            arrived += std::mem::take(&mut left_to_say);
            kernel_room = kernel_size;
            continue;
        }
        let read = if is_readable { arrived.min(buffer_size - unsent) } else { 0 };
        (arrived, unsent) = (arrived - read, unsent + read);
        let sent = if is_writable { unsent.min(kernel_room) } else { 0 };
        (unsent, kernel_room) = (unsent - sent, kernel_room - sent);
        say(format!("interest {interest}: the loop is woken, reads {read} and sends {sent} bytes"));
        turns_for_nothing = if read + sent == 0 { turns_for_nothing + 1 } else { 0 };
        assert!(turns_for_nothing < 3, "it is woken again and again for nothing: a core burns");
    }
    Ok(())
}

fn check_stale_id(stage: &Stage) -> io::Result<()> {
    let mut clients = stale_id::Clients::default();
    let mut others = 0;
    for _ in 0..stage.simulation.below(4) {
        stage.record.note("somebody else connects");
        clients.add("somebody else");
        others += 1;
    }
    let ada = clients.add("Ada");
    stage.record.note("Ada connects and asks, and a worker keeps its token");
    assert_eq!(clients.get(ada), Some("Ada"), "a token names its client");
    clients.remove(ada);
    assert_eq!(clients.get(ada), None, "a client that has left is not there any more");
    stage.record.note("Ada leaves");
    let bob = clients.add("Bob");
    stage.record.note("Bob connects");
    let named = clients.get(ada);
    stage.record.note("the worker has the answer for the token that it kept");
    assert!(
        named.is_none(),
        "{} is given the answer that Ada asked for",
        named.unwrap_or_default()
    );
    clients.remove(ada);
    assert_eq!(clients.get(bob), Some("Bob"), "removing a client that has left removes no other");
    for _ in 0..100 {
        let client = clients.add("Eve");
        clients.remove(client);
    }
    let places = clients.place_count();
    assert!(places <= others + 2, "the table has {places} places after a hundred short visits");
    Ok(())
}

fn check_reset_ends_all(stage: &Stage) -> io::Result<()> {
    let program = Rc::new(RefCell::new(reset_ends_all::Server::default()));
    let server = program.clone();
    let (mut server, address) = stage.server(Limits::default(), move |event_loop, event| {
        server.borrow_mut().handle(event_loop, event)
    })?;
    let mut ada = stage.client("Ada", address);
    let mut bob = stage.client("Bob", address);
    ada.say("one\nhal");
    ada.expect("one\n");
    stage.converse(&mut [&mut server], &mut [&mut ada])?;
    while server.event_loop.connections().all(|connection| connection.received() != b"hal") {
        ada.act();
        stage.advance(&mut [&mut server])?;
    }
    ada.reset();
    bob.say("hello\n");
    bob.expect("hello\n");
    stage.converse(&mut [&mut server], &mut [&mut bob])?;
    while server.event_loop.connection_count() > 1 {
        stage.advance(&mut [&mut server])?;
    }
    bob.say("still there\n");
    bob.expect("still there\n");
    stage.converse(&mut [&mut server], &mut [&mut bob])?;
    assert_eq!(program.borrow().last_words, ["hal"], "the last words are kept");
    Ok(())
}

fn check_short_write(stage: &Stage) -> io::Result<()> {
    let limits = small(|limits| {
        (limits.high_water, limits.low_water, limits.unsent_max) = (20, 4, 20);
    });
    let (mut server, address) = stage.server(limits, short_write::handle)?;
    let mut ada = stage.client("Ada", address);
    ada.expect(short_write::TEXT);
    ada.expect_end();
    stage.converse(&mut [&mut server], &mut [&mut ada])
}

fn check_unbounded_feed(stage: &Stage) -> io::Result<()> {
    const HIGH_WATER: usize = 8;
    let limits = small(|limits| (limits.high_water, limits.low_water) = (HIGH_WATER, 2));
    let program = Rc::new(RefCell::new(unbounded_feed::Ticker::default()));
    let ticker = program.clone();
    let (mut server, address) = stage
        .server(limits, move |event_loop: &mut EventLoop, event| {
            ticker.borrow_mut().handle(event_loop, event)
        })?;
    let mut ada = stage.client("Ada", address);
    ada.is_deaf = true;
    while server.event_loop.connection_count() == 0 {
        stage.advance(&mut [&mut server])?;
    }
    let mut bob = stage.client("Bob", address);
    while server.event_loop.connection_count() < 2 {
        stage.advance(&mut [&mut server])?;
    }
    program.borrow_mut().start(&mut server.event_loop);
    (1..=30).for_each(|tick| bob.expect(format!("tick {tick}\n")));
    while !bob.has_heard_all() {
        bob.act();
        stage.advance(&mut [&mut server])?;
        let unsent = server.event_loop.connections().map(|connection| connection.unsent()).max();
        let unsent = unsent.unwrap_or_default();
        let is_bounded = unsent <= HIGH_WATER + "tick 30\n".len();
        assert!(is_bounded, "{unsent} bytes wait for a client that does not read");
    }
    Ok(())
}

fn check_two_writers(stage: &Stage) -> io::Result<()> {
    let limits = small(|limits| {
        (limits.high_water, limits.low_water) = (40, 20);
        limits.stalled_write_deadline = Duration::MAX;
    });
    let (mut server, address) = stage.server(limits.clone(), |server: &mut EventLoop, event| {
        if let Event::Received(id) = event {
            server[id].send_received();
        }
        Ok(())
    })?;
    let mut client = stage.program("the client", limits, two_writers::handle)?;
    stage.record.name(address, "the server");
    let id = client.event_loop.connect(address, Vec::new());
    stage.record.name(client.event_loop[id].local_addr()?, "the client");
    let mut has_all = false;
    while client.event_loop.connection_count() > 0 {
        stage.advance(&mut [&mut server, &mut client])?;
        has_all |= client.event_loop.get(id).is_some_and(|of| of.data == two_writers::TEXT);
    }
    assert!(has_all, "the client has ended before the whole text had come back");
    Ok(())
}

fn check_one_at_a_time(stage: &Stage) -> io::Result<()> {
    let mut program = one_at_a_time::Server::default();
    let (mut server, address) = stage
        .server(Limits::default(), move |event_loop, event| program.handle(event_loop, event))?;
    let mut ada = stage.client("Ada", address);
    ada.say("one\ntwo\n");
    ada.expect("ONE\nTWO\n");
    stage.converse(&mut [&mut server], &mut [&mut ada])?;
    ada.say("three\n");
    ada.expect("THREE\n");
    stage.converse(&mut [&mut server], &mut [&mut ada])
}

fn check_early_end(stage: &Stage) -> io::Result<()> {
    const HIGH_WATER: usize = 8;
    let limits = small(|limits| (limits.high_water, limits.low_water) = (HIGH_WATER, 2));
    let (mut server, address) = stage.server(limits, |event_loop, event| {
        early_end::handle(event_loop, event)?;
        let unsent = event.connection().and_then(|id| event_loop.get(id)).map(|of| of.unsent());
        assert!(unsent.unwrap_or_default() <= HIGH_WATER + 3, "{unsent:?} bytes wait for Ada");
        Ok(())
    })?;
    let mut ada = stage.client("Ada", address);
    (1..=early_end::LAST).for_each(|number| ada.expect(format!("{number}\n")));
    ada.expect_end();
    stage.converse(&mut [&mut server], &mut [&mut ada])
}

fn check_error_answer_lost(stage: &Stage) -> io::Result<()> {
    let (mut server, address) = stage.server(Limits::default(), error_answer_lost::handle)?;
    let mut ada = stage.client("Ada", address);
    ada.say("21\nx\n");
    ada.expect("42\ninvalid digit found in string\n");
    ada.expect_end();
    stage.converse(&mut [&mut server], &mut [&mut ada])
}

fn check_answer_after_the_end(stage: &Stage) -> io::Result<()> {
    let mut program = answer_after_the_end::Server::default();
    let (mut server, address) = stage
        .server(Limits::default(), move |event_loop, event| program.handle(event_loop, event))?;
    let mut ada = stage.client("Ada", address);
    ada.say("who?");
    ada.finish();
    ada.expect("WHO?");
    ada.expect_end();
    stage.converse(&mut [&mut server], &mut [&mut ada])?;
    while server.event_loop.connection_count() > 0 {
        stage.advance(&mut [&mut server])?;
    }
    Ok(())
}

fn check_claimed_length(stage: &Stage) -> io::Result<()> {
    let limits = Limits::default();
    let (mut server, address) =
        stage.server(limits, |server: &mut EventLoop<Vec<u8>>, event| {
            claimed_length::handle(server, event)?;
            let data =
                event.connection().and_then(|id| server.get(id)).map(|of| of.data.capacity());
            let bytes = data.unwrap_or_default();
            let is_bounded = bytes <= 10 * claimed_length::MESSAGE_MAX;
            assert!(
                is_bounded,
                "the server has {bytes} bytes of memory for a client that sent four"
            );
            Ok(())
        })?;
    let mut eve = stage.client("Eve", address);
    eve.say((9_u32 << 20).to_be_bytes());
    eve.is_deaf = true; // it may be closed
    while server.event_loop.connection_count() == 0 || !eve.has_said_all() {
        eve.act();
        stage.advance(&mut [&mut server])?;
    }
    let mut ada = stage.client("Ada", address);
    let longest = vec![b'x'; claimed_length::MESSAGE_MAX];
    for message in [&b"hello"[..], b"", &longest] {
        ada.say(u32::try_from(message.len()).unwrap().to_be_bytes());
        ada.say(message);
        ada.expect(format!("{} bytes\n", message.len()));
    }
    stage.converse(&mut [&mut server], &mut [&mut ada])
}

fn check_own_echo(stage: &Stage) -> io::Result<()> {
    let (mut server, address) = stage.server(Limits::default(), own_echo::handle)?;
    let mut ada = stage.client("Ada", address);
    let mut bob = stage.client("Bob", address);
    let mut eve = stage.client("Eve", address);
    while server.event_loop.connection_count() < 3 {
        stage.advance(&mut [&mut server])?;
    }
    ada.say("hi\n");
    bob.expect("hi\n");
    eve.expect("hi\n");
    stage.converse(&mut [&mut server], &mut [&mut ada, &mut bob, &mut eve])?;
    bob.say("hello\n");
    ada.expect("hello\n");
    eve.expect("hello\n");
    stage.converse(&mut [&mut server], &mut [&mut ada, &mut bob, &mut eve])
}

fn check_timer_per_message(stage: &Stage) -> io::Result<()> {
    let mut program = timer_per_message::Server::default();
    let (mut server, address) = stage
        .server(Limits::default(), move |event_loop, event| program.handle(event_loop, event))?;
    let mut ada = stage.client("Ada", address);
    for word in ["a", "b", "c"] {
        ada.say(word);
        ada.expect(word);
        stage.converse(&mut [&mut server], &mut [&mut ada])?;
        let pause = timer_per_message::SILENCE_MAX.mul_f64(0.6);
        stage.let_pass(pause, &mut [&mut server], &mut [&mut ada])?;
    }
    ada.expect_end(); // it is silent from here on
    let start = stage.simulation.now();
    stage.converse(&mut [&mut server], &mut [&mut ada])?;
    let silence = stage.simulation.now() - start;
    assert!(silence <= timer_per_message::SILENCE_MAX * 2, "Ada is closed after {silence:?} only");
    Ok(())
}

fn check_spin(stage: &Stage) -> io::Result<()> {
    let program: Rc<RefCell<Option<spin::Clock>>> = Rc::default();
    let clock = program.clone();
    let (mut server, address) = stage.server(Limits::default(), move |event_loop, event| {
        clock.borrow_mut().as_mut().map_or(Ok(()), |clock| clock.handle(event_loop, event))
    })?;
    *program.borrow_mut() = Some(spin::Clock::start(&mut server.event_loop));
    let start = stage.simulation.now();
    let mut ada = stage.client("Ada", address);
    ada.expect("tick\ntick\n");
    stage.converse(&mut [&mut server], &mut [&mut ada])?;
    let took = stage.simulation.now() - start;
    assert!(took >= Duration::from_secs(2), "two ticks after {took:?} only");
    Ok(())
}

/// A mailbox whose worker is held up after every call, as a thread can be.
struct HeldUp<'s, D> {
    stage: &'s Stage<'s>,
    server: &'s mut D,
    answers: Rc<RefCell<VecDeque<String>>>,
    waker: readiness::Waker,
    ada: &'s mut Client,
}

impl<D: Driven> HeldUp<'_, D> {
    fn is_held_up(&mut self) {
        for _ in 0..self.stage.simulation.below(20) {
            self.ada.act();
            // It fails if nothing can happen before the worker goes on.
            let _ = self.stage.advance(&mut [self.server]);
        }
    }
}

impl<D: Driven> lost_wake_up::Mailbox for HeldUp<'_, D> {
    fn put(&mut self, answer: &str) {
        self.stage.record.note(format!("the worker puts {answer:?} into the mailbox"));
        self.answers.borrow_mut().push_back(answer.to_owned());
        self.is_held_up();
    }

    fn wake(&mut self) {
        self.stage.record.note("the worker wakes the loop");
        self.waker.wake().unwrap();
        self.is_held_up();
    }
}

fn check_lost_wake_up(stage: &Stage) -> io::Result<()> {
    let answers: Rc<RefCell<VecDeque<String>>> = Rc::default();
    let mailbox = answers.clone();
    let (mut server, address) =
        stage.server(Limits::default(), move |server: &mut EventLoop, event| {
            if event == Event::Woken {
                let ids: Vec<_> = server.connections().map(|connection| connection.id()).collect();
                while let Some(answer) = mailbox.borrow_mut().pop_front() {
                    server.send_each(ids.iter().copied(), answer.as_bytes());
                }
            }
            Ok(())
        })?;
    let mut ada = stage.client("Ada", address);
    while server.event_loop.connection_count() == 0 {
        stage.advance(&mut [&mut server])?;
    }
    ada.expect("42\n43\n");
    let waker = server.event_loop.waker();
    for answer in ["42\n", "43\n"] {
        let (answers, waker) = (answers.clone(), waker.clone());
        let mut mailbox = HeldUp { stage, server: &mut server, answers, waker, ada: &mut ada };
        lost_wake_up::hand_over(&mut mailbox, answer);
    }
    stage.converse(&mut [&mut server], &mut [&mut ada])
}

fn check_shutdown_never_ends(stage: &Stage) -> io::Result<()> {
    let program = Rc::new(RefCell::new(shutdown_never_ends::Server::default()));
    let server = program.clone();
    let (mut server, address) = stage.server(Limits::default(), move |event_loop, event| {
        server.borrow_mut().handle(event_loop, event)
    })?;
    let mut ada = stage.client("Ada", address);
    ada.say("one\nhal");
    ada.expect("one\n");
    stage.converse(&mut [&mut server], &mut [&mut ada])?;
    let start = stage.simulation.now();
    stage.record.note("another thread wakes the loop: the program is to end");
    server.event_loop.waker().wake()?;
    while !program.borrow().has_ended {
        stage.advance(&mut [&mut server])?;
    }
    let took = stage.simulation.now() - start;
    assert!(took < Duration::from_secs(12), "it took {took:?} to end");
    Ok(())
}

fn check_accepting_stopped(stage: &Stage) -> io::Result<()> {
    let mut faults = readiness::simulation::Faults::drawn(stage.simulation.seed()).survivable();
    faults.descriptors_max = 2; // the listener's and one more
    stage.simulation.set_faults(faults);
    let (mut server, address) = stage.server(Limits::default(), accepting_stopped::handle)?;
    for name in ["Ada", "Bob", "Eve"] {
        let mut client = stage.client(name, address);
        let mut next = stage.client("somebody else", address);
        client.say("hello\n");
        client.expect("hello\n");
        stage.converse(&mut [&mut server], &mut [&mut client])?;
        client.finish();
        client.expect_end();
        stage.converse(&mut [&mut server], &mut [&mut client])?;
        next.say("bye\n");
        next.expect("bye\n");
        next.finish();
        next.expect_end();
        stage.converse(&mut [&mut server], &mut [&mut next])?;
    }
    Ok(())
}
