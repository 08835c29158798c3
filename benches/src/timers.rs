//! What setting and cancelling a timer costs, by how many there are.
//!
//! It is to grow no faster than n log n: so the time for one, divided by log n, is to stay level.

use std::error::Error;
use std::io::{self, Write};
use std::time::{Duration, Instant};

use readiness::{EventLoop, TimerId};

use crate::table;

const COUNTS: [u64; 4] = [1_000, 10_000, 100_000, 1_000_000];

/// What one of this many timers costs, in nanoseconds: the best of the rounds.
struct Cost {
    count: u64,
    set: f64,
    cancel: f64,
}

pub(crate) fn measure(rounds: usize) -> Result<(), Box<dyn Error>> {
    let header = ["timers", "ns to set one", "ns to cancel one", "both, divided by log2 n"];
    let mut table = table::table(&header);
    for count in COUNTS {
        let mut best = cost(count)?;
        for _ in 1..rounds {
            let next = cost(count)?;
            best.set = best.set.min(next.set);
            best.cancel = best.cancel.min(next.cancel);
        }
        let log = (best.count as f64).log2();
        table.add_row([
            best.count.to_string(),
            format!("{:.0}", best.set),
            format!("{:.0}", best.cancel),
            format!("{:.1}", (best.set + best.cancel) / log),
        ]);
    }
    writeln!(io::stdout(), "{table}")?;
    Ok(())
}

fn cost(count: u64) -> Result<Cost, Box<dyn Error>> {
    let mut event_loop: EventLoop = EventLoop::new()?;
    // Times and order without a pattern that a search tree could like.
    let scattered = |number: u64| number.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 24;
    let start = Instant::now();
    let timers: Vec<TimerId> = (0..count)
        .map(|number| {
            event_loop.set_timer(Duration::from_micros(3_600_000_000 + scattered(number)))
        })
        .collect();
    let set = start.elapsed();
    let mut numbered: Vec<(u64, TimerId)> =
        (0..).map(|number| !scattered(number)).zip(timers).collect();
    numbered.sort_unstable();
    let start = Instant::now();
    for (_, timer) in numbered {
        assert!(event_loop.cancel_timer(timer), "it is still set");
    }
    let cancel = start.elapsed();
    let of_one = |time: Duration| time.as_nanos() as f64 / count as f64;
    Ok(Cost { count, set: of_one(set), cancel: of_one(cancel) })
}
