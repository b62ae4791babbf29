//! The connection to the broker: which server it leads to, and that it takes what is written.

mod broker;
mod dial;
mod error;
mod holder;
mod nature;
mod proof;
mod trouble;

pub use broker::{Broker, LARGE_ANSWER};
pub(super) use dial::dial;
pub use error::BrokerError;
pub(super) use holder::{Generation, moved};
pub use nature::{Nature, Unfit};
pub(super) use proof::{ACKNOWLEDGE, proof};
