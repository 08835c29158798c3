//! What the programs of this crate are made of: for each its protocol, and the function that
//! handles the events of its loop.
//!
//! They stand here and not in `src/bin/`, so that the tests can run them on the simulated network
//! too.

pub mod app;
pub mod http;
pub mod load;
mod request;
pub mod status;
pub mod tls_echo;
pub mod websocket_echo;
