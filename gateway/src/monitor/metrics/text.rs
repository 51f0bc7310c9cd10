//! The Prometheus text format, version 0.0.4: families of lines, with labels escaped.

use std::fmt::{Display, Write};

#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A text under way; lines belong to the family begun last.
#[derive(Debug, Default)]
pub(super) struct Text {
    out: String,
    name: String,
}

impl Text {
    pub(super) fn family(&mut self, name: &str, kind: Kind, help: &str) {
        let kind = match kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram => "histogram",
        };
        self.name.replace_range(.., name);
        let _ = write!(self.out, "# HELP {name} {help}\n# TYPE {name} {kind}\n");
    }

    pub(super) fn line(&mut self, labels: &[(&str, &str)], value: impl Display) {
        self.suffixed("", labels, value);
    }

    /// A combination of labels that has not occurred is left out.
    pub(super) fn line_if_any(&mut self, labels: &[(&str, &str)], value: u64) {
        if value > 0 {
            self.line(labels, value);
        }
    }

    pub(super) fn suffixed(&mut self, suffix: &str, labels: &[(&str, &str)], value: impl Display) {
        let _ = write!(self.out, "{}{suffix}", self.name);
        for (n, (name, value)) in labels.iter().enumerate() {
            let _ = write!(self.out, "{}{name}=\"", if n == 0 { '{' } else { ',' });
            for c in value.chars() {
                let _ = match c {
                    '\\' => self.out.write_str("\\\\"),
                    '"' => self.out.write_str("\\\""),
                    '\n' => self.out.write_str("\\n"),
                    c => self.out.write_char(c),
                };
            }
            self.out.push('"');
        }
        let _ = writeln!(self.out, "{} {value}", if labels.is_empty() { "" } else { "}" });
    }

    pub(super) fn into_string(self) -> String {
        self.out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_are_escaped() {
        let mut text = Text::default();
        text.family("a_total", Kind::Counter, "All.");
        text.line(&[("b", "\"\\\n"), ("c", "d")], 1);
        text.line_if_any(&[], 0);
        text.suffixed("_sum", &[], 0.5);
        assert_eq!(
            text.into_string(),
            "# HELP a_total All.\n# TYPE a_total counter\na_total{b=\"\\\"\\\\\\n\",c=\"d\"} 1\na_total_sum 0.5\n"
        );
    }
}
