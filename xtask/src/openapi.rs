//! The verb `openapi`: writes the committed API document again, as the built server gives it.

use anyhow::{Context as _, Result};

use crate::repo;
use crate::server;
use crate::step::{command, run_quiet};

/// The committed document; a test of the server compares it.
const DOCUMENT: &str = "openapi/mayfly.json";

/// Builds the server and writes its document.
pub(crate) fn run() -> Result<()> {
    let program = server::build("dev")?;
    let program = program.to_str().context("the path of the target folder is not UTF-8")?;
    let text = run_quiet(&mut command(program, &["openapi"]))?;
    let file = repo::root().join(DOCUMENT);
    let folder = file.parent().expect("the document stands in a folder");
    std::fs::create_dir_all(folder).with_context(|| format!("make {}", folder.display()))?;
    std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    println!("wrote {DOCUMENT}");
    Ok(())
}
