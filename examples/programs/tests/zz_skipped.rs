//! Counts the tests of this crate that this machine could not run, as those of the loop are.

#[path = "../../../tests/zz_skipped.rs"]
mod of_the_loop;
