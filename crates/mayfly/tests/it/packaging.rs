//! What `packaging/` holds, tried out.

use std::collections::HashMap;
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::house::House;

/// Longest wait for a word of the server.
const PATIENCE: Duration = Duration::from_mins(1);

#[test]
fn the_unit_is_one_that_systemd_takes() {
    let analyze = Path::new("/usr/bin/systemd-analyze");
    if !analyze.exists() {
        println!("SKIP packaging-unit: systemd-analyze is not installed");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // It checks that the program is there.
    let text = unit().replace("/usr/local/bin/mayfly", env!("CARGO_BIN_EXE_mayfly"));
    let copy = folder.path().join("mayfly.service");
    std::fs::write(&copy, text).unwrap();
    let output = Command::new(analyze).arg("--man=no").arg("verify").arg(&copy).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
    let about: Vec<&str> = said.lines().filter(|line| line.contains("mayfly.service")).collect();
    assert!(about.is_empty(), "{about:?}");
}

#[test]
fn the_unit_s_command_serves_with_its_paths_and_capabilities_and_says_when_it_is_ready() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIP packaging-start: the unit's server is root");
        return;
    }
    let house = House::new();
    let settings = settings();
    let data = "/var/lib/mayfly";
    assert_eq!(settings["StateDirectory"], ["mayfly"]);
    assert!(settings["Environment"].contains(&format!("MAYFLY_STORAGE_DATA_DIR={data}")));
    assert_eq!(settings["KillMode"], ["process"]);
    let word = UnixDatagram::bind(house.file("notify")).unwrap();
    word.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut server = start(&house, &settings);
    let heard = || {
        let mut bytes = [0; 64];
        let length = word.recv(&mut bytes).expect("the server says how far it is");
        String::from_utf8(bytes[..length].to_vec()).unwrap()
    };
    assert_eq!(heard(), "READY=1", "{}", log(&house));
    let inside = |arguments: &[&str]| {
        let mut command = Command::new("nsenter");
        command.args(["-t", &server.id().to_string(), "-m", "-n", "/usr/local/bin/mayfly"]);
        let output = command.args(arguments).env_clear().env("HOME", "/").output().unwrap();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{arguments:?}: {errors}{}", log(&house));
        String::from_utf8(output.stdout).unwrap()
    };
    inside(&["sandbox", "create", "--name", "box"]);
    let answer =
        inside(&["sandbox", "exec", "box", "--", "sh", "-c", "id -u; echo x > /x; cat /x"]);
    assert_eq!(answer, "0\nx\n");
    let shown = inside(&["df", "--json"]);
    assert!(shown.contains(data), "{shown}");
    inside(&["sandbox", "rm", "box"]);
    let pid = rustix::process::Pid::from_raw(i32::try_from(server.id()).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::TERM).unwrap();
    assert_eq!(heard(), "STOPPING=1");
    assert!(server.wait().unwrap().success(), "{}", log(&house));
    for line in log(&house).lines() {
        let parsed: Result<serde_json::Value, _> = serde_json::from_str(line);
        assert!(parsed.is_ok(), "the unit asks for a log in JSON: {line}");
    }
}

#[test]
fn the_image_s_start_is_a_command_of_the_program_with_settings_it_knows() {
    let text = std::fs::read_to_string(folder().join("Dockerfile")).unwrap();
    assert!(text.contains("ENTRYPOINT [\"/usr/local/bin/mayfly\"]\nCMD [\"serve\"]"));
    let house = House::new();
    let environment = text.lines().filter_map(|line| line.strip_prefix("ENV "));
    let variables =
        environment.flat_map(|line| line.split(' ')).map(|one| one.split_once('=').unwrap());
    let mut command = house.command(&["doctor", "--json"]);
    let output = command.envs(variables).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!errors.contains("MAYFLY_"), "an unknown name: {errors}");
}

/// Runs the unit's command in namespaces of mounts and network of its own, where its paths are empty, with its
/// environment and no capability more than it names.
fn start(house: &House, settings: &HashMap<String, Vec<String>>) -> Child {
    let here = |name: &str| {
        let path = house.file(name);
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
        path.display().to_string()
    };
    let (lib, lib_work, bin, bin_work) =
        (here("lib"), here("lib-work"), here("bin"), here("bin-work"));
    let state = here("state");
    std::fs::copy(env!("CARGO_BIN_EXE_mayfly"), format!("{bin}/mayfly")).unwrap();
    let overlay = |over: &str, upper: &str, work: &str| {
        format!("mount -t overlay none -o lowerdir={over},upperdir={upper},workdir={work} {over}")
    };
    let environment = settings["Environment"].join(" ");
    let capabilities: Vec<String> = settings["CapabilityBoundingSet"][0]
        .split(' ')
        .map(|name| format!("+{}", name.trim_start_matches("CAP_").to_lowercase()))
        .collect();
    let script = [
        "set -e".to_owned(),
        "ip link set lo up".to_owned(),
        overlay("/var/lib", &lib, &lib_work),
        overlay("/usr/local/bin", &bin, &bin_work),
        // An overlay takes no marks of deleted names, which layers have, so the state itself lies on a plain disk.
        format!(
            "mkdir -p /var/lib/mayfly; mount --bind {state} /var/lib/mayfly; chmod 700 /var/lib/mayfly"
        ),
        "mount -t tmpfs none /run".to_owned(),
        "mkdir -m 700 /run/mayfly".to_owned(),
        format!(
            "exec setpriv --bounding-set=-all,{} env -i {environment} NOTIFY_SOCKET={} PATH=/usr/bin:/bin {}",
            capabilities.join(","),
            house.file("notify").display(),
            settings["ExecStart"][0]
        ),
    ];
    let log = std::fs::File::create(house.file("unit.log")).unwrap();
    Command::new("unshare")
        .args(["--mount", "--net", "--propagation", "private", "sh", "-c", &script.join("\n")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap()
}

fn log(house: &House) -> String {
    std::fs::read_to_string(house.file("unit.log")).unwrap_or_default()
}

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging")
}

fn unit() -> String {
    std::fs::read_to_string(folder().join("mayfly.service")).unwrap()
}

/// Values of each name, in order.
fn settings() -> HashMap<String, Vec<String>> {
    let mut all: HashMap<String, Vec<String>> = HashMap::new();
    for line in unit().lines().filter(|line| !line.starts_with('#')) {
        if let Some((name, value)) = line.split_once('=') {
            all.entry(name.to_owned()).or_default().push(value.to_owned());
        }
    }
    all
}
