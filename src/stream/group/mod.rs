//! What is done through the consumer group: reading, making entries one's own, counting their starts.

pub(super) mod consumers;
pub(super) mod log;
pub(super) mod read;
pub(super) mod starts;
