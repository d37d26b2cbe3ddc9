//! Prometheus text, read back.
//! It promises that a series which is not there counts as zero. It does not know what the names mean.

/// One scrape.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    text: String,
}

impl Metrics {
    pub(crate) fn parse(text: String) -> Self {
        Self { text }
    }

    /// The sum of all series called `name` that carry all of `labels`.
    pub(crate) fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let wanted: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
        let matching = self.text.lines().filter(|line| {
            let series = line.strip_prefix(name).unwrap_or_default();
            series.starts_with(['{', ' ']) && wanted.iter().all(|label| series.contains(label))
        });
        matching.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    /// Whether a series of that name is there at all.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.text.lines().any(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' '])))
    }

    /// The whole scrape.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }
}
