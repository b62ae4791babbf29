//! Which numbers can be times. Pure.
//!
//! A time in another unit is a number too: seconds are a moment in 1970, micro- and nanoseconds one in the year 58,000 and
//! later. Taken at its word, a job would run at once that should wait, or wait for ever.

use crate::domain::Malformed;

/// Unix milliseconds up to here are long ago whatever unit was meant: what producers give for "at once", or "expired".
const LONG_AGO: u64 = 100_000_000;

/// Unix seconds of all years to 5138, read as milliseconds, are below.
const SECONDS: u64 = 100_000_000_000;

/// The last moment that can be meant, in Unix milliseconds: of the same years. Today's microseconds are seventeen times as many.
pub const LATEST_MS: u64 = 100_000_000_000_000;

/// Today's nanoseconds are above.
const MICROSECONDS: u64 = 100_000_000_000_000_000;

/// An entry's time may be so far ahead of the broker's clock, which may have been set back a little.
const AHEAD_MS: u64 = 60_000;

/// `value` if it can be meant as Unix milliseconds, else which unit the field `name` is likely to be in.
pub(super) fn plausible(name: &str, value: u64) -> Result<u64, Malformed> {
    let unit = match value {
        0..=LONG_AGO | SECONDS..=LATEST_MS => return Ok(value),
        _ if value < SECONDS => "seconds",
        _ if value < MICROSECONDS => "microseconds",
        _ => "nanoseconds",
    };
    Err(Malformed::new(name, format!("must be Unix milliseconds; {value} looks like {unit}")))
}

/// How long ago a moment was that an entry id, or a member of the schedule, stands for; `None` when it is none: producers may set
/// ids, which then count anything, and the clock of none of them is the broker's. Both in Unix milliseconds.
pub fn age_ms(moment: u64, now_ms: u64) -> Option<u64> {
    let is_time = moment >= SECONDS && moment <= now_ms.saturating_add(AHEAD_MS);
    is_time.then(|| now_ms.saturating_sub(moment))
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_790_000_000_000;

    #[test]
    fn a_time_in_another_unit_is_refused_by_its_name() {
        let refused = |value| plausible("at", value).expect_err("it is no time").to_string();
        assert_eq!(refused(NOW / 1000), "at must be Unix milliseconds; 1790000000 looks like seconds");
        assert_eq!(refused(NOW * 1000), "at must be Unix milliseconds; 1790000000000000 looks like microseconds");
        assert_eq!(
            refused(NOW * 1_000_000),
            "at must be Unix milliseconds; 1790000000000000000 looks like nanoseconds"
        );
        assert!(refused(u64::MAX).ends_with("nanoseconds"));
        for fine in [0, 1, 1000, NOW, 4_102_444_800_000, 99_999_999_999_999] {
            assert_eq!(plausible("at", fine).ok(), Some(fine));
        }
    }

    #[test]
    fn an_age_is_known_of_what_can_be_a_time() {
        assert_eq!(age_ms(NOW - 5, NOW), Some(5));
        assert_eq!(age_ms(NOW + 5, NOW), Some(0), "a clock that is a little behind");
        for other in [0, 5, NOW / 1000, NOW + 2 * AHEAD_MS, NOW * 1000, NOW * 1_000_000, u64::MAX] {
            assert_eq!(age_ms(other, NOW), None, "{other}");
        }
    }
}
