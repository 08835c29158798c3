//! What a connection costs a program that does not ask for the simulation. With the feature a
//! socket is one of two kinds, and a word larger.

#![cfg(all(unix, target_pointer_width = "64", not(feature = "simulation")))]

use readiness::Connection;

/// What a slab keeps for each slot: the tag counts.
#[expect(dead_code, reason = "only its size is looked at")]
enum Entry<T> {
    Vacant(usize),
    Occupied(T),
}

#[test]
fn connection_without_data_takes_at_most_96_bytes_of_the_slab_its_tag_included() {
    // In debug builds mio adds a word to a socket, which shows what registered it.
    let most = if cfg!(debug_assertions) { 112 } else { 96 };
    let (connection, entry) = (size_of::<Connection<()>>(), size_of::<Entry<Connection<()>>>());
    assert!(connection <= most, "a connection takes {connection} bytes");
    assert!(entry <= most, "an entry takes {entry} bytes");
}
