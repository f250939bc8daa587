//! The calls, their answers, and which code makes them.

use std::os::fd::OwnedFd;

use crate::fault::Fault;
use crate::glob::{self, Glob};
use crate::path::Asked;
use crate::refusal::Refusal;
use crate::upload::Upload;
use crate::view::View;
use crate::{change, delete, entry, find, list, read, replace};

/// Most files of one replace call.
const REPLACED: usize = 1000;

/// What is asked for. Paths are the caller's: absolute inside, or relative to the work dir.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Call {
    /// Entries of a folder, this many levels down (at least 1), each folder's sorted by name.
    List {
        /// Path as asked for.
        path: String,
        /// Levels, at least 1.
        depth: u32,
    },
    /// One file or folder, links followed.
    Info {
        /// Path as asked for.
        path: String,
    },
    /// Makes a folder with this mode, and its parents.
    MakeFolder {
        /// Path as asked for.
        path: String,
        /// Permission bits.
        mode: u32,
    },
    /// Deletes a file or, when recursive, a tree.
    Delete {
        /// Path as asked for.
        path: String,
        /// Whether trees may go.
        recursive: bool,
    },
    /// Renames; never replaces.
    Rename {
        /// What is renamed.
        source: String,
        /// Its new path.
        destination: String,
    },
    /// Lines that contain the text.
    Find {
        /// Path as asked for.
        path: String,
        /// Text, at most 4 KiB.
        text: String,
    },
    /// Paths whose last part matches the pattern.
    Search {
        /// Path as asked for.
        path: String,
        /// Shell pattern for one name.
        pattern: String,
    },
    /// Replaces a text in each of these files.
    Replace {
        /// Paths, at most 1000.
        files: Vec<String>,
        /// Text to replace, not empty.
        from: String,
        /// What comes instead.
        to: String,
    },
    /// Changes owner, group and mode.
    Change {
        /// Path as asked for.
        path: String,
        /// What is changed.
        change: Change,
    },
    /// Opens a plain file to read it.
    Open {
        /// Path as asked for.
        path: String,
    },
    /// Writes a whole file of at most [`read::SMALL`] bytes.
    Put {
        /// Path as asked for.
        path: String,
        /// All bytes.
        content: Vec<u8>,
    },
    /// Begins a file that is written in pieces.
    Start {
        /// Path as asked for.
        path: String,
    },
}

/// What a call gives.
#[derive(Debug)]
pub enum Answer {
    /// It is done.
    Done,
    /// Files and folders.
    Entries(Vec<Info>),
    /// Matching lines.
    Matches(Vec<Match>),
    /// Paths.
    Paths(Vec<String>),
    /// Each file of a replace call, with the reason where it failed.
    Replaced(Vec<(String, Option<String>)>),
    /// An open file with its size, or its whole content where that is small.
    Opened(u64, Content),
    /// A file that appears under its name when it is finished.
    Started(Box<Upload>),
    /// The same, kept by the helper under this number; its content goes to the descriptor.
    Kept(u32, OwnedFd),
}

/// What there is of an open file.
#[derive(Debug)]
pub enum Content {
    /// All bytes.
    Whole(Vec<u8>),
    /// The file, to be read in pieces.
    File(OwnedFd),
}

/// What a directory entry is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FileKind {
    /// A plain file.
    File,
    /// A folder.
    Folder,
    /// A symbolic link.
    Link,
    /// A pipe, socket or device.
    Special,
}

/// One file or folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Info {
    /// Last part of the path; bytes that are not UTF-8 are replaced.
    pub name: String,
    /// Path as asked for, joined with the entry's name in lists.
    pub path: String,
    /// What it is.
    pub kind: FileKind,
    /// Bytes.
    pub size: u64,
    /// Permission bits, with set-id and sticky.
    pub mode: u32,
    /// Owner's name inside, else its number.
    pub owner: String,
    /// Group's name inside, else its number.
    pub group: String,
    /// Last change of the content, milliseconds since 1970.
    pub modified: i64,
}

/// A line that matched.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Match {
    /// Path of the file.
    pub file: String,
    /// Number of the line, from 1.
    pub line: u64,
    /// The line, cut at 4 KiB, invalid UTF-8 replaced.
    pub content: String,
}

/// New owner, group and mode; `None` leaves that one as it is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// User name or number inside.
    pub owner: Option<String>,
    /// Group name or number inside.
    pub group: Option<String>,
    /// Permission bits.
    pub mode: Option<u32>,
}

impl Call {
    /// Whether it is a matter of a few system calls and little data.
    pub fn is_small(&self) -> bool {
        matches!(
            self,
            Self::Info { .. }
                | Self::MakeFolder { .. }
                | Self::Rename { .. }
                | Self::Change { .. }
                | Self::Open { .. }
                | Self::Put { .. }
                | Self::Start { .. }
        )
    }

    /// Whether it may last, because it walks a tree or goes through whole files.
    pub fn is_long(&self) -> bool {
        match self {
            Self::List { depth, .. } => *depth > 1,
            Self::Delete { recursive, .. } => *recursive,
            Self::Find { .. } | Self::Search { .. } | Self::Replace { .. } => true,
            _ => false,
        }
    }

    /// Makes the call, on a thread that is the sandbox's user.
    pub fn make(self, view: &View<'_>) -> Result<Answer, Refusal> {
        self.check()?;
        let done = |()| Answer::Done;
        match self {
            Self::List { path, depth } => {
                at(view, &path, |asked| list::list(view, asked, depth)).map(Answer::Entries)
            }
            Self::Info { path } => {
                let info = at(view, &path, |asked| entry::info(view, asked))?;
                Ok(Answer::Entries(vec![info]))
            }
            Self::MakeFolder { path, mode } => {
                at(view, &path, |asked| change::make_folder(view, asked, mode)).map(done)
            }
            Self::Delete { path, recursive } => {
                at(view, &path, |asked| delete::delete(view, asked, recursive)).map(done)
            }
            Self::Rename { source, destination } => {
                let (from, to) = (parse(view, &source)?, parse(view, &destination)?);
                change::rename(view, &from, &to).map(done)
            }
            Self::Find { path, text } => {
                at(view, &path, |asked| find::find(view, asked, &text)).map(Answer::Matches)
            }
            Self::Search { path, pattern } => {
                let glob = Glob::parse(&pattern).ok_or_else(bad_pattern)?;
                at(view, &path, |asked| list::search(view, asked, &glob)).map(Answer::Paths)
            }
            Self::Replace { files, from, to } => {
                let each = files.into_iter().map(|file| {
                    let done = at(view, &file, |asked| replace::replace(view, asked, &from, &to));
                    (file, done.err().map(|refusal| refusal.message))
                });
                Ok(Answer::Replaced(each.collect()))
            }
            Self::Change { path, change } => {
                at(view, &path, |asked| change::set_permissions(view, asked, &change)).map(done)
            }
            Self::Open { path } => {
                let (size, content) = at(view, &path, |asked| read::open(view, asked))?;
                Ok(Answer::Opened(size, content))
            }
            Self::Put { path, content } => {
                let upload = at(view, &path, |asked| Upload::start(view, &asked.full, true))?;
                upload.append(&[content], &path)?;
                upload.finish(view, &path).map(done)
            }
            Self::Start { path } => {
                at(view, &path, |asked| Upload::start(view, &asked.full, false))
                    .map(|upload| Answer::Started(Box::new(upload)))
            }
        }
    }

    /// Refuses what is out of bounds, whatever the files are.
    fn check(&self) -> Result<(), Refusal> {
        let message = match self {
            Self::List { depth: 0, .. } => "depth is 0; expected at least 1".to_owned(),
            Self::Find { text, .. } if text.is_empty() || text.len() > find::TEXT => {
                format!("the text to find must have 1 to {} bytes", find::TEXT)
            }
            Self::Replace { from, .. } if from.is_empty() => {
                "the text to replace is empty".to_owned()
            }
            Self::Replace { files, .. } if files.len() > REPLACED => {
                format!("more than {REPLACED} files in one call")
            }
            _ => return Ok(()),
        };
        Err(Refusal::invalid(message))
    }
}

fn bad_pattern() -> Refusal {
    Refusal::invalid(format!("the pattern must have 1 to {} bytes", glob::MOST))
}

fn parse(view: &View<'_>, path: &str) -> Result<Asked, Refusal> {
    Asked::parse(path, view.root.workdir()).map_err(|fault| fault.at(path))
}

/// Does `act` on one path; its failure names the path as asked for.
fn at<T>(
    view: &View<'_>,
    path: &str,
    act: impl FnOnce(&Asked) -> Result<T, Fault>,
) -> Result<T, Refusal> {
    act(&parse(view, path)?).map_err(|fault| fault.at(path))
}
