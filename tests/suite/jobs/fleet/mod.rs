//! Jobs that not every daemon, and not every moment, is right for.

mod first;
mod spread;
mod unknown;
