//! A small single-threaded readiness event loop with buffered connections, to embed in other
//! programs and to learn non-blocking I/O from.
//!
//! One thread serves many connections. Your program asks the loop for the next [`Event`] and acts
//! on connections by their ids. The loop moves the bytes, never blocks on a peer, and asks the
//! kernel only for what each connection waits for. It waits through [`mio`]: with `epoll` on Linux
//! and with `kqueue` on macOS and the BSDs.
//!
//! # An echo server
//!
//! ```no_run
//! use readiness::{Event, EventLoop};
//!
//! fn main() -> std::io::Result<()> {
//!     let mut server: EventLoop = EventLoop::new()?;
//!     let listener = server.listen("127.0.0.1:65432")?;
//!     println!("Listening on {}", server.listener_addr(listener)?);
//!     loop {
//!         match server.next_event()? {
//!             Event::Received(id) => server[id].send_received(), // what came in goes out, whole
//!             Event::Closed(id, reason) => println!("{id} {reason}"),
//!             _ => {}
//!         }
//!     }
//! }
//! ```
//!
//! # The path of a byte
//!
//! ```text
//! kernel -> readiness -> fill -> read buffer -> Received -> the program
//!                                                              |
//!                                                            send
//!                                                              v
//! kernel <-------------- flush <--------------------- write buffer
//!
//! interest follows from what is left
//! ```
//!
//! - The kernel reports that a socket is ready, once for each change (*edge-triggered*). The loop
//!   remembers it as the connection's [`Readiness`] until a call disproves it: by `EAGAIN`
//!   ([`WouldBlock`](std::io::ErrorKind::WouldBlock)), or on most systems by a short count.
//! - A *fill* moves the bytes that have arrived into the connection's read buffer (`recv`), and
//!   [`Event::Received`] is delivered. Your program looks at [`Stream::received`] and releases as
//!   many bytes as it has handled with [`Stream::consume`].
//! - [`Stream::send`] appends to the connection's write buffer and never blocks. The next call into
//!   the loop *flushes* it: it hands the bytes to the kernel (`send`).
//! - What the kernel does not take stays in the write buffer, and the [`Interest`] follows from it:
//!   the socket is watched for room to write until everything has been sent. An accepted connection
//!   does not read during that time (*back-pressure*), so a peer that never reads cannot make the
//!   server grow.
//!
//! # Where to read next
//!
//! - [`EventLoop`]: listening, connecting, and the next event.
//! - [`Event`]: what is delivered to a program, and in which order.
//! - [`Stream`]: what a program can do with a connection; [`Connection`] adds the program's own
//!   state.
//! - [`ConnectionLimits`] and [`Limits`]: every bound, with its default and the reason for it.
//! - [`Step`]: what the loop did, step by step. With a logger, `RUST_LOG=readiness=trace` prints
//!   each step.
//! - In the repository: the course in `docs/`, which builds a loop like this one from the first socket; its glossary; and
//!   `ARCHITECTURE.md`, the map of the source.
//!
//! # Features
//!
//! | feature | default | what it adds |
//! | --- | --- | --- |
//! | `simulation` | off | the module `simulation`: a simulated network and clock, to test programs that are built on the loop. It adds no dependency. |

#[cfg(unix)]
mod address;
mod alarms;
mod attempt;
mod backoff;
mod buffer;
mod connection;
mod connections;
mod cost;
mod deadlines;
mod event;
mod event_loop;
mod exchange;
mod explanation;
mod foreign_sources;
mod interest;
mod limits;
mod listener;
mod metrics;
mod names;
mod observer;
mod pending_events;
mod pool;
mod readiness;
mod ready_queues;
mod resources;
mod shutdown;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
mod slots;
mod state;
mod system;
mod timers;
mod transfer;
mod turn;
mod waker;

#[cfg(unix)]
pub use address::UnixAddress;
pub use connection::{Connection, ReadHalf, Stream, WaitsFor, WriteHalf};
pub use event::{CloseReason, Deadline, Event, Failure};
pub use event_loop::EventLoop;
pub use explanation::{ConnectionWaits, Explanation};
pub use interest::Interest;
pub use limits::{ConnectionLimits, Limits};
pub use listener::{ListenerWaits, ListenerWaitsFor};
pub use metrics::Metrics;
/// The crate through which the loop waits, for its sockets and for [`Source`].
pub use mio;
pub use observer::{Observer, Step};
pub use readiness::Readiness;
pub use slots::{ConnectionId, ListenerId, SourceId, TimerId};
pub use system::Source;
pub use waker::Waker;

/// The samples in the repository's pages, run as doc tests.
#[cfg(doctest)]
mod pages {
    macro_rules! pages {
        ($($(#[$only:meta])? $page:ident = $path:literal;)*) => {
            $($(#[$only])? #[doc = include_str!($path)] struct $page;)*
        };
    }

    pages! {
        Readme = "../README.md";
        Chapter1 = "../docs/01-loopback.md";
        Chapter2 = "../docs/02-one-client.md";
        Chapter3 = "../docs/03-a-stream.md";
        Chapter4 = "../docs/04-a-partial-send.md";
        Chapter5 = "../docs/05-threads.md";
        SlowReader = "../docs/a-slow-reader.md";
        Chapter6 = "../docs/06-would-block.md";
        Chapter7 = "../docs/07-asking-the-kernel.md";
        Chapter8 = "../docs/08-many-connections.md";
        Chapter9 = "../docs/09-the-read-buffer.md";
        Chapter10 = "../docs/10-the-write-buffer.md";
        Chapter11 = "../docs/11-the-interest-rule.md";
        Chapter12 = "../docs/12-edges-and-memory.md";
        Chapter13 = "../docs/13-slow-readers.md";
        Chapter14 = "../docs/14-endings.md";
        Chapter15 = "../docs/15-the-loop-you-have-built.md";
        #[cfg(unix)]
        Platforms = "../docs/platforms.md";
        Chapter16 = "../docs/16-messages.md";
        Chapter18 = "../docs/18-time-threads-names.md";
        #[cfg(unix)]
        Chapter19 = "../docs/19-inside-other-programs.md";
        #[cfg(feature = "simulation")]
        Chapter20 = "../docs/20-a-network-to-test-on.md";
        Chapter21 = "../docs/21-leaving-and-limits.md";
    }
}

/// Without the feature there is no simulation.
///
/// ```compile_fail
/// use readiness::simulation::Simulation;
/// ```
#[cfg(all(doctest, not(feature = "simulation")))]
struct NoSimulation;
