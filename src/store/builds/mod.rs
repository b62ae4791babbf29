//! Builds of read models: which there are, which of them every transaction writes, and the number that says so.
//!
//! Whoever commits compares the generation in the row that it takes anyway; whoever changes what is to be written adds one to it in the
//! same transaction. So nobody writes by an old list.

mod build;
mod change;
mod compare;
mod tables;

pub use build::{Build, BuildState, Mode, subscription_of};
pub use change::{NewBuild, TakeOver};
pub use compare::{Compared, Difference};
pub use tables::{Alone, Named};
