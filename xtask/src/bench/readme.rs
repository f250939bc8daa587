//! Puts the figures into README.md, between two marks, with the machine they were taken on.

use anyhow::{Context as _, Result};

use super::line::{Line, table};
use crate::repo;

const BEGIN: &str = "<!-- bench:begin -->";
const END: &str = "<!-- bench:end -->";

/// Replaces what stands between the marks.
pub(crate) fn write(lines: &[Line]) -> Result<()> {
    let file = repo::root().join("README.md");
    let text = repo::read("README.md")?;
    let new = between(&text, &format!("{}\n\n{}", machine(), table(lines)))?;
    std::fs::write(&file, new).with_context(|| format!("write {}", file.display()))
}

fn between(text: &str, content: &str) -> Result<String> {
    let (head, rest) =
        text.split_once(BEGIN).with_context(|| format!("no `{BEGIN}` in README.md"))?;
    let (_, tail) = rest.split_once(END).with_context(|| format!("no `{END}` in README.md"))?;
    Ok(format!("{head}{BEGIN}\n{content}\n{END}{tail}"))
}

fn machine() -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    format!(
        "Taken by `cargo xtask bench --write-readme` with {cores} cores on Linux {}.",
        kernel.trim()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_stands_between_the_marks_changes() {
        let text = format!("a\n{BEGIN}\nold\n{END}\nb\n");
        assert_eq!(
            between(&text, "new").expect("both marks"),
            format!("a\n{BEGIN}\nnew\n{END}\nb\n")
        );
        assert!(between("a", "new").is_err());
    }
}
