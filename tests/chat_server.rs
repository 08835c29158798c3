//! The chat room among the examples: what its members see of each other, and what they cannot do to
//! each other.
//!
//! `READINESS_FUZZ_SECONDS=60 cargo test --test chat_server members_that_send_anything` talks to it
//! for a minute with bytes drawn from seeds; `READINESS_SEED=7` replays the one of a seed.

#![allow(clippy::unwrap_used, reason = "a failure, also in a helper, is the test's message")]
#![allow(unreachable_pub, reason = "what is shared is public within each test file")]

mod common;
#[path = "common/fuzz.rs"]
mod fuzz;
#[path = "common/programs.rs"]
mod programs;
#[cfg(feature = "simulation")]
#[path = "chat_server/simulated.rs"]
mod simulated;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
#[cfg(unix)]
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use common::{PATIENCE, peer, reset};
use fuzz::Fuzz;
use programs::{Program, assert_failed, server};
use readiness::{ConnectionId, Event, EventLoop};
use socket2::{Domain, SockRef, Socket, Type};

const WELCOME: &str = "* Welcome. There are /who, /nick NAME and /quit";

/// Somebody in the room.
struct Member {
    lines: BufReader<TcpStream>,
}

impl Member {
    fn join(address: SocketAddr, name: &str) -> Self {
        Self::join_by(peer(address), name)
    }

    fn join_by(stream: TcpStream, name: &str) -> Self {
        let mut member = Self { lines: BufReader::new(stream) };
        assert_eq!(member.hear(), "What is your name?");
        member.say(name);
        assert_eq!(member.hear(), WELCOME);
        assert_eq!(member.until(&format!("* {name} joined")), [""; 0]);
        member
    }

    fn say(&mut self, line: &str) {
        self.send(format!("{line}\n").as_bytes());
    }

    fn send(&mut self, bytes: &[u8]) {
        self.lines.get_mut().write_all(bytes).unwrap();
    }

    /// Returns the next line, without its end.
    fn hear(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.strip_suffix('\n').unwrap_or_else(|| panic!("the end followed {line:?}")).to_owned()
    }

    /// Returns what it receives before this line.
    fn until(&mut self, last: &str) -> Vec<String> {
        std::iter::from_fn(|| Some(self.hear()).filter(|line| line != last)).collect()
    }

    /// Returns what it receives up to the end; a reset ends it too.
    fn rest(mut self) -> String {
        let mut bytes = Vec::new();
        let _ = self.lines.read_to_end(&mut bytes);
        String::from_utf8(bytes).unwrap()
    }
}

// What members see.

#[test]
fn members_see_who_joins_and_leaves_and_all_that_is_said_in_one_order() {
    let (_server, address) = server("chat_server");
    let mut ann = Member::join(address, "ann");
    let mut bob = Member::join(address, "bob");
    assert_eq!(ann.hear(), "* bob joined");
    ann.say("hello");
    bob.until("ann: hello");
    bob.say("hello, ann");
    ann.until("bob: hello, ann");
    bob.until("bob: hello, ann");
    ann.say("/who");
    assert_eq!(ann.hear(), "* 2 here: ann, bob");
    bob.say("/nick Bob-2");
    assert_eq!(
        (ann.hear(), bob.hear()),
        ("* bob is now Bob-2".into(), "* bob is now Bob-2".into())
    );
    bob.say("as Bob-2");
    bob.say("/quit");
    assert_eq!(ann.until("* Bob-2 left"), ["Bob-2: as Bob-2"]);
    assert_eq!(bob.rest(), "Bob-2: as Bob-2\n");
    ann.say("alone");
    assert_eq!(ann.hear(), "ann: alone");
}

#[test]
fn name_that_is_none_or_taken_is_refused_until_it_is_one() {
    let (_server, address) = server("chat_server");
    let mut ann = Member::join(address, "ann");
    let mut other = Member { lines: BufReader::new(peer(address)) };
    assert_eq!(other.hear(), "What is your name?");
    let none = "! A name has 1 to 20 letters, digits, - and _: try another";
    for name in ["", "two words", "*", "\u{1b}[2J", "a\u{202e}b", &"x".repeat(21)] {
        other.say(name);
        assert_eq!(other.hear(), none, "{name:?}");
    }
    other.say("ANN");
    assert_eq!(other.hear(), "! Somebody here has that name: try another");
    other.say(&"ä".repeat(20));
    assert_eq!(other.hear(), WELCOME);
    assert_eq!(ann.hear(), format!("* {} joined", "ä".repeat(20)));
    // One's own name in other letters is free.
    ann.say("/nick ANN");
    assert_eq!(ann.hear(), "* ann is now ANN");
    ann.say("/nick");
    assert_eq!(ann.hear(), none);
    ann.say("/nonsense");
    assert_eq!(ann.hear(), "! There are only /who, /nick NAME and /quit");
    drop(other);
    assert_eq!(ann.hear(), format!("* {} left", "ä".repeat(20)));
    let _ = Member::join(address, &"Ä".repeat(20)); // free again
}

#[test]
fn nothing_that_steers_a_terminal_reaches_another_member() {
    let (_server, address) = server("chat_server");
    let mut ann = Member::join(address, "ann");
    let mut bob = Member::join(address, "bob");
    ann.until("* bob joined");
    let sent: [(&[u8], &str); 8] = [
        (b"\x1b[31mred\x1b[0m", "\u{fffd}[31mred\u{fffd}[0m"),
        (b"\x1b]0;title\x07", "\u{fffd}]0;title\u{fffd}"),
        (
            b"bell \x07, back \x08, delete \x7f, zero \0",
            "bell \u{fffd}, back \u{fffd}, delete \u{fffd}, zero \u{fffd}",
        ),
        (b"over\rwritten", "over\u{fffd}written"),
        ("C1 \u{9b}31m".as_bytes(), "C1 \u{fffd}31m"),
        (b"no UTF-8: \xff\xc3(", "no UTF-8: \u{fffd}\u{fffd}("),
        ("right to left \u{202e}".as_bytes(), "right to left \u{fffd}"),
        ("tab\tand ünïcode, 漢字".as_bytes(), "tab and ünïcode, 漢字"),
    ];
    for (line, heard) in sent {
        ann.send(line);
        ann.send(b"\r\n");
        assert_eq!(bob.hear(), format!("ann: {heard}"));
    }
}

#[test]
fn line_that_is_too_long_ends_its_member_and_the_others_are_told() {
    let (_server, address) = server("chat_server");
    let mut ann = Member::join(address, "ann");
    let mut bob = Member::join(address, "bob");
    ann.until("* bob joined");
    let longest = "x".repeat(999);
    bob.say(&longest);
    assert_eq!(ann.hear(), format!("bob: {longest}"));
    bob.say(&"x".repeat(1000));
    bob.send(b"never heard\n");
    assert_eq!(ann.hear(), "* bob was dropped: it sent a line that is too long");
    let end = "! A line has 1000 bytes at most\n";
    assert_eq!(bob.rest(), format!("bob: {longest}\n{end}"));
    // The same without a line ending: nothing is kept until one arrives.
    let mut cid = Member::join(address, "cid");
    cid.send(&[b'x'; 1000]);
    assert_eq!(cid.rest(), end);
    ann.until("* cid was dropped: it sent a line that is too long");
}

#[test]
fn line_without_an_ending_is_said_when_its_member_ends() {
    let (_server, address) = server("chat_server");
    let mut ann = Member::join(address, "ann");
    let mut bob = peer(address);
    bob.write_all(b"bob\nhello\nbye").unwrap();
    bob.shutdown(Shutdown::Write).unwrap();
    assert_eq!(ann.until("* bob left"), ["* bob joined", "bob: hello", "bob: bye"]);
    // Even a name.
    let mut cid = peer(address);
    cid.write_all(b"cid").unwrap();
    cid.shutdown(Shutdown::Write).unwrap();
    assert_eq!(ann.until("* cid left"), ["* cid joined"]);
}

#[test]
fn member_that_is_reset_or_ends_after_any_byte_leaves_the_room_as_it_was() {
    const SCRIPT: &[u8] = b"bob\nhello\n/nick bo\n/who\nbye\n/quit\n";
    let (_server, address) = server("chat_server");
    let mut ann = Member::join(address, "ann");
    for count in 0..=SCRIPT.len() {
        for end in 0..3 {
            let mut bob = peer(address);
            bob.write_all(&SCRIPT[..count]).unwrap();
            match end {
                0 => reset(bob),
                1 => drop(bob), // with unread bytes, which is a reset too, but later
                _ => {
                    bob.shutdown(Shutdown::Write).unwrap();
                    let text = std::io::read_to_string(&bob).unwrap();
                    assert!(text.starts_with("What is your name?\n"), "{text:?}");
                }
            }
        }
    }
    // All of them have left.
    loop {
        ann.say("/who");
        let heard = std::iter::from_fn(|| Some(ann.hear()));
        let who = heard.into_iter().find(|line| line.contains(" here: ")).unwrap();
        if who == "* 1 here: ann" {
            break;
        }
    }
}

// Many, and slow ones.

/// What a member of a crowd has received.
#[derive(Default)]
struct Heard {
    number: usize,
    lines: Vec<u8>,
    reads_slowly: bool,
}

const CROWD: usize = 1000;
const SLOW: usize = 40;
const ROUNDS: usize = 6;

/// Returns a line of a member's, as the others receive it. The lines are long, so that they exceed
/// what the kernels hold for slow readers.
fn line_of(number: usize, round: usize) -> String {
    format!("m{number}: round {round} {}\n", "~".repeat(60))
}

fn crowd_member(address: SocketAddr, reads_slowly: bool) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
    if reads_slowly {
        socket.set_recv_buffer_size(64 * 1024).unwrap();
    }
    socket.connect(&address.into()).unwrap();
    socket.into()
}

/// Reads on: a slow one 16 KiB at each tick of a timer.
fn crowd_hears(crowd: &mut EventLoop<Heard>, event: Event, slow: &[ConnectionId]) {
    match event {
        Event::Received(id) => {
            let (heard, stream) = crowd[id].split();
            heard.lines.extend_from_slice(stream.received());
            stream.consume(stream.received().len());
            if heard.reads_slowly {
                stream.pause();
            }
        }
        Event::Timer(_) => {
            for id in slow {
                crowd.get_mut(*id).into_iter().for_each(|member| member.resume());
            }
        }
        Event::Closed(id, reason) => panic!("m{} was lost: {reason}", crowd[id].data.number),
        _ => {}
    }
}

fn count_of(crowd: &EventLoop<Heard>, is_whole: impl Fn(&Heard) -> bool) -> usize {
    crowd.connections().filter(|one| is_whole(&one.data)).count()
}

#[test]
fn thousand_members_of_whom_forty_read_slowly_lose_no_line() {
    common::child::with_descriptors(test_name!(), CROWD + 200, || {
        let (_server, address) = server("chat_server");
        let limits = common::connection_limits(|limits| limits.read_buffer_max = 16 * 1024);
        let mut crowd: EventLoop<Heard> = EventLoop::with_limits(limits).unwrap();
        let ids: Vec<ConnectionId> = (0..CROWD)
            .map(|number| {
                let reads_slowly = number < SLOW;
                let data = Heard { number, lines: Vec::new(), reads_slowly };
                crowd.adopt_stream(crowd_member(address, reads_slowly), data).unwrap()
            })
            .collect();
        crowd.set_repeating_timer(Duration::from_millis(2));
        let slow = &ids[..SLOW];
        for (number, id) in ids.iter().enumerate() {
            crowd[*id].send(format!("m{number}\n").as_bytes());
        }
        // When all have joined, every member's list has the others.
        let mut asked = false;
        common::until_within(8 * PATIENCE, &mut crowd, |crowd, event| {
            crowd_hears(crowd, event, slow);
            let joined = |heard: &Heard| heard.lines.len() > "What is your name?\n".len();
            if !asked && matches!(event, Event::Timer(_)) && count_of(crowd, joined) == CROWD {
                asked = true;
                crowd[ids[CROWD - 1]].send(b"begin\n");
            }
            let begun = |heard: &Heard| heard.lines.ends_with(b": begin\n");
            (asked && matches!(event, Event::Timer(_)) && count_of(crowd, begun) == CROWD)
                .then_some(())
        });
        for round in 0..ROUNDS {
            for (number, id) in ids.iter().enumerate() {
                let line = line_of(number, round);
                let (_, text) = line.split_once(": ").unwrap();
                crowd[*id].send(text.as_bytes());
            }
        }
        crowd.connections_mut().for_each(|member| member.data.lines.clear());
        let all: usize = (0..ROUNDS)
            .flat_map(|round| (0..CROWD).map(move |one| line_of(one, round).len()))
            .sum();
        common::until_within(8 * PATIENCE, &mut crowd, |crowd, event| {
            crowd_hears(crowd, event, slow);
            let is_tick = matches!(event, Event::Timer(_));
            (is_tick && count_of(crowd, |heard| heard.lines.len() >= all) == CROWD).then_some(())
        });
        assert_all_heard_all(&crowd);
    });
}

/// Checks that all received the same, and that it is every line of every member, in each one's
/// order.
fn assert_all_heard_all(crowd: &EventLoop<Heard>) {
    let first = &crowd.connections().next().unwrap().data.lines;
    let text = std::str::from_utf8(first).unwrap();
    let mut rounds = vec![0; CROWD];
    for line in text.split_inclusive('\n') {
        let (name, _) = line.split_once(": ").unwrap();
        let number: usize = name[1..].parse().unwrap();
        assert_eq!(line, line_of(number, rounds[number]));
        rounds[number] += 1;
    }
    assert_eq!(rounds, vec![ROUNDS; CROWD]);
    for member in crowd.connections() {
        assert!(member.data.lines == *first, "m{} received something else", member.data.number);
    }
}

#[test]
fn member_that_never_reads_is_dropped_the_others_are_told_and_lose_nothing() {
    const COUNT: usize = 4000;
    let (_server, address) = server("chat_server");
    let stream = peer(address);
    SockRef::from(&stream).set_recv_buffer_size(4096).unwrap();
    let mut silent = Member::join_by(stream, "silent");
    let mut ann = Member::join(address, "ann");
    silent.until("* ann joined");
    let mut talker = Member::join(address, "bob").lines.into_inner();
    let mut listener = talker.try_clone().unwrap();
    // It reads its own lines too: the room reads nothing from a member that does not read.
    let reading = thread::spawn(move || std::io::copy(&mut listener, &mut std::io::sink()));
    let line = "~".repeat(900);
    let talking = thread::spawn(move || {
        (0..COUNT)
            .for_each(|number| talker.write_all(format!("{number} {line}\n").as_bytes()).unwrap());
        talker
    });
    let (mut heard, mut is_told) = (0, false);
    ann.until("* bob joined");
    while heard < COUNT || !is_told {
        let line = ann.hear();
        if line.starts_with("* silent was dropped: ") {
            assert_eq!(line, "* silent was dropped: more than 1 MiB was waiting for it");
            is_told = true;
        } else {
            assert!(line.starts_with(&format!("bob: {heard} ~")), "{line}");
            heard += 1;
        }
    }
    ann.say("/who");
    assert_eq!(ann.hear(), "* 2 here: ann, bob");
    talking.join().unwrap().shutdown(Shutdown::Write).unwrap();
    reading.join().unwrap().unwrap();
}

#[test]
#[cfg(unix)]
fn with_64_descriptors_more_members_wait_and_come_in_when_others_leave() {
    let mut command = Command::new("sh");
    let path = programs::command("chat_server").get_program().to_owned();
    command.args(["-c", "ulimit -n 64; exec \"$0\" 127.0.0.1:0"]).arg(path);
    let program = Program::start_with(&mut command, Stdio::piped(), Stdio::piped());
    let (_server, address) = program.listening();
    let mut streams: Vec<TcpStream> = (0..150).map(|_| peer(address)).collect();
    for (number, stream) in streams.drain(..).enumerate() {
        let mut member = Member::join_by(stream, &format!("m{number}"));
        member.say("/quit");
        assert_eq!(member.rest(), "");
    }
}

// Anything.

#[test]
fn members_that_send_anything_show_nothing_that_steers_a_terminal_and_harm_nobody() {
    let (_server, address) = server("chat_server");
    let mut ann = Member::join(address, "ann");
    Fuzz::run(|fuzz| {
        let mut members: Vec<TcpStream> = (0..3).map(|_| peer(address)).collect();
        for _ in 0..fuzz.below(20) {
            let place = fuzz.below(members.len());
            let bytes = fuzz.bytes(&[
                b"bob\n", b"\r\n", b"/nick ", b"/who\n", b"/quit\n", b"\x1b[2J", b"ann", b"/",
                b"\n", b" ",
            ]);
            // It may have been dropped, for a line that is too long.
            let _ = members[place].write_all(&bytes);
        }
        for member in members {
            match fuzz.below(3) {
                0 => reset(member),
                1 => drop(member),
                _ => {
                    let _ = member.shutdown(Shutdown::Write);
                    let _ = std::io::copy(&mut &member, &mut std::io::sink());
                }
            }
        }
        let mark = format!("after {}", fuzz.seed());
        ann.say(&mark);
        for line in ann.until(&format!("ann: {mark}")) {
            assert!(!line.contains(char::is_control), "{line:?}");
        }
    });
}

// The program.

#[test]
#[cfg(unix)]
fn ctrl_c_tells_the_members_and_lets_them_go() {
    let (mut server, address) = server("chat_server");
    let mut ann = Member::join(address, "ann");
    ann.say("last words");
    ann.until("ann: last words");
    server.signal("INT");
    let line = "Shutting down: 10s for 1 connection to finish. Ctrl-C again aborts the rest";
    assert_eq!(server.stdout.next().as_deref(), Some(line));
    assert_eq!(ann.rest(), "* The server is shutting down\n");
    let ended = server.ended();
    assert_eq!((ended.status, ended.stderr.as_str()), (Some(0), ""));
}

#[test]
#[cfg(unix)]
fn netcat_joins_talks_and_leaves() {
    let netcat = Command::new("nc").arg("-h").stderr(Stdio::null()).stdout(Stdio::null()).status();
    skip_unless!(netcat.is_ok(), "nc is not installed");
    let (_server, address) = server("chat_server");
    let mut ann = Member::join(address, "ann");
    let mut command = Command::new("nc");
    command.args([address.ip().to_string(), address.port().to_string()]);
    let mut netcat = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    netcat.stdin.take().unwrap().write_all(b"nc\nhello\n/quit\n").unwrap();
    assert_eq!(ann.until("* nc left"), ["* nc joined", "nc: hello"]);
    let mut text = String::new();
    netcat.stdout.take().unwrap().read_to_string(&mut text).unwrap();
    netcat.wait().unwrap();
    assert_eq!(text, format!("What is your name?\n{WELCOME}\n* nc joined\nnc: hello\n"));
}

#[test]
fn bad_arguments_are_refused_and_help_fits_a_terminal() {
    assert_failed("chat_server", &["nonsense"], "bad address \"nonsense\": it has no port");
    assert_failed("chat_server", &["127.0.0.1:0", "b"], "one argument too many");
    let (_server, address) = server("chat_server");
    let taken = address.to_string();
    assert_failed("chat_server", &[&taken], &format!("cannot listen at {taken}: "));
    let help = Program::run("chat_server", &["--help"]).stdout;
    assert!(help.lines().all(|line| line.chars().count() <= 80), "{help}");
}
