//! Old receipts, dead letters and reply streams go, in small steps: when an operator asks (`prune`), and by themselves when
//! `[retention]` says so.
//!
//! A receipt is what keeps a job from having a second effect, so one goes only when nothing can ask for it any more:
//!
//! - it is older than the operator says, which bounds for how long a producer's resend is recognised;
//! - it is older than any delivery may take, and than the schedule reaches ([`floor`]);
//! - the broker holds no entry of its job ([`Held`]): not in a stream, not in a schedule, not among the dead letters. No age can
//!   stand in for this, since nobody knows for how long a second copy of a job has been scheduled, or when its letter will be
//!   requeued.

mod held;
mod keep;
mod pace;
mod sweep;

pub use held::Held;
pub use keep::keep;
pub use pace::{Pace, Stopped, Tally, What};
pub use sweep::{Floor, floor, letters, receipts, replies};
