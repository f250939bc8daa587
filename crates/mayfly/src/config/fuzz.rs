//! Fuzz body of the settings: any file and any environment are refused naming the place, or are in bounds.

use std::collections::BTreeMap;
use std::path::PathBuf;

use mayfly_core::Kind;

use super::{Config, Overrides};

/// A body: its name and the function.
type Body = (&'static str, fn(&[u8]));

pub(crate) const BODIES: &[Body] = &[("settings", settings)];

/// Where the text claims to be from.
const FILE: &str = "fuzz.toml";
/// Sections, one of which a refusal without a file begins with.
const SECTIONS: [&str; 7] =
    ["server.", "storage.", "isolation.", "sandbox.", "pool.", "limits.", "log."];

/// A TOML text, then, behind a line of `--`, `NAME=value` lines of an environment.
fn settings(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let (file, environment) = text.split_once("\n--\n").unwrap_or((text, ""));
    let environment: BTreeMap<String, String> = environment
        .lines()
        .filter_map(|line| line.split_once('='))
        .map(|(name, value)| (format!("MAYFLY_{name}"), value.to_owned()))
        .collect();
    let files = [(PathBuf::from(FILE), file.to_owned())];
    match Config::from_sources(&Overrides::default(), &files, &environment) {
        Ok(config) => {
            assert!(config.storage.data_dir.is_absolute());
            assert!(config.server.connections > 0 && config.server.max_body_bytes > 0);
            assert!(config.sandbox.max_count > 0 && config.sandbox.max_cpu > 0);
            assert!(config.sandbox.execute_seconds > 0 && config.sandbox.output_bytes > 0);
            assert!(config.limits.pids > 0 && config.limits.open_files > 0);
            let url = &config.server.public_url;
            assert!(url.is_empty() || url.starts_with("http://") || url.starts_with("https://"));
        }
        Err(error) => {
            assert_eq!(error.kind(), Kind::Invalid);
            let says = error.message();
            let named = says.starts_with(&format!("{FILE}:"))
                || environment.keys().any(|name| says.starts_with(name.as_str()))
                || SECTIONS.iter().any(|section| says.starts_with(section));
            assert!(named, "a refusal names neither file, variable nor key: {says}");
        }
    }
}
