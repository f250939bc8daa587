//! Takes charts out of a program's output.
//!
//! The Python side writes each chart as marked lines of at most 4 KiB (`<mark> <number> <last> <base64>`),
//! which a pipe takes whole, so that nothing else the program prints can tear one apart.

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use memchr::{memchr, memmem};
use serde_json::Value;

/// Most charts of one program.
const MAX_CHARTS: usize = 100;

/// The output without marked lines, and the charts they held.
pub(crate) fn split(output: Bytes, mark: &str) -> (Bytes, Vec<Value>) {
    let finder = memmem::Finder::new(mark);
    if finder.find(&output).is_none() {
        return (output, Vec::new());
    }
    let (mut text, mut charts) = (Vec::with_capacity(output.len()), Vec::new());
    let mut open: BTreeMap<&str, String> = BTreeMap::new();
    let mut rest: &[u8] = &output;
    while let Some(at) = finder.find(rest) {
        text.extend_from_slice(&rest[..at]);
        let line = &rest[at + mark.len()..];
        let Some(end) = memchr(b'\n', line) else {
            rest = &[];
            break;
        };
        rest = &line[end + 1..];
        let Ok(line) = std::str::from_utf8(&line[..end]) else { continue };
        let mut words = line.split_ascii_whitespace();
        let (Some(number), Some(last), Some(data)) = (words.next(), words.next(), words.next())
        else {
            continue;
        };
        open.entry(number).or_default().push_str(data);
        if last == "1"
            && charts.len() < MAX_CHARTS
            && let Some(whole) = open.remove(number)
            && let Ok(json) = STANDARD.decode(whole)
            && let Ok(chart) = serde_json::from_slice(&json)
        {
            charts.push(chart);
        }
    }
    text.extend_from_slice(rest);
    (Bytes::from(text), charts)
}

/// Text of at most `most` bytes, the cut marked by a last line.
pub(crate) fn cut(mut text: String, most: usize) -> String {
    if text.len() > most {
        text.truncate(text.floor_char_boundary(most));
        text.push_str("\n[output truncated]\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn charts_leave_the_output_as_if_they_were_never_there() {
        let chart = STANDARD.encode(br#"{"type":"line"}"#);
        let (head, tail) = chart.split_at(7);
        let output = format!("a MARK 1 0 {head}\nb\nMARK 1 1 {tail}\nc");
        let (text, charts) = split(Bytes::from(output), "MARK");
        assert_eq!(text, "a b\nc");
        assert_eq!(charts, [serde_json::json!({"type": "line"})]);
    }

    #[test]
    fn torn_charts_are_dropped_and_the_rest_stays() {
        for output in ["xMARK 1 1 !!!\ny", "xMARK\ny", "xMARK 1 1 e30=\ny"] {
            assert_eq!(split(Bytes::from(output), "MARK").0, "xy", "{output}");
        }
        assert_eq!(split(Bytes::from("xMARK 1 0 e3"), "MARK").0, "x");
        assert_eq!(split(Bytes::from("plain"), "MARK").0, "plain");
    }

    #[test]
    fn long_text_is_cut_at_a_letter() {
        assert_eq!(cut("aü".to_owned(), 2), "a\n[output truncated]\n");
        assert_eq!(cut("aü".to_owned(), 3), "aü");
    }
}
