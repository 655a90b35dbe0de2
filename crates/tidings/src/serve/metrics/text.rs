//! The text format of Prometheus, and OpenMetrics where it differs: families and their samples.

use std::fmt::Write as _;

use super::Format;

/// Writes families and samples
pub(super) struct Text {
    text: String,
    format: Format,
    /// The family being written
    name: &'static str,
}

impl Text {
    pub(super) fn new(format: Format) -> Self {
        Self { text: String::new(), format, name: "" }
    }

    /// Begins a family of gauges; its values follow
    pub(super) fn gauge(&mut self, name: &'static str, help: &str) {
        self.family(name, name, "gauge", help);
    }

    /// Begins a family of counters; its totals follow
    pub(super) fn counter(&mut self, name: &'static str, help: &str) {
        // OpenMetrics names the family without the suffix that its samples have; Prometheus with it
        match self.format {
            Format::OpenMetrics => self.family(name, name, "counter", help),
            Format::Prometheus => self.family(name, &format!("{name}_total"), "counter", help),
        }
    }

    fn family(&mut self, name: &'static str, shown: &str, kind: &str, help: &str) {
        self.name = name;
        self.line(format_args!("# HELP {shown} {help}\n# TYPE {shown} {kind}\n"));
    }

    /// One value of a gauge
    pub(super) fn value(&mut self, labels: &[(&str, &str)], value: u64) {
        self.sample("", labels, value);
    }

    /// One value of a gauge that may be below zero
    pub(super) fn signed(&mut self, labels: &[(&str, &str)], value: i64) {
        self.sample("", labels, value);
    }

    /// One total of a counter
    pub(super) fn total(&mut self, labels: &[(&str, &str)], value: u64) {
        self.sample("_total", labels, value);
    }

    /// A total for each name, in a label
    pub(super) fn by_name(&mut self, label: &str, counts: &std::collections::BTreeMap<&'static str, u64>) {
        for (name, count) in counts {
            self.total(&[(label, name)], *count);
        }
    }

    /// One value of a gauge in seconds
    pub(super) fn seconds(&mut self, labels: &[(&str, &str)], seconds: f64) {
        self.sample("", labels, seconds);
    }

    /// Begins a family of histograms
    pub(super) fn histogram(&mut self, name: &'static str, help: &str) {
        self.family(name, name, "histogram", help);
    }

    /// One histogram: upper bounds in seconds with the counts of all up to there, the count of all, and their sum
    pub(super) fn buckets(&mut self, label: (&str, &str), buckets: &[(f64, u64)], count: u64, sum: f64) {
        for (bound, up_to) in buckets {
            self.sample("_bucket", &[label, ("le", &bound.to_string())], up_to);
        }
        self.sample("_bucket", &[label, ("le", "+Inf")], count);
        self.sample("_sum", &[label], sum);
        self.sample("_count", &[label], count);
    }

    fn sample(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl std::fmt::Display) {
        let labels: Vec<String> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escape(value))).collect();
        let name = self.name;
        match labels.is_empty() {
            true => self.line(format_args!("{name}{suffix} {value}\n")),
            false => self.line(format_args!("{name}{suffix}{{{}}} {value}\n", labels.join(","))),
        }
    }

    fn line(&mut self, line: std::fmt::Arguments<'_>) {
        // Writing into a String can't fail
        self.text.write_fmt(line).ok();
    }

    /// The whole page
    pub(super) fn end(mut self) -> String {
        if self.format == Format::OpenMetrics {
            self.text.push_str("# EOF\n");
        }
        self.text
    }
}

fn escape(value: &str) -> String {
    value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(format: Format) -> String {
        let mut page = Text::new(format);
        page.counter("a", "Things");
        page.total(&[("kind", "say \"x\"")], 3);
        page.gauge("b", "Others");
        page.value(&[], 1);
        page.end()
    }

    #[test]
    fn prometheus_text() {
        assert_eq!(
            text(Format::Prometheus),
            "# HELP a_total Things\n# TYPE a_total counter\na_total{kind=\"say \\\"x\\\"\"} 3\n\
             # HELP b Others\n# TYPE b gauge\nb 1\n"
        );
    }

    #[test]
    fn openmetrics_text() {
        assert_eq!(
            text(Format::OpenMetrics),
            "# HELP a Things\n# TYPE a counter\na_total{kind=\"say \\\"x\\\"\"} 3\n\
             # HELP b Others\n# TYPE b gauge\nb 1\n# EOF\n"
        );
    }
}
