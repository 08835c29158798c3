//! What tests need to know of a turn. The turns themselves are tested by whole loops: see
//! `src/simulation/tests/` and `tests/`.

mod fingerprint;
