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
    /// From the log.
    Log,
}

impl Mode {
    const ALL: [Self; 2] = [Self::Inline, Self::Log];

    /// Its name.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inline => "inline",
            Self::Log => "log",
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
    /// The generation, and all builds. The number is read first: the other way round an old list could come with a new number.
    pub async fn builds(&self) -> Result<(u32, Vec<Build>), StoreError> {
        let text = "SELECT (SELECT generation FROM event_sequence WHERE id = 1), '', 0, '', '', x'00', NULL, NULL, ''; \
                    SELECT build, name, version, mode, state, shape, taken_over, \
                    TIMESTAMPDIFF(MICROSECOND, vouched_at, UTC_TIMESTAMP(6)), CAST(since AS CHAR) \
                    FROM projections ORDER BY name, build";
        let rows = self.rows(text, false).await?;
        let [about, rows @ ..] = &*rows else {
            return Err(StoreError::Unavailable(Outage::Other, "no answer about builds".to_owned()));
        };
        let generation: Option<u32> = column(about, 0)?;
        let without_row = || StoreError::Unavailable(Outage::Sequence, "event_sequence has no row".to_owned());
        let wrong = |what: String| StoreError::Unavailable(Outage::Other, format!("a projection has {what}"));
        let builds = rows.iter().map(|row| -> Result<Build, StoreError> {
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
        Ok((generation.ok_or_else(without_row)?, builds.collect::<Result<_, _>>()?))
    }
}
