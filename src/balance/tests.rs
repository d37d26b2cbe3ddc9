//! Facts that hold for every algorithm, and what each of them promises about shares.
//! Chance is seeded, so a failure repeats. Nothing here looks inside an algorithm.

use std::cell::Cell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::config::checked::HashKey;

mod ramp;

struct Fake {
    identity: String,
    weight: u32,
    in_flight: Cell<u32>,
    is_up: Cell<bool>,
    /// Of [`WHOLE_SHARE`].
    share: Cell<u32>,
    latency: peak_ewma::Ewma,
}

impl Candidate for Fake {
    fn weight(&self) -> u32 {
        self.weight
    }

    fn in_flight(&self) -> u32 {
        self.in_flight.get()
    }

    fn is_available(&self, _: Admission) -> bool {
        self.is_up.get()
    }

    fn share(&self, _: Moment) -> u32 {
        self.share.get()
    }

    fn latency(&self) -> &peak_ewma::Ewma {
        &self.latency
    }

    fn identity(&self) -> &str {
        &self.identity
    }
}

fn fakes(weights: &[u32]) -> Vec<Fake> {
    let fake = |(i, &weight): (usize, &u32)| Fake {
        identity: format!("10.0.{}.{}:5000", i / 250, i % 250),
        weight,
        in_flight: Cell::new(0),
        is_up: Cell::new(true),
        share: Cell::new(WHOLE_SHARE),
        latency: peak_ewma::Ewma::default(),
    };
    weights.iter().enumerate().map(fake).collect()
}

fn all_algorithms() -> [Balance; 5] {
    [Balance::LeastRequests, Balance::PeakEwma, Balance::RoundRobin, Balance::Random, Balance::Hash(HashKey::Ip)]
}

fn choice(random: u64) -> Choice<'static> {
    Choice { now: Moment(0), key: Some(random::mix(random)), tried: &[], random, admission: Admission::Sound }
}

/// Picks `n` times without letting anything change, and counts.
fn shares(balance: &Balance, fakes: &[Fake], n: u64) -> Vec<u32> {
    let picker = Picker::new(balance, fakes);
    let mut counts = vec![0; fakes.len()];
    for random in 0..n {
        counts[picker.pick(fakes, &choice(random)).expect("somebody is up")] += 1;
    }
    counts
}

/// Fails unless each count is within `tolerance` (a part of 1) of its share by weight.
#[track_caller]
fn check_shares(counts: &[u32], weights: &[u32], tolerance: f64, what: &str) {
    let (n, total) = (f64::from(counts.iter().sum::<u32>()), f64::from(weights.iter().sum::<u32>()));
    for (&count, &weight) in counts.iter().zip(weights) {
        let due = n * f64::from(weight) / total;
        assert!((f64::from(count) - due).abs() <= due * tolerance, "{what}: {counts:?} for weights {weights:?}");
    }
}

/// Places `n` requests that are never answered.
fn place(picker: &Picker, fakes: &[Fake], n: u64, now: Moment) {
    for random in 0..n {
        let picked = picker.pick(fakes, &Choice { now, ..choice(random) }).expect("somebody is up");
        fakes[picked].in_flight.update(|n| n + 1);
    }
}

fn in_flight(fakes: &[Fake]) -> Vec<u32> {
    fakes.iter().map(|fake| fake.in_flight.get()).collect()
}

/// When something happens, and whether it is an answer: of which backend, to a request sent when.
type Event = Reverse<(Moment, Option<(usize, Moment)>)>;

/// `n_clients` clients that each send the next request `pause` after the answer to the last, until `end`; `service_time`
/// says how long a backend takes for a request that comes at a moment. Returns requests per backend after `from`.
struct ClosedLoop<'a> {
    n_clients: usize,
    pause: Duration,
    from: Duration,
    end: Duration,
    service_time: &'a dyn Fn(usize, Moment) -> Duration,
}

impl ClosedLoop<'_> {
    fn run(&self, balance: &Balance, fakes: &[Fake]) -> Vec<u32> {
        let picker = Picker::new(balance, fakes);
        let mut counts = vec![0; fakes.len()];
        // (when, answer of which backend to a request sent at; None: a client's next request)
        let mut events: BinaryHeap<Event> =
            (0..self.n_clients).map(|i| Reverse((Moment(i as u64 * 1_000), None))).collect();
        let mut random = 0;
        while let Some(Reverse((now, answer))) = events.pop().filter(|event| event.0.0 < Moment(0).after(self.end)) {
            if let Some((index, sent_at)) = answer {
                fakes[index].in_flight.update(|n| n - 1);
                fakes[index].latency.observe(now.since(sent_at), now);
                events.push(Reverse((now.after(self.pause), None)));
                continue;
            }
            random += 1;
            let index = picker.pick(fakes, &Choice { now, ..choice(random) }).expect("somebody is up");
            fakes[index].in_flight.update(|n| n + 1);
            counts[index] += u32::from(now >= Moment(0).after(self.from));
            events.push(Reverse((now.after((self.service_time)(index, now)), Some((index, now)))));
        }
        counts
    }
}

const fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

// What holds for all of them.

proptest! {
    // Each case fills a hash table, which takes a debug build some 20 ms.
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn a_pick_is_available_and_untried_if_any_is(
        members in prop::collection::vec((1_u32..1_001, 0_u32..20, any::<bool>(), 0_u64..500), 0..90),
        tried in prop::collection::vec(0_usize..90, 0..4),
        seed in any::<u64>(),
        key in any::<Option<u64>>(),
    ) {
        let fakes = fakes(&members.iter().map(|m| m.0).collect::<Vec<_>>());
        for (fake, member) in fakes.iter().zip(&members) {
            fake.in_flight.set(member.1);
            fake.is_up.set(member.2);
            if member.3 > 0 {
                fake.latency.observe(ms(member.3), Moment(member.3));
            }
        }
        let is_up = |index: &usize| members[*index].2;
        let any_up = (0..members.len()).any(|i| is_up(&i));
        let any_fresh = (0..members.len()).any(|i| is_up(&i) && !tried.contains(&i));
        for balance in all_algorithms() {
            let picker = Picker::new(&balance, &fakes);
            for n in 0..8 {
                let choice = Choice { now: Moment(n), key, tried: &tried, random: seed.wrapping_add(n), admission: Admission::Sound };
                let picked = picker.pick(&fakes, &choice);
                prop_assert_eq!(picked.is_some(), any_up);
                prop_assert!(picked.iter().all(is_up));
                prop_assert!(!any_fresh || picked.iter().all(|index| !tried.contains(index)));
            }
        }
    }
}

#[test]
fn nobody_is_picked_from_nothing() {
    for balance in all_algorithms() {
        assert_eq!(Picker::new::<Fake>(&balance, &[]).pick::<Fake>(&[], &choice(1)), None);
    }
}

#[test]
fn the_only_backend_is_tried_again_but_not_when_it_is_down() {
    for balance in all_algorithms() {
        for n in [1, 2] {
            let fakes = fakes(&vec![1; n]);
            fakes.iter().skip(1).for_each(|fake| fake.is_up.set(false));
            let picker = Picker::new(&balance, &fakes);
            let again = Choice { tried: &[0], ..choice(3) };
            assert_eq!(picker.pick(&fakes, &again), Some(0), "{picker:?}");
            fakes[0].is_up.set(false);
            assert_eq!(picker.pick(&fakes, &again), None, "{picker:?}");
        }
    }
}

#[test]
fn shares_follow_weights_on_a_quiet_day() {
    for balance in all_algorithms() {
        for weights in [&[1, 1, 1][..], &[9, 1], &[1, 2, 3, 4], &[100, 1, 1, 50], &[1; 100]] {
            let tolerance = if weights.len() > 10 { 0.35 } else { 0.15 };
            check_shares(&shares(&balance, &fakes(weights), 30_000), weights, tolerance, &format!("{balance:?}"));
        }
    }
}

#[test]
fn the_living_share_the_load_of_the_dead_evenly() {
    for balance in all_algorithms() {
        // A run of dead ones: whoever comes after it must not inherit all of it.
        for (n, dead) in [(4, 1..2), (20, 3..12), (100, 2..97)] {
            let fakes = fakes(&vec![1; n]);
            fakes[dead.clone()].iter().for_each(|fake| fake.is_up.set(false));
            let counts = shares(&balance, &fakes, 20_000);
            let living: Vec<u32> = counts.into_iter().filter(|&count| count > 0).collect();
            check_shares(&living, &vec![1; n - dead.len()], 0.15, &format!("{balance:?}, {n}"));
        }
    }
}

#[test]
fn a_picker_says_what_it_is() {
    let picker = Picker::new(&Balance::Hash(HashKey::Path), &fakes(&[1, 1]));
    assert_eq!(format!("{picker:?}"), r#"Picker { algorithm: "hash", n_candidates: 2 }"#);
}

// Round robin.

#[test]
fn round_robin_gives_exact_shares_to_all_threads_together() {
    let weights = [3, 1, 2, 1];
    let picker = Picker::new(&Balance::RoundRobin, &fakes(&weights));
    let turns = || {
        let fakes = fakes(&weights);
        (0..700).map(|n| picker.pick(&fakes, &choice(n)).expect("all are up")).collect::<Vec<_>>()
    };
    let picks = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..4).map(|_| scope.spawn(turns)).collect();
        threads.into_iter().flat_map(|thread| thread.join().expect("picks do not panic")).collect::<Vec<_>>()
    });
    let counts: Vec<usize> = (0..4).map(|index| picks.iter().filter(|&&picked| picked == index).count()).collect();
    assert_eq!(counts, [1_200, 400, 800, 400]);
}

#[test]
fn round_robin_goes_on_exactly_without_the_dead() {
    let fakes = fakes(&[1; 5]);
    fakes[1].is_up.set(false);
    assert_eq!(shares(&Balance::RoundRobin, &fakes, 400), [100, 0, 100, 100, 100]);
}

// Least requests.

#[test]
fn least_requests_fills_backends_by_weight() {
    for weights in [vec![1; 50], vec![1, 2, 3, 4], vec![10, 1], vec![5; 3]] {
        let fakes = fakes(&weights);
        place(&Picker::new(&Balance::LeastRequests, &fakes), &fakes, 20_000, Moment(0));
        check_shares(&in_flight(&fakes), &weights, 0.02, "in flight");
    }
}

#[test]
fn least_requests_spares_a_backend_that_hangs() {
    let fakes = fakes(&[1; 5]);
    let hangs = |index: usize, _| if index == 2 { secs(3_600) } else { ms(50) };
    let load = ClosedLoop { n_clients: 20, pause: ms(5), from: secs(0), end: secs(60), service_time: &hangs };
    let counts = load.run(&Balance::LeastRequests, &fakes);
    assert!(counts[2] <= 10, "{counts:?}");
}

#[test]
fn least_requests_keeps_shares_by_weight_when_one_or_two_requests_are_in_flight() {
    for n_clients in [1, 2, 3, 8] {
        for balance in [Balance::LeastRequests, Balance::PeakEwma] {
            let fakes = fakes(&[3, 1]);
            let load =
                ClosedLoop { n_clients, pause: ms(7), from: secs(1), end: secs(300), service_time: &|_, _| ms(20) };
            check_shares(&load.run(&balance, &fakes), &[3, 1], 0.25, &format!("{n_clients} clients, {balance:?}"));
        }
    }
}

// Peak EWMA: the traps that broke other products.

#[test]
fn trap_a_new_server_with_no_samples_must_not_get_everything_nor_nothing() {
    for neighbours in [ms(2), ms(50), secs(5)] {
        let fakes = fakes(&[1; 5]);
        fakes[1..].iter().for_each(|fake| fake.latency.observe(neighbours, Moment(0)));
        place(&Picker::new(&Balance::PeakEwma, &fakes), &fakes, 500, Moment(0).after(secs(1)));
        check_shares(&in_flight(&fakes), &[1; 5], 0.1, &format!("neighbours answer in {neighbours:?}"));
    }
}

#[test]
fn a_server_that_returns_after_a_while_is_not_flooded() {
    let fakes = fakes(&[1; 5]);
    fakes[0].latency.observe(ms(100), Moment(0));
    let now = Moment(0).after(secs(120));
    fakes[1..].iter().for_each(|fake| fake.latency.observe(ms(100), now));
    place(&Picker::new(&Balance::PeakEwma, &fakes), &fakes, 500, now);
    check_shares(&in_flight(&fakes), &[1; 5], 0.1, "100 ms each, one of them two minutes ago");
}

#[test]
fn one_slow_burst_does_not_starve_a_server_for_good() {
    // Five identical backends, one slow burst: another proxy then sent them 383/5/368/368/376 requests.
    let burst = |index: usize, now: Moment| match index == 1 && now < Moment(0).after(secs(2)) {
        true => secs(3),
        false => ms(20 + hash_key(&now.0.to_le_bytes()) % 20),
    };
    for n_clients in [1, 10] {
        let fakes = fakes(&[1; 5]);
        let load = ClosedLoop { n_clients, pause: ms(20), from: secs(120), end: secs(240), service_time: &burst };
        check_shares(&load.run(&Balance::PeakEwma, &fakes), &[1; 5], 0.15, &format!("{n_clients} clients"));
    }
}

#[test]
fn a_burst_is_avoided_while_it_is_fresh() {
    let fakes = fakes(&[1; 5]);
    fakes.iter().for_each(|fake| fake.latency.observe(ms(30), Moment(0)));
    fakes[1].latency.observe(secs(3), Moment(0));
    place(&Picker::new(&Balance::PeakEwma, &fakes), &fakes, 100, Moment(0).after(ms(10)));
    assert!(in_flight(&fakes)[1] <= 1, "{:?}", in_flight(&fakes));
}

#[test]
fn a_server_that_is_always_slower_gets_less_but_is_looked_at_again() {
    let fakes = fakes(&[1; 3]);
    let service_time = |index: usize, _| if index == 0 { ms(200) } else { ms(20) };
    let load = ClosedLoop { n_clients: 6, pause: ms(5), from: secs(30), end: secs(330), service_time: &service_time };
    let counts = load.run(&Balance::PeakEwma, &fakes);
    assert!(counts[0] * 5 < counts[1], "{counts:?}");
    assert!(counts[0] >= 10, "{counts:?}");
}

#[test]
fn a_quiet_night_keeps_what_is_known_of_slow_servers() {
    let fakes = fakes(&[1; 2]);
    fakes[0].latency.observe(ms(20), Moment(0));
    fakes[1].latency.observe(secs(2), Moment(0));
    place(&Picker::new(&Balance::PeakEwma, &fakes), &fakes, 50, Moment(0).after(secs(8 * 3_600)));
    assert_eq!(in_flight(&fakes), [50, 0]);
}

// Hash.

fn owners(fakes: &[Fake], keys: std::ops::Range<u64>) -> Vec<String> {
    let picker = Picker::new(&Balance::Hash(HashKey::Ip), fakes);
    let owner = |key: u64| {
        let choice = Choice { key: Some(hash_key(&key.to_le_bytes())), ..choice(key) };
        fakes[picker.pick(fakes, &choice).expect("somebody is up")].identity.clone()
    };
    keys.map(owner).collect()
}

fn moved(before: &[String], after: &[String], except: &str) -> usize {
    before.iter().zip(after).filter(|(before, after)| *before != except && *after != except && before != after).count()
}

#[test]
fn a_key_goes_to_the_same_backend_on_every_instance_and_every_time() {
    let one = fakes(&[1, 2, 3, 4, 5, 6, 7]);
    let mut other = fakes(&[1, 2, 3, 4, 5, 6, 7]);
    other.rotate_left(3);
    other.swap(0, 4);
    assert_eq!(owners(&one, 0..2_000), owners(&other, 0..2_000));
    assert_eq!(
        owners(&one, 0..3),
        ["10.0.0.3:5000", "10.0.0.5:5000", "10.0.0.6:5000"],
        "a release that changes this moves every user's session"
    );
}

#[test]
fn a_membership_change_moves_few_keys_of_the_others() {
    for n in [2, 3, 5, 10, 31, 100, 500] {
        let all = fakes(&vec![1; n]);
        let before = owners(&all, 0..10_000);
        for gone in [0, n / 2, n - 1] {
            let mut rest = fakes(&vec![1; n]);
            let gone = rest.remove(gone).identity;
            let n_moved = moved(&before, &owners(&rest, 0..10_000), &gone);
            assert!(n_moved <= 600, "{n} backends without {gone}: {n_moved} of 10,000 keys of others moved");
        }
    }
}

#[test]
fn a_backend_that_is_down_moves_its_own_keys_only_and_gets_them_back() {
    let fakes = fakes(&[1, 3, 1, 2, 1]);
    let before = owners(&fakes, 0..5_000);
    fakes[1].is_up.set(false);
    let during = owners(&fakes, 0..5_000);
    assert_eq!(moved(&before, &during, &fakes[1].identity), 0);
    let inherited = |fake: &Fake| {
        let moved = before.iter().zip(&during).filter(|(before, during)| before != during && **during == fake.identity);
        moved.count() as u32
    };
    let heirs: Vec<u32> = [0, 2, 3, 4].map(|i| inherited(&fakes[i])).into();
    check_shares(&heirs, &[1, 1, 2, 1], 0.2, "keys of the dead one");
    fakes[1].is_up.set(true);
    assert_eq!(owners(&fakes, 0..5_000), before);
}

#[test]
fn requests_without_a_key_go_anywhere() {
    let fakes = fakes(&[1; 4]);
    let picker = Picker::new(&Balance::Hash(HashKey::Ip), &fakes);
    let mut counts = [0; 4];
    for random in 0..10_000 {
        counts[picker.pick(&fakes, &Choice { key: None, ..choice(random) }).expect("all are up")] += 1;
    }
    check_shares(&counts, &[1; 4], 0.1, "no key");
}

#[test]
fn one_visitor_stays_together_on_a_quiet_day() {
    let fakes = fakes(&[1; 5]);
    let picker = Picker::new(&Balance::Hash(HashKey::Ip), &fakes);
    for _ in 0..6 {
        let picked = picker.pick(&fakes, &Choice { key: Some(7), ..choice(1) }).expect("all are up");
        fakes[picked].in_flight.update(|n| n + 1);
    }
    let mut counts = in_flight(&fakes);
    counts.sort_unstable();
    assert_eq!(counts, [0, 0, 0, 0, 6]);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(40))]

    #[test]
    fn no_backend_exceeds_five_quarters_of_its_share_however_hot_its_key(
        weights in prop::collection::vec(1_u32..5, 2..150), n_keys in 1_u64..5, n_requests in 1_u64..3_000,
    ) {
        let fakes = fakes(&weights);
        let picker = Picker::new(&Balance::Hash(HashKey::Ip), &fakes);
        let total = f64::from(weights.iter().sum::<u32>());
        for n in 0..n_requests {
            let picked = picker.pick(&fakes, &Choice { key: Some(n % n_keys), ..choice(n) }).expect("all are up");
            fakes[picked].in_flight.update(|n| n + 1);
            let share = (n + 1) as f64 * f64::from(weights[picked]) / total;
            let bound = ((share * 1.25).ceil() as u32).max(6);
            prop_assert!(fakes[picked].in_flight.get() <= bound, "{} > {}", fakes[picked].in_flight.get(), bound);
        }
    }
}
