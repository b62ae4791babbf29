//! Having the process give back what large entries took.
//!
//! A block of many MiB that one thread frees for another is given back when that other thread allocates again, and a thread of
//! an idle process may not do so for hours: three entries of 64 MiB were held for ever.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::task::JoinSet;

use crate::worker::Prefetch;

/// Rounds after a large entry, and the time between them: it is freed when it has been parsed, decoded and settled.
const ROUNDS: usize = 8;
const PAUSE: Duration = Duration::from_secs(1);

/// How long a thread is kept at most until every other one has come too, so that each of them gets a task of its own.
const KEPT: Duration = Duration::from_millis(100);

/// Gives back what large entries took, for as long as it is polled.
pub(super) async fn ebb(hand: &Prefetch) {
    loop {
        hand.heavy().await;
        for _ in 0..ROUNDS {
            tokio::time::sleep(PAUSE).await;
            let threads = Handle::current().metrics().num_workers();
            let come = Arc::new(AtomicUsize::new(0));
            let each = (0..threads).map(|_| {
                let come = come.clone();
                async move {
                    allocate();
                    come.fetch_add(1, Ordering::Relaxed);
                    let until = Instant::now() + KEPT;
                    while come.load(Ordering::Relaxed) < threads && Instant::now() < until {
                        std::thread::sleep(Duration::from_millis(1));
                    }
                }
            });
            each.collect::<JoinSet<()>>().join_all().await;
        }
    }
}

/// Enough allocations, not of small blocks, for the allocator to look through all that other threads have freed (it does so once
/// in ten thousand), and one large enough to have it give back what it kept in store. None of them is written to.
fn allocate() {
    for _ in 0..10_100 {
        black_box(Vec::<u8>::with_capacity(2 << 10));
    }
    black_box(Vec::<u8>::with_capacity(40 << 20));
}
