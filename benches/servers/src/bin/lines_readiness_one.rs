//! The loop, answering one line for each event: what is left of lines that arrived together is
//! announced again, and all the answers leave by one write.

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
    line.clear();
    connection.read_line(line)?;
    writeln!(connection, "{}", line.trim_end())
}
