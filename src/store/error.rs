//! What can go wrong with the database, told apart by what is to be done about it.

use sqlx::mysql::MySqlDatabaseError;

/// A failed read or commit.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else wrote in between: load and decide again.
    #[error("the state that was decided on has changed ({})", .0.as_str())]
    Conflict(Conflict),
    /// The database chose this transaction as a victim, or made it wait too long: nothing is wrong with it.
    #[error("the transaction has to be repeated ({})", .0.as_str())]
    Repeat(Repeat),
    /// The rows themselves are refused.
    #[error("the database refuses the data: {0}")]
    Data(String),
    /// A stored event cannot be read, so its aggregate cannot be loaded.
    #[error(transparent)]
    Undecodable(#[from] crate::domain::Undecodable),
    /// The database cannot be used now. Nothing is wrong with the jobs.
    #[error("the database is unavailable ({}): {}", .0.as_str(), .1)]
    Unavailable(Outage, String),
    /// The answer to a commit was lost: only the receipts can tell whether it happened.
    #[error("the outcome of a commit is unknown: {0}")]
    Unknown(String),
}

/// Which of the guards noticed a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Conflict {
    /// The unique key over an aggregate's versions.
    Version,
    /// An aggregate that was read and got no event.
    Head,
    /// A receipt of the same job.
    Receipt,
}

impl Conflict {
    /// Every kind, for metrics that start at zero.
    pub const ALL: [Self; 3] = [Self::Version, Self::Head, Self::Receipt];

    /// The kind as a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Head => "head",
            Self::Receipt => "receipt",
        }
    }
}

/// Why a transaction has to be repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Repeat {
    /// 1213.
    Deadlock,
    /// 1205.
    LockWait,
    /// 1020, MariaDB.
    Snapshot,
    /// Somebody else has written, so the events come at other positions than was foreseen.
    Position,
}

impl Repeat {
    /// Every reason, for metrics that start at zero.
    pub const ALL: [Self; 4] = [Self::Deadlock, Self::LockWait, Self::Snapshot, Self::Position];

    /// The reason as a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deadlock => "deadlock",
            Self::LockWait => "lock_wait",
            Self::Snapshot => "snapshot",
            Self::Position => "position",
        }
    }
}

/// Why the database cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outage {
    /// It only reads.
    ReadOnly,
    /// It takes no further connection.
    TooManyConnections,
    /// The account lacks a grant, or its password is wrong.
    Denied,
    /// No answer in time.
    Timeout,
    /// Everything else: not reachable, shutting down, out of space.
    Other,
}

impl Outage {
    /// Every class, for metrics that start at zero.
    pub const ALL: [Self; 5] = [Self::ReadOnly, Self::TooManyConnections, Self::Denied, Self::Timeout, Self::Other];

    /// The class as a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "read_only",
            Self::TooManyConnections => "too_many_connections",
            Self::Denied => "denied",
            Self::Timeout => "timeout",
            Self::Other => "other",
        }
    }
}

impl StoreError {
    /// Tells the driver's error by its number. `committing` says that the statements contained a COMMIT, so that a lost
    /// connection leaves the outcome unknown.
    pub(super) fn classify(error: sqlx::Error, committing: bool) -> Self {
        match &error {
            sqlx::Error::Database(database) => match database.try_downcast_ref::<MySqlDatabaseError>() {
                Some(mysql) => Self::by_number(mysql.number(), mysql.code().unwrap_or(""), mysql.message()),
                None => Self::Unavailable(Outage::Other, error.to_string()),
            },
            sqlx::Error::PoolTimedOut => Self::Unavailable(Outage::Timeout, "no connection became free in time".into()),
            sqlx::Error::Io(_) | sqlx::Error::Protocol(_) if committing => Self::Unknown(error.to_string()),
            sqlx::Error::WorkerCrashed if committing => Self::Unknown(error.to_string()),
            _ => Self::Unavailable(Outage::Other, error.to_string()),
        }
    }

    /// Server error numbers are the same on MySQL and MariaDB but for 1020, which only MariaDB sends here.
    fn by_number(number: u16, sqlstate: &str, message: &str) -> Self {
        match number {
            // MySQL names the key with its table (`events.uq_events_version`), MariaDB without.
            1062 if message.contains("uq_events_version") => Self::Conflict(Conflict::Version),
            1062 if message.contains("PRIMARY") => Self::Conflict(Conflict::Receipt),
            1048 if message.contains("'unchanged'") => Self::Conflict(Conflict::Head),
            1048 if message.contains("'position'") => Self::Repeat(Repeat::Position),
            1213 => Self::Repeat(Repeat::Deadlock),
            1205 => Self::Repeat(Repeat::LockWait),
            1020 => Self::Repeat(Repeat::Snapshot),
            1290 | 1792 | 1836 => Self::Unavailable(Outage::ReadOnly, message.into()),
            1040 | 1203 | 1226 => Self::Unavailable(Outage::TooManyConnections, message.into()),
            1044 | 1045 | 1142 | 1143 | 1227 | 1370 | 1698 => Self::Unavailable(Outage::Denied, message.into()),
            1969 | 3024 => Self::Unavailable(Outage::Timeout, message.into()),
            // Too large a packet, a NULL where there must be a value, a duplicate key of a read model, a failed CHECK.
            1048 | 1062 | 1153 | 3819 | 4025 => Self::Data(format!("{number}: {message}")),
            _ if sqlstate.starts_with("22") || number == 1366 => Self::Data(format!("{number}: {message}")),
            _ => Self::Unavailable(Outage::Other, format!("{number}: {message}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_key_names_tell_what_to_do() {
        let told = |number, state, message| format!("{:?}", StoreError::by_number(number, state, message));
        let mysql = "Duplicate entry 'item-a-1' for key 'events.uq_events_version'";
        let mariadb = "Duplicate entry 'item-a-1' for key 'uq_events_version'";
        assert_eq!(told(1062, "23000", mysql), "Conflict(Version)");
        assert_eq!(told(1062, "23000", mariadb), "Conflict(Version)");
        assert_eq!(told(1062, "23000", "Duplicate entry 'x' for key 'receipts.PRIMARY'"), "Conflict(Receipt)");
        assert_eq!(told(1048, "23000", "Column 'unchanged' cannot be null"), "Conflict(Head)");
        assert_eq!(told(1048, "23000", "Column 'position' cannot be null"), "Repeat(Position)");
        assert_eq!(told(1213, "40001", ""), "Repeat(Deadlock)");
        assert_eq!(told(1205, "HY000", ""), "Repeat(LockWait)");
        assert!(told(1048, "23000", "Column 'name' cannot be null").starts_with("Data"));
        assert!(told(1406, "22001", "Data too long").starts_with("Data"));
        assert!(told(1264, "22003", "Out of range").starts_with("Data"));
        assert!(told(1153, "08S01", "Got a packet bigger").starts_with("Data"));
        assert!(told(1290, "HY000", "--read-only").starts_with("Unavailable(ReadOnly"));
        assert!(told(1021, "HY000", "Disk full").starts_with("Unavailable(Other"));
        assert!(told(1146, "42S02", "no such table").starts_with("Unavailable(Other"), "a server's fault, not a job's");
    }

    #[test]
    fn a_connection_lost_at_commit_leaves_the_outcome_unknown() {
        let lost = || sqlx::Error::Io(std::io::ErrorKind::BrokenPipe.into());
        assert!(matches!(StoreError::classify(lost(), true), StoreError::Unknown(_)));
        assert!(matches!(StoreError::classify(lost(), false), StoreError::Unavailable(Outage::Other, _)));
    }
}
