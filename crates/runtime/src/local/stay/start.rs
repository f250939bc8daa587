//! Requests to start processes that stay, checked and in the words of process 1.

use std::collections::BTreeMap;

use mayfly_core::process::{StartRequest, Window, Wiring};
use mayfly_core::{Error, Result};
use mayfly_init::protocol::MAX_RUN;
use mayfly_init::protocol::kept::{Kind, MAX_NOTE};
use mayfly_init::protocol::stay::Start;

use super::MAX_WINDOW;
use crate::local::exec::describe;
use crate::local::live::Live;

/// What a shell reads its commands from; process 1 places a pipe there.
const SCRIPT: &str = "/dev/fd/3";
/// Shells, the better first.
const SHELLS: [&str; 2] = ["bash", "/bin/sh"];
/// Terminal that programs find when nobody says otherwise.
const TERM: (&str, &str) = ("TERM", "xterm-256color");

pub(super) fn check_note(note: &str) -> Result<()> {
    if note.len() > MAX_NOTE {
        return Err(Error::invalid(format!(
            "the note is {} bytes long: expected at most {MAX_NOTE}",
            note.len()
        )));
    }
    Ok(())
}

/// Columns and rows that a terminal can have.
pub(super) fn check_window(window: Window) -> Result<(u16, u16)> {
    let fits = |side: u16| (1..=MAX_WINDOW).contains(&side);
    if fits(window.columns) && fits(window.rows) {
        return Ok((window.columns, window.rows));
    }
    Err(Error::invalid(format!(
        "a terminal of {} columns and {} rows: expected 1 to {MAX_WINDOW} of each",
        window.columns, window.rows
    )))
}

/// The body of the request.
pub(super) fn message(live: &Live, request: &StartRequest) -> Result<Vec<u8>> {
    check_note(&request.note)?;
    let entries = request.env.iter().flat_map(|(key, value)| [key, value]);
    let mut texts = request.argv.iter().chain(&request.cwd).chain(entries);
    if texts.any(|text| text.contains('\0')) {
        return Err(Error::invalid(
            "an argument, folder or variable has a NUL byte, which no program can take",
        ));
    }
    let mut argv = request.argv.clone();
    let mut start = Start::default();
    let window = match request.wiring {
        Wiring::Pipes if argv.is_empty() => {
            return Err(Error::invalid("no program is named: expected at least one argument"));
        }
        Wiring::Pipes => None,
        Wiring::Shell => {
            if argv.is_empty() {
                argv.push(SHELLS[0].to_owned());
                start.others = vec![SHELLS[1].as_bytes().to_vec()];
            }
            argv.push(SCRIPT.to_owned());
            None
        }
        Wiring::Terminal(window) => {
            if argv.is_empty() {
                argv.push(live.user()?.shell.clone());
                start.others = SHELLS.map(|shell| shell.as_bytes().to_vec()).to_vec();
                start.login = true;
            }
            Some(check_window(window)?)
        }
    };
    let mut env: BTreeMap<&str, &str> = window.is_some().then_some(TERM).into_iter().collect();
    env.extend(live.spec.env.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    env.extend(request.env.iter().map(|(key, value)| (key.as_str(), value.as_str())));
    start.run = describe(live, &argv, request.cwd.as_deref(), env)?;
    start.run.started_at = crate::local::runtime::now();
    start.kind = match request.wiring {
        Wiring::Pipes => Kind::Pipes,
        Wiring::Terminal(_) => Kind::Terminal,
        Wiring::Shell => Kind::Shell,
    } as u8;
    (start.columns, start.rows) = window.unwrap_or_default();
    start.note = request.note.clone().into_bytes();
    let body = start.encode();
    if body.len() > MAX_RUN {
        return Err(Error::invalid(format!(
            "the program, its environment and its note are {} bytes long: expected at most {MAX_RUN}",
            body.len()
        ))
        .with_hint("write what is long to a file first"));
    }
    Ok(body)
}
