//! The loop inside calloop: a source that says when it has something to do, and a dispatch that
//! sleeps no longer than it may.
//!
//! Copy this file. It keeps the contract of the guide's page on hosts with a level-triggered host:
//! calloop reports the descriptor again and again as long as it is readable.

use std::io;
use std::os::fd::AsFd;
use std::time::Duration;

use calloop::generic::Generic;
use calloop::{Interest, LoopHandle, Mode, PostAction, RegistrationToken};
use readiness::{Event, EventLoop};

/// The data of a host that has a loop of this kind in it.
pub trait Hosted {
    /// The program's own state for each connection.
    type Data;

    /// Returns the loop.
    fn event_loop(&mut self) -> &mut EventLoop<Self::Data>;

    /// Handles an event as the program does.
    ///
    /// # Errors
    ///
    /// What is to end the program.
    fn handle(&mut self, event: Event) -> io::Result<()>;

    /// Takes the loop through one turn, without waiting, so that the host's other sources have
    /// theirs afterwards.
    ///
    /// # Errors
    ///
    /// If the loop itself failed, or the program.
    fn turn(&mut self) -> io::Result<()> {
        while let Some(event) = self.event_loop().poll_event(Some(Duration::ZERO))? {
            self.handle(event)?;
        }
        Ok(())
    }
}

/// Makes the host watch the loop. Once, before the first [`dispatch`].
///
/// # Errors
///
/// Returns the error of the operating system or of calloop.
pub fn watch<H: Hosted>(
    host: &LoopHandle<'_, H>,
    hosted: &mut H,
) -> calloop::Result<RegistrationToken> {
    // A duplicate: the loop itself stays where the callbacks can use it.
    let descriptor = hosted.event_loop().as_fd().try_clone_to_owned()?;
    let source = Generic::new(descriptor, Interest::READ, Mode::Level);
    let watched = host.insert_source(source, |_, _, hosted| {
        hosted.turn()?;
        Ok(PostAction::Continue)
    });
    Ok(watched?)
}

/// In place of the host's own `dispatch`, again and again: sleeps until any source or the loop has
/// something to do.
///
/// # Errors
///
/// Returns the error of calloop, of the loop or of the program.
pub fn dispatch<H: Hosted>(
    host: &mut calloop::EventLoop<'_, H>,
    hosted: &mut H,
) -> calloop::Result<()> {
    host.dispatch(hosted.event_loop().next_timeout(), hosted)?;
    // It is time, something was left, or the callbacks of others did something with connections.
    if hosted.event_loop().next_timeout() == Some(Duration::ZERO) {
        hosted.turn()?;
    }
    Ok(())
}
