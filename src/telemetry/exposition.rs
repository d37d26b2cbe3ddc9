//! The Prometheus text format, version 0.0.4, one family at a time.
//! Promises escaped label values and families that sort by name. It does not know which metrics there are.

use std::fmt::{Display, Write};

use super::histogram::Distribution;

/// What a scraper is told it gets: the content type of `GET /metrics`.
pub const CONTENT_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// Names and values of labels, in the order they are printed.
pub type Labels<'a> = &'a [(&'static str, &'a str)];

/// What a family is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kind {
    /// Only grows.
    Counter,
    /// Goes both ways.
    Gauge,
    /// Buckets, sum and count.
    Histogram,
}

/// The text of one family while it is written.
#[derive(Debug)]
pub struct Family {
    name: &'static str,
    text: String,
    heading_bytes: usize,
}

impl Family {
    /// A family without samples. `help` is a sentence of ours, without line breaks and backslashes.
    pub fn new(kind: Kind, name: &'static str, help: &str) -> Self {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        let text = format!("# HELP {name} {help}\n# TYPE {name} {kind}\n");
        Self { name, heading_bytes: text.len(), text }
    }

    /// One line of a counter or a gauge.
    pub fn sample(&mut self, labels: Labels<'_>, value: impl Display) {
        self.line("", labels, value);
    }

    /// All lines of one histogram.
    pub fn histogram(&mut self, labels: Labels<'_>, distribution: &Distribution) {
        let mut bucket = |edge: &str, n: u64| {
            let labels: Vec<_> = labels.iter().copied().chain([("le", edge)]).collect();
            self.line("_bucket", &labels, n);
        };
        for (edge, n) in distribution.cumulative() {
            bucket(&edge.to_string(), n);
        }
        bucket("+Inf", distribution.count());
        self.line("_sum", labels, distribution.sum().as_secs_f64());
        self.line("_count", labels, distribution.count());
    }

    /// The text, or nothing if there were no samples.
    pub fn finish(self) -> Option<String> {
        (self.text.len() > self.heading_bytes).then_some(self.text)
    }

    fn line(&mut self, suffix: &str, labels: Labels<'_>, value: impl Display) {
        self.text.push_str(self.name);
        self.text.push_str(suffix);
        for (idx, (name, value)) in labels.iter().enumerate() {
            self.text.push(if idx == 0 { '{' } else { ',' });
            self.text.push_str(name);
            self.text.push_str("=\"");
            push_escaped(&mut self.text, value);
            self.text.push('"');
        }
        if !labels.is_empty() {
            self.text.push('}');
        }
        writeln!(self.text, " {value}").expect("writing to a String cannot fail");
    }
}

fn push_escaped(text: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '\\' => text.push_str("\\\\"),
            '"' => text.push_str("\\\""),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroUsize;
    use std::time::Duration;

    use super::super::histogram::Histogram;
    use super::*;

    #[test]
    fn a_family_without_samples_is_not_printed() {
        assert_eq!(Family::new(Kind::Gauge, "x", "Help.").finish(), None);
    }

    #[test]
    fn label_values_are_escaped() {
        let mut family = Family::new(Kind::Counter, "x_total", "Help.");
        family.sample(&[("a", "q\"u\\o\nte"), ("b", "2")], 7);
        let text = family.finish().unwrap();
        assert_eq!(text, "# HELP x_total Help.\n# TYPE x_total counter\nx_total{a=\"q\\\"u\\\\o\\nte\",b=\"2\"} 7\n");
    }

    #[test]
    fn a_histogram_ends_with_inf_sum_and_count() {
        let histogram = Histogram::new(NonZeroUsize::MIN);
        histogram.record(Duration::from_millis(250));
        histogram.record(Duration::from_secs(1_000));
        let mut family = Family::new(Kind::Histogram, "x_seconds", "Help.");
        family.histogram(&[("service", "web")], &histogram.read());
        let text = family.finish().unwrap();
        for line in [
            "x_seconds_bucket{service=\"web\",le=\"0.1\"} 0\n",
            "x_seconds_bucket{service=\"web\",le=\"0.25\"} 1\n",
            "x_seconds_bucket{service=\"web\",le=\"100\"} 1\n",
            "x_seconds_bucket{service=\"web\",le=\"+Inf\"} 2\n",
            "x_seconds_sum{service=\"web\"} 1000.25\n",
            "x_seconds_count{service=\"web\"} 2\n",
        ] {
            assert!(text.contains(line), "{line} not in {text}");
        }
    }
}
