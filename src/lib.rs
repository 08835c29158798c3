//! A small single-threaded readiness event loop with buffered connections, to embed in other
//! programs and to learn non-blocking I/O from.
//!
//! One thread serves many connections. The program asks the loop for the next [`Event`] and acts on
//! connections by their ids; the loop moves the bytes, never blocks on one peer, and asks the
//! kernel only for what each connection waits for.
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
//! # The way of a byte
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
//! - The kernel says that a socket is ready. The loop remembers it as the connection's
//!   [`Readiness`], until a read or write disproves it.
//! - A *fill* moves what has come into the connection's read buffer, and
//!   [`Event::Received`] tells the program. It reads [`Stream::received`], as much or as little as
//!   it likes, and gives it up by [`Stream::consume`].
//! - [`Stream::send`] appends to the connection's write buffer, and never blocks. At the next call
//!   into the loop a *flush* hands the bytes to the kernel.
//! - What the kernel does not take stays. From what is left follows the [`Interest`]: the socket is
//!   watched for room to write until all is sent. An accepted connection does not read meanwhile, so
//!   that a peer that never reads cannot make the server grow.
//!
//! # Where to read next
//!
//! - [`EventLoop`]: listening, connecting, and the next event.
//! - [`Event`]: what a program hears, and in which order.
//! - [`Stream`]: what it can do with a connection; [`Connection`] adds the program's own state.
//! - [`ConnectionLimits`] and [`Limits`]: every bound, with its default and the reason for it.
//! - [`Step`]: what the loop did, step by step. With a logger, `RUST_LOG=readiness=trace` prints it.
//! - In the repository: the guide under `docs/`, which begins with the problems that this loop
//!   answers, and `ARCHITECTURE.md`, the map of the source.

#[cfg(unix)]
mod address;
mod alarms;
mod attempt;
mod backoff;
mod buffer;
mod connection;
mod connections;
mod deadlines;
mod event;
mod event_loop;
mod exchange;
mod explanation;
mod interest;
mod limits;
mod listener;
mod names;
mod observer;
mod pending;
mod pool;
mod ready;
mod resources;
mod shutdown;
#[cfg(any(test, feature = "simulation"))]
pub mod simulation;
mod slots;
mod sources;
mod state;
mod system;
mod timers;
mod transfer;
mod turn;
mod waker;
mod work;

#[cfg(unix)]
pub use address::UnixAddress;
pub use connection::{Connection, ReadHalf, Stream, WaitsFor, WriteHalf};
pub use event::{CloseReason, Deadline, Event, Failure};
pub use event_loop::EventLoop;
pub use explanation::{ConnectionWaits, Explanation};
pub use interest::{Interest, Readiness};
pub use limits::{ConnectionLimits, Limits};
pub use listener::{ListenerWaits, ListenerWaitsFor};
/// The crate that the loop waits by, for its sockets and for [`Source`].
pub use mio;
pub use observer::{Observer, Step};
pub use slots::{ConnectionId, ListenerId, SourceId, TimerId};
pub use system::Source;
pub use waker::Waker;

/// The programs in the pages for readers, to be run as doc tests.
#[cfg(doctest)]
mod pages {
    #[doc = include_str!("../README.md")]
    struct Readme;
    #[doc = include_str!("../docs/01-loopback.md")]
    struct Chapter1;
    #[doc = include_str!("../docs/02-one-client.md")]
    struct Chapter2;
    #[doc = include_str!("../docs/03-a-stream.md")]
    struct Chapter3;
    #[doc = include_str!("../docs/04-a-partial-send.md")]
    struct Chapter4;
    #[doc = include_str!("../docs/05-threads.md")]
    struct Chapter5;
    #[doc = include_str!("../docs/06-would-block.md")]
    struct Chapter6;
    #[doc = include_str!("../docs/07-asking-the-kernel.md")]
    struct Chapter7;
    #[doc = include_str!("../docs/08-many-connections.md")]
    struct Chapter8;
    #[doc = include_str!("../docs/09-the-read-buffer.md")]
    struct Chapter9;
    #[doc = include_str!("../docs/10-the-write-buffer.md")]
    struct Chapter10;
    #[doc = include_str!("../docs/11-the-interest-rule.md")]
    struct Chapter11;
    #[doc = include_str!("../docs/12-edges-and-memory.md")]
    struct Chapter12;
    #[doc = include_str!("../docs/13-slow-readers.md")]
    struct Chapter13;
    #[doc = include_str!("../docs/14-endings.md")]
    struct Chapter14;
    #[doc = include_str!("../docs/15-the-loop-you-have-built.md")]
    struct Chapter15;
    #[doc = include_str!("../docs/6-the-loop.md")]
    struct TheLoop;
    #[cfg(feature = "simulation")]
    #[doc = include_str!("../docs/7-simulation.md")]
    struct Simulation;
    #[cfg(unix)]
    #[doc = include_str!("../docs/8-embedding.md")]
    struct Embedding;
}

/// Without the feature there is no simulation.
///
/// ```compile_fail
/// use readiness::simulation::Simulation;
/// ```
#[cfg(all(doctest, not(feature = "simulation")))]
struct NoSimulation;
