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

/// Runs a group through the TypeScript client; `module` is the form of its package, `esm` or `cjs`.
fn typescript(module: &str, group: &str) {
    let sdk = "node/node_modules/@daytonaio/sdk/package.json";
    if installed("node", sdk).is_none() {
        return;
    }
    let mut command = Command::new("node");
    command.arg(scenarios(&format!("typescript/{group}.mjs")));
    command.env("SDK_FOLDER", sdks().join("node")).env("SDK_MODULE", module);
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
fn installed(client: &str, file: &str) -> Option<PathBuf> {
    let path = sdks().join(file);
    if path.exists() {
        return Some(path);
    }
    println!("SKIP sdk-{client}: {} is missing; run cargo xtask setup", path.display());
    None
}

/// Where `cargo xtask setup` puts the clients: beside the profile's folder that holds the program.
fn sdks() -> PathBuf {
    let program = Path::new(env!("CARGO_BIN_EXE_mayfly"));
    let target = program.ancestors().nth(2).expect("the program lies in target/<profile>");
    target.join("sdk")
}

fn scenarios(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/sdk").join(file)
}

/// Names a test `<client>_<form>_<group>` for every group.
macro_rules! tests {
    ($($name:ident: $run:ident($($argument:literal),+);)+) => {
        $(#[test]
        fn $name() {
            $run($($argument),+);
        })+
    };
}

tests! {
    python_new_sync_events: python("python-new", "sync", "events");
    python_new_async_events: python("python-new", "async", "events");
    typescript_events: typescript("esm", "events");
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
    typescript_reach: typescript("esm", "reach");
    python_new_sync_volumes: python("python-new", "sync", "volumes");
    python_new_async_volumes: python("python-new", "async", "volumes");
    python_old_sync_volumes: python("python-old", "sync", "volumes");
    typescript_volumes: typescript("esm", "volumes");
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
    typescript_life: typescript("esm", "life");
    typescript_run: typescript("esm", "run");
    typescript_processes: typescript("esm", "processes");
    typescript_files: typescript("esm", "files");
    typescript_git: typescript("esm", "git");
    typescript_lsp: typescript("esm", "lsp");
    typescript_errors: typescript("esm", "errors");
    typescript_commonjs_life: typescript("cjs", "life");
}
