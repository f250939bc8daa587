//! `/toolbox/{id}/git`: git in the sandbox. Bodies are `snake_case` here, except that of the status.

use axum::Json as Reply;
use axum::extract::State;
use axum::http::StatusCode;
use mayfly_engine::git::{
    AddRemote, Credentials, Git, Login, NewClone, NewCommit, Reset, ResetMode, Restore, Scope,
};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::app::App;
use super::fault::Answer;
use super::git_wire::{
    AddBody, BranchBody, BranchesAnswer, CheckoutBody, CloneBody, CommitAnswer, CommitBody,
    CommitInfo, ConfigAnswer, ConfigBody, CredentialsBody, ExchangeBody, InitBody, RemoteBody,
    RemotesAnswer, ResetBody, RestoreBody, StatusAnswer, UserBody, filled,
};
use super::input::{Json, Params};
use super::toolbox::Toolbox;

/// The sandbox's git; one run of it takes at most as long as any command may.
fn git<'a>(app: &App, toolbox: &'a Toolbox) -> Git<'a> {
    toolbox.0.git(app.options.execute_timeout)
}

/// Makes an empty repository; one that is there stays as it is.
#[utoipa::path(post, path = "/toolbox/{sandbox}/git/init", tag = "git", request_body = InitBody,
    params(("sandbox" = String, Path)),
    responses((status = 201, description = "It is there")))]
async fn init(
    State(app): State<App>,
    toolbox: Toolbox,
    Json(body): Json<InitBody>,
) -> Answer<StatusCode> {
    let branch = filled(body.initial_branch);
    git(&app, &toolbox).init(&body.path, body.bare.unwrap_or_default(), branch.as_deref()).await?;
    Ok(StatusCode::CREATED)
}

/// Clones a repository; credentials are used for this call only.
#[utoipa::path(post, path = "/toolbox/{sandbox}/git/clone", tag = "git", request_body = CloneBody,
    params(("sandbox" = String, Path)),
    responses((status = 200, description = "It is there"), (status = 401, description = "GIT_AUTH_FAILED"),
        (status = 404, description = "GIT_REPO_NOT_FOUND, GIT_BRANCH_NOT_FOUND"),
        (status = 502, description = "GIT_TRANSPORT_FAILED")))]
async fn clone(
    State(app): State<App>,
    toolbox: Toolbox,
    Json(body): Json<CloneBody>,
) -> Answer<()> {
    let clone = NewClone {
        url: body.url,
        path: body.path,
        branch: filled(body.branch),
        commit: filled(body.commit_id),
        login: Login::given(body.username, body.password)?,
        // Some clients send 0 for a number that was not given.
        depth: body.depth.filter(|depth| *depth != 0),
        insecure_skip_tls: body.insecure_skip_tls.unwrap_or_default(),
    };
    Ok(git(&app, &toolbox).clone(clone).await?)
}

/// Stages files; `.` is everything.
#[utoipa::path(post, path = "/toolbox/{sandbox}/git/add", tag = "git", request_body = AddBody,
    params(("sandbox" = String, Path)),
    responses((status = 200, description = "They are staged"), (status = 404, description = "GIT_REPO_NOT_FOUND")))]
async fn add(State(app): State<App>, toolbox: Toolbox, Json(body): Json<AddBody>) -> Answer<()> {
    Ok(git(&app, &toolbox).add(&body.path, &body.files).await?)
}

/// Commits what is staged.
#[utoipa::path(post, path = "/toolbox/{sandbox}/git/commit", tag = "git", request_body = CommitBody,
    params(("sandbox" = String, Path)),
    responses((status = 200, body = CommitAnswer), (status = 404, description = "GIT_REPO_NOT_FOUND"),
        (status = 409, description = "Nothing is staged; GIT_MERGE_CONFLICT")))]
async fn commit(
    State(app): State<App>,
    toolbox: Toolbox,
    Json(body): Json<CommitBody>,
) -> Answer<Reply<CommitAnswer>> {
    let commit = NewCommit {
        message: body.message,
        author: body.author,
        email: body.email,
        allow_empty: body.allow_empty.unwrap_or_default(),
    };
    let hash = git(&app, &toolbox).commit(&body.path, &commit).await?;
    Ok(Reply(CommitAnswer { hash }))
}

/// Pushes a branch; credentials are used for this call only.
#[utoipa::path(post, path = "/toolbox/{sandbox}/git/push", tag = "git", request_body = ExchangeBody,
    params(("sandbox" = String, Path)),
    responses((status = 200, description = "The remote has it"), (status = 401, description = "GIT_AUTH_FAILED"),
        (status = 409, description = "GIT_PUSH_REJECTED"), (status = 422, description = "GIT_REMOTE_REJECTED"),
        (status = 502, description = "GIT_TRANSPORT_FAILED")))]
async fn push(
    State(app): State<App>,
    toolbox: Toolbox,
    Json(body): Json<ExchangeBody>,
) -> Answer<()> {
    let (path, exchange) = body.into_parts()?;
    Ok(git(&app, &toolbox).push(&path, exchange).await?)
}

/// Pulls a branch into the one that is checked out; credentials are used for this call only.
#[utoipa::path(post, path = "/toolbox/{sandbox}/git/pull", tag = "git", request_body = ExchangeBody,
    params(("sandbox" = String, Path)),
    responses((status = 200, description = "It is there"), (status = 401, description = "GIT_AUTH_FAILED"),
        (status = 409, description = "GIT_MERGE_CONFLICT, GIT_DIRTY_WORKTREE"),
        (status = 502, description = "GIT_TRANSPORT_FAILED")))]
async fn pull(
    State(app): State<App>,
    toolbox: Toolbox,
    Json(body): Json<ExchangeBody>,
) -> Answer<()> {
    let (path, exchange) = body.into_parts()?;
    Ok(git(&app, &toolbox).pull(&path, exchange).await?)
}

/// Checks out a branch, a tag or a commit.
#[utoipa::path(post, path = "/toolbox/{sandbox}/git/checkout", tag = "git", request_body = CheckoutBody,
    params(("sandbox" = String, Path)),
    responses((status = 200, description = "It is checked out"), (status = 404, description = "GIT_BRANCH_NOT_FOUND"),
        (status = 409, description = "GIT_DIRTY_WORKTREE")))]
async fn checkout(
    State(app): State<App>,
    toolbox: Toolbox,
    Json(body): Json<CheckoutBody>,
) -> Answer<()> {
    Ok(git(&app, &toolbox).checkout(&body.path, &body.branch).await?)
}

/// Sets the branch, or the index of some files, to a commit.
#[utoipa::path(post, path = "/toolbox/{sandbox}/git/reset", tag = "git", request_body = ResetBody,
    params(("sandbox" = String, Path)),
    responses((status = 200, description = "It is set"), (status = 404, description = "GIT_BRANCH_NOT_FOUND")))]
async fn reset(
    State(app): State<App>,
    toolbox: Toolbox,
    Json(body): Json<ResetBody>,
) -> Answer<()> {
    let mode = filled(body.mode).map(|word| ResetMode::parse(&word)).transpose()?;
    let reset = Reset {
        mode: mode.unwrap_or_default(),
        target: filled(body.target),
        files: body.files.unwrap_or_default(),
    };
    Ok(git(&app, &toolbox).reset(&body.path, &reset).await?)
}

/// Brings files back from the index or a commit.
#[utoipa::path(post, path = "/toolbox/{sandbox}/git/restore", tag = "git", request_body = RestoreBody,
    params(("sandbox" = String, Path)),
    responses((status = 200, description = "They are back"), (status = 404, description = "GIT_BRANCH_NOT_FOUND")))]
async fn restore(
    State(app): State<App>,
    toolbox: Toolbox,
    Json(body): Json<RestoreBody>,
) -> Answer<()> {
    let staged = body.staged.unwrap_or_default();
    let restore = Restore {
        files: body.files,
        staged,
        worktree: body.worktree.unwrap_or(!staged),
        source: filled(body.source),
    };
    Ok(git(&app, &toolbox).restore(&body.path, &restore).await?)
}

/// The repository's own branches.
#[utoipa::path(get, path = "/toolbox/{sandbox}/git/branches", tag = "git",
    params(("sandbox" = String, Path), ("path" = String, Query)),
    responses((status = 200, body = BranchesAnswer), (status = 404, description = "GIT_REPO_NOT_FOUND")))]
async fn branches(
    State(app): State<App>,
    toolbox: Toolbox,
    params: Params,
) -> Answer<Reply<BranchesAnswer>> {
    let found = git(&app, &toolbox).branches(params.require("path")?).await?;
    Ok(Reply(BranchesAnswer { branches: found.names, current: found.current }))
}

/// Makes a branch from what is checked out.
#[utoipa::path(post, path = "/toolbox/{sandbox}/git/branches", tag = "git", request_body = BranchBody,
    params(("sandbox" = String, Path)),
    responses((status = 201, description = "It is there"), (status = 409, description = "GIT_BRANCH_EXISTS")))]
async fn create_branch(
    State(app): State<App>,
    toolbox: Toolbox,
    Json(body): Json<BranchBody>,
) -> Answer<StatusCode> {
    git(&app, &toolbox).create_branch(&body.path, &body.name).await?;
    Ok(StatusCode::CREATED)
}

/// Deletes a branch, merged or not.
#[utoipa::path(delete, path = "/toolbox/{sandbox}/git/branches", tag = "git", request_body = BranchBody,
    params(("sandbox" = String, Path)),
    responses((status = 204, description = "It is gone"), (status = 404, description = "GIT_BRANCH_NOT_FOUND")))]
async fn delete_branch(
    State(app): State<App>,
    toolbox: Toolbox,
    Json(body): Json<BranchBody>,
) -> Answer<StatusCode> {
    git(&app, &toolbox).delete_branch(&body.path, &body.name).await?;
    Ok(StatusCode::NO_CONTENT)
}

/// The remotes that the repository knows.
#[utoipa::path(get, path = "/toolbox/{sandbox}/git/remotes", tag = "git",
    params(("sandbox" = String, Path), ("path" = String, Query)),
    responses((status = 200, body = RemotesAnswer), (status = 404, description = "GIT_REPO_NOT_FOUND")))]
async fn remotes(
    State(app): State<App>,
    toolbox: Toolbox,
    params: Params,
) -> Answer<Reply<RemotesAnswer>> {
    let remotes = git(&app, &toolbox).remotes(params.require("path")?).await?;
    Ok(Reply(RemotesAnswer::new(remotes)))
}

/// Adds a remote.
#[utoipa::path(post, path = "/toolbox/{sandbox}/git/remotes", tag = "git", request_body = RemoteBody,
    params(("sandbox" = String, Path)),
    responses((status = 201, description = "It is there"), (status = 409, description = "The name is taken")))]
async fn add_remote(
    State(app): State<App>,
    toolbox: Toolbox,
    Json(body): Json<RemoteBody>,
) -> Answer<StatusCode> {
    let remote = AddRemote {
        name: body.name,
        url: body.url,
        fetch: body.fetch.unwrap_or_default(),
        overwrite: body.overwrite.unwrap_or_default(),
    };
    git(&app, &toolbox).add_remote(&body.path, &remote).await?;
    Ok(StatusCode::CREATED)
}

/// What differs between the last commit, the index and the files.
#[utoipa::path(get, path = "/toolbox/{sandbox}/git/status", tag = "git",
    params(("sandbox" = String, Path), ("path" = String, Query)),
    responses((status = 200, body = StatusAnswer), (status = 404, description = "GIT_REPO_NOT_FOUND")))]
async fn status(
    State(app): State<App>,
    toolbox: Toolbox,
    params: Params,
) -> Answer<Reply<StatusAnswer>> {
    let status = git(&app, &toolbox).status(params.require("path")?).await?;
    Ok(Reply(StatusAnswer::new(status)))
}

/// Commits behind what is checked out, newest first, 10,000 at most.
#[utoipa::path(get, path = "/toolbox/{sandbox}/git/history", tag = "git",
    params(("sandbox" = String, Path), ("path" = String, Query)),
    responses((status = 200, body = Vec<CommitInfo>), (status = 404, description = "GIT_REPO_NOT_FOUND")))]
async fn history(
    State(app): State<App>,
    toolbox: Toolbox,
    params: Params,
) -> Answer<Reply<Vec<CommitInfo>>> {
    let commits = git(&app, &toolbox).history(params.require("path")?).await?;
    Ok(Reply(commits.into_iter().map(CommitInfo::new).collect()))
}

/// A setting's value in its scope.
#[utoipa::path(get, path = "/toolbox/{sandbox}/git/config", tag = "git",
    params(("sandbox" = String, Path), ("key" = String, Query), ("scope" = Option<String>, Query, description = "global (default), local or system"), ("path" = Option<String>, Query, description = "Needed when the scope is local")),
    responses((status = 200, body = ConfigAnswer)))]
async fn config(
    State(app): State<App>,
    toolbox: Toolbox,
    params: Params,
) -> Answer<Reply<ConfigAnswer>> {
    let scope = Scope::parse(params.get("scope"), params.get("path"))?;
    let value = git(&app, &toolbox).config(params.require("key")?, &scope).await?;
    Ok(Reply(ConfigAnswer { value }))
}

/// Makes a setting.
#[utoipa::path(post, path = "/toolbox/{sandbox}/git/config", tag = "git", request_body = ConfigBody,
    params(("sandbox" = String, Path)),
    responses((status = 200, description = "It is set")))]
async fn set_config(
    State(app): State<App>,
    toolbox: Toolbox,
    Json(body): Json<ConfigBody>,
) -> Answer<()> {
    let scope = Scope::parse(filled(body.scope).as_deref(), body.path.as_deref())?;
    Ok(git(&app, &toolbox).set_config(&body.key, &body.value, &scope).await?)
}

/// Says who makes commits.
#[utoipa::path(post, path = "/toolbox/{sandbox}/git/config/user", tag = "git", request_body = UserBody,
    params(("sandbox" = String, Path)),
    responses((status = 200, description = "It is set")))]
async fn set_user(
    State(app): State<App>,
    toolbox: Toolbox,
    Json(body): Json<UserBody>,
) -> Answer<()> {
    let scope = Scope::parse(filled(body.scope).as_deref(), body.path.as_deref())?;
    Ok(git(&app, &toolbox).set_user(&body.name, &body.email, &scope).await?)
}

/// Keeps credentials in git's own store in the sandbox, in a file that only its user reads.
#[utoipa::path(post, path = "/toolbox/{sandbox}/git/credentials", tag = "git", request_body = CredentialsBody,
    params(("sandbox" = String, Path)),
    responses((status = 200, description = "They are stored")))]
async fn store_credentials(
    State(app): State<App>,
    toolbox: Toolbox,
    Json(body): Json<CredentialsBody>,
) -> Answer<()> {
    let credentials = Credentials {
        username: body.username,
        password: body.password,
        host: filled(body.host).unwrap_or_else(|| "github.com".to_owned()),
        protocol: filled(body.protocol).unwrap_or_else(|| "https".to_owned()),
    };
    Ok(git(&app, &toolbox).store_credentials(&credentials).await?)
}

/// Routes of this noun.
pub(crate) fn router() -> OpenApiRouter<App> {
    OpenApiRouter::new()
        .routes(routes!(init))
        .routes(routes!(clone))
        .routes(routes!(add))
        .routes(routes!(commit))
        .routes(routes!(push))
        .routes(routes!(pull))
        .routes(routes!(checkout))
        .routes(routes!(reset))
        .routes(routes!(restore))
        .routes(routes!(branches, create_branch, delete_branch))
        .routes(routes!(remotes, add_remote))
        .routes(routes!(status))
        .routes(routes!(history))
        .routes(routes!(config, set_config))
        .routes(routes!(set_user))
        .routes(routes!(store_credentials))
}
