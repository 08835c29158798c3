//! A chat room for thousands, in one thread.
//!
//! It shows what one connection's bytes do to the others. What members say is gathered for as long
//! as each turn of the loop brings more, and leaves in one send to each of them
//! ([`EventLoop::send_each`]). A timer of no time, which fires in the next turn, marks the end of a
//! turn. Back-pressure goes from the room to its talkers: while a member reads more slowly than the
//! others talk, none of them is read from. Only a member that reads nothing is not waited for. It
//! is dropped, by a limit, and the others are informed.
//!
//! It also shows what a server owes to those behind a terminal. What is no text, such as the escape
//! sequences that move a cursor or change a window's title, never reaches another member.
//!
//! ```text
//! cargo run --release --example chat_server
//! ```
//!
//! Then, in other terminals, `nc 127.0.0.1 65432`. The first line is one's name.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind};
use std::process::ExitCode;
use std::time::Duration;

use readiness::{
    CloseReason, Connection, ConnectionId, Deadline, Event, EventLoop, Limits, WriteHalf,
};

mod common;
#[path = "common/listener.rs"]
mod listener;
#[path = "common/signals.rs"]
mod signals;
#[path = "common/terminal.rs"]
mod terminal;

use signals::CtrlC;

const USAGE: &str = "\
A chat room for people with nc or telnet. A member's first line is its name.

Usage: chat_server [ADDRESS]

  ADDRESS     where to listen [default: 127.0.0.1:65432]; with port 0 the system
              chooses one
  -h, --help  print this

Members write lines of up to 1000 bytes, and /who, /nick NAME and /quit. While a
member reads slowly the others wait for it, up to a second for each time that it
takes something. One that takes nothing for 10 seconds, or for which more than
1 MiB is waiting, is dropped.

Ctrl-C lets the members finish for up to 10 seconds; a second one aborts them.
RUST_LOG=readiness=trace in the environment prints each step of the loop.";

/// The longest line in bytes, with its ending.
const LINE_MAX: usize = 1000;
/// The longest name in letters.
const NAME_MAX: usize = 20;
/// How long a connection may stay without a name.
const NAMING: Duration = Duration::from_secs(60);
/// When this much was said and not sent, members that say more wait.
const SAID_MAX: usize = 64 * 1024;
/// With more unsent bytes than this a member is slow.
const HIGH_WATER: usize = 2 * SAID_MAX;
/// How long the room waits for a slow member that takes nothing.
const PATIENCE: Duration = Duration::from_secs(1);
/// What the kernel keeps for a member. It is little, so that a slow one is seen to be slow, and to
/// take something, before it lags behind by megabytes.
const SEND_BUFFER: usize = 64 * 1024;

fn main() -> ExitCode {
    common::run(USAGE, serve)
}

fn serve(arguments: common::Arguments) -> common::Outcome {
    let address = arguments.address()?;

    let mut chat = EventLoop::with_limits(limits())?;
    let listen = |address| listener::listen(address, |it| it.set_send_buffer_size(SEND_BUFFER));
    let socket = address.open(listen).map_err(common::cannot_listen(&address))?;
    let listener = chat.adopt_listener(socket, |_| Member::default())?;
    let mut ctrl_c = CtrlC::new(&mut chat)?;
    common::status(format_args!("Listening on {}", chat.listener_addr(listener)?));
    let mut room = Room::default();
    loop {
        let event = chat.next_event()?;
        if event == Event::ShutDown {
            return Ok(());
        }
        room.handle(&mut chat, event);
        ctrl_c.handle(&mut chat, event);
    }
}

pub(crate) fn limits() -> Limits {
    let mut limits = Limits::default();
    let member = &mut limits.connection;
    member.read_buffer_max = 16 * LINE_MAX;
    member.high_water = HIGH_WATER;
    member.unsent_max = 1024 * 1024;
    member.stalled_write_deadline = Duration::from_secs(10);
    member.keepalive = Some(Duration::from_secs(60));
    limits
}

/// What is known of a connection.
#[derive(Default)]
pub(crate) struct Member {
    /// It takes part once it has one.
    name: Option<String>,
    pace: Pace,
}

/// How a member keeps up with what is said.
#[derive(Clone, Copy, Default, PartialEq)]
enum Pace {
    #[default]
    Even,
    /// The room waits for it. It had this much unsent when the room looked last.
    Slow(usize),
    /// It has taken nothing for as long as the room waits.
    Stalled,
}

/// Everything that the members share.
#[derive(Default)]
pub(crate) struct Room {
    /// By their names in lower case.
    members: BTreeMap<String, (String, ConnectionId)>,
    /// What was said and is to be sent to all.
    said: Vec<u8>,
    /// How much it was when a timer was set, if one is, for the beginning of the next turn.
    heard: Option<usize>,
    /// For how many members the room waits.
    slow: usize,
    /// The members that have something to say, and are paused until they may.
    held: Vec<ConnectionId>,
}

impl Room {
    pub(crate) fn handle(&mut self, chat: &mut EventLoop<Member>, event: Event) {
        match event {
            Event::Accepted(_, id) => {
                chat[id].send(b"What is your name?\n");
                chat[id].set_deadline(Some(NAMING));
            }
            Event::Received(id) => chat[id].attend(|member| self.hear(member)),
            // What arrives after the last line ending is a line too. What was said in this turn is
            // sent to it, as to the members that stay.
            Event::PeerFinished(id) => chat[id].attend(|member| {
                while self.hear_line(member)? {}
                if member.data.name.is_some() {
                    member.send(&self.said);
                    self.part(&mut member.data, "left");
                }
                Ok(())
            }),
            Event::Deadline(id) => self.look(&mut chat[id]),
            Event::Drained(id) => self.set_pace(&mut chat[id].data, Pace::Even),
            Event::Ready(..) => {
                // Ctrl-C. What was said until then is to leave too.
                self.tell(&["* The server is shutting down"]);
                self.speak(chat);
            }
            Event::Timer(_) => {
                // A turn is over. If it has brought more, the next may too: so the lines of all
                // members that talk at the same time leave together.
                let has_more = self.heard.take().is_some_and(|before| before < self.said.len());
                if !has_more || self.said.len() >= SAID_MAX {
                    self.speak(chat);
                }
            }
            Event::Closed(id, reason) => self.part(&mut chat[id].data, farewell(reason)),
            _ => {}
        }
        self.go_on(chat);
    }

    /// Reads on and speaks, unless the room waits for a slow member.
    fn go_on(&mut self, chat: &mut EventLoop<Member>) {
        if self.slow == 0 && self.said.len() < SAID_MAX {
            for id in self.held.drain(..) {
                if let Some(member) = chat.get_mut(id) {
                    member.resume();
                }
            }
        }
        if self.slow == 0 && !self.said.is_empty() && self.heard.is_none() {
            self.heard = Some(self.said.len());
            chat.set_timer(Duration::ZERO);
        }
    }

    /// Takes what a member says, as long as the room can take it.
    fn hear(&mut self, member: &mut Connection<Member>) -> io::Result<()> {
        while self.said.len() < SAID_MAX {
            // A member that asks for more than it reads has to read first.
            if member.is_clogged() || !self.hear_line(member)? {
                return Ok(());
            }
        }
        self.held.push(member.id());
        member.pause();
        Ok(())
    }

    /// Hears one line, and returns whether there was one.
    fn hear_line(&mut self, member: &mut Connection<Member>) -> io::Result<bool> {
        let id = member.id();
        let (data, stream) = member.split();
        let (mut read, mut write) = stream.halves();
        match read.take_line(LINE_MAX) {
            Ok(Some(line)) => self.take(id, data, &printable(line), &mut write),
            Ok(None) => return Ok(false),
            Err(error) if error.kind() != ErrorKind::InvalidData => return Err(error),
            Err(error) => {
                write.send(b"! A line has 1000 bytes at most\n");
                self.part(data, "was dropped: it sent a line that is too long");
                return Err(error);
            }
        }
        Ok(true)
    }

    /// Takes one line of a member.
    fn take(&mut self, id: ConnectionId, member: &mut Member, line: &str, to: &mut WriteHalf<'_>) {
        let Some(name) = &member.name else {
            return self.name(id, member, line.trim(), to);
        };
        match line.split_once(' ').unwrap_or((line, "")) {
            ("/nick", name) => self.name(id, member, name.trim(), to),
            ("/who", _) => {
                let names: Vec<&str> = self.members.values().map(|(name, _)| &**name).collect();
                to.send(format!("* {} here: {}\n", names.len(), names.join(", ")).as_bytes());
            }
            ("/quit", _) => {
                to.send(&self.said); // also of this turn
                self.part(member, "left");
                to.close();
            }
            (word, _) if word.starts_with('/') => {
                to.send(b"! There are only /who, /nick NAME and /quit\n");
            }
            _ if line.is_empty() => {}
            _ => self.tell(&[name, ": ", line]),
        }
    }

    /// Gives a member the name that it wants.
    fn name(&mut self, id: ConnectionId, member: &mut Member, name: &str, to: &mut WriteHalf<'_>) {
        let is_in_name = |letter: char| letter.is_alphanumeric() || "-_".contains(letter);
        let (length, key) = (name.chars().count(), name.to_lowercase());
        if !(1..=NAME_MAX).contains(&length) || !name.chars().all(is_in_name) {
            return to.send(b"! A name has 1 to 20 letters, digits, - and _: try another\n");
        }
        if self.members.get(&key).is_some_and(|(_, holder)| *holder != id) {
            return to.send(b"! Somebody here has that name: try another\n");
        }
        match member.name.replace(name.to_owned()) {
            Some(before) => {
                self.members.remove(&before.to_lowercase());
                self.tell(&["* ", &before, " is now ", name]);
            }
            None => {
                to.send(b"* Welcome. There are /who, /nick NAME and /quit\n");
                self.tell(&["* ", name, " joined"]);
            }
        }
        self.members.insert(key, (name.to_owned(), id));
    }

    /// Strikes a member from the list, if it is on it, and informs the others.
    fn part(&mut self, member: &mut Member, how: &str) {
        self.set_pace(member, Pace::Even);
        if let Some(name) = member.name.take() {
            self.members.remove(&name.to_lowercase());
            self.tell(&["* ", &name, " ", how]);
        }
    }

    /// Adds a line to what is sent to all members in this turn.
    fn tell(&mut self, line: &[&str]) {
        line.iter().for_each(|part| self.said.extend_from_slice(part.as_bytes()));
        self.said.push(b'\n');
    }

    /// Sends what was said to all members, and waits for those for which that was too much.
    fn speak(&mut self, chat: &mut EventLoop<Member>) {
        chat.send_each(self.members.values().map(|(_, id)| *id), &self.said);
        self.said.clear();
        for member in chat.connections_mut() {
            let is_even = member.data.name.is_some() && member.data.pace == Pace::Even;
            if is_even && member.unsent() > HIGH_WATER {
                self.wait_for(member);
            }
        }
    }

    fn wait_for(&mut self, member: &mut Connection<Member>) {
        let unsent = member.unsent();
        self.set_pace(&mut member.data, Pace::Slow(unsent));
        member.set_deadline(Some(PATIENCE));
    }

    /// Looks whether a slow member has taken something. One that has not is not waited for.
    fn look(&mut self, member: &mut Connection<Member>) {
        match member.data.pace {
            Pace::Slow(before) if member.unsent() < before => self.wait_for(member),
            Pace::Slow(_) => self.set_pace(&mut member.data, Pace::Stalled),
            _ if member.data.name.is_none() => member.close_with(ErrorKind::TimedOut),
            _ => {}
        }
    }

    fn set_pace(&mut self, member: &mut Member, pace: Pace) {
        let is_slow = |pace| usize::from(matches!(pace, Pace::Slow(_)));
        self.slow = self.slow + is_slow(pace) - is_slow(member.pace);
        member.pace = pace;
    }
}

/// Returns how the others are informed of a member that the room has lost.
fn farewell(reason: CloseReason) -> &'static str {
    match reason {
        CloseReason::Overflow => "was dropped: more than 1 MiB was waiting for it",
        CloseReason::TimedOut(Deadline::StalledWrite) => "was dropped: it read nothing for 10 s",
        _ => "left",
    }
}

/// Returns a line as text that does nothing to a terminal: what is no text or steers it becomes a
/// replacement character, and a tab a space.
fn printable(line: &[u8]) -> String {
    String::from_utf8_lossy(line).replace('\t', " ").replace(terminal::steers, "\u{fffd}")
}
