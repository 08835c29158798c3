//! Every promise, under faults that a seed draws.
//!
//! | file | |
//! |---|---|
//! | `flow.rs` | one connection as seen from outside: what was sent, what must come next |
//! | `checker.rs` | the promises, checked after every step of every run |
//! | `run.rs` | a run: kernel, peers and program do what the seed says |
//! | `rest.rs` | its second phase: all must come to rest |
//! | `seeds.rs` | many runs, and seeds that are kept for the story they tell |
//! | `sweeps.rs` | each call fails in each way; each cutting of a short exchange |
//! | `budgets.rs` | what one turn does, and in which order |
//! | `stories.rs` | bugs that were found, each as the shortest scenario that shows it |

mod budgets;
mod checker;
mod flow;
mod rest;
mod run;
mod seeds;
mod stories;
mod sweeps;
