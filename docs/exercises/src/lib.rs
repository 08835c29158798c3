//! Twenty small programs, each with one fault. `cargo test` says which are still broken, and shows
//! for each the shortest simulated run that breaks it. See `README.md`.
//!
//! With the feature `solutions`, the solutions stand in their place.

#[cfg_attr(feature = "solutions", path = "../solutions/20_accepting_stopped.rs")]
#[cfg_attr(not(feature = "solutions"), path = "20_accepting_stopped.rs")]
pub mod accepting_stopped;
#[cfg_attr(feature = "solutions", path = "../solutions/13_answer_after_the_end.rs")]
#[cfg_attr(not(feature = "solutions"), path = "13_answer_after_the_end.rs")]
pub mod answer_after_the_end;
#[cfg_attr(feature = "solutions", path = "../solutions/14_claimed_length.rs")]
#[cfg_attr(not(feature = "solutions"), path = "14_claimed_length.rs")]
pub mod claimed_length;
#[cfg_attr(feature = "solutions", path = "../solutions/11_early_end.rs")]
#[cfg_attr(not(feature = "solutions"), path = "11_early_end.rs")]
pub mod early_end;
#[cfg_attr(feature = "solutions", path = "../solutions/12_error_answer_lost.rs")]
#[cfg_attr(not(feature = "solutions"), path = "12_error_answer_lost.rs")]
pub mod error_answer_lost;
#[cfg_attr(feature = "solutions", path = "../solutions/01_half_a_line.rs")]
#[cfg_attr(not(feature = "solutions"), path = "01_half_a_line.rs")]
pub mod half_a_line;
#[cfg_attr(feature = "solutions", path = "../solutions/03_lost_edge.rs")]
#[cfg_attr(not(feature = "solutions"), path = "03_lost_edge.rs")]
pub mod lost_edge;
#[cfg_attr(feature = "solutions", path = "../solutions/18_lost_wake_up.rs")]
#[cfg_attr(not(feature = "solutions"), path = "18_lost_wake_up.rs")]
pub mod lost_wake_up;
#[cfg_attr(feature = "solutions", path = "../solutions/10_one_at_a_time.rs")]
#[cfg_attr(not(feature = "solutions"), path = "10_one_at_a_time.rs")]
pub mod one_at_a_time;
#[cfg_attr(feature = "solutions", path = "../solutions/15_own_echo.rs")]
#[cfg_attr(not(feature = "solutions"), path = "15_own_echo.rs")]
pub mod own_echo;
#[cfg_attr(feature = "solutions", path = "../solutions/06_reset_ends_all.rs")]
#[cfg_attr(not(feature = "solutions"), path = "06_reset_ends_all.rs")]
pub mod reset_ends_all;
#[cfg_attr(feature = "solutions", path = "../solutions/02_rest_of_the_read.rs")]
#[cfg_attr(not(feature = "solutions"), path = "02_rest_of_the_read.rs")]
pub mod rest_of_the_read;
#[cfg_attr(feature = "solutions", path = "../solutions/07_short_write.rs")]
#[cfg_attr(not(feature = "solutions"), path = "07_short_write.rs")]
pub mod short_write;
#[cfg_attr(feature = "solutions", path = "../solutions/19_shutdown_never_ends.rs")]
#[cfg_attr(not(feature = "solutions"), path = "19_shutdown_never_ends.rs")]
pub mod shutdown_never_ends;
#[cfg_attr(feature = "solutions", path = "../solutions/17_spin.rs")]
#[cfg_attr(not(feature = "solutions"), path = "17_spin.rs")]
pub mod spin;
#[cfg_attr(feature = "solutions", path = "../solutions/05_stale_id.rs")]
#[cfg_attr(not(feature = "solutions"), path = "05_stale_id.rs")]
pub mod stale_id;
#[cfg_attr(feature = "solutions", path = "../solutions/16_timer_per_message.rs")]
#[cfg_attr(not(feature = "solutions"), path = "16_timer_per_message.rs")]
pub mod timer_per_message;
#[cfg_attr(feature = "solutions", path = "../solutions/09_two_writers.rs")]
#[cfg_attr(not(feature = "solutions"), path = "09_two_writers.rs")]
pub mod two_writers;
#[cfg_attr(feature = "solutions", path = "../solutions/08_unbounded_feed.rs")]
#[cfg_attr(not(feature = "solutions"), path = "08_unbounded_feed.rs")]
pub mod unbounded_feed;
#[cfg_attr(feature = "solutions", path = "../solutions/04_writable_always.rs")]
#[cfg_attr(not(feature = "solutions"), path = "04_writable_always.rs")]
pub mod writable_always;
