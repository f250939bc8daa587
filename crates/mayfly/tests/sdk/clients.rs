//! One test per client and group of scenarios; the scenarios are written in the client's own language.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::server::{KEY, Server};

/// Beginning of the password that the scenarios of git use.
const GIT_PASSWORD: &str = "s3cret";

/// Runs a group through both forms of a Python client: sync and async.
fn python(client: &str, form: &str, group: &str) {
    let Some(program) = installed(client, &format!("{client}/bin/python")) else { return };
    let mut command = Command::new(program);
    command.arg("-W").arg("ignore").arg(scenarios("python/kit.py")).arg(form).arg(group);
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONUTF8", "1");
    pass(&mut command);
}

/// Runs a group through a TypeScript client; `module` is the form of its package, `esm` or `cjs`.
fn typescript(client: &str, module: &str, group: &str) {
    let package = match client {
        "node" => "@daytonaio/sdk",
        _ => "@daytona/sdk",
    };
    if installed(client, &format!("{client}/node_modules/{package}/package.json")).is_none() {
        return;
    }
    let mut command = Command::new("node");
    command.arg(scenarios(&format!("typescript/{group}.mjs")));
    command.env("SDK_FOLDER", sdks().join(client)).env("SDK_PACKAGE", package);
    command.env("SDK_MODULE", module);
    pass(&mut command);
}

fn pass(command: &mut Command) {
    let server = Server::start();
    command.env("DAYTONA_API_URL", server.url()).env("DAYTONA_API_KEY", KEY);
    command.env("DAYTONA_TARGET", "us");
    let output = command.output().expect("the interpreter was found before");
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert!(
        output.status.success(),
        "{}\n{}\nserver:\n{}",
        said(&output.stdout),
        said(&output.stderr),
        server.log()
    );
    assert!(!server.log().contains(GIT_PASSWORD), "a password in the log:\n{}", server.log());
    server.stop();
}

/// The file below the clients' folder, or nothing after saying what is missing.
pub(super) fn installed(client: &str, file: &str) -> Option<PathBuf> {
    let path = sdks().join(file);
    if path.exists() {
        return Some(path);
    }
    println!("SKIP sdk-{client}: {} is missing; run cargo xtask setup", path.display());
    None
}

/// Where `cargo xtask setup` puts the clients: beside the profile's folder that holds the program.
pub(super) fn sdks() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_mayfly"));
    let target = program.ancestors().nth(2).expect("the program lies in target/<profile>");
    target.join("sdk")
}

fn scenarios(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk").join(file)
}

/// Names a test `<client>_<form>_<group>` for every group.
macro_rules! tests {
    ($($(#[$mark:meta])* $name:ident: $run:ident($($argument:literal),+);)+) => {
        $(#[test]
        $(#[$mark])*
        fn $name() {
            $run($($argument),+);
        })+
    };
}

/// Tests of further versions, which `cargo xtask soak` runs.
macro_rules! further {
    ($($name:ident: $run:ident($($argument:literal),+);)+) => {
        tests! { $(#[ignore = "a further version; cargo xtask soak runs it"] $name: $run($($argument),+);)+ }
    };
}

tests! {
    python_new_sync_events: python("python-new", "sync", "events");
    python_new_async_events: python("python-new", "async", "events");
    typescript_events: typescript("node", "esm", "events");
    python_new_sync_life: python("python-new", "sync", "life");
    python_new_sync_run: python("python-new", "sync", "run");
    python_new_sync_processes: python("python-new", "sync", "processes");
    python_new_async_processes: python("python-new", "async", "processes");
    python_new_sync_charts: python("python-new", "sync", "charts");
    python_new_sync_files: python("python-new", "sync", "files");
    python_new_sync_git: python("python-new", "sync", "git");
    python_new_sync_lsp: python("python-new", "sync", "lsp");
    python_new_sync_reach: python("python-new", "sync", "reach");
    python_new_async_reach: python("python-new", "async", "reach");
    python_old_sync_reach: python("python-old", "sync", "reach");
    python_marked_async_reach: python("python-marked", "async", "reach");
    python_oldest_sync_reach: python("python-oldest", "sync", "reach");
    python_oldest_sync_processes: python("python-oldest", "sync", "processes");
    python_oldest_async_processes: python("python-oldest", "async", "processes");
typescript_reach: typescript("node", "esm", "reach");
    python_new_sync_volumes: python("python-new", "sync", "volumes");
    python_new_async_volumes: python("python-new", "async", "volumes");
    python_old_sync_volumes: python("python-old", "sync", "volumes");
    typescript_volumes: typescript("node", "esm", "volumes");
    python_new_sync_errors: python("python-new", "sync", "errors");
    python_new_async_life: python("python-new", "async", "life");
    python_new_async_run: python("python-new", "async", "run");
    python_new_async_charts: python("python-new", "async", "charts");
    python_new_async_files: python("python-new", "async", "files");
    python_new_async_git: python("python-new", "async", "git");
    python_new_async_lsp: python("python-new", "async", "lsp");
    python_new_async_errors: python("python-new", "async", "errors");
    python_old_sync_life: python("python-old", "sync", "life");
    python_old_sync_run: python("python-old", "sync", "run");
    python_old_sync_processes: python("python-old", "sync", "processes");
    python_old_async_processes: python("python-old", "async", "processes");
    python_marked_sync_processes: python("python-marked", "sync", "processes");
    python_marked_async_processes: python("python-marked", "async", "processes");
    python_old_sync_charts: python("python-old", "sync", "charts");
    python_old_sync_files: python("python-old", "sync", "files");
    python_old_sync_git: python("python-old", "sync", "git");
    python_old_sync_lsp: python("python-old", "sync", "lsp");
    python_old_sync_errors: python("python-old", "sync", "errors");
    python_old_async_life: python("python-old", "async", "life");
    python_old_async_run: python("python-old", "async", "run");
    python_old_async_charts: python("python-old", "async", "charts");
    python_old_async_files: python("python-old", "async", "files");
    python_old_async_git: python("python-old", "async", "git");
    python_old_async_lsp: python("python-old", "async", "lsp");
    python_old_async_errors: python("python-old", "async", "errors");
    typescript_life: typescript("node", "esm", "life");
    typescript_run: typescript("node", "esm", "run");
    typescript_processes: typescript("node", "esm", "processes");
    typescript_files: typescript("node", "esm", "files");
    typescript_git: typescript("node", "esm", "git");
    typescript_lsp: typescript("node", "esm", "lsp");
    typescript_errors: typescript("node", "esm", "errors");
    typescript_commonjs_life: typescript("node", "cjs", "life");
    python_new_sync_whole: python("python-new", "sync", "whole");
    python_new_async_whole: python("python-new", "async", "whole");
    typescript_other_life: typescript("node-other", "esm", "life");
    typescript_other_run: typescript("node-other", "esm", "run");
}

further! {
    typescript_other_volumes: typescript("node-other", "esm", "volumes");
    python_oldest_sync_whole: python("python-oldest", "sync", "whole");
    python_oldest_sync_git: python("python-oldest", "sync", "git");
    python_oldest_async_whole: python("python-oldest", "async", "whole");
    python_oldest_async_reach: python("python-oldest", "async", "reach");
    python_oldest_async_git: python("python-oldest", "async", "git");
    python_marked_sync_whole: python("python-marked", "sync", "whole");
    python_marked_sync_reach: python("python-marked", "sync", "reach");
    python_marked_sync_git: python("python-marked", "sync", "git");
    python_marked_async_whole: python("python-marked", "async", "whole");
    python_marked_async_git: python("python-marked", "async", "git");
    python_split_sync_whole: python("python-split", "sync", "whole");
    python_split_sync_processes: python("python-split", "sync", "processes");
    python_split_sync_reach: python("python-split", "sync", "reach");
    python_split_sync_git: python("python-split", "sync", "git");
    python_split_async_whole: python("python-split", "async", "whole");
    python_split_async_processes: python("python-split", "async", "processes");
    python_split_async_reach: python("python-split", "async", "reach");
    python_split_async_git: python("python-split", "async", "git");
    python_old_sync_whole: python("python-old", "sync", "whole");
    python_old_async_whole: python("python-old", "async", "whole");
    python_old_async_reach: python("python-old", "async", "reach");
    typescript_other_processes: typescript("node-other", "esm", "processes");
    typescript_other_files: typescript("node-other", "esm", "files");
    typescript_other_git: typescript("node-other", "esm", "git");
    typescript_other_lsp: typescript("node-other", "esm", "lsp");
    typescript_other_errors: typescript("node-other", "esm", "errors");
    typescript_other_events: typescript("node-other", "esm", "events");
    typescript_other_reach: typescript("node-other", "esm", "reach");
    typescript_commonjs_run: typescript("node", "cjs", "run");
    typescript_commonjs_processes: typescript("node", "cjs", "processes");
    typescript_commonjs_files: typescript("node", "cjs", "files");
    typescript_commonjs_git: typescript("node", "cjs", "git");
    typescript_commonjs_errors: typescript("node", "cjs", "errors");
}
