//! Pushing to and pulling from a remote.

use mayfly_core::{Error, Result};

use super::run::Call;
use super::secret::Login;
use super::{Git, names};

/// With which remote to exchange which branch.
#[derive(Clone, Debug, Default)]
pub struct Exchange {
    /// Its name; `None` = origin.
    pub remote: Option<String>,
    /// The branch. `None` pushes the one that is checked out, and pulls its upstream, or the one of its name.
    pub branch: Option<String>,
    /// For remotes of http and https; others never see it.
    pub login: Option<Login>,
    /// Push only: the branch follows the remote's from now on.
    pub set_upstream: bool,
}

impl Git<'_> {
    /// Pushes a branch under its own name. [`mayfly_core::Code::GitPushRejected`] when the remote has more.
    pub async fn push(&self, path: &str, sync: Exchange) -> Result<()> {
        let (remote, branch) = self.parties(path, &sync).await?;
        let login = self.login(path, sync.login, &["remote", "get-url", "--push", &remote]).await?;
        let reference = format!("refs/heads/{branch}:refs/heads/{branch}");
        let call = Call::new("push", &["push", "--porcelain"])
            .at(path)
            .far(login.as_ref())
            .and_if(sync.set_upstream, &["--set-upstream"])
            .and(&[&remote, &reference]);
        self.must(call).await.map(drop)
    }

    /// Pulls a branch into the one that is checked out; histories that parted are merged unless the sandbox's
    /// git is configured to do otherwise. [`mayfly_core::Code::GitMergeConflict`] leaves the merge under way.
    pub async fn pull(&self, path: &str, sync: Exchange) -> Result<()> {
        let (remote, current) = self.parties(path, &sync).await?;
        let branch = match &sync.branch {
            Some(_) => current,
            None => self.followed(path, &remote, &current).await?.unwrap_or(current),
        };
        let login = self.login(path, sync.login, &["remote", "get-url", &remote]).await?;
        let call = Call::new("pull", &["pull", "--quiet", "--no-edit"])
            .at(path)
            .far(login.as_ref())
            .and_if(!self.has_opinion(path).await?, &["--no-rebase"])
            .and(&[&remote, &format!("refs/heads/{branch}")]);
        self.must(call).await.map(drop)
    }

    /// The remote, and the branch that was asked for or is checked out.
    async fn parties(&self, path: &str, sync: &Exchange) -> Result<(String, String)> {
        names::path("path", path)?;
        let remote = sync.remote.clone().unwrap_or_else(|| "origin".to_owned());
        names::remote("remote", &remote)?;
        let branch = match &sync.branch {
            Some(branch) => branch.clone(),
            None => self.current_branch(path).await?.ok_or_else(|| {
                Error::conflict("no branch is checked out")
                    .with_hint("name the branch, or check one out")
            })?,
        };
        names::branch("branch", &branch)?;
        Ok((remote, branch))
    }

    /// What was given, for the host of the remote's URL as git sees it.
    async fn login(&self, path: &str, login: Option<Login>, ask: &[&str]) -> Result<Option<Login>> {
        let Some(login) = login else { return Ok(None) };
        let url = self.must(Call::new("remote", ask).at(path)).await?.text();
        Ok(login.bound(url.trim_end()))
    }

    /// The remote's branch that a branch follows.
    async fn followed(&self, path: &str, remote: &str, branch: &str) -> Result<Option<String>> {
        let reference = format!("refs/heads/{branch}");
        let format = "--format=%(upstream:remotename)%00%(upstream:remoteref)";
        let call = Call::new("pull", &["for-each-ref", format, &reference]).at(path);
        let text = self.must(call).await?.text();
        let upstream = text.trim_end_matches('\n').split_once('\0');
        let branch = upstream
            .filter(|(name, _)| *name == remote)
            .and_then(|(_, reference)| reference.strip_prefix("refs/heads/"));
        Ok(branch.filter(|branch| names::branch("upstream", branch).is_ok()).map(str::to_owned))
    }

    /// Whether the sandbox's git is configured for histories that parted.
    async fn has_opinion(&self, path: &str) -> Result<bool> {
        let ask = ["config", "--get-regexp", r"^pull\.(rebase|ff)$"];
        Ok(self.run(Call::new("pull", &ask).at(path)).await?.code == 0)
    }
}
