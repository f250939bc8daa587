//! A newer server takes over the sandboxes of an older one.
//!
//! The older server is this program with an older process 1 of sandboxes in it: compiled from the same sources with its
//! protocol's number lowered, and written over the one that the program carries.

use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

use crate::house::{House, alive, network_processes, signal, wait_until};

#[test]
fn a_sandbox_of_the_version_before_is_adopted_and_serves_exec_and_files() {
    let house = House::new();
    let older = Older::make(&house, "1");
    older.ok(&house, &["sandbox", "create", "--name", "box"]);
    older.ok(&house, &["sandbox", "net", "box", "--block-all"]);
    let start = "echo kept > /note; nohup sleep 1000 > /dev/null 2>&1 & echo $! > /pid";
    older.ok(&house, &["sandbox", "exec", "box", "--", "sh", "-c", start]);
    let reach = ["sandbox", "exec", "box", "--", "sh", "-c", REACH];
    older.ok(&house, &reach);
    kill_server(&house);
    // One that does not understand is replaced as one that does not answer.
    let networks = network_processes(&house.data());
    assert!(!networks.is_empty());
    for pid in &networks {
        signal(*pid, "STOP");
    }

    let shown = house.json(&["sandbox", "show", "box"]);
    assert_eq!((&shown["state"], &shown["errorReason"]), (&"started".into(), &Value::Null));
    let look = "kill -0 $(cat /pid) && cat /note";
    assert_eq!(house.ok(&["sandbox", "exec", "box", "--", "sh", "-c", look]), "kept\n");
    let file = house.file("note");
    std::fs::write(&file, "from outside").unwrap();
    house.ok(&["sandbox", "cp", file.to_str().unwrap(), "box:/tmp/new"]);
    assert_eq!(house.ok(&["sandbox", "exec", "box", "--", "cat", "/tmp/new"]), "from outside");
    // Another network process is there, under the same policy.
    assert!(networks.iter().all(|pid| !alive(*pid)), "{}", house.log());
    assert!(house.log().contains("speaks another language"), "{}", house.log());
    house.ok(&reach);
    let audit = house.ok(&["sandbox", "net", "box"]);
    assert_eq!(audit.matches("denied").count(), 2, "before and after: {audit}");
    // What the version before does not have is refused with what to do, and is there after that.
    let (_, errors) = house.fails(&["sandbox", "shell", "box"]);
    assert!(errors.contains("earlier version") && errors.contains("start it again"), "{errors}");
    house.ok(&["sandbox", "stop", "box"]);
    house.ok(&["sandbox", "start", "box"]);
    assert_eq!(house.ok(&["sandbox", "exec", "box", "--", "cat", "/note"]), "kept\n");
    assert!(house.run(&["sandbox", "shell", "box"]).status.success());
}

#[test]
fn one_that_is_older_than_that_is_refused_and_its_record_says_what_to_do() {
    let house = House::new();
    let older = Older::make(&house, "2");
    older.ok(&house, &["sandbox", "create", "--name", "box"]);
    let file = house.file("note");
    std::fs::write(&file, "kept\n").unwrap();
    older.ok(&house, &["sandbox", "cp", file.to_str().unwrap(), "box:/note"]);
    kill_server(&house);

    let (code, errors) = house.fails(&["sandbox", "exec", "box", "--", "true"]);
    assert_eq!(code, 125);
    assert!(
        errors.contains("older server") && errors.contains("stop the sandbox and start it"),
        "{errors}"
    );
    let shown = house.json(&["sandbox", "show", "box"]);
    assert_eq!(shown["state"], "started", "its processes were left alone");
    let reason = shown["errorReason"].as_str().unwrap_or_default();
    assert!(
        reason.contains("version 0") && reason.contains("stop it and start it again"),
        "{shown}"
    );
    house.ok(&["sandbox", "stop", "box"]);
    house.ok(&["sandbox", "start", "box"]);
    assert_eq!(house.ok(&["sandbox", "exec", "box", "--", "cat", "/note"]), "kept\n");
    assert_eq!(house.json(&["sandbox", "show", "box"])["errorReason"], Value::Null);
}

/// Tries to reach an address that is nobody's; whether it was let through stands in the audit.
const REACH: &str = "timeout 5 bash -c '< /dev/tcp/192.0.2.1/80'; true";

fn kill_server(house: &House) {
    let server = house.server().unwrap();
    signal(server, "KILL");
    wait_until(|| !alive(server));
}

/// The program as it was some versions ago, as far as sandboxes notice.
struct Older(PathBuf);

impl Older {
    /// So many versions back.
    fn make(house: &House, back: &str) -> Self {
        let program = Path::new(env!("CARGO_BIN_EXE_mayfly"));
        let mut bytes = std::fs::read(program).unwrap();
        let older = format!("--cfg=mayfly_older=\"{back}\"");
        let folder = house.folder.path();
        let init = folder.join("init");
        compile(
            "init/src/main.rs",
            &["--crate-name=mayfly_init", "--crate-type=bin", "-Clto=fat", &older],
            &init,
        );
        replace(&mut bytes, "mayfly-init", &init);
        let path = folder.join("older");
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        Self(path)
    }

    fn ok(&self, house: &House, arguments: &[&str]) {
        let output = house.command_of(&self.0, arguments).output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}{}", house.log());
    }
}

/// As the build of the runtime does it.
fn compile(source: &str, flags: &[&str], to: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(source);
    let target = format!("{}-unknown-linux-gnu", std::env::consts::ARCH);
    let status = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()))
        .args(["--edition=2024", "-Copt-level=s", "-Cpanic=abort", "-Ccodegen-units=1"])
        .args(["-Crelocation-model=static", "-Ctarget-feature=+crt-static"])
        .args(["-Cstrip=symbols", "--cap-lints=allow", "--target", &target])
        .args(flags)
        .arg("-o")
        .arg(to)
        .arg(&source)
        .status()
        .unwrap();
    assert!(status.success(), "{} could not be compiled", source.display());
}

/// Writes a program over the one of this name that the bytes carry.
fn replace(bytes: &mut [u8], name: &str, by: &Path) {
    let builds = Path::new(env!("CARGO_BIN_EXE_mayfly")).parent().unwrap().join("build");
    let carried = std::fs::read_dir(builds).unwrap().flatten().find_map(|build| {
        let program = std::fs::read(build.path().join("out").join(name)).ok()?;
        Some((memchr::memmem::find(bytes, &program)?, program.len()))
    });
    let (start, length) = carried.expect("the program carries one that its build left");
    let new = std::fs::read(by).unwrap();
    assert!(new.len() <= length, "the older {name} is longer than the one in its place");
    bytes[start..start + length].fill(0);
    bytes[start..start + new.len()].copy_from_slice(&new);
}
