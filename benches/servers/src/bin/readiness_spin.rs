//! The loop, spinning for a moment before it blocks.

use std::io;
use std::time::Duration;

use readiness::{Event, EventLoop, Limits};
use readiness_benches_servers::{address, announce};

fn main() -> io::Result<()> {
    let mut limits = Limits::default();
    limits.spin = Some(Duration::from_micros(50));
    let mut server: EventLoop = EventLoop::with_limits(limits)?;
    let listener = server.listen(address()?)?;
    announce(server.listener_addr(listener)?)?;
    loop {
        if let Event::Received(id) = server.next_event()? {
            server[id].send_received();
        }
    }
}
