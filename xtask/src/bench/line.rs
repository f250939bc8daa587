//! One figure: what was measured, how often, its middle and its tail, beside floor and promise.

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

/// One figure, in the form that bench programs print as a JSON line.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Line {
    /// What was measured.
    pub(crate) name: String,
    /// Unit of the values.
    pub(crate) unit: String,
    /// Number of samples.
    pub(crate) n: u64,
    /// Median.
    pub(crate) p50: f64,
    /// 99th percentile.
    pub(crate) p99: Option<f64>,
    /// Median of the least that is possible, in the same run.
    pub(crate) floor: Option<f64>,
    /// `p50` over `floor`.
    pub(crate) ratio: Option<f64>,
    /// What is promised, such as `<= 6x` of the ratio or `>= 250` of `p50`.
    pub(crate) limit: Option<String>,
    /// Whether the promise holds; `None` = nothing is promised.
    pub(crate) holds: Option<bool>,
}

/// Middle and tail of some samples.
pub(crate) fn samples(name: &str, unit: &str, mut values: Vec<f64>) -> Line {
    values.sort_by(f64::total_cmp);
    let n = values.len();
    let at = |percent: usize| values[(n * percent / 100).min(n - 1)];
    let p99 = (n >= 100).then(|| at(99));
    Line {
        name: name.to_owned(),
        unit: unit.to_owned(),
        n: n as u64,
        p50: at(50),
        p99,
        floor: None,
        ratio: None,
        limit: None,
        holds: None,
    }
}

impl Line {
    /// Promises a median of at most `limit`.
    pub(crate) fn at_most(mut self, limit: f64) -> Self {
        self.limit = Some(format!("<= {limit}"));
        self.holds = Some(self.p50 <= limit);
        self
    }

    /// Sets the floor and the ratio to it.
    pub(crate) fn over(mut self, floor: f64) -> Self {
        self.floor = Some(floor);
        self.ratio = Some(self.p50 / floor);
        self
    }

    /// Reads a bench program's line.
    pub(crate) fn from_json(text: &str) -> Result<Self> {
        let value: Value =
            serde_json::from_str(text).with_context(|| format!("no JSON: {text}"))?;
        let word = |key: &str| value[key].as_str().map(str::to_owned);
        Ok(Self {
            name: word("name").with_context(|| format!("no name in {text}"))?,
            unit: word("unit").with_context(|| format!("no unit in {text}"))?,
            n: value["n"].as_u64().with_context(|| format!("no n in {text}"))?,
            p50: value["p50"].as_f64().with_context(|| format!("no p50 in {text}"))?,
            p99: value["p99"].as_f64(),
            floor: value["floor"].as_f64(),
            ratio: value["ratio"].as_f64(),
            limit: word("limit"),
            holds: value["holds"].as_bool(),
        })
    }

    /// The same form again.
    pub(crate) fn to_json(&self) -> Value {
        json!({
            "name": self.name, "unit": self.unit, "n": self.n, "p50": self.p50, "p99": self.p99,
            "floor": self.floor, "ratio": self.ratio, "limit": self.limit, "holds": self.holds,
        })
    }

    fn cells(&self) -> [String; 9] {
        let verdict = self.holds.map_or("", |holds| if holds { "yes" } else { "NO" });
        [
            self.name.clone(),
            self.unit.clone(),
            self.n.to_string(),
            short(Some(self.p50)),
            short(self.p99),
            short(self.floor),
            self.ratio.map_or_else(String::new, |ratio| format!("{ratio:.2}x")),
            self.limit.clone().unwrap_or_default(),
            verdict.to_owned(),
        ]
    }
}

const HEAD: [&str; 9] = ["what", "unit", "n", "p50", "p99", "floor", "ratio", "limit", "holds"];

/// All figures as an aligned Markdown table: readable in a terminal and in README.
pub(crate) fn table(lines: &[Line]) -> String {
    let mut rows = vec![HEAD.map(str::to_owned)];
    rows.extend(lines.iter().map(Line::cells));
    let width =
        |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..HEAD.len()).map(width).collect();
    let rule: Vec<String> = widths.iter().map(|width| "-".repeat(*width)).collect();
    let mut out = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        let cells: Vec<String> =
            row.iter().zip(&widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        out.push(format!("| {} |", cells.join(" | ")));
        if index == 0 {
            out.push(format!("| {} |", rule.join(" | ")));
        }
    }
    out.join("\n")
}

fn short(value: Option<f64>) -> String {
    match value {
        None => String::new(),
        Some(value) if value.abs() >= 100.0 => format!("{value:.0}"),
        Some(value) if value.abs() >= 10.0 => format!("{value:.1}"),
        Some(value) => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn middle_and_tail_are_taken_from_sorted_samples() {
        let line = samples("a", "us", (0..200).rev().map(f64::from).collect());
        assert_eq!((line.n, line.p50, line.p99), (200, 100.0, Some(198.0)));
        assert_eq!(samples("a", "us", vec![1.0]).p99, None);
    }

    #[test]
    fn a_line_survives_its_json_form() {
        let line = samples("a", "us", vec![3.0]).over(2.0).at_most(2.5);
        assert_eq!(line.holds, Some(false));
        assert_eq!(Line::from_json(&line.to_json().to_string()).expect("its own form"), line);
        assert!(Line::from_json("{\"name\":\"a\"}").is_err());
    }

    #[test]
    fn the_table_is_aligned() {
        let text =
            table(&[samples("a long name", "us", vec![3.0]), samples("b", "MiB", vec![1234.5])]);
        let lengths: Vec<usize> = text.lines().map(str::len).collect();
        assert!(lengths.windows(2).all(|pair| pair[0] == pair[1]), "{text}");
    }
}
