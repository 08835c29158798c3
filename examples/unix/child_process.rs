//! A command for each client, by pipes that are watched.

use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Read, Write};
use std::process::{Child, Command, ExitStatus, Stdio};

use readiness::mio::unix::pipe::{Receiver, Sender};
use readiness::{ConnectionId, Event, EventLoop, Interest, SourceId};
use signal_hook::consts::SIGCHLD;

use super::common::{self, Arguments, Outcome};
use super::signals::{CtrlC, Signals};

pub(crate) fn serve(arguments: Arguments) -> Outcome {
    let [address, command] = arguments.values()?;
    let address = common::address(address)?;
    let mut commands = Commands::new(command.unwrap_or("cat".into()));

    let mut server = EventLoop::new()?;
    let listener = server.listen(&address).map_err(common::cannot_listen(&address))?;
    let mut child_ends = Signals::new(&mut server, &[SIGCHLD])?;
    let mut ctrl_c = CtrlC::new(&mut server)?;
    common::status(format_args!("Listening on {}", server.listener_addr(listener)?));
    loop {
        let event = server.next_event()?;
        if event == Event::ShutDown {
            return Ok(commands.await_all()?);
        }
        ctrl_c.handle(&mut server, event);
        // The ends of several children may arrive as one signal.
        if child_ends.take(event).count() > 0 {
            commands.reap()?;
        }
        handle(&mut server, event, &mut commands)?;
    }
}

fn handle(server: &mut EventLoop<Pipes>, event: Event, commands: &mut Commands) -> io::Result<()> {
    match event {
        Event::Accepted(_, id) => {
            if let Err(error) = commands.start(server, id) {
                log::warn!("{id}: cannot start the command: {error}");
                server[id].abort();
            }
        }
        Event::Received(id) => feed(server, id, commands)?,
        Event::PeerFinished(id) => {
            let (pipes, stream) = server[id].split();
            pipes.is_input_over = true;
            // What is awaited is the command's last word. Paused, the connection does not close
            // before, neither by itself nor by a shutdown.
            stream.pause();
            feed(server, id, commands)?;
        }
        Event::Drained(id) => take_output(server, id, commands)?,
        Event::Ready(source, _) => {
            // Which pipe it was need not be known: the other one would block.
            if let Some(id) = commands.clients.get(&source).copied() {
                feed(server, id, commands)?;
                take_output(server, id, commands)?;
            }
        }
        Event::Closed(id, _) => {
            commands.kill(id)?; // if it still runs, its client has gone
            commands.end_input(server, id)?;
            commands.end_output(server, id)?;
        }
        _ => {}
    }
    Ok(())
}

/// Gives the command what has arrived from its client, as far as it takes it. The rest stays, and
/// goes on when the pipe is ready again.
fn feed(
    server: &mut EventLoop<Pipes>,
    id: ConnectionId,
    commands: &mut Commands,
) -> io::Result<()> {
    let Some(connection) = server.get_mut(id) else { return Ok(()) };
    let (pipes, stream) = connection.split();
    let is_over = loop {
        if stream.received().is_empty() {
            break pipes.is_input_over;
        }
        let written = match &mut pipes.input {
            Some((pipe, _)) => pipe.write(stream.received()),
            None => Err(ErrorKind::BrokenPipe.into()),
        };
        match written {
            Ok(count) => stream.consume(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break false,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => {
                // The command takes no more, so that it is thrown away.
                stream.consume(stream.received().len());
                break true;
            }
        }
    };
    if is_over { commands.end_input(server, id) } else { Ok(()) }
}

/// Sends the client what the command has printed, until that would block, or the client is slow.
/// Then `Drained` is delivered later, and the rest has waited in the pipe.
fn take_output(
    server: &mut EventLoop<Pipes>,
    id: ConnectionId,
    commands: &mut Commands,
) -> io::Result<()> {
    let Some(connection) = server.get_mut(id) else { return Ok(()) };
    let (pipes, stream) = connection.split();
    let Some((pipe, _)) = &mut pipes.output else { return Ok(()) };
    let mut piece = [0; 16 * 1024];
    while !stream.is_clogged() {
        match pipe.read(&mut piece) {
            Ok(count @ 1..) => stream.send(&piece[..count]),
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Ok(0) | Err(_) => {
                stream.close();
                return commands.end_output(server, id);
            }
        }
    }
    Ok(())
}

/// A connection's data: the pipes to its command, until each is closed.
#[derive(Default)]
struct Pipes {
    input: Option<(Sender, SourceId)>,
    output: Option<(Receiver, SourceId)>,
    /// The client sends no more; when the command has all, its input ends.
    is_input_over: bool,
}

/// All that runs.
struct Commands {
    line: String,
    /// Each is awaited when it has ended, which can be after its connection.
    children: Vec<(ConnectionId, Child)>,
    /// Which connection a pipe belongs to.
    clients: BTreeMap<SourceId, ConnectionId>,
}

impl Commands {
    fn new(line: String) -> Self {
        Self { line, children: Vec::new(), clients: BTreeMap::new() }
    }

    fn start(&mut self, server: &mut EventLoop<Pipes>, id: ConnectionId) -> io::Result<()> {
        let mut command = Command::new("sh");
        command.args(["-c", &self.line]).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn()?;
        let pipes = (child.stdin.take(), child.stdout.take());
        self.children.push((id, child));
        if let (Some(input), Some(output)) = pipes {
            let (mut input, mut output) = (Sender::from(input), Receiver::from(output));
            // The child's ends go on blocking, as commands expect.
            input.set_nonblocking(true)?;
            output.set_nonblocking(true)?;
            let source = server.register(&mut input, Interest::Writable)?;
            self.clients.insert(source, id);
            server[id].data.input = Some((input, source));
            let source = server.register(&mut output, Interest::Readable)?;
            self.clients.insert(source, id);
            server[id].data.output = Some((output, source));
        }
        Ok(())
    }

    /// Closes the command's input, so that it reads the end.
    fn end_input(&mut self, server: &mut EventLoop<Pipes>, id: ConnectionId) -> io::Result<()> {
        if let Some((mut pipe, source)) = server[id].data.input.take() {
            self.clients.remove(&source);
            server.deregister(source, &mut pipe)?;
        }
        Ok(())
    }

    fn end_output(&mut self, server: &mut EventLoop<Pipes>, id: ConnectionId) -> io::Result<()> {
        if let Some((mut pipe, source)) = server[id].data.output.take() {
            self.clients.remove(&source);
            server.deregister(source, &mut pipe)?;
        }
        Ok(())
    }

    /// Ends the command of a client. One that has ended is left alone.
    fn kill(&mut self, id: ConnectionId) -> io::Result<()> {
        let mut of_client = self.children.iter_mut().filter(|(client, _)| *client == id);
        of_client.try_for_each(|(_, child)| child.kill())
    }

    /// Takes note of each command that has ended.
    fn reap(&mut self) -> io::Result<()> {
        let mut running = Vec::new();
        for (id, mut child) in self.children.drain(..) {
            match child.try_wait()? {
                Some(status) => print_end(id, status),
                None => running.push((id, child)),
            }
        }
        self.children = running;
        Ok(())
    }

    /// Waits for the commands whose client has closed; they end at once.
    fn await_all(mut self) -> io::Result<()> {
        for (id, child) in &mut self.children {
            print_end(*id, child.wait()?);
        }
        Ok(())
    }
}

fn print_end(id: ConnectionId, status: ExitStatus) {
    common::status(format_args!("{id}: the command ended: {status}"));
}
