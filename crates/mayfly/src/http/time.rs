//! Times on the wire: RFC 3339, UTC, milliseconds, `Z`.

use mayfly_core::time::Timestamp;

use super::fault::{Answer, Fault};

/// `2026-01-31T12:00:00.000Z`; a time outside the years that RFC 3339 knows becomes the epoch.
pub(crate) fn rfc3339(at: Timestamp) -> String {
    let at = jiff::Timestamp::from_millisecond(at.0).unwrap_or(jiff::Timestamp::UNIX_EPOCH);
    format!("{at:.3}")
}

/// Reads an RFC 3339 time; the error names the field.
pub(crate) fn parse(field: &str, text: &str) -> Answer<Timestamp> {
    text.parse::<jiff::Timestamp>().map(|at| Timestamp(at.as_millisecond())).map_err(|_| {
        Fault::bad_request(format!(
            "{field}: expected an RFC 3339 time such as 2026-01-31T12:00:00Z"
        ))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_milliseconds_and_end_in_z() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (1_700_000_000_001, "2023-11-14T22:13:20.001Z"),
            (1_700_000_000_000, "2023-11-14T22:13:20.000Z"),
        ] {
            assert_eq!(rfc3339(Timestamp(millis)), text);
            assert_eq!(parse("at", text).expect("a time we wrote"), Timestamp(millis));
        }
        let fault = parse("createdAtAfter", "yesterday").expect_err("not a time");
        assert!(fault.message.starts_with("createdAtAfter:"), "{}", fault.message);
    }
}
