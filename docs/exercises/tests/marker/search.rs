//! Many runs of one check, and the shortest that fails.

use std::ops::Range;
use std::panic;

use readiness::simulation::try_seeds;

use crate::checks::Check;
use crate::record::Record;
use crate::stage::Stage;

/// How many networks each program is tried on.
const SEEDS: Range<u64> = 0..300;

/// A run that a program did not survive.
pub(crate) struct Broken {
    pub(crate) seed: u64,
    pub(crate) cause: String,
    pub(crate) record: Record,
}

/// Returns the shortest of the runs that fail, if one does.
pub(crate) fn shortest_broken_run(check: Check) -> Option<Broken> {
    // A panic is how a check fails. The one that is shown is shown with its run.
    let hook = panic::take_hook();
    panic::set_hook(Box::new(|_| {}));
    let mut shortest: Option<Broken> = None;
    for seed in SEEDS {
        let record = Record::default();
        let length_max = shortest.as_ref().map_or(usize::MAX, |broken| broken.record.len());
        let outcome = try_seeds(seed..seed + 1, |simulation| {
            check(&Stage::new(simulation, record.clone(), length_max))
        });
        if let Err(failed) = outcome
            && record.len() < length_max
        {
            let (seed, cause) = (failed.seed(), record.with_names(failed.cause()));
            shortest = Some(Broken { seed, cause, record });
        }
    }
    panic::set_hook(hook);
    shortest
}
