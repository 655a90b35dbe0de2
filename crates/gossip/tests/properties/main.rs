//! What a network of nodes promises, on a virtual clock, with everything going wrong.
//!
//! - `story.rs`: what happens, made from a seed: a list of operations that is printed when a test fails, as short as it can be made;
//! - `told.rs`: runs a story, keeps account of every write, and checks the promises at the end;
//! - `czmq.rs`: a node of CZMQ as the fact sheet has it; `mixed.rs`: ours among such;
//! - `scale.rs`: networks of hundreds and of a thousand: how fast, and what it costs; `presence.rs`: nobody is declared dead who lives.
//!
//! `SIMULATIONS=100000 cargo test --release -p tidings-gossip --test properties` runs more seeds than the default;
//! `SIMULATION_SEED=7` runs one and tells what happens in it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod czmq;
mod mixed;
mod presence;
mod scale;
mod story;
mod told;

use std::panic::{AssertUnwindSafe, catch_unwind};

use story::Story;
use told::{Totals, tell};

#[test]
fn all_agree_and_nothing_comes_back() {
    if let Some(seed) = number("SIMULATION_SEED") {
        let story = Story::new(seed);
        println!("{story}");
        println!("{:#?}", tell(&story, true));
        return;
    }
    let seeds = number("SIMULATIONS").unwrap_or(DEFAULT_SEEDS);
    let totals = over_seeds(seeds, |seed| {
        let story = Story::new(seed);
        match catch_unwind(AssertUnwindSafe(|| tell(&story, false))) {
            Ok(totals) => totals,
            Err(_) => {
                let short = story.shortened(|story| catch_unwind(AssertUnwindSafe(|| tell(story, false))).is_err());
                panic!("seed {seed}: run it again with SIMULATION_SEED={seed}. What fails, in short:\n{short}");
            }
        }
    });
    println!("{seeds} seeds: {totals:#?}");
    // What never happens is not tested
    for (name, count) in totals.counts() {
        assert!(count > 0 || seeds < 300, "'{name}' never happened in {seeds} seeds");
    }
}

/// Runs every seed below `seeds`, on all processors
fn over_seeds(seeds: u64, run: impl Fn(u64) -> Totals + Sync) -> Totals {
    let threads = std::thread::available_parallelism().map_or(1, |threads| threads.get() as u64);
    std::thread::scope(|scope| {
        let run = &run;
        let of_thread = |first: u64| {
            move || {
                let mut totals = Totals::default();
                (first..seeds).step_by(threads as usize).for_each(|seed| totals.add(&run(seed)));
                totals
            }
        };
        let threads: Vec<_> = (0..threads).map(|first| scope.spawn(of_thread(first))).collect();
        let mut totals = Totals::default();
        threads.into_iter().for_each(|thread| totals.add(&thread.join().unwrap()));
        totals
    })
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// As many as run in some seconds without optimisation
const DEFAULT_SEEDS: u64 = 300;
