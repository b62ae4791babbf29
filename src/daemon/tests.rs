use super::*;

/// A busy machine may poll whoever watches the loops only when all of them have ended.
#[tokio::test]
async fn loops_that_have_drained_before_anyone_looks_are_not_broken() {
    let metrics = Metrics::muted().expect("metrics");
    for _ in 0..50 {
        let (lifecycle, mut loops, mut beside) = (Lifecycle::default(), Loops::new(), JoinSet::new());
        lifecycle.advance(Phase::Draining);
        loops.spawn(async { Ok(Drained { finished: 1, left: 2 }) });
        beside.spawn(async { "a loop beside" });
        tokio::task::yield_now().await;
        let (end, drained) = watch_over(loops, beside, &lifecycle, &metrics, Duration::from_secs(60)).await;
        assert_eq!((end, drained), (End::Drained, Drained { finished: 1, left: 2 }));
    }
}

#[tokio::test]
async fn a_loop_that_ends_while_the_daemon_runs_is_a_fault() {
    let metrics = Metrics::muted().expect("metrics");
    let (lifecycle, mut loops) = (Lifecycle::default(), Loops::new());
    loops.spawn(async { Ok(Drained::default()) });
    let (end, _) = watch_over(loops, JoinSet::new(), &lifecycle, &metrics, Duration::from_secs(60)).await;
    assert_eq!(end, End::Broken);
}
