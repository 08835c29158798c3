//! A loop of this crate as the host of another.

use std::io;
use std::os::fd::AsRawFd;
use std::time::Duration;

use readiness::mio::unix::SourceFd;
use readiness::{Event, EventLoop, Interest, SourceId};

/// Makes the outer loop watch the inner one.
pub(crate) fn watch<O, I>(outer: &mut EventLoop<O>, inner: &EventLoop<I>) -> io::Result<SourceId> {
    outer.register(&mut SourceFd(&inner.as_raw_fd()), Interest::Readable)
}

/// Ends it, before the inner loop is dropped.
pub(crate) fn unwatch<O, I>(
    outer: &mut EventLoop<O>,
    inner: &EventLoop<I>,
    source: SourceId,
) -> io::Result<()> {
    outer.deregister(source, &mut SourceFd(&inner.as_raw_fd()))
}

/// Waits for one event of the outer loop, which is returned unless it is about the inner one; and
/// takes the inner loop through a turn if it has something to do.
pub(crate) fn iterate<O, I>(
    outer: &mut EventLoop<O>,
    inner: &mut EventLoop<I>,
    source: SourceId,
    handle: impl FnMut(&mut EventLoop<I>, Event) -> io::Result<()>,
) -> io::Result<Option<Event>> {
    let event = outer.poll_event(inner.next_timeout())?;
    let is_inner = matches!(event, Some(Event::Ready(id, _)) if id == source);
    if is_inner || inner.next_timeout() == Some(Duration::ZERO) {
        turn(inner, handle)?;
    }
    Ok(event.filter(|_| !is_inner))
}

/// Takes a loop through one turn, without waiting.
fn turn<T>(
    event_loop: &mut EventLoop<T>,
    mut handle: impl FnMut(&mut EventLoop<T>, Event) -> io::Result<()>,
) -> io::Result<()> {
    while let Some(event) = event_loop.poll_event(Some(Duration::ZERO))? {
        handle(event_loop, event)?;
    }
    Ok(())
}
