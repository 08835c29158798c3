//! A small single-threaded readiness event loop with buffered connections, to embed in other
//! programs and to learn non-blocking I/O from.

mod buffer;
mod connection;
mod connections;
mod deadlines;
mod event;
mod event_loop;
mod exchange;
mod interest;
mod limits;
mod listener;
mod observer;
mod pool;
mod read_write;
mod ready;
mod service;
mod system;
mod timers;
mod tools;
mod transfer;
mod turn;

pub use connection::{Connection, Stream};
pub use event::{CloseReason, ConnectionId, Deadline, Event, Failure, ListenerId};
pub use event_loop::EventLoop;
pub use interest::{Interest, Readiness};
pub use limits::{ConnectionLimits, Limits};
pub use observer::{Observer, Step};
