//! Hours of chance in whole cells. Each run prints its seed and how many hours it simulated.
//!
//! | variable | means |
//! |---|---|
//! | `ARCHIPEL_SEED=7` | plays that seed only |
//! | `ARCHIPEL_STORM=10,1000,6` | so many hosts, machines and hours |
//! | `ARCHIPEL_STORMS=50` | so many storms that nobody has seen before, instead of one a test |
//! | `ARCHIPEL_STORM_LOG=FILE` | everything that happened is written there, also when all went well |
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::print_stdout)] // Seeds and hours are part of the result.

use archipel_tests::sim::{Stormed, Weather, difference, storm};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::time::{Instant, SystemTime, UNIX_EPOCH};

/// A cell as the promises speak of it.
const LARGE: Weather = Weather { hosts: 10, machines: 1000, hours: 2 };
/// So much happens to each machine that it happens at the worst moment.
const SMALL: Weather = Weather { hosts: 4, machines: 12, hours: 4 };

fn number<T: std::str::FromStr>(variable: &str) -> Option<T> {
    let text = std::env::var(variable).ok()?;
    Some(text.trim().parse().unwrap_or_else(|_| panic!("{variable} is a number")))
}

fn weather(usual: Weather) -> Weather {
    let Ok(text) = std::env::var("ARCHIPEL_STORM") else { return usual };
    let numbers: Vec<u64> = text.split(',').map(|n| n.trim().parse().unwrap()).collect();
    Weather { hosts: numbers[0] as usize, machines: numbers[1] as usize, hours: numbers[2] }
}

fn digest(log: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    log.hash(&mut hasher);
    hasher.finish()
}

fn play(seed: u64, weather: Weather) -> Stormed {
    let began = Instant::now();
    println!("seed {seed}, {} hosts, {} machines", weather.hosts, weather.machines);
    let played = storm(seed, weather);
    if let Ok(path) = std::env::var("ARCHIPEL_STORM_LOG") {
        let text = played.as_ref().map_or_else(|e| format!("{e:#}"), |s| s.log.clone());
        std::fs::write(path, text).unwrap();
    }
    let stormed = played.unwrap_or_else(|e| panic!("{e:#}\nARCHIPEL_SEED={seed} plays it again"));
    println!(
        "seed {seed}: {:.2} simulated hours, {} events, {} transfers, looked at {} changes, log {:016x}, in {:.1?}",
        stormed.simulated.as_secs_f64() / 3600.0,
        stormed.events,
        stormed.transfers,
        stormed.changes,
        digest(&stormed.log),
        began.elapsed()
    );
    println!("seed {seed}: {:?}", stormed.answers);
    stormed
}

/// These seeds, or the one that was asked for.
fn fixed(seeds: &[u64], usual: Weather) {
    let seeds = number("ARCHIPEL_SEED").map_or(seeds.to_vec(), |seed| vec![seed]);
    seeds.into_iter().for_each(|seed| drop(play(seed, weather(usual))));
}

#[expect(clippy::disallowed_methods, reason = "seeds that nobody chose; they are printed")]
fn unseen(usual: Weather) {
    if std::env::var("ARCHIPEL_SEED").is_ok() {
        return;
    }
    let first = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as u64;
    for n in 0..number("ARCHIPEL_STORMS").unwrap_or(1) {
        play(first + n, weather(usual));
    }
}

#[test]
fn no_storm_makes_a_machine_run_twice_or_get_lost() {
    fixed(&[1, 2, 20_261_122], SMALL);
}

#[test]
fn nor_does_one_that_nobody_has_seen_before() {
    unseen(SMALL);
}

#[test]
fn no_storm_over_a_thousand_machines_does() {
    fixed(&[1], LARGE);
}

#[test]
fn nor_does_one_over_a_thousand_that_nobody_has_seen_before() {
    unseen(LARGE);
}

#[test]
fn a_seed_plays_the_same_again() {
    let weather = Weather { hours: 2, ..SMALL };
    let (first, second) = (play(5, weather), play(5, weather));
    assert!(digest(&first.log) == digest(&second.log), "two plays of one seed differ:\n{}", difference(&first.log, &second.log));
}
