//! What differs between the last commit, the index and the files.

use mayfly_core::{Error, Result};

use super::run::Call;
use super::{Git, names};

/// How one file differs, on one side.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Not at all.
    Unmodified,
    /// git does not know the file.
    Untracked,
    /// Other content, mode or type.
    Modified,
    /// New.
    Added,
    /// Gone.
    Deleted,
    /// Under another name.
    Renamed,
    /// New, with the content of another.
    Copied,
    /// Part of a conflict.
    Unmerged,
}

/// A file that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FileStatus {
    /// Path within the repository; bytes that are not UTF-8 are replaced.
    pub name: String,
    /// Earlier path of a renamed or copied file, else empty.
    pub extra: String,
    /// Index against the last commit.
    pub staging: Change,
    /// File against the index.
    pub worktree: Change,
}

/// State of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Status {
    /// The branch that is checked out; `HEAD` when none is.
    pub branch: String,
    /// Whether no branch is checked out.
    pub is_detached: bool,
    /// The branch that this one follows, such as `origin/main`.
    pub upstream: Option<String>,
    /// Whether a remote is known to have it.
    pub is_published: bool,
    /// Commits that the upstream lacks.
    pub ahead: u64,
    /// Commits of the upstream that it lacks.
    pub behind: u64,
    /// Every file that differs, in git's order.
    pub files: Vec<FileStatus>,
}

impl Git<'_> {
    /// State of the repository at a path.
    pub async fn status(&self, path: &str) -> Result<Status> {
        names::path("path", path)?;
        let arguments = [
            "status",
            "--porcelain=v2",
            "-z",
            "--branch",
            "--untracked-files=all",
            "--find-renames",
        ];
        let done = self.must(Call::new("status", &arguments).at(path)).await?;
        let fields: Vec<String> = done.fields().collect();
        let mut status = parse(&fields)?;
        if !status.is_published && !status.is_detached {
            // Pushed without becoming its upstream: then a remote's branch of that name is known.
            let pattern = format!("refs/remotes/*/{}", status.branch);
            let list = ["for-each-ref", "--count=1", "--format=%(refname)", &pattern];
            status.is_published =
                !self.must(Call::new("status", &list).at(path)).await?.output.is_empty();
        }
        Ok(status)
    }
}

/// Reads `git status --porcelain=v2 -z --branch`.
fn parse(fields: &[String]) -> Result<Status> {
    let mut status = Status::default();
    let mut rest = fields.iter();
    while let Some(field) = rest.next() {
        let (kind, text) = field.split_once(' ').ok_or_else(|| unknown(field))?;
        match kind {
            "#" => header(&mut status, text),
            "1" => status.files.push(entry(text, 7, "").ok_or_else(|| unknown(field))?),
            "2" => {
                let earlier = rest.next().ok_or_else(|| unknown(field))?;
                status.files.push(entry(text, 8, earlier).ok_or_else(|| unknown(field))?);
            }
            "u" => {
                let name = text.splitn(10, ' ').nth(9).ok_or_else(|| unknown(field))?;
                status.files.push(both(name, Change::Unmerged));
            }
            "?" => status.files.push(both(text, Change::Untracked)),
            _ => return Err(unknown(field)),
        }
    }
    Ok(status)
}

fn header(status: &mut Status, text: &str) {
    match text.split_once(' ') {
        Some(("branch.head", "(detached)")) => {
            "HEAD".clone_into(&mut status.branch);
            status.is_detached = true;
        }
        Some(("branch.head", name)) => name.clone_into(&mut status.branch),
        Some(("branch.upstream", name)) => status.upstream = Some(name.to_owned()),
        Some(("branch.ab", counts)) => {
            // Only there when the remote's branch is known.
            status.is_published = true;
            let mut counts = counts.split(' ').map(|count| count[1..].parse().unwrap_or_default());
            status.ahead = counts.next().unwrap_or_default();
            status.behind = counts.next().unwrap_or_default();
        }
        _ => {}
    }
}

/// `XY`, some fields of no interest, and the name, which may hold spaces.
fn entry(text: &str, skip: usize, extra: &str) -> Option<FileStatus> {
    let mut letters = text.bytes();
    let (staging, worktree) = (change(letters.next()?)?, change(letters.next()?)?);
    let name = text.splitn(skip + 1, ' ').nth(skip)?.to_owned();
    Some(FileStatus { name, extra: extra.to_owned(), staging, worktree })
}

fn both(name: &str, change: Change) -> FileStatus {
    FileStatus { name: name.to_owned(), extra: String::new(), staging: change, worktree: change }
}

fn change(letter: u8) -> Option<Change> {
    Some(match letter {
        b'.' => Change::Unmodified,
        b'M' | b'T' => Change::Modified,
        b'A' => Change::Added,
        b'D' => Change::Deleted,
        b'R' => Change::Renamed,
        b'C' => Change::Copied,
        b'U' => Change::Unmerged,
        _ => return None,
    })
}

fn unknown(field: &str) -> Error {
    let field: String = field.chars().take(64).filter(|c| !c.is_control()).collect();
    Error::invalid(format!("git status: the sandbox's git gave a line of no known form: `{field}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Status> {
        let fields: Vec<String> = text.split_terminator('\0').map(str::to_owned).collect();
        parse(&fields)
    }

    fn files(text: &str) -> Vec<(String, String, Change, Change)> {
        let files = read(text).unwrap().files.into_iter();
        files.map(|file| (file.name, file.extra, file.staging, file.worktree)).collect()
    }

    #[test]
    fn the_branch_and_its_upstream() {
        let status = read(
            "# branch.oid 1234\0# branch.head main\0# branch.upstream origin/main\0# branch.ab +2 -3\0",
        );
        let expected = Status {
            branch: "main".into(),
            upstream: Some("origin/main".into()),
            is_published: true,
            ahead: 2,
            behind: 3,
            ..Status::default()
        };
        assert_eq!(status.unwrap(), expected);
        let gone =
            read("# branch.oid (initial)\0# branch.head a b\0# branch.upstream o/x\0").unwrap();
        assert!(!gone.is_published && gone.branch == "a b" && gone.upstream.is_some());
        let detached = read("# branch.oid 12\0# branch.head (detached)\0").unwrap();
        assert!(detached.is_detached && detached.branch == "HEAD");
        assert_eq!(read("# branch.ab + -x\0").unwrap().ahead, 0);
    }

    #[test]
    fn names_of_every_kind_survive() {
        use Change::{Added, Copied, Deleted, Modified, Renamed, Unmerged, Unmodified, Untracked};
        let of = |name: &str, extra: &str, staging, worktree| {
            vec![(name.to_owned(), extra.to_owned(), staging, worktree)]
        };
        let plain = "N... 100644 100644 100644 aaaa bbbb";
        for (text, expected) in [
            (format!("1 .M {plain} a b  c\0"), of("a b  c", "", Unmodified, Modified)),
            (format!("1 MT {plain} \"quo\\te\"\0"), of("\"quo\\te\"", "", Modified, Modified)),
            (format!("1 AD {plain} ü\nnew\tline\0"), of("ü\nnew\tline", "", Added, Deleted)),
            (
                "1 .M S.M. 160000 160000 160000 a b sub/mod\0".to_owned(),
                of("sub/mod", "", Unmodified, Modified),
            ),
            (
                format!("2 R. {plain} R100 new name\0old -> name\0"),
                of("new name", "old -> name", Renamed, Unmodified),
            ),
            (format!("2 CM {plain} C75 b\0? a\0"), of("b", "? a", Copied, Modified)),
            (
                "u UU N... 1 2 3 4 a b c both changed\0".into(),
                of("both changed", "", Unmerged, Unmerged),
            ),
            ("u AA N... 1 2 3 4 a b c  x\0".into(), of(" x", "", Unmerged, Unmerged)),
            ("? # odd\0".into(), of("# odd", "", Untracked, Untracked)),
            ("? ".to_owned() + "-rf\0", of("-rf", "", Untracked, Untracked)),
        ] {
            assert_eq!(files(&text), expected, "{text:?}");
        }
    }

    #[test]
    fn lines_of_no_known_form_are_refused() {
        for text in [
            "x y\0",
            "nothing\0",
            "1 ZZ N... 1 2 3 4 5 a\0",
            "1 .M short\0",
            "2 R. N... 1 2 3 4 5 R1 a\0",
            "1 .\0",
        ] {
            assert!(read(text).is_err(), "{text:?}");
        }
    }
}
