//! What a proxy exposes as metrics, read from the Prometheus text format.

use std::collections::BTreeMap;

/// Samples: name, labels and value.
#[derive(Clone, Debug, Default)]
pub struct Metrics(Vec<(String, BTreeMap<String, String>, f64)>);

impl Metrics {
    /// Reads a page. What is no sample is passed over.
    pub fn parse(page: &str) -> Self {
        Self(
            page.lines()
                .filter(|line| !line.starts_with('#'))
                .filter_map(sample)
                .collect(),
        )
    }

    /// The sum of all samples of this name that have all of these labels.
    pub fn sum(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        self.0
            .iter()
            .filter(|(found, has, _)| {
                found == name
                    && labels
                        .iter()
                        .all(|(label, value)| has.get(*label).is_some_and(|it| it == value))
            })
            .map(|(_, _, value)| value)
            .sum()
    }

    /// The values that a label has in samples of this name.
    pub fn values(&self, name: &str, label: &str) -> Vec<&str> {
        let samples = self.0.iter().filter(|(found, _, _)| found == name);
        samples
            .filter_map(|(_, labels, _)| labels.get(label).map(String::as_str))
            .collect()
    }
}

fn sample(line: &str) -> Option<(String, BTreeMap<String, String>, f64)> {
    let (key, value) = line.rsplit_once(' ')?;
    let value = value.parse().ok()?;
    let Some((name, labels)) = key.split_once('{') else {
        return Some((key.to_owned(), BTreeMap::new(), value));
    };
    let mut found = BTreeMap::new();
    let mut rest = labels.strip_suffix('}')?;
    while let Some((label, after)) = rest.split_once("=\"") {
        let end = unescaped_quote(after)?;
        let text = after[..end]
            .replace("\\n", "\n")
            .replace("\\\"", "\"")
            .replace("\\\\", "\\");
        found.insert(label.trim_start_matches(',').to_owned(), text);
        rest = &after[end + 1..];
    }
    Some((name.to_owned(), found, value))
}

fn unescaped_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    text.bytes().position(|byte| {
        let here = byte == b'"' && !escaped;
        escaped = byte == b'\\' && !escaped;
        here
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_summed_by_label() {
        let page = "# HELP a b\na 1\nb{x=\"1\",y=\"q\\\"}\"} 2\nb{x=\"1\",y=\"z\"} 3.5\nrubbish\n";
        let metrics = Metrics::parse(page);
        assert_eq!(metrics.sum("a", &[]), 1.0);
        assert_eq!(metrics.sum("b", &[("x", "1")]), 5.5);
        assert_eq!(metrics.sum("b", &[("y", "q\"}")]), 2.0);
        assert_eq!(metrics.sum("c", &[]), 0.0);
    }
}
