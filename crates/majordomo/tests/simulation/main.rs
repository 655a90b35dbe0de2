//! The broker among clients and workers of all wires, on a virtual clock, with everything going wrong.
//!
//! Workers die at every point, hang, answer late, twice or in parts; clients leave, come back and repeat themselves;
//! connections are cut with messages on the way; the broker is restarted; the clocks of all run at different speeds. After
//! every step the broker's own books are checked, and what peers were given; at the end everything has ended.
//!
//! `SIMULATIONS=100000 cargo test --release -p tidings-majordomo --test simulation` runs more seeds than the default;
//! `SIMULATION_SEED=7` runs one and tells what happens in it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod clients;
mod workers;
mod world;

use std::panic::{AssertUnwindSafe, catch_unwind};

use world::{Totals, World};

#[test]
fn every_request_ends_once_and_none_waits_for_an_idle_worker() {
    let number = |name| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
    if let Some(seed) = number("SIMULATION_SEED") {
        println!("{:#?}", World::new(seed, true).run());
        return;
    }
    let seeds = number("SIMULATIONS").unwrap_or(DEFAULT_SEEDS);
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    let totals = std::thread::scope(|scope| {
        let run = |first| {
            let mut totals = Totals::default();
            for seed in (first..seeds).step_by(threads as usize) {
                match catch_unwind(AssertUnwindSafe(|| World::new(seed, false).run())) {
                    Ok(of_seed) => totals.add(&of_seed),
                    Err(_) => panic!("seed {seed}: run it again with SIMULATION_SEED={seed}"),
                }
            }
            totals
        };
        let threads: Vec<_> = (0..threads).map(|first| scope.spawn(move || run(first))).collect();
        let mut totals = Totals::default();
        threads.into_iter().for_each(|thread| totals.add(&thread.join().unwrap()));
        totals
    });
    println!("{seeds} seeds: {totals:#?}");
    // What never happens is not tested
    for (name, count) in totals.counts() {
        assert!(count > 0 || seeds < 1000, "'{name}' never happened in {seeds} seeds");
    }
}

/// As many as run in some seconds without optimisation
const DEFAULT_SEEDS: u64 = 2000;
