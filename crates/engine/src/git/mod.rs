//! git inside a sandbox: the image's own program, run as the sandbox's user and on its network.
//!
//! Nothing of git is linked in and no host program looks at a repository. Each verb is one file's `impl Git`;
//! `run.rs` is the only way to the program, `names.rs` judges every argument before it, `faults.rs` turns what
//! git says into the platform's errors. Only formats made for machines are parsed.
//!
//! Credentials given with a call reach git by the environment of that one process tree, through a helper that
//! answers for one host only. They stand in no argument, no file, no log and no error text.

mod branches;
mod clone;
mod config;
mod faults;
mod history;
mod names;
mod remotes;
mod run;
mod secret;
mod status;
mod sync;
mod worktree;

use std::time::Duration;

pub use branches::Branches;
pub use clone::NewClone;
pub use config::{Credentials, Scope};
pub use history::Commit;
pub use remotes::{AddRemote, Remote};
pub use secret::Login;
pub use status::{Change, FileStatus, Status};
pub use sync::Exchange;
pub use worktree::{NewCommit, Reset, ResetMode, Restore};

use crate::reach::Reach;

/// The git calls of one started sandbox.
#[derive(Debug)]
pub struct Git<'a> {
    reach: &'a Reach,
    /// Longest time of one run of the program.
    timeout: Duration,
}

impl Reach {
    /// Its git calls. A single run of the program is ended after `timeout`.
    pub fn git(&self, timeout: Duration) -> Git<'_> {
        Git { reach: self, timeout }
    }
}
