//! Every promise, under faults that a seed draws.
//!
//! | file | |
//! |---|---|
//! | `flow.rs` | one connection as seen from outside: what was sent, what must come next |
//! | `checker.rs` | the promises, checked after every step of every run |
//! | `run.rs` | a run: kernel, peers and program do what the seed says |
//! | `rest.rs` | its second phase: all must come to rest |
//! | `embedding.rs` | what a run does around its loop: timers, wakes, a shutdown, a host |
//! | `timing.rs` | its timers and wakes, and when each must be told |
//! | `leaving.rs` | its shutdown, and what that must see to |
//! | `seeds.rs` | many runs, and seeds that are kept for the story they tell |
//! | `sweeps.rs` | each call fails in each way; each cutting of a short exchange |
//! | `stories.rs` | bugs that were found, each as the shortest scenario that shows it |
//! | `embedding_stories.rs` | the same of timers, wakes, shutdowns and hosts |

mod checker;
mod embedding;
mod embedding_stories;
mod flow;
mod leaving;
mod rest;
mod run;
mod seeds;
mod stories;
mod sweeps;
mod timing;
