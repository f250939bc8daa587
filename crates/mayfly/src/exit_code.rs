//! How the program ends: the one table of exit codes.

use mayfly_core::Kind;

/// Everything went as asked.
pub(crate) const SUCCESS: u8 = 0;
/// `run`, `sandbox exec` and `sandbox shell` end with the command's own code; this one says that mayfly
/// itself failed, so the command may not have run.
pub(crate) const NOT_THE_COMMAND: u8 = 125;
/// Interrupted by the terminal.
pub(crate) const INTERRUPTED: u8 = 130;

/// Shown by `mayfly --help`.
pub(crate) const HELP: &str = "\
Exit codes:
  0    done as asked
  1    mayfly made a mistake
  2    mistake in the command line
  3    no such thing
  4    name taken, or the state does not allow it
  5    wrong input
  6    no key, wrong key, or a permission is missing
  7    a quota or rate is used up
  8    the server or something it needs is out of reach
  9    time ran out
  10   not supported by the server
  125  `run`, `sandbox exec` and `sandbox shell`: mayfly failed, not the command;
       else these three end with the command's own exit code
  130  interrupted";

/// Exit code of a failure.
pub(crate) fn of(kind: Kind) -> u8 {
    match kind {
        Kind::Internal => 1,
        Kind::NotFound | Kind::Gone => 3,
        Kind::Conflict => 4,
        Kind::Invalid => 5,
        Kind::Unauthenticated | Kind::Denied => 6,
        Kind::Limit => 7,
        Kind::Unavailable => 8,
        Kind::Timeout => 9,
        Kind::Unsupported => 10,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_lists_every_code() {
        let kinds = [
            Kind::NotFound,
            Kind::Conflict,
            Kind::Invalid,
            Kind::Unauthenticated,
            Kind::Denied,
            Kind::Limit,
            Kind::Gone,
            Kind::Unavailable,
            Kind::Timeout,
            Kind::Unsupported,
            Kind::Internal,
        ];
        let codes = kinds.map(of).into_iter();
        for code in codes.chain([SUCCESS, 2, NOT_THE_COMMAND, INTERRUPTED]) {
            let listed = HELP.lines().any(|line| line.starts_with(&format!("  {code} ")));
            assert!(listed, "{code}");
        }
    }
}
