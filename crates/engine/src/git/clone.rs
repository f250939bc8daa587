//! New repositories: made empty, or cloned.

use mayfly_core::{Code, Error, Result};

use super::run::Call;
use super::secret::{self, Login};
use super::{Git, names};

/// What to clone.
#[derive(Clone, Debug, Default)]
pub struct NewClone {
    /// Where from. A password in it is used for this call and not stored.
    pub url: String,
    /// Where to; an existing folder must be empty.
    pub path: String,
    /// Branch or tag to check out; `None` = the remote's default.
    pub branch: Option<String>,
    /// Commit to check out instead, without a branch.
    pub commit: Option<String>,
    /// For remotes of http and https; others never see it.
    pub login: Option<Login>,
    /// Only this many commits of the history, at least 1; `None` = all.
    pub depth: Option<u32>,
    /// Takes any certificate of the remote, for this call only.
    pub insecure_skip_tls: bool,
}

impl Git<'_> {
    /// Makes an empty repository; one that is there stays as it is.
    pub async fn init(&self, path: &str, bare: bool, branch: Option<&str>) -> Result<()> {
        names::path("path", path)?;
        let mut call = Call::new("init", &["init", "--quiet"]).and_if(bare, &["--bare"]);
        if let Some(branch) = branch {
            names::branch("initial_branch", branch)?;
            call = call.and(&[&format!("--initial-branch={branch}")]);
        }
        self.must(call.and(&["--", path])).await.map(drop)
    }

    /// Clones a repository. A clone that fails leaves nothing behind.
    pub async fn clone(&self, clone: NewClone) -> Result<()> {
        names::path("path", &clone.path)?;
        names::url("url", &clone.url)?;
        let (url, found) = secret::strip(&clone.url)?;
        let login = match clone.login.clone() {
            Some(login) => login.bound(&url),
            None => found,
        };
        let mut call = Call::new("clone", &["clone", "--quiet"]).far(login.as_ref());
        if let Some(branch) = &clone.branch {
            names::branch("branch", branch)?;
            call = call.and(&["--branch", branch]);
        }
        if let Some(depth) = clone.depth {
            if depth == 0 {
                return Err(Error::invalid("depth: expected a whole number of at least 1"));
            }
            call = call.and(&[&format!("--depth={depth}")]);
        }
        if clone.insecure_skip_tls {
            call = call.with("http.sslVerify", "false");
        }
        let Some(commit) = &clone.commit else {
            return self.must(call.and(&["--", &url, &clone.path])).await.map(drop);
        };
        names::commit("commit_id", commit)?;
        let is_new = self.reach.files().info(self.reach.id(), &clone.path).await.is_err();
        self.must(call.and(&["--no-checkout", "--", &url, &clone.path])).await?;
        let out = self.checkout_commit(&clone, login.as_ref(), commit).await;
        if out.is_err() {
            // Without a checkout the repository is all there is in the folder.
            let git = format!("{}/.git", clone.path.trim_end_matches('/'));
            let path = if is_new { &clone.path } else { &git };
            self.reach.files().delete(self.reach.id(), path, true).await?;
        }
        out
    }

    /// Checks out a commit, and fetches it first when the clone does not reach it.
    async fn checkout_commit(
        &self,
        clone: &NewClone,
        login: Option<&Login>,
        commit: &str,
    ) -> Result<()> {
        let path = clone.path.as_str();
        let known = self.known(path, "commit_id", commit).await;
        if known.as_ref().is_err_and(|error| error.code() == Some(Code::GitBranchNotFound)) {
            let depth = format!("--depth={}", clone.depth.unwrap_or(1));
            let mut fetch = Call::new("clone", &["fetch", "--quiet"]).at(path).far(login);
            if clone.insecure_skip_tls {
                fetch = fetch.with("http.sslVerify", "false");
            }
            let fetch = fetch.and_if(clone.depth.is_some(), &[&depth]).and(&["origin", commit]);
            // Whatever the remote says to that: it has no such commit for us.
            if self.run(fetch).await?.code != 0 {
                return known;
            }
        } else {
            known?;
        }
        let call = Call::new("clone", &["checkout", "--quiet", "--detach", commit, "--"]).at(path);
        self.must(call).await.map(drop)
    }
}
