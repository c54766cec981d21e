//! Hours of chance in whole cells. Each run prints its seed and how many hours it simulated.
//!
//! `ARCHIPEL_SEED=7` plays one seed again; `ARCHIPEL_STORM=10,1000,6` lets it storm over so many hosts, machines and hours.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::print_stdout)] // Seeds and hours are part of the result.

use archipel_tests::sim::{Weather, storm};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

const FIXED: [u64; 3] = [1, 2, 20_261_122];
const SMALL: Weather = Weather { hosts: 4, machines: 12, hours: 2 };

fn weather() -> Weather {
    let Ok(text) = std::env::var("ARCHIPEL_STORM") else { return SMALL };
    let numbers: Vec<u64> = text.split(',').map(|n| n.trim().parse().unwrap()).collect();
    Weather { hosts: numbers[0] as usize, machines: numbers[1] as usize, hours: numbers[2] }
}

fn play(seed: u64) -> Vec<String> {
    let began = Instant::now();
    println!("seed {seed}");
    let stormed = storm(seed, weather()).unwrap_or_else(|e| panic!("{e:#}"));
    let hours = stormed.simulated.as_secs_f64() / 3600.0;
    println!(
        "seed {seed}: {hours:.2} simulated hours, {} events, {} transfers, in {:.1?}",
        stormed.trace.len(),
        stormed.transfers,
        began.elapsed()
    );
    println!("seed {seed}: {:?}", stormed.answers);
    stormed.trace
}

#[test]
fn no_storm_makes_a_machine_run_twice_or_get_lost() {
    if let Ok(seed) = std::env::var("ARCHIPEL_SEED") {
        play(seed.parse().unwrap());
        return;
    }
    FIXED.into_iter().for_each(|seed| drop(play(seed)));
}

#[expect(clippy::disallowed_methods, reason = "a seed that nobody chose; it is printed")]
#[test]
fn nor_does_one_that_nobody_has_seen_before() {
    let seed = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    if std::env::var("ARCHIPEL_SEED").is_err() {
        play(seed);
    }
}

#[test]
fn a_seed_plays_the_same_again() {
    let first = storm(5, Weather { hours: 1, ..SMALL }).unwrap_or_else(|e| panic!("{e:#}"));
    let second = storm(5, Weather { hours: 1, ..SMALL }).unwrap_or_else(|e| panic!("{e:#}"));
    assert_eq!((first.trace, first.transfers), (second.trace, second.transfers));
}
