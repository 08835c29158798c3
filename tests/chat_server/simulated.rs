//! The room's own code on simulated networks: every chunking of what members send, slow readers and
//! silent ones by the virtual clock, and faults drawn from seeds.

use std::io;
use std::time::Duration;

use readiness::simulation::{Faults, Peer, PeerState, Program, Simulation, try_seeds};
use readiness::{Event, EventLoop};

#[expect(dead_code, reason = "the program around the room")]
#[path = "../../examples/chat_server.rs"]
mod chat_server;

use chat_server::{Member, Room};

type Handle = Box<dyn FnMut(&mut EventLoop<Member>, Event) -> io::Result<()>>;

/// The room, and somebody at each end of a connection.
struct World<'s> {
    simulation: &'s Simulation,
    server: Program<Member, Handle>,
    guests: Vec<Guest>,
}

/// A person who may be in the room.
struct Guest {
    peer: Peer,
    unsent: Vec<u8>,
    /// How much of it is sent at once.
    piece: usize,
    heard: Vec<u8>,
    /// How much is read at once.
    reads: usize,
}

impl Guest {
    fn say(&mut self, text: &str) {
        self.unsent.extend_from_slice(text.as_bytes());
    }

    /// Sends and reads on, and returns whether there was anything to do.
    fn go_on(&mut self) -> bool {
        let piece = self.unsent.len().min(self.piece);
        let count = self.peer.write(&self.unsent[..piece]);
        self.unsent.drain(..count);
        let read = self.peer.read_at_most(self.reads);
        self.heard.extend_from_slice(&read);
        count + read.len() > 0
    }

    fn has_heard(&self, text: &str) -> bool {
        self.heard.windows(text.len()).any(|window| window == text.as_bytes())
    }

    /// Returns the whole lines that begin with a member's name.
    fn said(&self) -> Vec<&str> {
        let whole = self.heard.iter().rposition(|byte| *byte == b'\n').map_or(0, |last| last + 1);
        let text = std::str::from_utf8(&self.heard[..whole]).unwrap();
        text.lines().filter(|line| line.contains(": ")).collect()
    }
}

impl<'s> World<'s> {
    fn new(simulation: &'s Simulation) -> io::Result<Self> {
        let event_loop = simulation.event_loop_with_limits(chat_server::limits())?;
        let mut room = Room::default();
        let handle: Handle = Box::new(move |chat, event| {
            room.handle(chat, event);
            Ok(())
        });
        let mut server = Program::new(event_loop, handle);
        server.event_loop.listen("127.0.0.1:65432")?;
        Ok(Self { simulation, server, guests: Vec::new() })
    }

    fn come(&mut self) -> &mut Guest {
        let peer = self.simulation.connect("127.0.0.1:65432".parse().unwrap());
        let (piece, reads) = (usize::MAX, usize::MAX);
        self.guests.push(Guest { peer, unsent: Vec::new(), piece, heard: Vec::new(), reads });
        self.guests.last_mut().unwrap()
    }

    /// Lets a guest join, and checks that the others receive the news.
    fn join(&mut self, name: &str) -> io::Result<()> {
        self.come().say(&format!("{name}\n"));
        let joined = format!("* {name} joined\n");
        self.until(|world| world.guests.iter().all(|guest| guest.has_heard(&joined)))
    }

    fn until(&mut self, mut is_done: impl FnMut(&Self) -> bool) -> io::Result<()> {
        loop {
            let have_moved = self.guests_go_on();
            if is_done(self) {
                return Ok(());
            }
            self.go_on(have_moved)?;
        }
    }

    /// Lets the guests do what they can, and returns whether that was anything.
    fn guests_go_on(&mut self) -> bool {
        self.guests.iter_mut().map(Guest::go_on).fold(false, |any, one| any | one)
    }

    /// Lets one thing happen. An error means that nothing ever will.
    fn go_on(&mut self, have_moved: bool) -> io::Result<()> {
        let outcome = self.simulation.advance(&mut [&mut self.server]);
        if have_moved { Ok(()) } else { outcome }
    }

    fn unsent_max(&self) -> usize {
        self.server.event_loop.connections().map(|one| one.unsent()).max().unwrap_or(0)
    }
}

#[test]
fn script_cut_into_any_pieces_is_heard_in_the_same_way() -> io::Result<()> {
    const SCRIPT: &str = "bob\r\nhello\n/nick bo\n\n/who\nünïcode\n/quit\nnot heard\n";
    const HEARD: &str =
        "* bob joined\nbob: hello\n* bob is now bo\nbo: ünïcode\n* bo left\nann: and now?\n";
    let hear = |cut: &dyn Fn(&mut Guest)| {
        let simulation = Simulation::new(1);
        let mut world = World::new(&simulation)?;
        world.join("ann")?;
        world.guests[0].heard.clear();
        let bob = world.come();
        bob.say(SCRIPT);
        cut(bob);
        world.until(|world| {
            let is_cut = world.guests[0].has_heard("left");
            is_cut && world.guests[1].peer.state() == PeerState::Ended
        })?;
        world.guests[0].say("and now?\n");
        world.until(|world| world.guests[0].has_heard("now?\n"))?;
        assert_eq!(String::from_utf8_lossy(&world.guests[0].heard), HEARD);
        io::Result::Ok(())
    };
    for piece in 1..=SCRIPT.len() {
        // Pieces of one length, and two pieces.
        hear(&|bob| bob.piece = piece)?;
        hear(&|bob| {
            let rest = bob.unsent.split_off(piece);
            assert_eq!(bob.peer.write(&bob.unsent), piece);
            bob.unsent = rest;
        })?;
    }
    Ok(())
}

#[test]
fn members_on_bad_networks_hear_every_line_in_one_order() {
    const COUNT: usize = 8;
    try_seeds(0..60, |simulation| {
        let mut world = World::new(simulation)?;
        for number in 0..4 {
            world.join(&format!("m{number}"))?;
        }
        for guest in &mut world.guests {
            guest.heard.clear();
            guest.reads = 1 + simulation.below(100);
            guest.piece = 1 + simulation.below(20);
        }
        for line in 0..COUNT {
            for (number, guest) in world.guests.iter_mut().enumerate() {
                guest.say(&format!("line {line} of {number}\n"));
            }
            for _ in 0..simulation.below(30) {
                let have_moved = world.guests_go_on();
                world.go_on(have_moved)?;
            }
        }
        world.until(|world| world.guests.iter().all(|guest| guest.said().len() == 4 * COUNT))?;
        let heard = world.guests[0].said();
        for (number, guest) in world.guests.iter().enumerate() {
            assert_eq!(guest.said(), heard, "all receive the same");
            let own = heard.iter().filter(|line| line.starts_with(&format!("m{number}: ")));
            let lines: Vec<String> = own.map(|line| line.to_string()).collect();
            let all = (0..COUNT).map(|line| format!("m{number}: line {line} of {number}"));
            assert_eq!(lines, all.collect::<Vec<_>>());
        }
        Ok(())
    })
    .unwrap();
}

/// Says `count` numbered lines of 901 bytes and more.
fn say_much(guest: &mut Guest, count: usize) {
    let text = "~".repeat(900);
    (0..count).for_each(|number| guest.say(&format!("{number} {text}\n")));
}

fn has_heard_all(guest: &Guest, count: usize) -> bool {
    guest.has_heard(&format!(": {} ~", count - 1)) && guest.heard.ends_with(b"~\n")
}

fn assert_heard_all(guest: &Guest, count: usize) {
    let said = guest.said();
    assert_eq!(said.len(), count);
    for (number, line) in said.iter().enumerate() {
        assert!(line.starts_with(&format!("bob: {number} ~")), "line {number}: {line}");
    }
}

#[test]
fn slow_reader_has_the_talker_wait_and_loses_nothing_of_what_is_more_than_any_limit()
-> io::Result<()> {
    const COUNT: usize = 1600;
    let simulation = Simulation::new(1);
    let mut world = World::new(&simulation)?;
    for name in ["ann", "bob", "cid"] {
        world.join(name)?;
    }
    world.guests.iter_mut().for_each(|guest| guest.heard.clear());
    world.guests[0].reads = 200; // a part of a line, while the network carries hundreds of lines
    say_much(&mut world.guests[1], COUNT);
    let mut most = 0;
    world.until(|world| {
        most = most.max(world.unsent_max());
        world.guests[0].heard.len() >= COUNT * 908 && has_heard_all(&world.guests[0], COUNT)
    })?;
    world.guests.iter().for_each(|guest| assert_heard_all(guest, COUNT));
    let bound = chat_server::limits().connection.high_water + 64 * 1024 + 2000;
    assert!(most <= bound, "{most} bytes were unsent");
    Ok(())
}

#[test]
fn slow_members_that_leave_in_any_way_hold_up_the_room_no_longer() -> io::Result<()> {
    const COUNT: usize = 600;
    for seed in 0..20 {
        let simulation = Simulation::new(seed);
        let mut world = World::new(&simulation)?;
        for name in ["ann", "bob", "m2", "m3", "m4"] {
            world.join(name)?;
        }
        world.guests[0].heard.clear();
        world.guests[2..].iter_mut().for_each(|guest| guest.reads = simulation.below(3) * 100);
        say_much(&mut world.guests[1], COUNT);
        let last = format!("bob: {} ~", COUNT - 1);
        while world.guests[0].heard.len() < COUNT * 908 || !world.guests[0].has_heard(&last) {
            let have_moved = world.guests_go_on();
            world.go_on(have_moved)?;
            if world.unsent_max() <= chat_server::limits().connection.high_water {
                continue;
            }
            let place = 2 + simulation.below(200);
            let Some(guest) = world.guests.get_mut(place) else { continue };
            match simulation.below(4) {
                0 => guest.peer.finish(),
                1 => guest.say("/quit\n"),
                2 => guest.say(&"x".repeat(2000)),
                _ => world.guests.remove(place).peer.reset(),
            }
        }
        let said = world.guests[0].said();
        let of_bob: Vec<&str> = said.into_iter().filter(|one| one.starts_with("bob")).collect();
        assert!((0..).zip(of_bob).all(|(n, line)| line.starts_with(&format!("bob: {n} ~"))));
    }
    Ok(())
}

/// Lets bob send `count` lines while `silent` reads nothing. Returns what ann received about
/// `silent`, and how long it took until ann had received everything from bob.
fn talk_beside_a_silent_one(count: usize) -> io::Result<(String, Duration)> {
    let simulation = Simulation::new(1);
    let mut world = World::new(&simulation)?;
    for name in ["silent", "bob", "ann"] {
        world.join(name)?;
    }
    world.guests[0].reads = 0;
    world.guests[2].heard.clear();
    let start = simulation.now();
    say_much(&mut world.guests[1], count);
    world.until(|world| {
        world.guests[2].heard.len() >= count * 908
            && world.guests[2].has_heard(&format!(": {} ~", count - 1))
    })?;
    let took = simulation.now() - start;
    world.until(|world| {
        world.guests[2].has_heard("dropped") && world.guests[2].heard.ends_with(b"\n")
    })?;
    let ann = &mut world.guests[2];
    let text = String::from_utf8(std::mem::take(&mut ann.heard)).unwrap();
    let (told, said): (Vec<&str>, Vec<&str>) =
        text.lines().partition(|line| line.starts_with("* "));
    ann.heard = said.iter().flat_map(|line| [line, "\n"]).flat_map(str::bytes).collect();
    assert_heard_all(ann, count);
    Ok((told.concat(), took))
}

#[test]
fn member_that_reads_nothing_is_waited_for_once_and_dropped_by_the_limit_that_it_breaks()
-> io::Result<()> {
    // More than the kernels and the high-water mark, less than the most that may be unsent.
    let (told, took) = talk_beside_a_silent_one(600)?;
    assert_eq!(told, "* silent was dropped: it read nothing for 10 s");
    assert!(took < Duration::from_millis(1100), "bob's lines arrived after {took:?}");

    let (told, took) = talk_beside_a_silent_one(3000)?;
    assert_eq!(told, "* silent was dropped: more than 1 MiB was waiting for it");
    assert!(took < Duration::from_millis(1100), "bob's lines arrived after {took:?}");
    Ok(())
}

#[test]
fn connection_without_a_name_is_closed_after_a_minute_and_one_with_a_name_is_not() -> io::Result<()>
{
    let simulation = Simulation::new(1);
    let mut world = World::new(&simulation)?;
    world.join("ann")?;
    world.come();
    world.until(|world| world.guests[1].has_heard("name?\n"))?;
    let start = simulation.now();
    world.until(|world| world.guests[1].peer.state() == PeerState::Ended)?;
    assert_eq!(simulation.now() - start, Duration::from_secs(60));
    world.guests[0].say("still here\n");
    world.until(|world| world.guests[0].has_heard("ann: still here"))
}

#[test]
fn members_that_are_lost_to_any_fault_are_gone_and_the_others_hear_what_is_said_in_order() {
    for seed in 0..150 {
        let faults = Faults::drawn(seed);
        let simulation = Simulation::new(seed);
        let mut world = World::new(&simulation).unwrap();
        simulation.set_faults(faults.clone());
        for number in 0..4 {
            let guest = world.come();
            guest.say(&format!("m{number}\n"));
            (0..5).for_each(|line| guest.say(&format!("{line}\n")));
        }
        for _ in 0..simulation.below(2000) {
            let have_moved = world.guests_go_on();
            if world.go_on(have_moved).is_err() {
                break; // nothing can ever happen again
            }
            if simulation.below(200) == 0 && !world.guests.is_empty() {
                world.guests.remove(0).peer.reset();
            }
        }
        for guest in &world.guests {
            for number in 0..4 {
                let prefix = format!("m{number}: ");
                let said = guest.said();
                let numbers = said.iter().filter_map(|line| line.strip_prefix(&prefix));
                let numbers: Vec<usize> = numbers.map(|line| line.parse().unwrap()).collect();
                let is_whole = numbers.windows(2).all(|pair| pair[0] + 1 == pair[1]);
                assert!(is_whole, "seed {seed}: {said:?}");
            }
        }
        world.guests.clear();
        simulation.set_faults(faults.calmed());
        // The missing descriptors are there again; a member that has left is no longer there.
        world.join("ann").unwrap_or_else(|error| panic!("seed {seed}: {error}"));
        // The ends of the others may arrive after her.
        world.until(|world| world.server.event_loop.connection_count() == 1).unwrap();
        world.guests[0].say("/who\n");
        world.until(|world| world.guests[0].has_heard("* 1 here: ann\n")).unwrap_or_else(|_| {
            panic!("seed {seed}: {}", String::from_utf8_lossy(&world.guests[0].heard))
        });
    }
}
