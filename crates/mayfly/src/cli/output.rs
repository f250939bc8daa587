//! What people and programs see: tables or JSON on standard output, errors and progress on standard error.

use std::io::{ErrorKind, IsTerminal, Write};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressStyle};
use mayfly_core::{Error, Kind, Result};
use serde_json::{Value, json};

/// Where and how results are shown.
#[derive(Debug)]
pub(super) struct Output {
    /// JSON instead of text.
    pub(super) json: bool,
    /// Whether somebody watches standard error.
    watched: bool,
}

impl Output {
    /// Progress is shown only to people: on a terminal, not with `--json`.
    pub(super) fn new(json: bool) -> Self {
        Self { json, watched: !json && std::io::stderr().is_terminal() }
    }

    /// Prints the JSON form, or the text where people read.
    pub(super) fn show(&self, value: &Value, text: impl FnOnce() -> String) -> Result<()> {
        if self.json { self.print(format!("{value}\n")) } else { self.print(text()) }
    }

    /// Prints text or bytes as they are. A reader that has left (`| head`) is no failure.
    #[expect(clippy::unused_self, reason = "all output goes through this type")]
    pub(super) fn print(&self, text: impl AsRef<[u8]>) -> Result<()> {
        let mut out = std::io::stdout().lock();
        match out.write_all(text.as_ref()).and_then(|()| out.flush()) {
            Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(Error::new(
                Kind::Unavailable,
                format!("cannot write to standard output: {error}"),
            )
            .with_source(error)),
            _ => Ok(()),
        }
    }

    /// A remark beside the result; people only.
    pub(super) fn note(&self, text: &str) {
        if !self.json {
            // Without standard error there is nobody to tell.
            let _ = writeln!(std::io::stderr(), "{text}");
        }
    }

    /// The failure and what to do about it.
    pub(super) fn error(&self, error: &Error) {
        let text = if self.json {
            let kind = format!("{:?}", error.kind());
            json!({ "error": { "kind": kind, "message": error.message(), "hint": error.hint() } })
                .to_string()
        } else {
            match error.hint() {
                Some(hint) => format!("error: {}\nhint: {hint}", error.message()),
                None => format!("error: {}", error.message()),
            }
        };
        let _ = writeln!(std::io::stderr(), "{text}");
    }

    /// A turning sign with a text, gone when dropped.
    pub(super) fn waiting(&self, text: impl Into<String>) -> Progress {
        if !self.watched {
            return Progress(None);
        }
        let bar = ProgressBar::new_spinner();
        bar.set_message(text.into());
        bar.enable_steady_tick(Duration::from_millis(100));
        Progress(Some(bar))
    }

    /// A bar over so many bytes, gone when dropped.
    pub(super) fn transfer(&self, bytes: u64, text: impl Into<String>) -> Progress {
        if !self.watched {
            return Progress(None);
        }
        let bar = ProgressBar::new(bytes);
        if let Ok(style) = ProgressStyle::with_template("{msg} {wide_bar} {bytes}/{total_bytes}") {
            bar.set_style(style);
        }
        bar.set_message(text.into());
        Progress(Some(bar))
    }
}

/// Progress on a terminal, or nothing.
#[derive(Clone, Debug)]
pub(super) struct Progress(Option<ProgressBar>);

impl Progress {
    /// So many bytes more are done.
    pub(super) fn advance(&self, bytes: usize) {
        if let Some(bar) = &self.0 {
            bar.inc(bytes as u64);
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.0 {
            bar.finish_and_clear();
        }
    }
}

/// Columns as wide as their widest cell, two spaces apart. Control characters become spaces, so that no
/// name can move the cursor.
pub(super) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let clean = |cell: &str| cell.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    let lines: Vec<Vec<String>> = std::iter::once(head.iter().map(|cell| clean(cell)).collect())
        .chain(rows.iter().map(|row| row.iter().map(|cell| clean(cell)).collect()))
        .collect();
    let width = |column: usize| {
        lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<usize> = (0..head.len()).filter_map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let mut row = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            row.push_str(cell);
            row.extend(std::iter::repeat_n(' ', width - cell.chars().count() + 2));
        }
        text.push_str(row.trim_end());
        text.push('\n');
    }
    text
}

/// A field as a table cell: text as it is, nothing for null.
pub(super) fn cell(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_names_cannot_move_the_cursor() {
        let rows = [vec!["ä\u{1b}[2J".into(), "1".into()], vec!["long name".into(), "22".into()]];
        let shown = table(&["NAME", "N"], &rows);
        assert_eq!(shown, "NAME       N\nä [2J      1\nlong name  22\n");
    }
}
