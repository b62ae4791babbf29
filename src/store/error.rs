//! What can go wrong with the database, told apart by what is to be done about it.

use sqlx::mysql::MySqlDatabaseError;

use super::commit::part::Part;

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
    /// Somebody else reads the subscription, or has moved it.
    #[error("somebody else has the subscription: {0}")]
    Fenced(String),
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
    /// Other builds of read models are to be written than were.
    Generation,
}

impl Conflict {
    /// Every kind, for metrics that start at zero.
    pub const ALL: [Self; 4] = [Self::Version, Self::Head, Self::Receipt, Self::Generation];

    /// The kind as a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Head => "head",
            Self::Receipt => "receipt",
            Self::Generation => "generation",
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
    /// 3101: another member of the group has committed something that this one was not decided on.
    Certification,
}

impl Repeat {
    /// Every reason, for metrics that start at zero.
    pub const ALL: [Self; 5] = [Self::Deadlock, Self::LockWait, Self::Snapshot, Self::Position, Self::Certification];

    /// The reason as a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Deadlock => "deadlock",
            Self::LockWait => "lock_wait",
            Self::Snapshot => "snapshot",
            Self::Position => "position",
            Self::Certification => "certification",
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
    /// It has left its cluster, is about to end, or has ended this session.
    FailingOver,
    /// The sequence row is not there, or does not say where the log ends.
    Sequence,
    /// Everything else: not reachable, shutting down, out of space.
    Other,
}

impl Outage {
    /// Every class, for metrics that start at zero.
    pub const ALL: [Self; 7] = [
        Self::ReadOnly,
        Self::TooManyConnections,
        Self::Denied,
        Self::Timeout,
        Self::FailingOver,
        Self::Sequence,
        Self::Other,
    ];

    /// The class as a label.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ReadOnly => "read_only",
            Self::TooManyConnections => "too_many_connections",
            Self::Denied => "denied",
            Self::Timeout => "timeout",
            Self::FailingOver => "failing_over",
            Self::Sequence => "sequence",
            Self::Other => "other",
        }
    }
}

impl StoreError {
    /// Tells the driver's error by its number and by the part of the packet whose statement failed. `committing` says that the
    /// statements contained a COMMIT, so that a lost connection leaves the outcome unknown.
    pub(super) fn classify(error: sqlx::Error, committing: bool, part: Part) -> Self {
        match &error {
            sqlx::Error::Database(database) => match database.try_downcast_ref::<MySqlDatabaseError>() {
                Some(mysql) => {
                    let text = format!("{}: {}", mysql.number(), mysql.message());
                    Self::by_number(mysql.number(), mysql.code().unwrap_or(""), text, committing)
                        .unwrap_or_else(|text| Self::in_part(mysql.number(), mysql.code().unwrap_or(""), text, part))
                }
                None => Self::Unavailable(Outage::Other, error.to_string()),
            },
            sqlx::Error::PoolTimedOut => Self::Unavailable(Outage::Timeout, "no connection became free in time".into()),
            _ if committing && is_broken(&error) => Self::Unknown(error.to_string()),
            _ => Self::Unavailable(Outage::Other, error.to_string()),
        }
    }

    /// What means the same in whichever statement; else the text. Numbers are the same on MySQL and MariaDB but for 1020, which only
    /// MariaDB sends here.
    fn by_number(number: u16, sqlstate: &str, text: String, committing: bool) -> Result<Self, String> {
        let outage = |class| Ok(Self::Unavailable(class, text.clone()));
        match number {
            1213 => Ok(Self::Repeat(Repeat::Deadlock)),
            1205 => Ok(Self::Repeat(Repeat::LockWait)),
            1020 => Ok(Self::Repeat(Repeat::Snapshot)),
            3101 => Ok(Self::Repeat(Repeat::Certification)),
            1290 | 1792 | 1836 => outage(Outage::ReadOnly),
            1040 | 1203 | 1226 => outage(Outage::TooManyConnections),
            // Rights, and a password that has expired or an account that was locked.
            1044 | 1045 | 1142 | 1143 | 1227 | 1370 | 1698 | 1820 | 1862 | 3118 | 4151 => outage(Outage::Denied),
            1969 | 3024 => outage(Outage::Timeout),
            // A member that is not one of its cluster any more, or not yet; a server that ends; a session that was ended. Whether
            // a COMMIT had its effect is not in these.
            1047 | 1053 | 1180 | 1317 | 1927 | 3032 | 3100 | 3169 | 3797 | 4031 if committing => {
                Ok(Self::Unknown(text))
            }
            1047 | 1053 | 1180 | 1317 | 1927 | 3032 | 3100 | 3169 | 3797 | 4031 => outage(Outage::FailingOver),
            // The session was told how large a packet may be when it began, and the server's limit has become smaller since.
            1153 => outage(Outage::Other),
            _ if sqlstate.starts_with("08") => outage(Outage::Other),
            _ => Err(text),
        }
    }

    /// What a number means depends on whose statement failed: a read model's duplicate key is its job's, ours is a conflict.
    fn in_part(number: u16, sqlstate: &str, text: String, part: Part) -> Self {
        match part {
            Part::Events if number == 1062 && text.contains("uq_events_version") => Self::Conflict(Conflict::Version),
            // An event is there at a position that the sequence row has not given yet.
            Part::Events if number == 1062 => Self::Unavailable(Outage::Sequence, text),
            Part::Receipts if number == 1062 => Self::Conflict(Conflict::Receipt),
            // These columns are never NULL but to say so. All else that is wrong here is wrong with the row itself.
            Part::Sequence if number == 1048 && text.contains("'position'") => Self::Repeat(Repeat::Position),
            Part::Sequence if number == 1048 && text.contains("'generation'") => Self::Conflict(Conflict::Generation),
            Part::Sequence if number == 1048 => Self::Conflict(Conflict::Head),
            Part::Sequence if matches!(number, 1231 | 1232 | 1690) => Self::Unavailable(Outage::Sequence, text),
            Part::Checkpoint if matches!(number, 1048 | 1231 | 1232) => Self::Fenced(text),
            Part::ReadModels | Part::Receipts | Part::Events if is_data(number, sqlstate) => Self::Data(text),
            Part::ReadModels | Part::Receipts | Part::Events | Part::Sequence | Part::Checkpoint | Part::Frame => {
                Self::Unavailable(Outage::Other, text)
            }
        }
    }
}

/// Whether the row is refused and not the statement: out of range, too long, not of its type; a NULL, a duplicate key, a failed
/// CHECK, a missing parent; or a trigger's own no.
fn is_data(number: u16, sqlstate: &str) -> bool {
    let class = sqlstate.get(..2).unwrap_or_default();
    matches!(class, "22" | "23" | "45") || matches!(number, 1265 | 1364 | 1366 | 1526 | 3819 | 4025)
}

/// Whether the connection is out of step or gone.
pub(super) fn is_broken(error: &sqlx::Error) -> bool {
    matches!(error, sqlx::Error::Io(_) | sqlx::Error::Protocol(_) | sqlx::Error::Tls(_) | sqlx::Error::WorkerCrashed)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(number: u16, state: &str, message: &str, part: Part) -> String {
        let text = format!("{number}: {message}");
        let error = StoreError::by_number(number, state, text, false);
        format!("{:?}", error.unwrap_or_else(|text| StoreError::in_part(number, state, text, part)))
    }

    #[test]
    fn a_guard_is_told_by_the_statement_that_failed() {
        let mysql = "Duplicate entry 'item-a-1' for key 'events.uq_events_version'";
        let mariadb = "Duplicate entry 'item-a-1' for key 'uq_events_version'";
        assert_eq!(told(1062, "23000", mysql, Part::Events), "Conflict(Version)");
        assert_eq!(told(1062, "23000", mariadb, Part::Events), "Conflict(Version)");
        let primary = "Duplicate entry '7' for key 'PRIMARY'";
        assert_eq!(told(1062, "23000", primary, Part::Receipts), "Conflict(Receipt)");
        assert!(told(1062, "23000", primary, Part::Events).starts_with("Unavailable(Sequence"));
        assert_eq!(told(1048, "23000", "Column 'unchanged' cannot be null", Part::Sequence), "Conflict(Head)");
        assert_eq!(told(1048, "23000", "Column 'position' cannot be null", Part::Sequence), "Repeat(Position)");
        assert!(told(1048, "23000", "Column 'beats' cannot be null", Part::Checkpoint).starts_with("Fenced"));
        assert!(told(1231, "42000", "completion_type", Part::Checkpoint).starts_with("Fenced"), "the row is gone");
        for number in [1231, 1232, 1690] {
            assert!(told(number, "22003", "", Part::Sequence).starts_with("Unavailable(Sequence"), "{number}");
        }
    }

    #[test]
    fn a_read_model_s_errors_are_its_jobs_whatever_its_columns_and_keys_are_called() {
        let texts = [
            (1062, "23000", "Duplicate entry '7' for key 'PRIMARY'"),
            (1062, "23000", "Duplicate entry '7' for key 'uq_events_version'"),
            (1048, "23000", "Column 'unchanged' cannot be null"),
            (1048, "23000", "Column 'position' cannot be null"),
            (1406, "22001", "Data too long"),
            (1264, "22003", "Out of range"),
            (1690, "22003", "BIGINT UNSIGNED value is out of range"),
            (1366, "HY000", "Incorrect string value"),
            (1364, "HY000", "Field 'x' doesn't have a default value"),
            (1452, "23000", "a foreign key constraint fails"),
            (3819, "HY000", "Check constraint 'x' is violated"),
            (4025, "23000", "CONSTRAINT `x` failed"),
            (1644, "45000", "no"),
        ];
        for (number, state, message) in texts {
            assert!(told(number, state, message, Part::ReadModels).starts_with("Data"), "{number} {message}");
        }
    }

    #[test]
    fn a_server_s_state_is_no_job_s_fault_in_any_part() {
        for part in [Part::Frame, Part::ReadModels, Part::Sequence, Part::Receipts, Part::Events, Part::Checkpoint] {
            assert_eq!(told(1213, "40001", "", part), "Repeat(Deadlock)");
            assert_eq!(told(1205, "HY000", "", part), "Repeat(LockWait)");
            assert_eq!(told(3101, "40000", "", part), "Repeat(Certification)");
            assert!(told(1290, "HY000", "--read-only", part).starts_with("Unavailable(ReadOnly"));
            assert!(told(1820, "HY000", "password", part).starts_with("Unavailable(Denied"));
            assert!(told(1047, "08S01", "WSREP", part).starts_with("Unavailable(FailingOver"));
            for (number, state) in [(1021, "HY000"), (1146, "42S02"), (1054, "42S22"), (1114, "HY000"), (1153, "08S01")]
            {
                assert!(told(number, state, "", part).starts_with("Unavailable(Other"), "{number}");
            }
        }
        assert!(told(1690, "22003", "", Part::Frame).starts_with("Unavailable(Other"), "no data was asked for");
    }

    #[test]
    fn a_connection_lost_at_commit_leaves_the_outcome_unknown() {
        let lost = || sqlx::Error::Io(std::io::ErrorKind::BrokenPipe.into());
        assert!(matches!(StoreError::classify(lost(), true, Part::Frame), StoreError::Unknown(_)));
        let reading = StoreError::classify(lost(), false, Part::Frame);
        assert!(matches!(reading, StoreError::Unavailable(Outage::Other, _)));
        let ended = StoreError::by_number(1053, "08S01", "1053: shutdown".to_owned(), true);
        assert!(matches!(ended, Ok(StoreError::Unknown(_))));
    }
}
