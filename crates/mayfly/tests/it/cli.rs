//! The command line, through the built program and real sandboxes.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, Stdio};

use serde_json::Value;

use crate::house::{House, alive, signal, wait_until};

/// A foreground server; killed when dropped.
pub(super) struct Foreground {
    child: Child,
    pub(super) url: String,
}

impl Foreground {
    pub(super) fn start(house: &House, arguments: &[&str]) -> Self {
        let arguments = [&["serve", "--listen", "127.0.0.1:0"], arguments].concat();
        let log = std::fs::File::create(house.file("server.err")).unwrap();
        let mut child =
            house.command(&arguments).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let url = lines
            .map_while(Result::ok)
            .find_map(|line| line.strip_prefix("mayfly listens on ").map(str::to_owned));
        Self { child, url: url.expect("the server says where it listens") }
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        signal(i32::try_from(self.child.id()).unwrap(), "TERM");
        self.child.wait().unwrap();
    }
}

#[test]
fn run_gives_the_output_and_the_exit_code_and_leaves_nothing() {
    let house = House::new();
    assert_eq!(house.ok(&["run", "--", "echo", "a b", "$HOME"]), "a b $HOME\n");
    let output = house.run(&["run", "-e", "X=1", "--", "sh", "-c", "echo $X; exit 7"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(7), &b"1\n"[..]));
    let answer = house.run(&["run", "--json", "--", "sh", "-c", "printf x; exit 3"]);
    let value: Value = serde_json::from_slice(&answer.stdout).unwrap();
    assert_eq!(value, serde_json::json!({ "exitCode": 3, "output": "x" }));
    let (code, errors) = house.fails(&["run", "--snapshot", "nope", "--", "true"]);
    assert_eq!(code, 125, "{errors}");
    assert!(errors.starts_with("error: ") && errors.contains("nope"), "{errors}");
    assert_eq!(house.names(), [""; 0]);
    house.ok(&["run", "--keep", "--", "true"]);
    assert_eq!(house.names().len(), 1);
}

#[test]
fn the_operator_makes_organizations_limits_them_and_reads_who_did_what() {
    let house = House::with(&[
        ("MAYFLY_TENANTS_ORGANIZATIONS", "first"),
        ("MAYFLY_TENANTS_SANDBOXES", "2"),
    ]);
    house.ok(&["org", "create", "acme", "--sandboxes", "1"]);
    let all = house.ok(&["org", "list"]);
    assert!(["default", "first", "acme"].iter().all(|name| all.contains(name)), "{all}");
    let (code, errors) = house.fails(&["org", "create", "acme"]);
    assert!(code == 4 && errors.contains("acme"), "{code} {errors}");
    house.ok(&["--org", "acme", "sandbox", "create", "--name", "box"]);
    assert_eq!(house.names(), [""; 0], "the default organization sees none of it");
    let (_, errors) = house.fails(&["--org", "acme", "sandbox", "create", "--name", "more"]);
    assert!(errors.contains("limit of 1 sandboxes"), "{errors}");
    let limits = house.json(&["org", "limits", "acme", "--sandboxes", "default", "--cpu", "7"]);
    let shown = (&limits["effective"]["sandboxes"], &limits["limits"]["cpu"]);
    assert_eq!(shown, (&Value::from(2), &Value::from(7)));
    house.ok(&["--org", "acme", "sandbox", "create", "--name", "more"]);
    let key = house.ok(&["--org", "acme", "key", "create", "ci", "-p", "write:sandboxes"]);
    assert!(key.starts_with("mf_key_"));
    let (code, errors) = house.fails(&["org", "rm", "acme"]);
    assert!(code == 4 && errors.contains("sandboxes"), "{code} {errors}");
    house.ok(&["--org", "acme", "sandbox", "rm", "box", "more"]);
    let lines = house.json(&["--org", "acme", "audit"]);
    let lines = lines.as_array().unwrap().iter();
    let done: Vec<&str> = lines
        .filter(|line| line["statusCode"].as_u64() < Some(300))
        .map(|line| line["action"].as_str().unwrap())
        .collect();
    let expected = [
        "DELETE /api/sandbox/{sandbox}",
        "DELETE /api/sandbox/{sandbox}",
        "POST /api/api-keys",
        "POST /api/sandbox",
        "POST /api/sandbox",
    ];
    assert_eq!(done, expected);
    assert!(!house.ok(&["--org", "acme", "audit"]).contains(key.trim()));
    house.ok(&["org", "rm", "acme"]);
    let (code, _) = house.fails(&["--org", "acme", "sandbox", "list"]);
    assert_eq!(code, 3, "it is not found any more");
}

#[test]
fn an_interrupted_run_removes_its_sandbox() {
    let house = House::new();
    house.ok(&["sandbox", "list"]);
    let mut child = house.command(&["run", "--", "sleep", "1000"]).spawn().unwrap();
    wait_until(|| house.json(&["sandbox", "list"])[0]["state"] == "started");
    signal(i32::try_from(child.id()).unwrap(), "INT");
    assert_eq!(child.wait().unwrap().code(), Some(130));
    wait_until(|| house.names().is_empty());
}

#[test]
fn a_sandbox_lives_through_all_its_verbs() {
    let house = House::new();
    assert_eq!(house.ok(&["sandbox", "create", "--name", "box", "-l", "team=red"]), "box\n");
    let (code, errors) = house.fails(&["sandbox", "create", "--name", "box"]);
    assert_eq!(code, 4);
    assert!(errors.contains("box") && errors.contains("\nhint: "), "{errors}");
    assert!(house.ok(&["sandbox", "list", "-l", "team=red"]).contains("box"));
    assert!(!house.ok(&["sandbox", "list", "-l", "team=blue"]).contains("box"));
    assert_eq!(house.json(&["sandbox", "show", "box"])["state"], "started");

    let output =
        house.run(&["sandbox", "exec", "box", "--cwd", "/tmp", "--", "sh", "-c", "pwd; exit 5"]);
    assert_eq!((output.status.code(), output.stdout.as_slice()), (Some(5), &b"/tmp\n"[..]));
    let logs = house.json(&["sandbox", "logs", "box"]);
    assert_eq!(logs[0]["exitCode"], 5);
    assert_eq!(house.ok(&["sandbox", "logs", "box", "1"]), "/tmp\n");
    assert_eq!(house.ok(&["sandbox", "logs", "box", "1", "--follow"]), "/tmp\n");
    assert_eq!(house.fails(&["sandbox", "logs", "box", "77"]).0, 3);

    assert_eq!(house.ok(&["sandbox", "stop", "box"]), "box stopped\n");
    let (code, errors) = house.fails(&["sandbox", "exec", "box", "--", "true"]);
    assert_eq!(code, 125);
    assert!(errors.contains("stopped"), "{errors}");
    assert_eq!(house.ok(&["sandbox", "start", "box"]), "box started\n");
    let (code, errors) = house.fails(&["sandbox", "rm", "nope", "box"]);
    assert_eq!(code, 3, "the first failure counts");
    assert!(errors.contains("nope"));
    assert_eq!(house.names(), [""; 0], "the other one is removed all the same");
}

#[test]
fn a_script_runs_in_one_shell_and_ends_with_its_last_code() {
    let house = House::new();
    house.ok(&["sandbox", "create", "--name", "box"]);
    let shell = |input: &str| {
        let mut child = house
            .command(&["sandbox", "shell", "box"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    assert_eq!(shell("cd /usr\npwd\n\nx=3\ncd lib; false\n"), (Some(1), "/usr\n".to_owned()));
    assert_eq!(shell("for i in 1 2\ndo echo $i\ndone\n"), (Some(0), "1\n2\n".to_owned()));
    assert_eq!(
        shell("echo err >&2; echo out; exit 9\necho never\n"),
        (Some(9), "out\n".to_owned())
    );
}

#[test]
fn files_and_folders_go_in_and_come_out_as_they_were() {
    let house = House::new();
    house.ok(&["sandbox", "create", "--name", "box"]);
    let tree = house.file("tree");
    std::fs::create_dir_all(tree.join("a b/ü")).unwrap();
    let big: Vec<u8> = (0..700_000_u32).flat_map(u32::to_le_bytes).collect();
    std::fs::write(tree.join("a b/ü/big"), &big).unwrap();
    std::fs::write(tree.join("run.sh"), "#!/bin/sh\necho ran\n").unwrap();
    set_mode(&tree.join("run.sh"), 0o755);
    std::os::unix::fs::symlink("/etc/hostname", tree.join("link")).unwrap();

    let copied = house.json(&["sandbox", "cp", "tree", "box:/tmp"]);
    assert_eq!((&copied["files"], &copied["skipped"]), (&2.into(), &1.into()));
    assert_eq!(house.ok(&["sandbox", "exec", "box", "--", "/tmp/tree/run.sh"]), "ran\n");
    house.ok(&["sandbox", "exec", "box", "--", "ln", "-s", "/etc/shadow", "/tmp/tree/out"]);
    let copied = house.json(&["sandbox", "cp", "box:/tmp/tree", "back"]);
    assert_eq!((&copied["files"], &copied["skipped"]), (&2.into(), &1.into()));
    assert_eq!(std::fs::read(house.file("back/a b/ü/big")).unwrap(), big);
    assert_eq!(mode(&house.file("back/run.sh")), 0o755);
    assert!(!house.file("back/out").exists());

    house.ok(&["sandbox", "cp", "box:/tmp/tree/run.sh", "."]);
    assert!(house.file("run.sh").exists(), "into the folder, under its name");
    house.ok(&["sandbox", "cp", "run.sh", "box:made/on/the/way.sh"]);
    assert_eq!(house.ok(&["sandbox", "exec", "box", "--", "made/on/the/way.sh"]), "ran\n");
    assert_eq!(house.fails(&["sandbox", "cp", "box:/nope", "x"]).0, 3);
    assert_eq!(house.fails(&["sandbox", "cp", "nope", "box:/tmp"]).0, 3);
    assert_eq!(house.fails(&["sandbox", "cp", "a", "b"]).0, 5);
    let left: Vec<_> = std::fs::read_dir(house.folder.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.starts_with(".mayfly-"))
        .collect();
    assert_eq!(left, [""; 0]);
}

#[test]
fn commands_at_once_share_one_background_server_which_outlives_a_kill() {
    let house = House::new();
    let children: Vec<Child> = ["a", "b", "c"]
        .map(|name| {
            let mut command = house.command(&["sandbox", "create", "--name", name]);
            command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .into();
    for child in children {
        let output = child.wait_with_output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{errors}{}", house.log());
    }
    assert_eq!(house.names(), ["a", "b", "c"]);
    let first = house.server().unwrap();
    signal(first, "KILL");
    wait_until(|| !alive(first));
    assert_eq!(house.ok(&["sandbox", "exec", "a", "--", "echo", "still here"]), "still here\n");
    assert_ne!(house.server().unwrap(), first);
    assert_eq!(house.names(), ["a", "b", "c"]);
}

#[test]
fn serve_takes_a_background_server_over_and_is_itself_not_taken() {
    let house = House::new();
    house.ok(&["sandbox", "create", "--name", "box"]);
    let background = house.server().unwrap();
    let server = Foreground::start(&house, &[]);
    assert!(!alive(background));
    assert_eq!(house.names(), ["box"], "over the socket");
    let (code, errors) = house.fails(&["serve", "--listen", "127.0.0.1:0"]);
    assert_eq!(code, 4);
    assert!(errors.contains("data directory") && errors.contains("\nhint: "), "{errors}");

    let by_url = |key: Option<&str>| {
        let mut command = house.command(&["sandbox", "list"]);
        command.env("MAYFLY_URL", format!("{}/api", server.url));
        if let Some(key) = key {
            command.env("MAYFLY_API_KEY", key);
        }
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let value = house.ok(&["key", "create", "k", "-p", "write:sandboxes", "--expires", "1"]);
    let (code, list) = by_url(Some(value.trim()));
    assert_eq!(code, Some(0));
    assert!(list.contains("box"));
    assert_eq!(by_url(Some("mf_key_wrong")).0, Some(6));
    assert_eq!(by_url(None).0, Some(6));
    assert_eq!(house.fails(&["key", "create", "k"]).0, 4);
    assert!(house.ok(&["key", "list"]).contains("write:sandboxes"));
    house.ok(&["key", "rm", "k"]);
    assert_eq!(by_url(Some(value.trim())).0, Some(6), "a deleted key is refused");
}

#[test]
fn mistakes_are_told_with_their_codes_before_anything_is_started() {
    let house = House::new();
    let with = |name: &str, value: &str, arguments: &[&str]| {
        let output = house.command(arguments).env(name, value).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(house.fails(&["sandbox", "dance"]).0, 2);
    assert_eq!(house.fails(&["run"]).0, 2);
    let (code, errors) = with("MAYFLY_SEVER_LISTEN", "x", &["sandbox", "list"]);
    assert_eq!(code, 5);
    assert!(errors.contains("MAYFLY_SEVER_LISTEN") && errors.contains("\nhint: "), "{errors}");
    let (code, errors) = with("MAYFLY_URL", "http://127.0.0.1:1", &["sandbox", "list", "--json"]);
    assert_eq!(code, 8);
    let error: Value = serde_json::from_str(&errors).unwrap();
    assert_eq!(error["error"]["kind"], "Unavailable");
    assert!(error["error"]["hint"].is_string());
    assert_eq!(house.fails(&["sandbox", "list", "--url", "box:1"]).0, 5);
    assert_eq!(house.fails(&["--config", "/nowhere.toml", "sandbox", "list"]).0, 3);
    let (code, errors) = house.fails(&["serve", "--dev", "--listen", "0.0.0.0:0"]);
    assert_eq!(code, 5);
    assert!(errors.contains("0.0.0.0"), "{errors}");
    let printed = house.ok(&["serve", "--print-config"]);
    assert_eq!(printed, include_str!("../../config.default.toml"));
    std::fs::create_dir(house.data()).unwrap();
    std::fs::write(house.data().join("x"), "x").unwrap();
    set_mode(&house.data(), 0o755);
    let (code, errors) = house.fails(&["sandbox", "list"]);
    assert_eq!(code, 6);
    assert!(errors.contains("chmod 700"), "{errors}");
    assert!(house.server().is_none());
}

#[test]
fn doctor_needs_no_server() {
    let house = House::new();
    let output = house.run(&["doctor", "--json"]);
    let layers: Value = serde_json::from_slice(&output.stdout).unwrap();
    let layers = layers.as_array().unwrap();
    assert!(!layers.is_empty());
    let missing = layers.iter().any(|layer| layer["required"] == true && layer["state"] != "holds");
    assert_eq!(output.status.code(), Some(if missing { 8 } else { 0 }));
    assert!(house.server().is_none());
}

fn mode(path: &Path) -> u32 {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().unwrap().permissions().mode() & 0o777
}

fn set_mode(path: &Path, mode: u32) {
    use std::os::unix::fs::PermissionsExt;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn uninstall_ends_everything_and_leaves_nothing() {
    let house = House::new();
    house.ok(&["sandbox", "create", "--name", "runs"]);
    house.ok(&["sandbox", "create", "--name", "stopped"]);
    house.ok(&["sandbox", "stop", "stopped"]);
    house.ok(&["sandbox", "exec", "runs", "--", "sh", "-c", "sleep 1000 & echo on"]);
    let server = house.server().unwrap();

    let (code, errors) = house.fails(&["uninstall"]);
    assert_eq!(code, 5, "nobody is there to ask");
    assert!(errors.contains("--yes"), "{errors}");
    assert_eq!(house.names(), ["runs", "stopped"]);
    {
        let _server = Foreground::start(&house, &[]);
        let (code, errors) = house.fails(&["uninstall", "--yes"]);
        assert_eq!(code, 4, "a server in the foreground is somebody's");
        assert!(errors.contains("data directory") && errors.contains("\nhint: "), "{errors}");
    }
    assert_eq!(house.names(), ["runs", "stopped"], "by a background server");

    let removed = house.json(&["uninstall", "--yes"]);
    assert_eq!((&removed["sandboxes"], &removed["left"]), (&2.into(), &serde_json::json!([])));
    assert!(!alive(server));
    assert!(!house.data().exists());
    let name = house.data().display().to_string();
    let traces =
        ["/proc/self/mountinfo", "/proc/swaps"].map(|file| std::fs::read_to_string(file).unwrap());
    assert!(traces.iter().all(|trace| !trace.contains(&name)));
    assert_eq!(house.fails(&["uninstall", "--yes"]).0, 3, "there is nothing left to remove");
}

#[test]
fn volumes_are_shared_by_sandboxes_and_outlive_them() {
    let house = House::new();
    assert_eq!(house.ok(&["volume", "create", "data", "--size", "2"]), "data\n");
    let (code, errors) = house.fails(&["volume", "create", "data"]);
    assert!(code == 4 && errors.contains("data"), "{code} {errors}");
    assert_eq!(house.json(&["volume", "show", "data"])["size"], 2);
    house.ok(&["run", "--volume", "data/part:/mnt/x", "--", "sh", "-c", "echo text > /mnt/x/file"]);
    let read = ["--", "cat", "/data/part/file"];
    assert_eq!(house.ok(&[&["run", "-v", "data:/data"][..], &read].concat()), "text\n");
    let change = ["run", "-v", "data:/data:ro", "--", "sh", "-c", "echo x > /data/part/file"];
    assert!(!house.run(&change).status.success(), "read-only");
    house.ok(&["sandbox", "create", "--name", "box", "-v", "data:/data:ro"]);
    let (code, errors) = house.fails(&["volume", "rm", "data"]);
    assert!(code == 4 && errors.contains("box"), "{code} {errors}");
    let (code, errors) = house.fails(&["run", "-v", "none:/data", "--", "true"]);
    assert!(code == 125 && errors.contains("volume none not found"), "{code} {errors}");
    house.ok(&["sandbox", "rm", "box"]);
    assert!(house.ok(&["volume", "list"]).contains("ready"));
    assert_eq!(house.json(&["volume", "rm", "data"])["deleted"][0], "data");
    assert_eq!(house.json(&["volume", "list"]), serde_json::json!([]));
}

#[test]
fn a_backup_of_a_busy_server_restores_what_was_acknowledged() {
    let house = House::new();
    house.ok(&["volume", "create", "data", "--size", "1"]);
    for name in ["runs", "stopped"] {
        house.ok(&["sandbox", "create", "--name", name, "--volume", "data:/data"]);
        let write = format!(
            "echo of {name} > /root/note; ln -s note /root/link; rm -r /usr/share/doc; echo {name} > /data/{name}; sync"
        );
        house.ok(&["sandbox", "exec", name, "--", "sh", "-c", &write]);
    }
    house.ok(&["sandbox", "stop", "stopped"]);
    let key = house.ok(&["key", "create", "k", "-p", "write:sandboxes"]);
    // One that goes on writing while it is copied.
    let load = "(while :; do echo x >> /root/grows; cp /root/grows /root/copy; done) & echo on";
    house.ok(&["sandbox", "exec", "runs", "--", "sh", "-c", load]);

    let file = house.file("all.backup");
    let path = file.to_str().unwrap();
    let made = house.json(&["backup", path]);
    assert_eq!(made["bytes"], file.metadata().unwrap().len());
    assert_eq!(mode(&file), 0o600);
    assert_eq!(house.fails(&["backup", path]).0, 4, "nothing is overwritten");
    assert!(!house.file("all.backup.part").exists());

    let other = House::new();
    let (code, errors) = other.fails(&["restore", "/etc/hostname"]);
    assert_eq!(code, 5, "{errors}");
    let cut = other.file("cut");
    let bytes = std::fs::read(&file).unwrap();
    std::fs::write(&cut, &bytes[..bytes.len() / 2]).unwrap();
    let (code, errors) = other.fails(&["restore", cut.to_str().unwrap()]);
    assert!(code == 5 && errors.contains("cannot be restored"), "{errors}");
    let (_, errors) = other.fails(&["sandbox", "list"]);
    assert!(errors.contains("restore"), "a server does not start in between: {errors}");

    let restored = other.json(&["restore", path]);
    assert_eq!((&restored["sandboxes"], &restored["volumes"]), (&2.into(), &1.into()));
    assert_eq!(other.fails(&["restore", path]).0, 4, "what is there is not overwritten");
    assert_eq!(other.names(), ["runs", "stopped"]);
    for name in ["runs", "stopped"] {
        other.ok(&["sandbox", "start", name]);
        let read = "cat /root/link; test -e /usr/share/doc || echo gone; cat /data/*";
        let out = other.ok(&["sandbox", "exec", name, "--", "sh", "-c", read]);
        assert_eq!(out, format!("of {name}\ngone\nruns\nstopped\n"));
    }
    let server = Foreground::start(&other, &[]);
    assert!(other.ok(&["key", "list"]).contains("write:sandboxes"));
    let mut command = other.command(&["sandbox", "list"]);
    command.env("MAYFLY_URL", format!("{}/api", server.url)).env("MAYFLY_API_KEY", key.trim());
    assert!(command.output().unwrap().status.success(), "keys are still good");
}
