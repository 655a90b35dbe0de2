//! What a network of nodes promises, on a virtual clock, with everything going wrong.
//!
//! - `story.rs`: what happens, made from a seed: a list of operations that is printed when a test fails, as short as it can be made;
//! - `told.rs`: runs a story, keeps account of every write, and checks the promises at the end;
//! - `czmq.rs`: a node of CZMQ as the fact sheet has it; `mixed.rs`: ours among such;
//! - `scale.rs`: networks of hundreds and of a thousand: how fast, and what it costs; `presence.rs`: nobody is declared dead who lives.
//!
//! `SIMULATIONS=100000 cargo test --release -p tidings-gossip --test properties` runs more seeds than the default;
//! `SIMULATION_SEED=7` runs one and tells what happens in it; `SIMULATION_SURVEY=1`
//! lists each kind of failure.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

mod czmq;
mod mixed;
mod presence;
mod scale;
mod story;
mod told;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Mutex, Once};

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
    if number("SIMULATION_SURVEY").is_some() {
        return survey(seeds);
    }
    let totals = over_seeds(seeds, |seed| {
        let story = Story::new(seed);
        attempt(&story).unwrap_or_else(|why| {
            let short = story.shortened(|story| fails_so(story, &kind(&why)));
            let why_short = attempt(&short).err().unwrap_or_default();
            panic!("seed {seed}: {why}\nRun it again with SIMULATION_SEED={seed}. In short:\n{short}{why_short}");
        })
    });
    println!("{seeds} seeds: {totals:#?}");
    // What never happens is not tested
    for (name, count) in totals.counts() {
        assert!(count > 0 || seeds < 300, "'{name}' never happened in {seeds} seeds");
    }
}

/// Tells a story; what was wrong if a promise was broken
fn attempt(story: &Story) -> Result<Totals, String> {
    // Each attempt to shorten a story that fails would print how it does
    IS_QUIET.set(true);
    let told = catch_unwind(AssertUnwindSafe(|| tell(story, false)));
    IS_QUIET.set(false);
    told.map_err(|why| match why.downcast::<String>() {
        Ok(why) => *why,
        Err(why) => why.downcast_ref::<&str>().map_or_else(String::new, |why| (*why).to_owned()),
    })
}

/// Lists all kinds of failure, with the seeds of each, rather than ending with the first
fn survey(seeds: u64) {
    let kinds = Mutex::new(BTreeMap::<String, Vec<(u64, String)>>::new());
    over_seeds(seeds, |seed| {
        attempt(&Story::new(seed)).unwrap_or_else(|why| {
            eprintln!("seed {seed}: {why:.400}");
            kinds.lock().unwrap().entry(kind(&why)).or_default().push((seed, why));
            Totals::default()
        })
    });
    let kinds = kinds.into_inner().unwrap();
    for (kind, failures) in &kinds {
        let seeds: Vec<u64> = failures.iter().map(|(seed, _)| *seed).take(12).collect();
        println!("{} x {kind}: seeds {seeds:?}", failures.len());
        let shorten = |(seed, _): &(u64, String)| Story::new(*seed).shortened(|story| fails_so(story, kind));
        let short = failures.iter().take(2).map(shorten).min_by_key(|story| story.deeds.len()).unwrap();
        let told = short.to_string();
        let (lines, few) = (told.lines().count(), told.lines().take(40).collect::<Vec<_>>().join("\n"));
        println!("{few}\n({lines} lines)\n{:.600}\n", attempt(&short).err().unwrap_or_default());
    }
    assert!(kinds.is_empty(), "{} kinds of failure", kinds.len());
}

/// What a failure is about, whatever its figures are
fn kind(why: &str) -> String {
    let first = why.lines().next().unwrap_or_default();
    first.chars().filter(|character| !character.is_ascii_digit()).take(60).collect()
}

fn fails_so(story: &Story, wanted: &str) -> bool {
    attempt(story).is_err_and(|why| kind(&why) == wanted)
}

/// Has threads that only try whether something fails be quiet about it
fn hush() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if !IS_QUIET.get() {
                usual(info);
            }
        }));
    });
}

thread_local! {
    static IS_QUIET: Cell<bool> = const { Cell::new(false) };
}

/// Runs every seed below `seeds`, on all processors
fn over_seeds(seeds: u64, run: impl Fn(u64) -> Totals + Sync) -> Totals {
    hush();
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
