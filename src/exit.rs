//! Exit codes, after sysexits.h.

/// The codes with which a program of this library ends.
#[derive(Debug)]
pub struct Exit;

impl Exit {
    /// All is well.
    pub const OK: u8 = 0;
    /// The command worked, and its answer is no.
    pub const NO: u8 = 1;
    /// The arguments are wrong.
    pub const USAGE: u8 = 64;
    /// A server is unavailable.
    pub const UNAVAILABLE: u8 = 69;
    /// A loop ended or panicked.
    pub const BROKEN: u8 = 70;
    /// The output could not be written.
    pub const OUTPUT: u8 = 74;
    /// The time for draining ran out.
    pub const OVERRUN: u8 = 75;
    /// A grant or a right is missing.
    pub const DENIED: u8 = 77;
    /// The configuration, the schema or the topology is wrong.
    pub const CONFIG: u8 = 78;
}
