//! message-io: a call-back for what arrives, from its own thread.
//!
//! Its `send` tries until the kernel takes everything: a client that does not read holds up all.

use std::io;

use message_io::network::{NetEvent, Transport};
use message_io::node;
use readiness_benches_servers::{address, announce};

fn main() -> io::Result<()> {
    let (handler, listener) = node::split::<()>();
    let (_, address) = handler.network().listen(Transport::Tcp, address()?)?;
    announce(address)?;
    listener.for_each(move |event| {
        if let NetEvent::Message(endpoint, bytes) = event.network() {
            handler.network().send(endpoint, bytes);
        }
    });
    Ok(())
}
