//! Builds as the database lists them.

use uuid::Uuid;

use crate::store::error::{Outage, StoreError};
use crate::store::pool::Store;
use crate::store::row::column;

/// How a read model is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// With the events.
    Inline,
    /// From the log, by what happened when.
    Log,
    /// From the log, by the states of aggregates.
    Later,
}

impl Mode {
    const ALL: [Self; 3] = [Self::Inline, Self::Log, Self::Later];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::Log => "log",
            Self::Later => "later",
        }
    }
}

/// Where a build is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum BuildState {
    /// It is filled from the log.
    Building,
    /// It is complete, and written from now on.
    Ready,
    /// It is what the plain name shows.
    Shown,
    /// It was shown, and is still written.
    Kept,
    /// It is not written any more.
    Retired,
    /// Its tables are gone.
    Dropped,
}

impl BuildState {
    /// Every state.
    pub const ALL: [Self; 6] = [Self::Building, Self::Ready, Self::Shown, Self::Kept, Self::Retired, Self::Dropped];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Building => "building",
            Self::Ready => "ready",
            Self::Shown => "shown",
            Self::Kept => "kept",
            Self::Retired => "retired",
            Self::Dropped => "dropped",
        }
    }

    /// Whether whoever writes events, or reads the log, writes it.
    pub fn is_written(self) -> bool {
        matches!(self, Self::Ready | Self::Shown | Self::Kept)
    }
}

/// A build as the database has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Build {
    /// The read model.
    pub name: String,
    /// The number of its tables.
    pub build: u16,
    /// The version of its code.
    pub version: u16,
    /// How it is written.
    pub mode: Mode,
    /// Where it is in its life.
    pub state: BuildState,
    /// A digest of how its tables are described.
    pub shape: Uuid,
    /// After which position it is written.
    pub taken_over: Option<u64>,
    /// How long ago a daemon said that it can write it, in seconds.
    pub vouched_seconds: Option<f64>,
    /// Since when there is this build, UTC.
    pub since: String,
}

impl Build {
    /// The name of its subscription, while it has one. The first has the read model's own.
    pub fn subscription(&self) -> String {
        subscription_of(&self.name, self.build)
    }
}

/// The name of the subscription of a build.
pub fn subscription_of(name: &str, build: u16) -> String {
    if build <= 1 { name.to_owned() } else { format!("{name}@{build}") }
}

impl Store {
    /// The generation, and all builds, in one statement, so that both are of one moment: an old list with a new number would be believed,
    /// and so would a new list with an old number that a failover makes the newest again.
    pub async fn builds(&self) -> Result<(u32, Vec<Build>), StoreError> {
        let text = "SELECT p.build, p.name, p.version, p.mode, p.state, p.shape, p.taken_over, \
                    TIMESTAMPDIFF(MICROSECOND, p.vouched_at, UTC_TIMESTAMP(6)), CAST(p.since AS CHAR), s.generation \
                    FROM event_sequence s LEFT JOIN projections p ON TRUE WHERE s.id = 1 ORDER BY p.name, p.build";
        let rows = self.rows(text, false).await?;
        let without_row = || StoreError::Unavailable(Outage::Sequence, "event_sequence has no row".to_owned());
        let generation: u32 = column(rows.first().ok_or_else(without_row)?, 9)?;
        let has_build = |row: &&sqlx::mysql::MySqlRow| !matches!(column::<Option<u16>>(row, 0), Ok(None));
        let wrong = |what: String| StoreError::Unavailable(Outage::Other, format!("a projection has {what}"));
        let builds = rows.iter().filter(has_build).map(|row| -> Result<Build, StoreError> {
            let (mode, state, shape): (String, String, Vec<u8>) = (column(row, 3)?, column(row, 4)?, column(row, 5)?);
            Ok(Build {
                build: column(row, 0)?,
                name: column(row, 1)?,
                version: column(row, 2)?,
                mode: Mode::ALL
                    .into_iter()
                    .find(|one| one.as_str() == mode)
                    .ok_or_else(|| wrong(format!("mode {mode}")))?,
                state: BuildState::ALL
                    .into_iter()
                    .find(|one| one.as_str() == state)
                    .ok_or_else(|| wrong(format!("state {state}")))?,
                shape: Uuid::from_slice(&shape).map_err(|error| wrong(error.to_string()))?,
                taken_over: column(row, 6)?,
                vouched_seconds: column::<Option<i64>>(row, 7)?.map(|micros| micros.max(0) as f64 / 1e6),
                since: column(row, 8)?,
            })
        });
        Ok((generation, builds.collect::<Result<_, _>>()?))
    }
}
