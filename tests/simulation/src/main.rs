//! `make simulation`: runs fleets by one seed after the other, on all processors, and prints how many, and what they came to.

use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Instant;

use simulation::{Summary, run};

/// How many seeds, and the first of them.
fn arguments() -> (u64, u64) {
    let mut given = std::env::args().skip(1).filter_map(|text| text.parse().ok());
    (given.next().unwrap_or(1_000_000), given.next().unwrap_or(0))
}

fn main() -> ExitCode {
    let (seeds, first) = arguments();
    let (next, since) = (AtomicU64::new(first), Instant::now());
    let work = || {
        let mut sum = Summary::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= first + seeds {
                return Ok(sum);
            }
            let Summary { steps, commits, refused, takes, shared } =
                run(seed, None).map_err(|problem| (seed, problem))?;
            sum.steps += steps;
            sum.commits += commits;
            sum.refused += refused;
            sum.takes += takes;
            sum.shared += shared;
            let done = seed - first + 1;
            if done.is_multiple_of(100_000) {
                println!("{done} seeds after {} s", since.elapsed().as_secs());
            }
        }
    };
    let threads = thread::available_parallelism().map_or(1, |threads| threads.get());
    let ended: Vec<Result<Summary, (u64, String)>> = thread::scope(|scope| {
        let threads: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().unwrap_or_else(|_| Err((0, "a panic".to_owned())))).collect()
    });
    let mut is_sound = true;
    let mut sum = Summary::default();
    for ended in ended {
        match ended {
            Ok(part) => sum += part,
            Err((seed, problem)) => {
                println!("seed {seed}: {problem}");
                is_sound = false;
            }
        }
    }
    println!("{seeds} seeds from {first} on, {} s: {sum:?}", since.elapsed().as_secs());
    if is_sound { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
