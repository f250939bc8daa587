//! A newcomer's path: the commands that the README prints, in its order, on a machine where nothing was.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use crate::house::{House, signal, wait_until};

#[test]
fn the_readme_leads_from_nothing_to_a_server_and_back_to_nothing() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIP newcomer: backups and networks of its own are root's");
        return;
    }
    let readme = Readme::read();
    let house = House::new();
    let place = Place::new(&house);

    let install = readme.block("First success", "sh");
    assert!(install.contains("install target/release/mayfly /usr/local/bin/\n"), "{install}");
    place.ok(last_line(&install));
    std::fs::copy(Readme::path(), house.file("README.md")).unwrap();
    for line in readme.block("From the command line", "sh").lines() {
        place.ok(line);
    }
    let blocks = readme.blocks("From Python");
    let [(_, serve), (_, set_up), (language, program)] = &blocks[..] else {
        panic!("serve, set-up and program: {blocks:?}")
    };
    let mut server = place.start(serve.trim());
    wait_until(|| place.run("bash -c '< /dev/tcp/127.0.0.1/3457'").status.success());
    let key = std::fs::read_to_string(house.data().join("initial-key")).unwrap();
    let exports = set_up.lines().filter(|line| line.starts_with("export ")).collect::<Vec<_>>();
    let exports = exports.join("\n").replace("mf_key_...", key.trim());
    assert!(exports.contains("DAYTONA_API_URL") && exports.contains(key.trim()), "{set_up}");
    assert_eq!(language, "python");
    run_program(&house, &place, &exports, program);

    place.ok("mayfly sandbox create --name kept");
    place.ok("mayfly sandbox exec kept -- sh -c 'echo mine > /note'");
    let blocks = readme.blocks("Running it for others");
    let [(_, operate), (_, leave)] = &blocks[..] else { panic!("two blocks: {blocks:?}") };
    for line in operate.lines() {
        place.ok(line);
    }
    signal(i32::try_from(server.id()).unwrap(), "TERM");
    assert!(server.wait().unwrap().success());
    let elsewhere = house.file("elsewhere");
    let there = format!("--data-dir {}", elsewhere.display());
    place.ok(&format!("mayfly {there} sandbox start kept"));
    let note = place.ok(&format!("mayfly {there} sandbox exec kept -- cat /note"));
    assert_eq!(note, "mine\n");
    assert!(place.ok(&format!("mayfly {there} org list")).contains("acme"));

    let names = [host_name(&house.data()), host_name(&elsewhere)];
    place.ok(leave.trim());
    place.ok(&format!("{} {there}", leave.trim()));
    assert!(!house.data().exists() && !elsewhere.exists());
    for name in names {
        assert!(!Path::new("/run/mayfly").join(&name).exists(), "its entry is gone");
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        for point in mounts.lines().filter(|line| line.contains(" - cgroup")) {
            let point = Path::new(point.split(' ').nth(4).unwrap());
            assert!(!point.join(&name).exists(), "{} is left in {}", name, point.display());
        }
    }
    for device in std::fs::read_dir("/sys/block").unwrap().flatten() {
        let file = std::fs::read_to_string(device.path().join("loop/backing_file"));
        let file = file.unwrap_or_default();
        assert!(!Path::new(&file).starts_with(house.folder.path()), "{file} is left");
    }
}

fn run_program(house: &House, place: &Place<'_>, exports: &str, program: &str) {
    let sdk = Path::new(env!("CARGO_BIN_EXE_mayfly")).ancestors().nth(2).unwrap();
    let python = sdk.join("sdk/python-new/bin/python");
    if !python.exists() {
        println!("SKIP newcomer-python: {} is missing; run cargo xtask setup", python.display());
        return;
    }
    std::fs::write(house.file("first.py"), program).unwrap();
    let said = place.ok(&format!("{exports}\n{} first.py", python.display()));
    assert!(said.contains("hello from mayfly-") && said.contains("\n42\n"), "{said}");
    assert!(said.contains("to keep"), "{said}");
}

fn last_line(block: &str) -> &str {
    block.lines().last().unwrap_or_default()
}

/// Name of a data directory's entry and control groups.
fn host_name(data: &Path) -> String {
    let whole = std::fs::canonicalize(data).unwrap();
    let entries = std::fs::read_dir("/run/mayfly").unwrap().flatten();
    let is_its = |path: PathBuf| {
        std::fs::read(path).unwrap_or_default().ends_with(whole.as_os_str().as_encoded_bytes())
    };
    let mut names = entries.filter(|entry| is_its(entry.path())).map(|entry| entry.file_name());
    names.next().expect("it has an entry").into_string().unwrap()
}

struct Readme(String);

impl Readme {
    fn path() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md")
    }

    fn read() -> Self {
        Self(std::fs::read_to_string(Self::path()).unwrap())
    }

    /// Code blocks below a heading that begins so, with their languages.
    fn blocks(&self, heading: &str) -> Vec<(String, String)> {
        let is_it = |line: &str| line.trim_start_matches('#').trim().starts_with(heading);
        let mut lines = self.0.lines().skip_while(|line| !(line.starts_with('#') && is_it(line)));
        lines.next().unwrap_or_else(|| panic!("the README has no heading `{heading}`"));
        let (mut blocks, mut open): (Vec<(String, String)>, bool) = (Vec::new(), false);
        for line in lines {
            match line.strip_prefix("```") {
                Some(language) if !open => {
                    blocks.push((language.to_owned(), String::new()));
                    open = true;
                }
                Some(_) => open = false,
                None if open => {
                    let (_, text) = blocks.last_mut().unwrap();
                    text.push_str(line);
                    text.push('\n');
                }
                None if line.starts_with('#') => break,
                None => {}
            }
        }
        blocks
    }

    /// The only one of a language.
    fn block(&self, heading: &str, language: &str) -> String {
        let blocks = self.blocks(heading);
        let mut of = blocks.into_iter().filter(|(known, _)| known == language);
        let (_, text) = of.next().unwrap_or_else(|| panic!("no {language} under {heading}"));
        assert!(of.next().is_none(), "one block of {language} under {heading}");
        text
    }
}

/// Where the commands run: a network of its own, so that the README's ports are free, and the program installed.
struct Place<'a> {
    house: &'a House,
    holder: Child,
}

impl<'a> Place<'a> {
    fn new(house: &'a House) -> Self {
        let folder = house.file("bin");
        std::fs::create_dir(&folder).unwrap();
        std::os::unix::fs::symlink(env!("CARGO_BIN_EXE_mayfly"), folder.join("mayfly")).unwrap();
        let script = "ip link set lo up && touch up && exec sleep infinity";
        let mut holder = Command::new("unshare");
        holder.args(["--net", "sh", "-c", script]).current_dir(house.folder.path());
        let holder = holder.stdin(Stdio::null()).spawn().unwrap();
        wait_until(|| house.file("up").exists());
        Self { house, holder }
    }

    /// A line of a shell, with the settings of the test's server.
    fn shell(&self, line: &str) -> Command {
        let pid = self.holder.id().to_string();
        let inner = self.house.command(&[]);
        let mut command = Command::new("nsenter");
        command.args(["-t", &pid, "-n", "sh", "-e", "-c", line]).env_clear();
        for (name, value) in inner.get_envs() {
            command.envs(value.map(|value| (name, value)));
        }
        let path = format!("{}:/usr/bin:/bin:/usr/sbin", self.house.file("bin").display());
        command.env("PATH", path).current_dir(self.house.folder.path()).stdin(Stdio::null());
        command
    }

    fn start(&self, line: &str) -> Child {
        let log = std::fs::File::create(self.house.file("serve.log")).unwrap();
        self.shell(&format!("exec {line}")).stdout(Stdio::null()).stderr(log).spawn().unwrap()
    }

    fn run(&self, line: &str) -> Output {
        self.shell(line).output().unwrap()
    }

    fn ok(&self, line: &str) -> String {
        let output = self.run(line);
        let errors = String::from_utf8_lossy(&output.stderr);
        let log = std::fs::read_to_string(self.house.file("serve.log")).unwrap_or_default();
        assert!(output.status.success(), "{line}: {errors}\n{}{log}", self.house.log());
        String::from_utf8(output.stdout).unwrap()
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}
