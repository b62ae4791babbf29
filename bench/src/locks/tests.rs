use super::*;

#[test]
fn every_round_measures_the_same_and_the_contenders_take_turns_at_being_first() {
    let (even, odd) = (cases(256, 0), cases(256, 1));
    assert!(even.len() == odd.len() && even.iter().all(|case| odd.contains(case)));
    assert_eq!((even[0].who, odd[0].who), (Who::Ours, Who::Rslock));
}

#[test]
fn a_bar_is_held_against_figures_of_the_same_round() {
    let row = |(place, case): (usize, Case)| {
        let done = Done { cycles: 1, refused: 0, seconds: 1.0, acquire_p50_us: 1, acquire_p99_us: 1 };
        let measured = Measured { done, keys_per_second: 1.0, contender_cpu_us: None, nodes_cpu_us: None };
        let rate = |factor| Measured { keys_per_second: factor * (place + 1) as f64, ..measured.clone() };
        Row { case, keys_per_second: Spread::of([]), measured: vec![rate(1.0), rate(10.0), rate(10.0)] }
    };
    let rows: Vec<Row> = cases(256, 0).into_iter().enumerate().map(row).collect();
    let told: Vec<_> = ratios(&rows, 256).into_iter().map(|ratio| (ratio.name, ratio.value.median)).collect();
    let expected = [
        ("lockkeeper/rslock,1-node", 1.0 / 2.0),
        ("lockkeeper/rslock,3-nodes", 4.0 / 5.0),
        ("lockkeeper/rslock,3-nodes-one-frozen", 7.0 / 8.0),
        ("256-keys/one-key,1-nodes", 3.0),
        ("256-keys/one-key,3-nodes", 6.0 / 4.0),
    ];
    assert_eq!(told, expected.map(|(name, value)| (name.to_owned(), value)));
    assert!(table(&rows).contains("3 nodes, one frozen"));
}
