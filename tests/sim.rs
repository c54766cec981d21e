//! Scenarios in simulated cells, one folder each below `scenarios`. How to write one: `ops/guides/write-a-scenario.md`.
//!
//! `ARCHIPEL_UPDATE=1` writes the expected logs again; read the difference before you commit it. `ARCHIPEL_SEED=7` plays with that
//! seed instead of the usual ones.
#![forbid(unsafe_code)]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::print_stdout)] // In a test a missing file is a failed test.

use archipel_tests::sim::{difference, play};
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The log must be the same for all of them.
const SEEDS: [u64; 2] = [1, 20_261_122];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn scenario(name: &str) {
    let dir = folder().join(name);
    let seed = std::env::var("ARCHIPEL_SEED").ok().map(|s| s.parse().expect("ARCHIPEL_SEED is a number"));
    let (began, mut simulated) = (Instant::now(), Duration::ZERO);
    for seed in seed.map_or(SEEDS.to_vec(), |s| vec![s]) {
        let played = play(&dir, seed).unwrap_or_else(|e| panic!("{e:#}"));
        simulated += played.simulated;
        let path = dir.join("expected.log");
        if std::env::var("ARCHIPEL_UPDATE").is_ok_and(|v| v == "1") && seed == SEEDS[0] {
            std::fs::write(&path, &played.log).unwrap();
        }
        let expected = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            expected == played.log,
            "{} and what was seen with seed {seed} differ (`-` was expected, `+` was seen; ARCHIPEL_UPDATE=1 takes it over):\n{}",
            path.display(),
            difference(&expected, &played.log)
        );
    }
    println!("{name}: {:.3} simulated hours in {:.2?}", simulated.as_secs_f64() / 3600.0, began.elapsed());
}

macro_rules! scenarios {
    ($($name:ident)*) => {
        $(#[test] fn $name() { scenario(stringify!($name)); })*
        const ALL: &[&str] = &[$(stringify!($name)),*];
    };
}

scenarios! {
    a_cancelled_move_leaves_the_machine_where_it_was
    a_cell_that_refuses_a_viewer_changes_nothing
    a_change_behind_our_back_is_seen
    a_clock_that_is_set_disturbs_no_move
    a_cut_longer_than_the_window_is_unknown_until_it_heals
    a_cut_shorter_than_the_window_is_not_noticed
    a_dead_agent_comes_back_with_higher_numbers
    a_departure_that_nobody_saw_is_not_started_again
    a_drain_goes_on_after_its_agent_died
    a_drain_onto_full_hosts_moves_what_fits
    a_guest_that_dies_on_the_way_is_not_started
    a_host_is_drained_and_filled_again
    a_host_that_returns_after_an_hour_ends_its_move
    a_libvirt_that_forgets_everything_takes_no_ownership_away
    a_libvirt_that_is_slow_moves_a_machine_once
    a_lie_about_a_move_that_succeeded_is_found_out
    a_life_is_seen_step_by_step
    a_lost_libvirt_is_unknown_and_never_shutoff
    a_machine_copied_with_its_guest_is_alarmed_and_left_alone
    a_machine_moves_away_and_back
    a_machine_that_is_off_moves_with_its_definition
    a_machine_that_moves_is_not_moved_twice
    a_move_outlives_the_loss_of_libvirt
    a_move_that_cannot_be_is_refused_with_all_reasons
    a_move_that_waits_for_its_turn_can_be_cancelled
    a_move_whose_network_is_cut_stays
    a_move_with_other_tools_is_adopted
    a_panic_stays_with_its_machine
    a_parked_machine_is_unparked_by_one_host
    a_post_copy_in_quiet_weather_arrives
    a_post_copy_that_breaks_is_taken_up_again
    a_running_machine_moves_and_goes_on
    a_slow_viewer_of_a_storm_ends_with_the_truth
    a_source_agent_that_comes_back_waits_for_the_transfer
    a_source_agent_that_dies_transfers_nothing_twice
    a_start_that_is_said_to_have_failed_runs_once
    a_target_agent_that_dies_claims_when_it_is_back
    a_target_whose_libvirt_dies_receives_nothing
    a_used_up_budget_is_revived_by_a_command
    an_agent_that_lists_slowly_forgets_nobody
    an_exchange_that_is_replaced_disturbs_no_move
    an_operation_sent_twice_runs_once
    an_overflow_is_listed_again
    five_moves_wait_for_their_turns
    one_machine_is_on_one_host_only
    two_hosts_that_unpark_at_once_get_one_machine
}

#[test]
fn every_folder_is_played_and_says_what_must_be_true() {
    let found: BTreeSet<String> = std::fs::read_dir(folder()).unwrap().map(|e| e.unwrap().file_name().into_string().unwrap()).collect();
    let listed: BTreeSet<String> = ALL.iter().map(|n| (*n).to_owned()).collect();
    assert_eq!(found, listed, "a folder below tests/scenarios and the list in tests/sim.rs differ; add the one that is missing");
    for name in ALL {
        let text = std::fs::read_to_string(folder().join(name).join("README.md")).unwrap_or_default();
        let sentence = text.trim();
        assert!(sentence.ends_with('.') && !sentence.contains("\n\n"), "{name}/README.md must say in one sentence what must be true");
    }
}

#[test]
fn a_difference_shows_what_was_expected_and_what_was_seen() {
    let shown = difference("a\nb\nc\nd\ne\nf\n", "a\nb\nc\nx\ne\nf\n");
    assert!(shown.contains("- d\n+ x\n"), "{shown}");
    assert_eq!(difference("a\n", "a\n"), "");
}
