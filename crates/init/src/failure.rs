//! Steps that fail, by name, and the paths and texts of messages that they work on.

use std::ffi::{CString, OsStr};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::protocol::Writer;

/// A step that failed, in words, and why.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) stage: &'static str,
    pub(crate) error: io::Error,
}

impl Failure {
    /// As an answer of this kind.
    pub(crate) fn encode(&self, kind: u8) -> Vec<u8> {
        let number = self.error.raw_os_error().unwrap_or(0).cast_unsigned();
        Writer::new(kind).bytes(self.stage.as_bytes()).u32(number).finish()
    }
}

/// Names the step of an error.
pub(crate) trait Fault<T> {
    fn fault(self, stage: &'static str) -> Result<T, Failure>;
}

impl<T> Fault<T> for io::Result<T> {
    fn fault(self, stage: &'static str) -> Result<T, Failure> {
        self.map_err(|error| Failure { stage, error })
    }
}

/// Bytes from a message as a path.
pub(crate) fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Bytes as the kernel takes them.
pub(crate) fn text(bytes: &[u8]) -> Result<CString, Failure> {
    CString::new(bytes).map_err(io::Error::other).fault("path with a NUL byte")
}
