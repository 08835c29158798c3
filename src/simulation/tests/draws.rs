//! What a run draws from its seed in addition to the faults: the limits of its loop, and bytes.

use std::sync::OnceLock;
use std::time::Duration;

use crate::limits::Limits;
use crate::simulation::Faults;
use crate::system::simulated::Random;

/// Returns whether the runs of a seed have ordinary programs, whose messages take the fast path.
pub(super) fn is_plain(seed: u64) -> bool {
    seed % 5 == 2
}

pub(super) fn draw_faults(seed: u64) -> Faults {
    let drawn = Faults::drawn(seed);
    match is_plain(seed) {
        true => Faults { silent_rearm: false, disarms_on_report: false, ..drawn },
        false => drawn,
    }
}

/// Returns the limits of a program as most are: they seldom stop anything.
pub(super) fn draw_plain_limits(random: &mut Random) -> Limits {
    let mut limits = Limits::default();
    limits.connection.write_budget = random.one_of(&[5, 64, 64 * 1024]);
    limits.connection.high_water = random.one_of(&[64, 1024, 16 * 1024]);
    limits.connection.low_water = random.below(limits.connection.high_water + 1);
    limits.connection.unsent_max = limits.connection.high_water + 4096;
    limits
}

pub(super) fn draw_limits(random: &mut Random) -> Limits {
    let mut limits = Limits::default();
    let sizes = [1, 2, 5, 64, 1000, 64 * 1024];
    limits.connection.read_buffer_max = random.one_of(&sizes);
    limits.connection.read_budget = random.one_of(&sizes);
    limits.connection.write_budget = random.one_of(&sizes);
    limits.connection.high_water = random.one_of(&sizes[..5]);
    limits.connection.low_water = random.below(limits.connection.high_water + 1);
    limits.connection.unsent_max = limits.connection.high_water + random.one_of(&sizes[..5]);
    limits.connection.reads_while_unsent = random.below(4) == 0;
    limits.connection.stalled_read_deadline = Duration::from_secs(random.one_of(&[1, 5, 60, 60]));
    limits.accept_budget = 1 + random.below(3);
    if random.below(4) == 0 {
        limits.connections_max = Some(1 + random.below(4));
    }
    limits
}

/// Returns `count` bytes of a table of chance, from a place of chance.
pub(super) fn fill_bytes(random: &mut Random, count: usize) -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let mut random = Random::new(1);
        (0..1 << 16).map(|_| random.next() as u8).collect()
    });
    let start = random.below(table.len() / 2);
    &table[start..start + count]
}
