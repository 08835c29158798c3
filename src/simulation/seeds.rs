//! Runs a test on many networks, and reports the seed on which it fails.

use std::any::Any;
use std::error::Error;
use std::fmt;
use std::io;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::{Faults, Simulation};

/// A seed on which a test fails: which one, why, and what happened last. `unwrap`, and a test that
/// returns it, also show it in full.
pub struct FailedSeed {
    seed: u64,
    cause: String,
    script: String,
}

impl FailedSeed {
    /// Returns the seed.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Returns the error or panic message of the test.
    #[must_use]
    pub fn cause(&self) -> &str {
        &self.cause
    }
}

impl fmt::Display for FailedSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, cause, script } = self;
        writeln!(f, "seed {seed} fails: {cause}")?;
        write!(f, "its last steps:\n{script}")?;
        write!(f, "replay it with {VARIABLE}={seed}")
    }
}

impl fmt::Debug for FailedSeed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl Error for FailedSeed {}

/// Names the only seed to try.
const VARIABLE: &str = "READINESS_SEED";

/// Runs a test on a network of each seed until one fails, by an error or a panic. To replay a
/// failure, set the environment variable `READINESS_SEED` to the seed; only that one is tried.
///
/// The networks have the faults that the seed [draws](Faults::drawn) and that a program
/// [survives](Faults::survivable). To include those that end connections, begin the test with
/// `simulation.set_faults(Faults::drawn(simulation.seed()))`.
///
/// ```
/// use readiness::simulation::{FailedSeed, Program, try_seeds};
/// use readiness::{Event, EventLoop};
///
/// fn echo(server: &mut EventLoop, event: Event) -> std::io::Result<()> {
///     if let Event::Received(id) = event {
///         server[id].send_received();
///     }
///     Ok(())
/// }
///
/// // Anywhere but in an example: #[test]
/// fn what_is_sent_comes_back() -> Result<(), FailedSeed> {
///     try_seeds(0..100, |simulation| {
///         let mut server = Program::new(simulation.event_loop(), echo);
///         let listener = server.event_loop.listen("127.0.0.1:80")?;
///         let mut peer = simulation.connect(server.event_loop.listener_addr(listener)?);
///         let (mut sent, mut received) = (0, Vec::new());
///         while received.len() < 12 {
///             sent += peer.write(&b"Hello, world"[sent..]);
///             simulation.advance(&mut [&mut server])?;
///             received.extend(peer.read());
///         }
///         assert_eq!(received, b"Hello, world");
///         Ok(())
///     })
/// }
/// # what_is_sent_comes_back().unwrap();
/// ```
///
/// # Errors
///
/// Returns the first seed that fails.
///
/// # Panics
///
/// Panics if the variable is set to something that is not a seed.
pub fn try_seeds(
    mut seeds: Range<u64>,
    mut test: impl FnMut(&Simulation) -> io::Result<()>,
) -> Result<(), FailedSeed> {
    match std::env::var(VARIABLE) {
        Ok(seed) => {
            let seed = seed.parse().unwrap_or_else(|_| panic!("{VARIABLE} is no seed: {seed}"));
            try_seed(seed, &mut test)
        }
        Err(_) => seeds.try_for_each(|seed| try_seed(seed, &mut test)),
    }
}

fn try_seed(
    seed: u64,
    test: &mut impl FnMut(&Simulation) -> io::Result<()>,
) -> Result<(), FailedSeed> {
    let simulation = Simulation::with_faults(seed, Faults::drawn(seed).survivable());
    // Nothing that the test left half done is used after a panic.
    let cause = match catch_unwind(AssertUnwindSafe(|| test(&simulation))) {
        Ok(Ok(())) => return Ok(()),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => message(&*panic),
    };
    Err(FailedSeed { seed, cause, script: simulation.course().script.to_string() })
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
    let text = text.or_else(|| panic.downcast_ref::<String>().cloned());
    text.unwrap_or_else(|| String::from("a panic without a message"))
}
