//! The house rules that no compiler knows. Each rule is a pure function from text to findings.

mod bans;
mod codes;
mod config;
mod crates;
mod documents;
mod rust_text;
mod source;

use std::fmt;

use anyhow::{Result, bail};

use crate::repo;
use rust_text::RustFile;

/// A broken rule, with its place.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// File, from the root of the repository.
    path: String,
    /// Line, from 1; 0 = the whole file.
    line: usize,
    /// What is wrong and what to do.
    message: String,
}

impl Finding {
    fn new(path: &str, line: usize, message: impl Into<String>) -> Self {
        Self { path: path.to_owned(), line, message: message.into() }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => write!(f, "{}: {}", self.path, self.message),
            line => write!(f, "{}:{line}: {}", self.path, self.message),
        }
    }
}

/// Checks the whole repository; every broken rule is printed.
pub(crate) fn run() -> Result<()> {
    let findings = check()?;
    for finding in &findings {
        println!("{finding}");
    }
    if !findings.is_empty() {
        bail!("tidy: {} broken rules", findings.len());
    }
    Ok(())
}

fn check() -> Result<Vec<Finding>> {
    let files = repo::files()?;
    let mut findings = Vec::new();
    findings.extend(source::rooms(&files));
    findings.extend(source::root_entries(&files));
    for path in &files {
        if repo::has_ending(path, "rs") {
            let file = RustFile::new(path, &repo::read(path)?);
            findings.extend(source::all(&file));
            findings.extend(bans::all(&file));
        } else if repo::has_ending(path, "md") {
            let text = repo::read(path)?;
            findings.extend(documents::paths(path, &text, &files));
            findings.extend(source::unfinished(path, &text));
        // The fuzzer stands outside the workspace and cannot inherit its lints.
        } else if path.ends_with("Cargo.toml") && path.contains('/') && !path.starts_with("fuzz/") {
            findings.extend(crates::linted(path, &repo::read(path)?));
        }
    }
    let default_config = "crates/mayfly/config.default.toml";
    if files.iter().any(|path| path == default_config) {
        findings.extend(config::documented(default_config, &repo::read(default_config)?));
    }
    let mut codes = codes::of_enum("Code", &repo::read(codes::CORE_ERRORS)?);
    codes.extend(codes::in_literals(&repo::read(codes::WIRE_ERRORS)?));
    findings.extend(codes::pages(&codes, &files));
    let metadata = repo::metadata()?;
    findings.extend(crates::directions(&metadata));
    findings.extend(crates::cycles(&metadata));
    Ok(findings)
}
