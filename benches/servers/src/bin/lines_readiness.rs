//! The loop, answering each line by a `writeln!` of its own.

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
            answer(&mut server[id], &mut line)?;
        }
    }
}

fn answer(connection: &mut Connection<()>, line: &mut String) -> io::Result<()> {
    loop {
        line.clear();
        match connection.read_line(line) {
            Ok(0) => return Ok(()),
            Ok(_) => writeln!(connection, "{}", line.trim_end())?,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}
