//! Numbers about many requests.
//! It promises exact quantiles over what it is given. It knows no scenario.

use super::ledger::Sent;

/// Latencies of requests that were answered with 200, sorted.
pub(crate) fn latencies<'a>(sent: impl Iterator<Item = &'a Sent>) -> Vec<u64> {
    let mut latencies: Vec<u64> = sent.filter(|sent| sent.status() == Some(200)).map(Sent::latency_us).collect();
    latencies.sort_unstable();
    latencies
}

/// The `q`-quantile of sorted values; zero of none.
pub(crate) fn quantile(sorted: &[u64], q: f64) -> u64 {
    let idx = (sorted.len() as f64 * q) as usize;
    sorted.get(idx.min(sorted.len().saturating_sub(1))).copied().unwrap_or(0)
}

/// `870 µs`, `12.3 ms`, `1.20 s`.
pub(crate) fn time(us: u64) -> String {
    match us {
        0..1_000 => format!("{us} µs"),
        1_000..1_000_000 => format!("{:.1} ms", us as f64 / 1e3),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_exact() {
        let sorted: Vec<u64> = (1..=100).collect();
        assert_eq!((quantile(&sorted, 0.5), quantile(&sorted, 0.99), quantile(&sorted, 1.0)), (51, 100, 100));
        assert_eq!(quantile(&[], 0.99), 0);
    }

    #[test]
    fn times_are_said_in_three_digits() {
        assert_eq!([time(870), time(12_300), time(1_200_000)], ["870 µs", "12.3 ms", "1.20 s"]);
    }
}
