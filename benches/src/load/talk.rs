//! Talking on connections that stay: edge-triggered, each read into one shared buffer, each message
//! a slice of the pattern, so that the load is cheaper than the servers.
//!
//! A connection that exchanges messages is served at once. Streams are queued, and one of them is
//! served between two looks at the kernel, so that the load itself holds up a small talker for no
//! longer than that takes. A slow reader reads at each look that reports something, for whatever
//! connection it is.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::TcpStream as BlockingStream;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};

use mio::net::TcpStream;
use mio::{Events, Interest, Poll, Token};

use crate::load::connecting::{self, PATIENCE};
use crate::load::meter::Meter;
use crate::load::pattern::Pattern;
use crate::load::{Group, Manner, Order, Report, Wait};

mod talker;

use talker::Talker;

/// Read at once: more than a server sends at once.
const BUFFER: usize = 128 * 1024;

pub(super) fn run(order: &Order, groups: &[Group], lines: bool, wait: Wait) -> io::Result<Report> {
    let pattern = if lines { Pattern::lines(groups[0].size) } else { Pattern::new() };
    let count = groups.iter().map(|group| group.connections).sum();
    let sockets = connecting::open(order.address, order.server, count)?;
    run_on(sockets, order, groups, pattern, wait)
}

fn run_on(
    sockets: Vec<BlockingStream>,
    order: &Order,
    groups: &[Group],
    pattern: Pattern,
    wait: Wait,
) -> io::Result<Report> {
    let meter = Meter::start(order.extent, order.server)?;
    let mut talk = Talk::new(pattern, meter, sockets, groups)?;
    talk.begin()?;
    // Beginning with thousands takes a while.
    talk.shared.meter.restart()?;
    talk.go_on_to_the_end(wait)?;
    connecting::end(talk.talkers.into_iter().map(into_blocking).collect::<io::Result<_>>()?)?;
    talk.shared.meter.report()
}

fn into_blocking(talker: Talker) -> io::Result<BlockingStream> {
    let socket = BlockingStream::from(OwnedFd::from(talker.socket));
    socket.set_nonblocking(false)?;
    Ok(socket)
}

/// What all talkers use.
struct Shared {
    pattern: Pattern,
    meter: Meter,
    buffer: Vec<u8>,
    /// Bytes that were begun to be sent and are not yet back.
    under_way: u64,
}

struct Talk {
    poll: Poll,
    talkers: Vec<Talker>,
    /// Streams that can go on without an event.
    queue: VecDeque<usize>,
    slow: Vec<usize>,
    shared: Shared,
}

impl Talk {
    fn new(
        pattern: Pattern,
        meter: Meter,
        sockets: Vec<BlockingStream>,
        groups: &[Group],
    ) -> io::Result<Self> {
        let poll = Poll::new()?;
        let (mut talkers, mut slow) = (Vec::with_capacity(sockets.len()), Vec::new());
        let mut sockets = sockets.into_iter();
        for (nth, group) in groups.iter().enumerate() {
            for socket in sockets.by_ref().take(group.connections) {
                socket.set_nonblocking(true)?;
                let mut socket = TcpStream::from_std(socket);
                let both = Interest::READABLE | Interest::WRITABLE;
                poll.registry().register(&mut socket, Token(talkers.len()), both)?;
                let start = pattern.start(talkers.len());
                if group.manner == Manner::Slow {
                    slow.push(talkers.len());
                }
                talkers.push(Talker::new(socket, group, nth == 0, start));
            }
        }
        let shared = Shared { pattern, meter, buffer: vec![0; BUFFER], under_way: 0 };
        Ok(Self { poll, talkers, queue: VecDeque::new(), slow, shared })
    }

    fn begin(&mut self) -> io::Result<()> {
        for talker in &mut self.talkers {
            talker.begin(&mut self.shared)?;
        }
        Ok(())
    }

    fn go_on_to_the_end(&mut self, wait: Wait) -> io::Result<()> {
        let mut events = Events::with_capacity(1024);
        let mut heard = Instant::now();
        let mut draining = false;
        while self.shared.meter.goes_on() || self.shared.under_way > 0 {
            let timeout = match wait {
                Wait::Asleep if self.queue.is_empty() => PATIENCE,
                Wait::Asleep | Wait::Awake => Duration::ZERO,
            };
            match self.poll.poll(&mut events, Some(timeout)) {
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                outcome => outcome?,
            }
            let now = Instant::now();
            if !events.is_empty() {
                heard = now;
            } else if now - heard >= PATIENCE {
                return Err(self.silence());
            }
            self.shared.meter.tick(now)?;
            for event in &events {
                self.serve(event.token().0, event.is_readable(), event.is_writable())?;
            }
            self.serve_a_stream()?;
            self.serve_the_slow()?;
            if !draining && !self.shared.meter.goes_on() {
                draining = true;
                self.hurry_the_slow();
            }
        }
        Ok(())
    }

    fn serve(&mut self, slot: usize, readable: bool, writable: bool) -> io::Result<()> {
        let talker = &mut self.talkers[slot];
        match talker.manner {
            Manner::Idle | Manner::InFlight(_) => {
                talker.converse(&mut self.shared, readable, writable)
            }
            Manner::Stream | Manner::Slow => {
                talker.readable |= readable;
                talker.writable |= writable;
                self.enqueue(slot);
                Ok(())
            }
        }
    }

    fn serve_the_slow(&mut self) -> io::Result<()> {
        for slot in &self.slow {
            self.talkers[*slot].stream(&mut self.shared)?;
        }
        Ok(())
    }

    fn serve_a_stream(&mut self) -> io::Result<()> {
        if let Some(slot) = self.queue.pop_front() {
            self.talkers[slot].queued = false;
            self.talkers[slot].stream(&mut self.shared)?;
            self.enqueue(slot);
        }
        Ok(())
    }

    fn enqueue(&mut self, slot: usize) {
        let talker = &mut self.talkers[slot];
        if !talker.queued && talker.can_go_on(&self.shared) {
            talker.queued = true;
            self.queue.push_back(slot);
        }
    }

    /// Makes the slow read what they have not read yet as fast as it arrives.
    fn hurry_the_slow(&mut self) {
        for slot in std::mem::take(&mut self.slow) {
            self.talkers[slot].manner = Manner::Stream;
            self.enqueue(slot);
        }
    }

    fn silence(&self) -> io::Error {
        let message = format!("the server is silent and owes {} bytes", self.shared.under_way);
        io::Error::new(ErrorKind::TimedOut, message)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::io::{Read, Write};
    use std::net::{Ipv4Addr, TcpListener};
    use std::thread;

    use super::*;
    use crate::load::{Extent, Task};

    const MESSAGES: u64 = 1_000;

    /// Talks with a server that echoes after it has done something to the bytes. It serves each
    /// client in a thread, and gives each read's position in the client's stream.
    fn talk_with(server: fn(u64, &mut [u8]), manners: &[Manner], wait: Wait) -> io::Result<Report> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?;
        let address = listener.local_addr()?;
        thread::spawn(move || {
            for client in listener.incoming().map_while(Result::ok) {
                thread::spawn(move || echo(client, server));
            }
        });
        let group = |manner| Group { connections: 3, size: 100, manner };
        let groups: Vec<Group> = manners.iter().copied().map(group).collect();
        // Not by `open`, which counts the files of the server: those of this process are counted with
        // what the other tests open and close meanwhile.
        let sockets = groups.iter().flat_map(|group| 0..group.connections);
        let sockets: io::Result<_> = sockets.map(|_| BlockingStream::connect(address)).collect();
        let task = Task::Talk { groups: groups.clone(), lines: false, wait };
        let extent = Extent::Messages(MESSAGES);
        let order = Order { address, server: std::process::id(), task, extent };
        run_on(sockets?, &order, &groups, Pattern::new(), wait)
    }

    fn echo(mut client: BlockingStream, server: fn(u64, &mut [u8])) -> io::Result<()> {
        let mut buffer = [0; 1000];
        let mut position = 0;
        loop {
            let count = client.read(&mut buffer)?;
            if count == 0 {
                return Ok(());
            }
            server(position, &mut buffer[..count]);
            client.write_all(&buffer[..count])?;
            position += count as u64;
        }
    }

    #[test]
    fn good_server_has_every_message_counted() -> io::Result<()> {
        let one = Manner::InFlight(1);
        let manners: [&[Manner]; 4] =
            [&[one], &[Manner::InFlight(7)], &[Manner::Stream], &[one, Manner::Slow]];
        for manners in manners {
            for wait in [Wait::Asleep, Wait::Awake] {
                let report = talk_with(|_, _| {}, manners, wait)?;
                assert!(report.messages >= MESSAGES);
            }
        }
        Ok(())
    }

    #[test]
    fn awake_load_does_not_sleep() -> io::Result<()> {
        // Slow, so that there is something to wait for.
        let server = |_: u64, _: &mut [u8]| thread::sleep(Duration::from_micros(100));
        let before = sleeps()?;
        talk_with(server, &[Manner::InFlight(1)], Wait::Awake)?;
        // It may have to wait for a lock of the kernel's, but not for the echo.
        assert!(sleeps()? - before < MESSAGES / 10);
        Ok(())
    }

    /// Returns how often this thread has waited for something, as far as the kernel knows.
    fn sleeps() -> io::Result<u64> {
        let status = fs::read_to_string("/proc/thread-self/status")?;
        let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        let count = line.and_then(|count| count.trim().parse().ok());
        count.ok_or_else(|| io::Error::other("/proc does not tell sleeps"))
    }

    #[test]
    fn byte_changed_by_the_server_is_noticed() {
        for manner in [Manner::InFlight(1), Manner::InFlight(7), Manner::Stream] {
            let outcome = talk_with(
                |position, bytes| {
                    if position >= 5_000 {
                        bytes[0] ^= 1;
                    }
                },
                &[manner],
                Wait::Asleep,
            );
            assert_eq!(outcome.map_err(|error| error.kind()).err(), Some(ErrorKind::InvalidData));
        }
    }
}
