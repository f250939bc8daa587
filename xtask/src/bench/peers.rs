//! The floor and the peers: the same `echo x`, alone and by other people's sandboxes, in the same run.

use std::io::Read as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};

use super::echo;
use super::line::{Line, samples};
use crate::step::{command, run_quiet};

/// Runs of each.
const ROUNDS: usize = 200;

/// Runs of each before counting.
const WARM_UP: usize = 10;

/// Everything that is installed here; what is missing is left out with a word on standard error.
pub(crate) fn all() -> Result<Vec<Line>> {
    let floor = samples("floor: fork and exec of echo", "us", first_outputs(|_| echo())?);
    let mut lines = vec![floor.clone()];
    match first_outputs(|_| bubblewrap()) {
        Ok(times) => {
            lines.push(samples("peer: bubblewrap, first output", "us", times).over(floor.p50));
        }
        Err(reason) => eprintln!("bubblewrap is left out: {reason:#}"),
    }
    match crun() {
        Ok(times) => lines.push(samples("peer: crun, first output", "us", times).over(floor.p50)),
        Err(reason) => eprintln!("crun is left out: {reason:#}"),
    }
    Ok(lines)
}

/// Microseconds from the call to the first byte of output, of many runs.
fn first_outputs(mut program: impl FnMut(usize) -> Command) -> Result<Vec<f64>> {
    let mut times = Vec::with_capacity(ROUNDS);
    for round in 0..WARM_UP + ROUNDS {
        let mut command = program(round);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null());
        let start = Instant::now();
        let mut child = command
            .spawn()
            .with_context(|| format!("start {}", command.get_program().display()))?;
        let mut first = [0];
        let read = child.stdout.take().context("no pipe to read from")?.read(&mut first)?;
        let took = start.elapsed();
        let status = child.wait()?;
        ensure!(read == 1 && first == *b"x" && status.success(), "it ended with {status}");
        if round >= WARM_UP {
            times.push(took.as_secs_f64() * 1e6);
        }
    }
    Ok(times)
}

fn bubblewrap() -> Command {
    let mut bwrap = Command::new("bwrap");
    bwrap.args(["--unshare-all", "--die-with-parent", "--ro-bind", "/", "/", "--proc", "/proc"]);
    bwrap.args(["--dev", "/dev", "--tmpfs", "/tmp", "--", "/bin/echo", "x"]);
    bwrap
}

/// crun refuses hosts where both versions of control groups are mounted, so the rounds run in a mount
/// namespace without the second; entering it is not part of the measurement.
fn crun() -> Result<Vec<f64>> {
    let bundle = std::env::temp_dir().join(format!("mayfly-bench-crun-{}", std::process::id()));
    std::fs::create_dir_all(bundle.join("rootfs/usr"))?;
    let measured = write_bundle(&bundle).and_then(|()| {
        let own = std::env::current_exe().context("find this program")?;
        let script =
            "umount /sys/fs/cgroup/unified 2>/dev/null; exec \"$0\" bench --peer-crun \"$1\"";
        let mut inside =
            command("unshare", &["--mount", "--propagation", "private", "sh", "-c", script]);
        run_quiet(inside.arg(own).arg(&bundle))
    });
    std::fs::remove_dir_all(&bundle).with_context(|| format!("delete {}", bundle.display()))?;
    let times: Vec<Value> = serde_json::from_str(&measured?).context("parse the times of crun")?;
    Ok(times.iter().filter_map(Value::as_f64).collect())
}

/// The measuring half, inside that mount namespace: prints the times as a JSON list.
pub(crate) fn crun_inside(bundle: &Path) -> Result<()> {
    let own = std::process::id();
    let times = first_outputs(|round| {
        let mut crun = Command::new("crun");
        crun.args(["run", "--bundle"]).arg(bundle).arg(format!("mayfly-bench-{own}-{round}"));
        crun
    })?;
    println!("{}", json!(times));
    Ok(())
}

/// crun's own default configuration, with the host's /usr as its root and our command.
fn write_bundle(bundle: &Path) -> Result<()> {
    run_quiet(Command::new("crun").arg("spec").current_dir(bundle))?;
    let file = bundle.join("config.json");
    let mut config: Value = serde_json::from_str(&std::fs::read_to_string(&file)?)?;
    config["process"]["terminal"] = json!(false);
    config["process"]["args"] = json!(["/bin/echo", "x"]);
    let Some(mounts) = config["mounts"].as_array_mut() else { bail!("crun spec wrote no mounts") };
    mounts.retain(|mount| mount["destination"] != "/sys/fs/cgroup");
    mounts.push(json!({ "destination": "/usr", "type": "bind", "source": "/usr", "options": ["bind", "ro"] }));
    for name in ["bin", "lib", "lib64"] {
        std::os::unix::fs::symlink(format!("usr/{name}"), bundle.join("rootfs").join(name))?;
    }
    Ok(std::fs::write(&file, config.to_string())?)
}
