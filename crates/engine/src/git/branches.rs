//! Branches: which there are, making, deleting and checking out.

use mayfly_core::{Code, Error, Result};

use super::run::Call;
use super::{Git, names};

/// Branches of a repository.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Branches {
    /// Names of its own branches, sorted.
    pub names: Vec<String>,
    /// The one that is checked out, also when it has no commit yet.
    pub current: Option<String>,
}

impl Git<'_> {
    /// Its own branches.
    pub async fn branches(&self, path: &str) -> Result<Branches> {
        names::path("path", path)?;
        let list = ["for-each-ref", "--format=%(refname:lstrip=2)", "refs/heads"];
        let done = self.must(Call::new("branches", &list).at(path)).await?;
        let names = done.text().lines().map(str::to_owned).collect();
        Ok(Branches { names, current: self.current_branch(path).await? })
    }

    /// Makes a branch from what is checked out, without checking it out. [`Code::GitBranchExists`].
    pub async fn create_branch(&self, path: &str, name: &str) -> Result<()> {
        names::path("path", path)?;
        names::branch("name", name)?;
        let call = Call::new("branch", &["branch", "--no-track", name]).at(path);
        self.must(call).await.map(drop)
    }

    /// Deletes a branch, merged or not. [`Code::GitBranchNotFound`]; the one checked out is a conflict.
    pub async fn delete_branch(&self, path: &str, name: &str) -> Result<()> {
        names::path("path", path)?;
        names::branch("name", name)?;
        let call = Call::new("branch", &["branch", "--delete", "--force", name]).at(path);
        self.must(call).await.map(drop)
    }

    /// Checks out a branch, a remote's branch of that name as a new one, a tag or a commit.
    /// [`Code::GitBranchNotFound`], [`Code::GitDirtyWorktree`].
    pub async fn checkout(&self, path: &str, revision: &str) -> Result<()> {
        names::path("path", path)?;
        names::revision("branch", revision)?;
        let call = Call::new("checkout", &["checkout", "--quiet", revision, "--"]).at(path);
        self.must(call).await.map(drop)
    }

    /// The branch that is checked out, if one is.
    pub(super) async fn current_branch(&self, path: &str) -> Result<Option<String>> {
        let head = ["symbolic-ref", "--quiet", "--short", "HEAD"];
        let done = self.run(Call::new("branches", &head).at(path)).await?;
        if done.code == 1 {
            return Ok(None);
        }
        Ok(Some(done.ok()?.text().trim_end().to_owned()))
    }

    /// Fails with [`Code::GitBranchNotFound`] unless this names a commit.
    pub(super) async fn known(&self, path: &str, field: &str, revision: &str) -> Result<()> {
        names::revision(field, revision)?;
        let commit = format!("{revision}^{{commit}}");
        let verify = ["rev-parse", "--verify", "--quiet", &commit];
        let done = self.run(Call::new("rev-parse", &verify).at(path)).await?;
        if done.code == 1 {
            let message = format!("{field}: the repository has no commit `{revision}`");
            return Err(Error::not_found(message).with_code(Code::GitBranchNotFound));
        }
        done.ok().map(drop)
    }
}
