//! What is made of several rounds' figures.

use serde::Serialize;

/// Some rounds of one figure: the middle, and how far they lie apart.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// The spread of at least one figure; of none it is zero.
    pub fn of(figures: impl IntoIterator<Item = f64>) -> Spread {
        let mut sorted: Vec<f64> = figures.into_iter().collect();
        sorted.sort_unstable_by(f64::total_cmp);
        let at = |place: usize| sorted.get(place).copied().unwrap_or_default();
        let last = sorted.len().saturating_sub(1);
        Spread { median: (at(last / 2) + at(sorted.len() / 2)) / 2.0, min: at(0), max: at(last) }
    }
}

/// A figure against another of the same round, and the bar it has to reach.
#[derive(Clone, Debug, Serialize)]
pub struct Ratio {
    /// Without a blank, so that a script can split the line.
    pub name: String,
    pub value: Spread,
    pub bar: f64,
    pub passed: bool,
}

impl Ratio {
    /// The ratios of these pairs, one of each round; it passes when their median reaches the bar.
    pub fn of(name: impl Into<String>, pairs: impl IntoIterator<Item = (f64, f64)>, bar: f64) -> Ratio {
        let value = Spread::of(pairs.into_iter().map(|(ours, theirs)| ours / theirs));
        Ratio { name: name.into(), value, bar, passed: value.median >= bar }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_spread_has_the_middle_and_the_ends() {
        assert_eq!(Spread::of([3.0, 1.0, 2.0]), Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert_eq!(Spread::of([4.0, 1.0, 2.0, 3.0]), Spread { median: 2.5, min: 1.0, max: 4.0 });
        assert_eq!(Spread::of([7.0]), Spread { median: 7.0, min: 7.0, max: 7.0 });
        assert_eq!(Spread::of([]), Spread { median: 0.0, min: 0.0, max: 0.0 });
    }

    #[test]
    fn a_ratio_is_made_round_by_round_and_nothing_against_nothing_reaches_no_bar() {
        let ratio = Ratio::of("x", [(10.0, 5.0), (30.0, 10.0), (1.0, 1.0)], 2.0);
        assert_eq!(ratio.value, Spread { median: 2.0, min: 1.0, max: 3.0 });
        assert!(ratio.passed);
        assert!(!Ratio::of("x", [(1.9, 1.0)], 2.0).passed);
        assert!(!Ratio::of("x", [(0.0, 0.0)], 2.0).passed);
    }
}
