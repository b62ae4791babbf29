//! A fleet as its daemons' `/metrics` tell it: what `top` shows, and what is wrong.

pub mod exposition;
mod findings;
mod fleet;
mod model;
mod watch;

pub use findings::{count, seconds};
pub use fleet::{Daemon, Finding, Jobs, Locks, Node, Queue, Severity, Store, View};
pub use model::{Answer, Watched, view};
pub use watch::{News, PERIOD, Place, Watch, start, unix_seconds};
