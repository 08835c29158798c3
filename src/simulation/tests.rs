//! Every promise, under faults that a seed draws.
//!
//! | file | |
//! |---|---|
//! | `flow.rs` | one connection as seen from outside: what was sent, what must arrive next |
//! | `trace.rs` | what a loop did, step by step |
//! | `checker.rs` | the promises, checked after every step of every run |
//! | `run.rs` | a run: kernel, peers and program do what the seed says |
//! | `program.rs`, `acts.rs` | what the program of a run does, and each of its acts |
//! | `peers.rs` | what its peers do |
//! | `draws.rs` | what it draws from its seed in addition to the faults |
//! | `rest.rs` | its second phase: all must come to rest |
//! | `two_programs.rs` | two runs with a loop each, against each other |
//! | `embedding.rs` | what a run does around its loop: timers, wakes, a shutdown, a host |
//! | `timing.rs` | its timers and wakes, and when each must be delivered |
//! | `leaving.rs` | its shutdown, and what that must see to |
//! | `slow_peers.rs` | peers that read a byte now and then, for longer than any deadline |
//! | `seeds.rs` | many runs, and seeds that are kept for the story they tell |
//! | `sweeps.rs` | each call and pair of calls fails in each way; each cutting of a short exchange |
//! | `budgets.rs` | what one turn does, and in which order |
//! | `exhaustive.rs` | two connections of one loop in a tiny world, in all states |
//! | `deadlines.rs` | each deadline to the tick |
//! | `couplings.rs` | which connection holds back the reading of which |
//! | `repeats.rs` | programs that take one message for each event |
//! | `shortages.rs` | running out of descriptors |
//! | `traits.rs` | the standard traits, at their bounds |
//! | `stories.rs` | bugs that were found, each as the shortest scenario that shows it |
//! | `name_stories.rs` | bugs that were found in connects to names |
//! | `listener_stories.rs` | bugs that were found in listeners that run out of room |
//! | `embedding_stories.rs` | bugs that were found in timers, wakes, shutdowns and hosts |

mod acts;
mod budgets;
mod checker;
mod couplings;
mod deadlines;
mod draws;
mod embedding;
mod embedding_stories;
mod exhaustive;
mod flow;
mod leaving;
mod listener_stories;
mod name_stories;
mod peers;
mod program;
mod repeats;
mod rest;
mod run;
mod seeds;
mod shortages;
mod slow_peers;
mod stories;
mod sweeps;
mod timing;
mod trace;
mod traits;
mod two_programs;
