//! From files to commits and back: add, commit, reset, restore.

use mayfly_core::{Error, Result};

use super::run::Call;
use super::{Git, names};

/// Longest message of a commit, bytes.
const MAX_MESSAGE: usize = 1 << 20;

/// A commit to make of what is staged.
#[derive(Clone, Debug, Default)]
pub struct NewCommit {
    /// Its message.
    pub message: String,
    /// Name of author and committer.
    pub author: String,
    /// Their address.
    pub email: String,
    /// Makes one although nothing is staged.
    pub allow_empty: bool,
}

/// What a reset changes besides the branch.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ResetMode {
    /// Nothing.
    Soft,
    /// The index.
    #[default]
    Mixed,
    /// Index and files; what was not committed is lost.
    Hard,
    /// Index and files, but not what is not staged.
    Merge,
    /// Index and files, unless that loses local changes.
    Keep,
}

impl ResetMode {
    /// Reads its word: soft, mixed, hard, merge, keep.
    pub fn parse(word: &str) -> Result<Self> {
        Ok(match word {
            "soft" => Self::Soft,
            "mixed" => Self::Mixed,
            "hard" => Self::Hard,
            "merge" => Self::Merge,
            "keep" => Self::Keep,
            _ => return Err(Error::invalid("mode: expected soft, mixed, hard, merge or keep")),
        })
    }

    fn option(self) -> &'static str {
        match self {
            Self::Soft => "--soft",
            Self::Mixed => "--mixed",
            Self::Hard => "--hard",
            Self::Merge => "--merge",
            Self::Keep => "--keep",
        }
    }
}

/// Where to set the branch, or the index of some files.
#[derive(Clone, Debug, Default)]
pub struct Reset {
    /// What it changes; with files only [`ResetMode::Mixed`].
    pub mode: ResetMode,
    /// Commit; `None` = the last one.
    pub target: Option<String>,
    /// Only the index of these files; empty = the whole branch.
    pub files: Vec<String>,
}

/// Which files to bring back.
#[derive(Clone, Debug, Default)]
pub struct Restore {
    /// Paths within the repository.
    pub files: Vec<String>,
    /// In the index.
    pub staged: bool,
    /// In the working tree; the default when neither is asked for.
    pub worktree: bool,
    /// Commit to take them from; `None` = the index, or for the index the last commit.
    pub source: Option<String>,
}

impl Git<'_> {
    /// Stages files and folders, also deleted ones; `.` is everything.
    pub async fn add(&self, path: &str, files: &[String]) -> Result<()> {
        names::path("path", path)?;
        names::files(files)?;
        self.must(Call::new("add", &["add"]).at(path).paths(files)).await.map(drop)
    }

    /// Commits what is staged; the commit's hash. Nothing staged is a conflict, unless a merge is under way.
    pub async fn commit(&self, path: &str, commit: &NewCommit) -> Result<String> {
        names::path("path", path)?;
        names::person("author", &commit.author)?;
        names::person("email", &commit.email)?;
        let message = &commit.message;
        if message.trim().is_empty() || message.contains('\0') || message.len() > MAX_MESSAGE {
            return Err(Error::invalid(format!(
                "message: expected a text of at most {MAX_MESSAGE} bytes without NUL"
            )));
        }
        if !commit.allow_empty && !self.has_work(path).await? {
            return Err(Error::conflict("git commit: nothing is staged")
                .with_hint("add files first, or set allow_empty"));
        }
        let mut call = Call::new("commit", &["commit", "--quiet", "--file=-"])
            .at(path)
            .and_if(commit.allow_empty, &["--allow-empty"])
            .input(message.clone());
        for role in ["AUTHOR", "COMMITTER"] {
            call = call.env(&format!("GIT_{role}_NAME"), &commit.author);
            call = call.env(&format!("GIT_{role}_EMAIL"), &commit.email);
        }
        self.must(call).await?;
        let head = Call::new("commit", &["rev-parse", "--verify", "HEAD"]).at(path);
        Ok(self.must(head).await?.text().trim().to_owned())
    }

    /// Whether something is staged or a merge waits for its commit.
    async fn has_work(&self, path: &str) -> Result<bool> {
        let staged = ["diff", "--cached", "--quiet", "--ignore-submodules=none"];
        let done = self.run(Call::new("commit", &staged).at(path)).await?;
        if done.code == 1 {
            return Ok(true);
        }
        done.ok()?;
        let merge = ["rev-parse", "--verify", "--quiet", "MERGE_HEAD"];
        Ok(self.run(Call::new("commit", &merge).at(path)).await?.code == 0)
    }

    /// Sets the branch, or the index of some files, to a commit.
    pub async fn reset(&self, path: &str, reset: &Reset) -> Result<()> {
        names::path("path", path)?;
        let mut call = Call::new("reset", &["reset", "--quiet"]).at(path);
        let has_files = !reset.files.is_empty();
        if has_files {
            names::files(&reset.files)?;
            if reset.mode != ResetMode::Mixed {
                return Err(Error::invalid("mode: only mixed can be used together with files"));
            }
        } else {
            call = call.and(&[reset.mode.option()]);
        }
        if let Some(target) = &reset.target {
            self.known(path, "target", target).await?;
            call = call.and(&[target]);
        }
        let call = if has_files { call.paths(&reset.files) } else { call.and(&["--"]) };
        self.must(call).await.map(drop)
    }

    /// Brings files back from the index or a commit.
    pub async fn restore(&self, path: &str, restore: &Restore) -> Result<()> {
        names::path("path", path)?;
        names::files(&restore.files)?;
        let worktree = restore.worktree || !restore.staged;
        let mut call = Call::new("restore", &["restore", "--quiet"])
            .at(path)
            .and_if(restore.staged, &["--staged"])
            .and_if(worktree, &["--worktree"]);
        if let Some(source) = &restore.source {
            self.known(path, "source", source).await?;
            call = call.and(&[&format!("--source={source}")]);
        }
        self.must(call.paths(&restore.files)).await.map(drop)
    }
}
