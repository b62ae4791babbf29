//! A migration as a program brings it.

/// A step of a schema's history.
#[derive(Clone, Copy, Debug)]
pub struct Migration {
    /// Its number, unique in its history and in the engine's.
    pub version: i64,
    /// Its name, for messages.
    pub name: &'static str,
    /// Its statements.
    pub text: &'static str,
}
