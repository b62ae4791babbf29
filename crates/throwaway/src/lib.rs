//! Servers that live as long as the process that started them: a broker, lock nodes and a database on free ports of this machine, a
//! network between them that can be broken, and daemons as children. Nothing here knows the engine.

#![forbid(unsafe_code)]
#![warn(missing_docs)]
#![deny(clippy::print_stdout, clippy::print_stderr)]
#![cfg_attr(not(test), warn(clippy::unwrap_used, clippy::expect_used))]

mod daemon;
pub mod proxy;
pub mod servers;

pub use daemon::{Daemon, client_environment, program};
