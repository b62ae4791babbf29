//! From decisions to a durable transaction: its text, and the one step that cannot be undone.

mod encode;
mod send;

pub(in crate::batch) use encode::transaction;
pub(in crate::batch) use send::commit;
