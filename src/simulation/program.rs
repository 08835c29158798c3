//! Programs, and how a simulation drives them together.
//!
//! One thing happens at a time: an event is handled, or the network does something, or, if neither
//! is possible, time passes to the next deadline. Which program is asked first follows from the
//! seed. Between two such steps the test controls everything: peers, loops and clock.

use std::io::{self, ErrorKind};
use std::time::Duration;

use super::Simulation;
use super::script::Happened;
use crate::event::Event;
use crate::event_loop::EventLoop;
use crate::explanation::Explanation;
use crate::system::simulated::lock;

/// A loop and the function that handles its events: what `main` runs on real sockets.
///
/// ```
/// use readiness::simulation::{Program, Simulation};
/// use readiness::{Event, EventLoop};
///
/// fn handle(client: &mut EventLoop, event: Event) -> std::io::Result<()> {
///     if let Event::Closed(_, reason) = event {
///         assert_eq!(reason.to_string(), "refused");
///     }
///     Ok(())
/// }
///
/// let simulation = Simulation::new(1);
/// let mut client = Program::new(simulation.event_loop(), handle);
/// client.event_loop.connect("127.0.0.1:1".parse().unwrap(), ());
/// while client.event_loop.connection_count() > 0 {
///     simulation.advance(&mut [&mut client]).unwrap();
/// }
/// ```
#[derive(Debug)]
pub struct Program<T, H> {
    /// The loop, to listen, connect and look at connections.
    pub event_loop: EventLoop<T>,
    handle: H,
}

impl<T, H> Program<T, H>
where
    H: FnMut(&mut EventLoop<T>, Event) -> io::Result<()>,
{
    /// Creates a program from a loop and the function that handles its events.
    pub fn new(event_loop: EventLoop<T>, handle: H) -> Self {
        Self { event_loop, handle }
    }
}

/// What [`Simulation::advance`] drives: a [`Program`], whatever its types.
pub trait Driven: private::Driven {}

impl<P: private::Driven> Driven for P {}

mod private {
    use super::{Duration, Event, Explanation, io};

    /// Sealed: what it takes to drive a loop changes with the loop.
    pub trait Driven {
        /// Handles the next event, if there is one without waiting.
        fn poll(&mut self) -> io::Result<Option<Event>>;
        fn handle(&mut self, event: Event) -> io::Result<()>;
        /// Returns how long the loop would wait next: zero if it has something to do, `None` if
        /// forever.
        fn next_timeout(&self) -> Option<Duration>;
        /// Returns what each of its connections waits for.
        fn explain(&self) -> Explanation;
    }
}

impl<T, H> private::Driven for Program<T, H>
where
    H: FnMut(&mut EventLoop<T>, Event) -> io::Result<()>,
{
    fn poll(&mut self) -> io::Result<Option<Event>> {
        self.event_loop.poll_event(Some(Duration::ZERO))
    }

    fn handle(&mut self, event: Event) -> io::Result<()> {
        (self.handle)(&mut self.event_loop, event)
    }

    fn next_timeout(&self) -> Option<Duration> {
        self.event_loop.turns.simulated_timeout()
    }

    fn explain(&self) -> Explanation {
        self.event_loop.explain()
    }
}

impl Simulation {
    /// Makes one thing happen: one of these programs handles an event, or the network delivers
    /// something, or, if nothing else can happen, time passes to the next deadline of a loop.
    /// Between two calls the test can look at everything and move its peers.
    ///
    /// Two programs against each other:
    ///
    /// ```
    /// use readiness::simulation::{Program, Simulation};
    /// use readiness::{Event, EventLoop};
    ///
    /// fn serve(server: &mut EventLoop, event: Event) -> std::io::Result<()> {
    ///     if let Event::Received(id) = event {
    ///         server[id].send_received();
    ///     }
    ///     Ok(())
    /// }
    ///
    /// /// Asks once, keeps the answer and ends.
    /// fn ask(client: &mut EventLoop<Vec<u8>>, event: Event) -> std::io::Result<()> {
    ///     match event {
    ///         Event::Connected(id) => {
    ///             client[id].send(b"Hello, world");
    ///             client[id].finish();
    ///         }
    ///         Event::Closed(id, _) => assert_eq!(client[id].received(), b"Hello, world"),
    ///         _ => {}
    ///     }
    ///     Ok(())
    /// }
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let simulation = Simulation::new(1);
    /// let mut server = Program::new(simulation.event_loop(), serve);
    /// let mut client = Program::new(simulation.event_loop(), ask);
    /// let listener = server.event_loop.listen("127.0.0.1:65432")?;
    /// let address = server.event_loop.listener_addr(listener)?;
    /// client.event_loop.connect(address, Vec::new());
    /// while client.event_loop.connection_count() > 0 {
    ///     simulation.advance(&mut [&mut server, &mut client])?;
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// Returns the error of a program's function. Returns `TimedOut` if nothing can happen any more
    /// unless the test acts: no event, nothing under way and no deadline. The error says what each
    /// connection waits for.
    pub fn advance(&self, programs: &mut [&mut dyn Driven]) -> io::Result<()> {
        let moved = lock(&self.network).moved;
        let first = self.below(programs.len());
        for offset in 0..programs.len() {
            let place = (first + offset) % programs.len();
            if let Some(event) = programs[place].poll()? {
                // First, so that the script contains the event on which the program fails.
                self.note(Happened::Handled(place, event));
                return programs[place].handle(event);
            }
        }
        let next = programs.iter().filter_map(|program| program.next_timeout()).min();
        // A loop that looks for events steps the network too, and closes what it has finished with.
        // The test may answer what that brought to a peer.
        if next == Some(Duration::ZERO) || self.step() || lock(&self.network).moved > moved {
            return Ok(());
        }
        match next {
            Some(time) => self.pass_time(time),
            None => return Err(nothing_can_happen(programs)),
        }
        Ok(())
    }
}

fn nothing_can_happen(programs: &[&mut dyn Driven]) -> io::Error {
    let mut text = String::from("nothing can ever happen again in this simulation");
    for (place, program) in programs.iter().enumerate() {
        text.push_str(&format!("\nprogram {place}: {}", program.explain()));
    }
    io::Error::new(ErrorKind::TimedOut, text)
}
