//! What stands beside a stream, and what a process is to it.

/// What an owner says of itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Tenancy {
    /// Nobody owns it.
    #[default]
    Free,
    /// It is owned.
    Owned,
    /// It is owned, and will be free in a moment.
    Draining,
}

impl Tenancy {
    /// Its name in the broker.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Free => "free",
            Self::Owned => "owning",
            Self::Draining => "draining",
        }
    }

    /// The other way round; what nobody has written is free.
    pub fn of(name: &str) -> Self {
        [Self::Owned, Self::Draining].into_iter().find(|state| state.as_str() == name).unwrap_or(Self::Free)
    }
}

/// What stands beside a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lease {
    /// Whoever took it last; empty when nobody ever did.
    pub id: String,
    /// The machine and process of that one, for people.
    pub host: String,
    /// What it says of itself.
    pub tenancy: Tenancy,
    /// How often the stream was taken.
    pub epoch: u64,
    /// Grows with every sign of life.
    pub beats: u64,
    /// Whether the last owner left nothing behind that it may have begun.
    pub is_clean: bool,
    /// What a job needs of its next owner, which the last one did not know; empty when there is none.
    pub wants: String,
}

/// A stream that was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Take {
    /// How often the stream was taken.
    pub epoch: u64,
    /// Whether the one before left nothing behind that it may have begun.
    pub is_clean: bool,
}

/// What a process is to a stream, in a word; the greatest of them is what it is to several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// It is ready to take it.
    StandingBy,
    /// Another one has taken it, or it was left, and something may be in flight.
    Lost,
    /// It owns it, and will leave it in a moment.
    Draining,
    /// It owns it, and nobody answers its beats: it begins nothing.
    Late,
    /// It owns it.
    Owner,
}

impl Role {
    /// Every role.
    pub const ALL: [Self; 5] = [Self::StandingBy, Self::Lost, Self::Draining, Self::Late, Self::Owner];

    /// Its label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::StandingBy => "standby",
            Self::Lost => "lost",
            Self::Draining => "draining",
            Self::Late => "late",
            Self::Owner => "owner",
        }
    }
}
