//! Checks of what callers give; every refusal names the field and what it may be.

use std::collections::BTreeMap;

use crate::sandbox::record::Timers;
use crate::sandbox::timers::{MAX_AUTO_ARCHIVE, MAX_MINUTES, Timer};
use crate::{Error, Result};

/// Most bytes of a name.
const MAX_NAME: usize = 255;
/// Most labels and most environment variables of one sandbox.
const MAX_ENTRIES: usize = 1024;
/// Most bytes of all environment keys and values together; the kernel takes 2 MiB with the arguments.
const MAX_ENV: usize = 1 << 20;
/// Most bytes of all label keys and values together.
const MAX_LABELS: usize = 64 << 10;
/// Labels under this prefix are the platform's own.
const RESERVED_LABELS: &str = "mayfly.";

/// A short text without control characters.
pub(crate) fn name(field: &str, text: &str) -> Result<()> {
    if text.is_empty() || text.len() > MAX_NAME {
        return Err(Error::invalid(format!("{field} must have 1 to {MAX_NAME} bytes")));
    }
    if text.chars().any(char::is_control) {
        return Err(Error::invalid(format!("{field} must not hold control characters")));
    }
    Ok(())
}

/// Keys that a program can be given, values without NUL.
pub(super) fn env(env: &BTreeMap<String, String>) -> Result<()> {
    bounded("env", env, MAX_ENV)?;
    for (key, value) in env {
        if key.is_empty() || key.contains(['=', '\0']) {
            return Err(Error::invalid(format!(
                "env key {key:?} must not be empty nor hold `=` or NUL"
            )));
        }
        if value.contains('\0') {
            return Err(Error::invalid(format!("env value of {key:?} must not hold NUL")));
        }
    }
    Ok(())
}

/// Labels that are the caller's to set.
pub(super) fn labels(labels: &BTreeMap<String, String>) -> Result<()> {
    bounded("labels", labels, MAX_LABELS)?;
    for (key, value) in labels {
        if key.starts_with(RESERVED_LABELS) {
            return Err(Error::invalid(format!(
                "label {key:?} begins with `{RESERVED_LABELS}`, which the server keeps for itself"
            )));
        }
        if key.is_empty() || key.contains('\0') || value.contains('\0') {
            return Err(Error::invalid(format!("label {key:?} must not be empty nor hold NUL")));
        }
    }
    Ok(())
}

/// Timers that can hold together.
pub(super) fn timers(timers: &Timers) -> Result<()> {
    for (field, minutes, most) in [
        ("autoStopInterval", timers.auto_stop, MAX_MINUTES),
        ("autoPauseInterval", timers.auto_pause, MAX_MINUTES),
        ("autoArchiveInterval", timers.auto_archive, MAX_AUTO_ARCHIVE),
        ("ttlMinutes", timers.ttl, MAX_MINUTES),
        ("autoDeleteInterval", timers.auto_delete.max(0).unsigned_abs(), MAX_MINUTES),
    ] {
        if minutes > most {
            return Err(Error::invalid(format!("{field} must be at most {most} minutes")));
        }
    }
    if timers.auto_stop > 0 && timers.auto_pause > 0 {
        return Err(Error::invalid(
            "autoStopInterval and autoPauseInterval cannot both be set: one of them must be 0",
        ));
    }
    if timers.auto_pause > 0 && timers.auto_delete == 0 {
        return Err(Error::invalid(
            "autoPauseInterval cannot be set on an ephemeral sandbox (autoDeleteInterval 0)",
        ));
    }
    Ok(())
}

/// A size, where one is given.
pub(super) fn at_least_one(field: &str, size: Option<u32>) -> Result<()> {
    if size == Some(0) {
        return Err(Error::invalid(format!("{field} must be at least 1")));
    }
    Ok(())
}

fn bounded(field: &str, map: &BTreeMap<String, String>, most_bytes: usize) -> Result<()> {
    if map.len() > MAX_ENTRIES {
        return Err(Error::invalid(format!("{field} must have at most {MAX_ENTRIES} entries")));
    }
    let bytes: usize = map.iter().map(|(key, value)| key.len() + value.len()).sum();
    if bytes > most_bytes {
        return Err(Error::invalid(format!("{field} must be at most {most_bytes} bytes in all")));
    }
    Ok(())
}

/// The timers with one of them set.
pub(super) fn timer(mut timers: Timers, timer: Timer, minutes: i64) -> Result<Timers> {
    let bad = || {
        Error::invalid(format!(
            "{} must be a whole number of minutes from 0 to {MAX_MINUTES}",
            timer.field()
        ))
    };
    if timer == Timer::AutoDelete {
        timers.auto_delete = i32::try_from(minutes.max(-1)).map_err(|_| bad())?;
    } else {
        let minutes = u32::try_from(minutes).map_err(|_| bad())?;
        match timer {
            Timer::AutoStop => timers.auto_stop = minutes,
            Timer::AutoPause => timers.auto_pause = minutes,
            Timer::AutoArchive => timers.auto_archive = minutes,
            Timer::Ttl | Timer::AutoDelete => timers.ttl = minutes,
        }
    }
    self::timers(&timers)?;
    Ok(timers)
}
