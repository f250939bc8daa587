//! Bodies of the git calls, as the contract writes them.

use mayfly_engine::git::{Change, Commit, FileStatus, Login, Remote, Status};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::fault::Answer;
use super::time::rfc3339;

/// An empty repository to make.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = GitInitRequest)]
pub(crate) struct InitBody {
    pub(crate) path: String,
    /// Without files.
    pub(crate) bare: Option<bool>,
    pub(crate) initial_branch: Option<String>,
}

/// A repository to clone.
#[derive(Deserialize, ToSchema)]
#[schema(as = GitCloneRequest)]
pub(crate) struct CloneBody {
    pub(crate) url: String,
    pub(crate) path: String,
    pub(crate) branch: Option<String>,
    /// Checked out instead of a branch.
    pub(crate) commit_id: Option<String>,
    pub(crate) username: Option<String>,
    /// Used for this call and not stored.
    pub(crate) password: Option<String>,
    /// Only so many commits of the history.
    pub(crate) depth: Option<u32>,
    /// Takes any certificate, for this call.
    pub(crate) insecure_skip_tls: Option<bool>,
}

/// Files to stage.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = GitAddRequest)]
pub(crate) struct AddBody {
    pub(crate) path: String,
    /// Files and folders; `.` is everything.
    pub(crate) files: Vec<String>,
}

/// A commit to make.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = GitCommitRequest)]
pub(crate) struct CommitBody {
    pub(crate) path: String,
    pub(crate) message: String,
    /// Name of author and committer.
    pub(crate) author: String,
    pub(crate) email: String,
    pub(crate) allow_empty: Option<bool>,
}

/// The commit that was made.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GitCommitResponse)]
pub(crate) struct CommitAnswer {
    pub(crate) hash: String,
}

/// What to push or pull, and with whom.
#[derive(Deserialize, ToSchema)]
#[schema(as = GitExchangeRequest)]
pub(crate) struct ExchangeBody {
    pub(crate) path: String,
    /// Default: origin.
    pub(crate) remote: Option<String>,
    /// Default: the branch that is checked out.
    pub(crate) branch: Option<String>,
    pub(crate) username: Option<String>,
    /// Used for this call and not stored.
    pub(crate) password: Option<String>,
    /// Push only: the branch follows the remote's from now on.
    pub(crate) set_upstream: Option<bool>,
}

impl ExchangeBody {
    /// The path, and the rest as the engine takes it.
    pub(crate) fn into_parts(self) -> Answer<(String, mayfly_engine::git::Exchange)> {
        let exchange = mayfly_engine::git::Exchange {
            remote: filled(self.remote),
            branch: filled(self.branch),
            login: Login::given(self.username, self.password)?,
            set_upstream: self.set_upstream.unwrap_or_default(),
        };
        Ok((self.path, exchange))
    }
}

/// What to check out.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = GitCheckoutRequest)]
pub(crate) struct CheckoutBody {
    pub(crate) path: String,
    /// A branch, a tag or a commit.
    pub(crate) branch: String,
}

/// Where to set the branch.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = GitResetRequest)]
pub(crate) struct ResetBody {
    pub(crate) path: String,
    /// soft, mixed (default), hard, merge or keep.
    pub(crate) mode: Option<String>,
    /// Default: HEAD.
    pub(crate) target: Option<String>,
    /// Only the index of these.
    pub(crate) files: Option<Vec<String>>,
}

/// Files to bring back.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = GitRestoreRequest)]
pub(crate) struct RestoreBody {
    pub(crate) path: String,
    pub(crate) files: Vec<String>,
    pub(crate) staged: Option<bool>,
    /// Default: true when `staged` is not.
    pub(crate) worktree: Option<bool>,
    /// Default: the index, or HEAD for the index itself.
    pub(crate) source: Option<String>,
}

/// A branch.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = GitBranchRequest)]
pub(crate) struct BranchBody {
    pub(crate) path: String,
    pub(crate) name: String,
}

/// Branches of a repository.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ListBranchResponse)]
pub(crate) struct BranchesAnswer {
    pub(crate) branches: Vec<String>,
    /// Missing when none is checked out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
}

/// A remote to add.
#[derive(Deserialize, ToSchema)]
#[schema(as = GitAddRemoteRequest)]
pub(crate) struct RemoteBody {
    pub(crate) path: String,
    pub(crate) name: String,
    /// Must not carry a password.
    pub(crate) url: String,
    pub(crate) fetch: Option<bool>,
    pub(crate) overwrite: Option<bool>,
}

/// A remote.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GitRemote)]
pub(crate) struct RemoteInfo {
    name: String,
    url: String,
}

/// Remotes of a repository.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = ListRemotesResponse)]
pub(crate) struct RemotesAnswer {
    remotes: Vec<RemoteInfo>,
}

impl RemotesAnswer {
    pub(crate) fn new(remotes: Vec<Remote>) -> Self {
        let info = |remote: Remote| RemoteInfo { name: remote.name, url: remote.url };
        Self { remotes: remotes.into_iter().map(info).collect() }
    }
}

/// A file that differs.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = FileStatus)]
pub(crate) struct FileBody {
    name: String,
    /// Earlier name of a renamed or copied file.
    extra: String,
    /// Index against the last commit.
    staging: &'static str,
    /// File against the index.
    worktree: &'static str,
}

impl FileBody {
    fn new(file: FileStatus) -> Self {
        let (staging, worktree) = (word(file.staging), word(file.worktree));
        Self { name: file.name, extra: file.extra, staging, worktree }
    }
}

fn word(change: Change) -> &'static str {
    match change {
        Change::Unmodified => "Unmodified",
        Change::Untracked => "Untracked",
        Change::Modified => "Modified",
        Change::Added => "Added",
        Change::Deleted => "Deleted",
        Change::Renamed => "Renamed",
        Change::Copied => "Copied",
        Change::Unmerged => "Updated but unmerged",
    }
}

/// State of a repository.
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = GitStatus)]
pub(crate) struct StatusAnswer {
    /// `HEAD` when no branch is checked out.
    current_branch: String,
    file_status: Vec<FileBody>,
    ahead: u64,
    behind: u64,
    branch_published: bool,
    detached: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    upstream: Option<String>,
}

impl StatusAnswer {
    pub(crate) fn new(status: Status) -> Self {
        Self {
            current_branch: status.branch,
            file_status: status.files.into_iter().map(FileBody::new).collect(),
            ahead: status.ahead,
            behind: status.behind,
            branch_published: status.is_published,
            detached: status.is_detached,
            upstream: status.upstream,
        }
    }
}

/// A commit of the history.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GitCommitInfo)]
pub(crate) struct CommitInfo {
    hash: String,
    author: String,
    email: String,
    message: String,
    timestamp: String,
}

impl CommitInfo {
    pub(crate) fn new(commit: Commit) -> Self {
        let Commit { hash, author, email, message, at } = commit;
        Self { hash, author, email, message, timestamp: rfc3339(at) }
    }
}

/// A setting.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = GitConfigResponse)]
pub(crate) struct ConfigAnswer {
    /// Null when it is not set.
    pub(crate) value: Option<String>,
}

/// A setting to make.
#[derive(Deserialize, ToSchema)]
#[schema(as = GitSetConfigRequest)]
pub(crate) struct ConfigBody {
    pub(crate) key: String,
    pub(crate) value: String,
    /// global (default), local or system.
    pub(crate) scope: Option<String>,
    /// The repository; needed when the scope is local.
    pub(crate) path: Option<String>,
}

/// Who makes commits.
#[derive(Debug, Deserialize, ToSchema)]
#[schema(as = GitConfigureUserRequest)]
pub(crate) struct UserBody {
    pub(crate) name: String,
    pub(crate) email: String,
    /// global (default), local or system.
    pub(crate) scope: Option<String>,
    /// The repository; needed when the scope is local.
    pub(crate) path: Option<String>,
}

/// Credentials to keep in the sandbox.
#[derive(Deserialize, ToSchema)]
#[schema(as = GitAuthenticateRequest)]
pub(crate) struct CredentialsBody {
    pub(crate) username: String,
    pub(crate) password: String,
    /// Default: github.com.
    pub(crate) host: Option<String>,
    /// https (default) or http.
    pub(crate) protocol: Option<String>,
}

/// An empty text counts as absent: clients send it for what was not given.
pub(crate) fn filled(text: Option<String>) -> Option<String> {
    text.filter(|text| !text.is_empty())
}
