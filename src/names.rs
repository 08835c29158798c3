//! Resolves names on helper threads, so that no call into the loop blocks.
//!
//! The system's resolver blocks, for many seconds if a name server does not answer. So each name is
//! given to a thread, which wakes the loop when it has an answer. At most four threads are started,
//! when they are first needed. They end with the loop; a thread inside the resolver ends as soon as
//! that returns.
//!
//! It deliberately caches no answer.

use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use crate::system::{Answer, Question, System};
use crate::waker::Waker;

/// Maximum number of helper threads.
const THREADS_MAX: usize = 4;

/// The names that are being resolved for one loop, and the threads that do so.
pub(crate) struct Names {
    questions: Sender<Question>,
    /// The threads take turns at receiving from this end.
    asked: Arc<Mutex<Receiver<Question>>>,
    answering: Sender<Answer>,
    answers: Receiver<Answer>,
    threads: usize,
    /// How many names are not answered yet.
    open: usize,
}

impl Names {
    pub(crate) fn new() -> Self {
        let (questions, asked) = mpsc::channel();
        let (answering, answers) = mpsc::channel();
        let asked = Arc::new(Mutex::new(asked));
        Self { questions, asked, answering, answers, threads: 0, open: 0 }
    }

    /// Begins to resolve a name. The answer wakes the loop.
    pub(crate) fn ask(
        &mut self,
        question: Question,
        waker: &Waker,
        system: &System,
    ) -> io::Result<()> {
        let Some(question) = system.ask_name(question) else { return Ok(()) };
        if self.open >= self.threads && self.threads < THREADS_MAX {
            let started = self.start_thread(waker);
            // The threads that exist will resolve it later.
            if self.threads == 0 {
                started?;
            }
        }
        // The receiving end is kept here, so this cannot fail.
        let _ = self.questions.send(question);
        self.open += 1;
        Ok(())
    }

    /// Takes the next answer, if there is one. A simulated network leaves no name to the threads.
    pub(crate) fn take_answer(&mut self, system: &System) -> Option<Answer> {
        if self.open == 0 { system.take_answer() } else { self.take_found() }
    }

    /// Takes what a thread has found. Few turns of a loop have a name to wait for.
    #[cold]
    fn take_found(&mut self) -> Option<Answer> {
        let answer = self.answers.try_recv().ok()?;
        self.open -= 1;
        Some(answer)
    }

    fn start_thread(&mut self, waker: &Waker) -> io::Result<()> {
        let (asked, answering) = (Arc::clone(&self.asked), self.answering.clone());
        let waker = waker.clone();
        let name = String::from("readiness-names");
        thread::Builder::new().name(name).spawn(move || {
            loop {
                let question = asked.lock().unwrap_or_else(PoisonError::into_inner).recv();
                let Ok(question) = question else { return };
                if answering.send(answer(&question)).is_err() {
                    return;
                }
                waker.notify_loop();
            }
        })?;
        self.threads += 1;
        Ok(())
    }
}

/// Resolves a name, unless its connection was freed while it waited for its turn: then nothing waits
/// for the answer any more, and the names behind it must not wait for the resolver.
fn answer(question: &Question) -> Answer {
    let found = match question.is_wanted.upgrade() {
        Some(_) => look_up(&question.host, question.port),
        None => Err(io::ErrorKind::NotFound.into()),
    };
    (question.id, found)
}

fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    let addresses = (host, port).to_socket_addrs().map_err(|error| match error.raw_os_error() {
        // The resolver's own errors are not the system's and have no number.
        None => io::Error::new(io::ErrorKind::NotFound, error),
        Some(_) => error,
    })?;
    Ok(addresses.collect())
}

/// What a name and a port stand for.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Target<'n> {
    Address(SocketAddr),
    Host(&'n str, u16),
}

/// Parses `host:port`. An IPv6 address is in brackets.
pub(crate) fn parse(name: &str) -> io::Result<Target<'_>> {
    if let Ok(address) = name.parse() {
        return Ok(Target::Address(address));
    }
    let refuse = |message: &str| {
        let message = format!("{name:?} is not an address to connect to: {message}");
        Err(io::Error::new(io::ErrorKind::InvalidInput, message))
    };
    let Some((host, port)) = name.rsplit_once(':') else {
        return refuse("a port is missing, as in localhost:80");
    };
    // The scope of a link-local address may be the name of an interface, which is looked up.
    let scoped = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let host = scoped.filter(|host| host.contains('%')).unwrap_or(host);
    if host.contains(['[', ']']) || host.contains(':') && scoped.is_none() {
        return refuse("an IPv6 address stands in brackets, as in [::1]:80");
    }
    if host.is_empty() || host.contains(char::is_whitespace) {
        return refuse("the name of a host is missing");
    }
    match port.parse() {
        Ok(number) if !port.starts_with('+') => Ok(Target::Host(host, number)),
        _ => refuse("the port is not a number up to 65535"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_addresses_are_told_apart() {
        let address = |text: &str| Target::Address(text.parse().unwrap());
        assert_eq!(parse("127.0.0.1:80").unwrap(), address("127.0.0.1:80"));
        assert_eq!(parse("[::1]:80").unwrap(), address("[::1]:80"));
        assert_eq!(parse("localhost:80").unwrap(), Target::Host("localhost", 80));
        assert_eq!(parse("a-b.example.:0").unwrap(), Target::Host("a-b.example.", 0));
        assert_eq!(parse("[fe80::1%lo]:80").unwrap(), Target::Host("fe80::1%lo", 80));
    }

    #[test]
    fn name_whose_connection_was_freed_is_not_resolved() {
        use std::num::NonZero;

        let id = crate::slots::ConnectionId { slot: 0, generation: NonZero::<u32>::MIN };
        let wanted = Arc::new(());
        let is_wanted = Arc::downgrade(&wanted);
        let question = Question { id, host: String::from("127.0.0.1"), port: 80, is_wanted };
        assert_eq!(answer(&question).1.unwrap(), ["127.0.0.1:80".parse().unwrap()]);
        drop(wanted);
        assert_eq!(answer(&question).1.unwrap_err().kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn what_is_neither_is_refused_with_the_reason() {
        for (name, reason) in [
            ("", "a port is missing"),
            ("localhost", "a port is missing"),
            ("localhost:", "the port is not a number"),
            ("localhost:http", "the port is not a number"),
            ("localhost:65536", "the port is not a number up to 65535"),
            ("localhost:-1", "the port is not a number"),
            ("localhost:+1", "the port is not a number"),
            (":80", "the name of a host is missing"),
            ("a host:80", "the name of a host is missing"),
            ("::1:80", "an IPv6 address stands in brackets"),
            ("[::1:80", "an IPv6 address stands in brackets"),
            ("[nonsense]:80", "an IPv6 address stands in brackets"),
            ("fe80::1%lo:80", "an IPv6 address stands in brackets"),
        ] {
            let error = parse(name).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidInput, "{name}");
            assert!(error.to_string().contains(reason), "{name}: {error}");
        }
    }
}
