//! calloop: a source for each connection, and one buffer shared by all. Level-triggered: asked for
//! readable, and for writable while the kernel does not take what is owed.

use std::cell::RefCell;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::rc::Rc;

use calloop::generic::Generic;
use calloop::{
    EventLoop, EventSource, Interest, LoopHandle, Mode, Poll, PostAction, Readiness, Token,
    TokenFactory,
};
use readiness_benches_servers::{BUFFER, listener};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut event_loop: EventLoop<()> = EventLoop::try_new()?;
    let handle = event_loop.handle();
    let buffer = Rc::new(RefCell::new(vec![0; BUFFER]));
    let source = Generic::new(listener()?, Interest::READ, Mode::Level);
    event_loop.handle().insert_source(source, move |_, listener, ()| {
        accept_all(listener, &handle, &buffer)?;
        Ok(PostAction::Continue)
    })?;
    event_loop.run(None, &mut (), |()| {})?;
    Ok(())
}

fn accept_all(
    listener: &TcpListener,
    handle: &LoopHandle<'static, ()>,
    buffer: &Rc<RefCell<Vec<u8>>>,
) -> io::Result<()> {
    while let Ok((socket, _)) = listener.accept() {
        socket.set_nonblocking(true)?;
        let socket = Generic::new(socket, Interest::READ, Mode::Level);
        let connection = Connection { socket, owed: Vec::new(), buffer: buffer.clone() };
        let inserted = handle.insert_source(connection, |(), (), ()| {});
        inserted.map_err(|error| io::Error::other(error.error))?;
    }
    Ok(())
}

struct Connection {
    socket: Generic<TcpStream>,
    owed: Vec<u8>,
    buffer: Rc<RefCell<Vec<u8>>>,
}

impl EventSource for Connection {
    type Event = ();
    type Metadata = ();
    type Ret = ();
    type Error = io::Error;

    fn process_events<F: FnMut((), &mut ())>(
        &mut self,
        readiness: Readiness,
        token: Token,
        _: F,
    ) -> io::Result<PostAction> {
        let Self { socket, owed, buffer } = self;
        let owed_before = !owed.is_empty();
        let mut outcome = socket.process_events(readiness, token, |_, socket| {
            let served = serve(socket, owed, &mut buffer.borrow_mut());
            Ok(if served.unwrap_or(false) { PostAction::Continue } else { PostAction::Remove })
        })?;
        if outcome == PostAction::Continue && owed_before == owed.is_empty() {
            socket.interest = if owed.is_empty() { Interest::READ } else { Interest::WRITE };
            outcome = PostAction::Reregister;
        }
        Ok(outcome)
    }

    fn register(&mut self, poll: &mut Poll, tokens: &mut TokenFactory) -> calloop::Result<()> {
        self.socket.register(poll, tokens)
    }

    fn reregister(&mut self, poll: &mut Poll, tokens: &mut TokenFactory) -> calloop::Result<()> {
        self.socket.reregister(poll, tokens)
    }

    fn unregister(&mut self, poll: &mut Poll) -> calloop::Result<()> {
        self.socket.unregister(poll)
    }
}

/// Does one read and one write; what is left is reported again. Returns false if the connection has
/// ended.
fn serve(socket: &TcpStream, owed: &mut Vec<u8>, buffer: &mut [u8]) -> io::Result<bool> {
    if !owed.is_empty() {
        let sent = write_some(socket, owed)?;
        owed.drain(..sent);
        return Ok(true);
    }
    let count = match { socket }.read(buffer) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(true),
        outcome => outcome?,
    };
    let sent = write_some(socket, &buffer[..count])?;
    owed.extend_from_slice(&buffer[sent..count]);
    Ok(count > 0)
}

fn write_some(mut socket: &TcpStream, bytes: &[u8]) -> io::Result<usize> {
    match socket.write(bytes) {
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(0),
        outcome => outcome,
    }
}
