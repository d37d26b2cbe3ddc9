//! What a backend gets while it warms up, under every algorithm: a growing part of its share, never nothing.
//! Here a share is given; that it grows with time is `runtime::standing`'s to test.

use super::*;

const PERCENT: [u32; 5] = [10, 25, 50, 75, 100];

/// What the first of `n` backends got of an equal part while its share was `percent`.
fn part(balance: &Balance, n: u32, n_clients: usize, percent: u32) -> f64 {
    let fakes = fakes(&vec![1; n as usize]);
    fakes[0].share.set(WHOLE_SHARE * percent / 100);
    let end = if n_clients == 1 { secs(120) } else { secs(8) };
    let load = ClosedLoop { n_clients, pause: ms(5), from: secs(1), end, service_time: &|_, _| ms(20) };
    let counts = load.run(balance, &fakes);
    f64::from(counts[0] * n) / f64::from(counts.iter().sum::<u32>())
}

#[test]
fn the_share_of_a_warming_backend_grows_linearly_under_every_algorithm() {
    for balance in all_algorithms() {
        // Where keys decide, bounded load sends the surplus of the others to whoever is below the average.
        let above = if matches!(balance, Balance::Hash(_)) { 1.6 } else { 1.35 };
        for (n, n_clients) in [(2, 1), (2, 40), (5, 1), (5, 40)] {
            let parts = PERCENT.map(|percent| part(&balance, n, n_clients, percent));
            for (percent, part) in PERCENT.iter().zip(parts) {
                // At least as a part of an equal share, at most as a weight of so much next to whole ones.
                let share = f64::from(*percent) / 100.0;
                let as_weight = share * f64::from(n) / (f64::from(n) - 1.0 + share);
                let in_range = part >= share * 0.75 && part <= as_weight * above;
                assert!(in_range, "{balance:?}, {n} backends, {n_clients} clients, {percent} %: {parts:?}");
            }
            assert!(parts.is_sorted(), "{balance:?}, {n} backends, {n_clients} clients: {parts:?}");
        }
    }
}

/// Envoy #29259: 1 % of 130 hosts got no request at all when there were few, because its schedule rounded them away.
#[test]
fn trap_a_warming_backend_must_not_starve_at_low_traffic() {
    for balance in all_algorithms() {
        let fakes = fakes(&[1; 130]);
        fakes[7].share.set(WHOLE_SHARE / 10);
        let counts = shares(&balance, &fakes, 60_000);
        // An equal part is 461.
        assert!((20..=100).contains(&counts[7]), "{balance:?}: {}", counts[7]);
    }
}

#[test]
fn backends_that_are_all_new_share_evenly() {
    for balance in all_algorithms() {
        for weights in [&[1, 1, 1][..], &[3, 1]] {
            let fakes = fakes(weights);
            fakes.iter().for_each(|fake| fake.share.set(WHOLE_SHARE / 10));
            check_shares(&shares(&balance, &fakes, 20_000), weights, 0.2, &format!("{balance:?}"));
        }
    }
}

#[test]
fn a_warming_backend_takes_everything_if_nobody_else_is_there() {
    for balance in all_algorithms() {
        let fakes = fakes(&[1; 3]);
        fakes[0].share.set(WHOLE_SHARE / 10);
        fakes[1..].iter().for_each(|fake| fake.is_up.set(false));
        assert_eq!(shares(&balance, &fakes, 1_000), [1_000, 0, 0], "{balance:?}");
    }
}

#[test]
fn a_session_moves_to_a_warming_backend_once_and_stays() {
    let fakes = fakes(&[1; 4]);
    let at = |percent| {
        fakes[0].share.set(WHOLE_SHARE * percent / 100);
        owners(&fakes, 0..3_000)
    };
    let mut before = at(10);
    for percent in [25, 50, 75, 100] {
        let after = at(percent);
        for (before, after) in before.iter().zip(&after) {
            assert!(before == after || *after == fakes[0].identity, "{percent} %: from {before} to {after}");
        }
        before = after;
    }
}
