//! The loop, answering each line by a separate `writeln!`, all that have arrived for one event.

use std::io::{self, BufRead, Write};

use readiness::{Connection, Event, EventLoop};
use readiness_benches_servers::{address, announce};

fn main() -> io::Result<()> {
    let mut server: EventLoop = EventLoop::new()?;
    let listener = server.listen(address()?)?;
    announce(server.listener_addr(listener)?)?;
    let mut line = String::new();
    loop {
        if let Event::Received(id) = server.next_event()? {
            server[id].attend(|connection| answer(connection, &mut line));
        }
    }
}

fn answer(connection: &mut Connection<()>, line: &mut String) -> io::Result<()> {
    loop {
        line.clear();
        if connection.read_line(line)? == 0 {
            return Ok(());
        }
        writeln!(connection, "{}", line.trim_end())?;
    }
}
