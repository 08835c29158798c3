//! What a run draws from its seed besides the faults: the limits of its loop, and bytes.

use std::sync::OnceLock;

use crate::limits::Limits;
use crate::system::simulated::Random;

pub(super) fn draw_limits(random: &mut Random) -> Limits {
    let mut limits = Limits::default();
    let sizes = [1, 2, 5, 64, 1000, 64 * 1024];
    limits.connection.read_buffer_max = random.one_of(&sizes);
    limits.connection.read_budget = random.one_of(&sizes);
    limits.connection.write_budget = random.one_of(&sizes);
    limits.connection.high_water = random.one_of(&sizes[..5]);
    limits.connection.low_water = random.below(limits.connection.high_water + 1);
    limits.connection.unsent_max = limits.connection.high_water + random.one_of(&sizes[..5]);
    limits.accept_budget = 1 + random.below(3);
    if random.below(4) == 0 {
        limits.connections_max = Some(1 + random.below(4));
    }
    limits
}

/// So many bytes of a table of chance, from a place of chance.
pub(super) fn fill_bytes(random: &mut Random, count: usize) -> &'static [u8] {
    static TABLE: OnceLock<Vec<u8>> = OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let mut random = Random::new(1);
        (0..1 << 16).map(|_| random.next() as u8).collect()
    });
    let start = random.below(table.len() / 2);
    &table[start..start + count]
}
