//! Moments, as people name them and as the log keeps them.

use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::cli::failed::Failed;
use crate::store::{EventPlace, Store, StoreError};

/// A moment: one of the calendar, or so long ago by the database's clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Moment {
    At(DateTime<Utc>),
    Ago(Duration),
}

/// What an argument names: `2026-01-31T12:00:00Z`, or `15m` for so long ago.
pub(super) fn parse(text: &str) -> Result<Moment, String> {
    if let Ok(time) = DateTime::parse_from_rfc3339(text) {
        return Ok(Moment::At(time.to_utc()));
    }
    let ago = humantime::parse_duration(text).map(Moment::Ago);
    ago.map_err(|_| "neither a time like 2026-01-31T12:00:00Z nor how long ago, like 15m or 2d".to_owned())
}

impl Moment {
    /// As the log keeps it, which sorts as text.
    pub async fn text(self, store: &Store) -> Result<String, StoreError> {
        match self {
            Self::At(time) => Ok(time.format("%Y-%m-%d %H:%M:%S%.6f").to_string()),
            Self::Ago(age) => store.moment_ago(age).await,
        }
    }
}

/// The first number from 1 to `count` whose event was recorded at this moment or later, or the one after the last: times follow the
/// order of the log, unless the server's clock was set back. `look` tells where the event of a number stands.
pub(super) async fn first_since(
    count: u64,
    moment: &str,
    look: impl AsyncFn(u64) -> Result<Option<EventPlace>, StoreError>,
) -> Result<u64, Failed> {
    first(count, look, |place| place.recorded_at.as_str() >= moment).await
}

/// The first number from 1 to `count` of which `is_so` is true, and then of all later ones; or the one after the last.
pub(super) async fn first(
    count: u64,
    look: impl AsyncFn(u64) -> Result<Option<EventPlace>, StoreError>,
    is_so: impl Fn(&EventPlace) -> bool,
) -> Result<u64, Failed> {
    let (mut low, mut high) = (1, count + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        // What is missing tells nothing; whoever reads on from here says so.
        if look(middle).await?.is_none_or(|place| is_so(&place)) { high = middle } else { low = middle + 1 }
    }
    Ok(low)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_and_ages_are_told_apart() {
        assert_eq!(parse("15m"), Ok(Moment::Ago(Duration::from_secs(900))));
        let Ok(Moment::At(time)) = parse("2026-01-31T13:00:00.5+01:00") else { panic!("it is a time") };
        assert_eq!(time.format("%Y-%m-%d %H:%M:%S%.6f").to_string(), "2026-01-31 12:00:00.500000");
        assert!(parse("yesterday").is_err());
    }

    #[tokio::test]
    async fn the_first_at_or_after_a_moment_is_found_wherever_it_is() {
        let look = async |number: u64| {
            let recorded_at = format!("2026-01-01 00:00:{:02}.000000", number / 2);
            Ok(Some(EventPlace { position: number, recorded_at }))
        };
        for (moment, expected) in
            [("2025", 1), ("2026-01-01 00:00:01.000000", 2), ("2026-01-01 00:00:04", 8), ("2027", 21)]
        {
            assert_eq!(first_since(20, moment, look).await.expect("found"), expected, "{moment}");
        }
        assert_eq!(first_since(0, "2026", look).await.expect("found"), 1);
    }
}
