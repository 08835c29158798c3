//! The echo server with one loop for each core.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;

use readiness::{Event, EventLoop, Waker};

use super::common::leaving::Leaving;
use super::common::{self, Arguments, Outcome};
use super::listener;
use super::signals::CtrlC;

pub(crate) fn serve(arguments: Arguments) -> Outcome {
    let [address, threads] = arguments.values()?;
    let address = common::address(address)?;
    let threads = match common::number("THREADS", threads, 1..=1024)? {
        Some(count) => count,
        None => thread::available_parallelism()?.get(),
    };

    // All listen before the first serves, so that connections are spread over all of them.
    let first = address.open(listen).map_err(common::cannot_listen(&address))?;
    let address = first.local_addr()?;
    let mut listeners = vec![first];
    for _ in 1..threads {
        listeners.push(listen(address).map_err(common::cannot_listen(address))?);
    }

    // The main thread has a loop too, which receives Ctrl-C and the ends of the threads.
    let mut main: EventLoop = EventLoop::new()?;
    let mut ctrl_c = CtrlC::new(&mut main)?;
    let (ended, ends) = mpsc::channel();
    let mut servers = Vec::new();
    for listener in listeners {
        servers.push(Server::start(listener, ended.clone(), main.waker())?);
    }
    common::status(format_args!("Listening on {address}"));

    let mut running = servers.len();
    while running > 0 {
        let event = main.next_event()?;
        for _ in 0..ctrl_c.count(event) {
            for server in &servers {
                server.shut_down()?;
            }
        }
        for end in ends.try_iter() {
            running -= 1;
            common::status(format_args!("A thread served {} connections", end?));
        }
    }
    Ok(())
}

/// Returns a socket that shares its port with others that ask for it too. The kernel gives each new
/// connection to one of them.
fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    listener::listen(address, |socket| socket.set_reuse_port(true))
}

/// What the main thread asks of the others: at first gracefully, and the second time at once.
struct ShutDown;

/// What the main thread has of a thread that serves.
struct Server {
    orders: Sender<ShutDown>,
    waker: Waker,
}

impl Server {
    /// Starts a thread with its own loop. At its end it says how many it has served.
    fn start(
        listener: TcpListener,
        ended: Sender<io::Result<u64>>,
        main: Waker,
    ) -> io::Result<Self> {
        let mut server: EventLoop = EventLoop::new()?;
        server.adopt_listener(listener, |_| ())?;
        let waker = server.waker();
        let (orders, ordered) = mpsc::channel();
        thread::Builder::new().spawn(move || {
            // The receiver is gone only if the process ends.
            let _ = ended.send(run(&mut server, &ordered));
            let _ = main.wake();
        })?;
        Ok(Self { orders, waker })
    }

    fn shut_down(&self) -> io::Result<()> {
        // A thread that has ended has shut down.
        let _ = self.orders.send(ShutDown);
        self.waker.wake()
    }
}

/// Runs one thread: nothing in it knows of the others.
fn run(server: &mut EventLoop, ordered: &Receiver<ShutDown>) -> io::Result<u64> {
    let mut served = 0;
    let mut leaving = Leaving::default();
    loop {
        let event = server.next_event()?;
        leaving.watch(server, event);
        match event {
            Event::Accepted(..) => served += 1,
            Event::Received(id) => server[id].send_received(),
            Event::Woken => {
                for ShutDown in ordered.try_iter() {
                    leaving.shut_down(server);
                }
            }
            Event::ShutDown => return Ok(served),
            _ => {}
        }
    }
}
