//! Some thousands of fleets; `make simulation` runs a million.

use simulation::{Mutant, Summary, run};

const SEEDS: u64 = 2000;

#[test]
fn fleets_keep_the_order_whatever_happens() {
    let mut sum = Summary::default();
    for seed in 0..SEEDS {
        sum += run(seed, None).unwrap_or_else(|problem| panic!("seed {seed}: {problem}"));
    }
    assert!(sum.refused > SEEDS && sum.takes > SEEDS && sum.shared > SEEDS, "too little happens: {sum:?}");
}

#[test]
fn every_mistake_is_found() {
    for mutant in [Mutant::NoLook, Mutant::ByArrival, Mutant::Unguarded, Mutant::AcknowledgedEarly] {
        assert!((0..SEEDS).any(|seed| run(seed, Some(mutant)).is_err()), "{mutant:?} breaks nothing");
    }
}

#[test]
fn a_seed_repeats_a_run() {
    for seed in 0..40 {
        assert_eq!(format!("{:?}", run(seed, None)), format!("{:?}", run(seed, None)));
    }
}
