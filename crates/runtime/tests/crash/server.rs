//! A server in a process of its own that obeys lines on standard input, so that it can be killed.
//!
//! ```text
//! <number> <verb> <sandbox id> [<argument>]      in
//! @<number> ok <text> | @<number> failed <kind>: <message>      out
//! ```

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use mayfly_core::id::SandboxId;
use mayfly_core::limits::Resources;
use mayfly_core::network::NetworkPolicy;
use mayfly_core::ports::runtime::{Profile, Runtime as _, SandboxSpec};
use mayfly_core::process::ExecRequest;
use mayfly_runtime::local::{LocalRuntime, Options};

/// Names the data directory to a child that is to be a server.
pub(crate) const FOLDER: &str = "MAYFLY_CRASH_SERVER";
/// Ready namespaces of each server.
pub(crate) const NAMESPACES: usize = 2;
/// Longest wait for one answer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Obeys until its input ends.
pub(crate) fn serve(folder: &Path) {
    let tokio = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let tokio = tokio.unwrap();
    let mut options = Options::new(folder);
    options.pool_bytes = Some(2 << 30);
    options.namespaces = NAMESPACES;
    let runtime = Arc::new(tokio.block_on(LocalRuntime::open(options)).unwrap());
    say(&format!("@0 ok {}", runtime.forkserver_pid().unwrap()));
    for line in std::io::stdin().lock().lines() {
        let Ok(line) = line else { break };
        let runtime = Arc::clone(&runtime);
        tokio.spawn(async move {
            let (number, order) = line.split_once(' ').unwrap();
            match obey(&runtime, order).await {
                Ok(text) => say(&format!("@{number} ok {}", text.trim_end())),
                Err(error) => {
                    say(&format!("@{number} failed {:?}: {error} {error:?}", error.kind()));
                }
            }
        });
    }
    if runtime.profile() == Profile::Unprivileged {
        // The folder of the test is deleted by an ordinary user, too.
        let _ = tokio.block_on(runtime.clear_layers());
    }
    tokio.shutdown_timeout(Duration::from_secs(10));
    assert_eq!(Arc::strong_count(&runtime), 1, "nothing keeps the runtime open");
}

fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

async fn obey(runtime: &LocalRuntime, order: &str) -> mayfly_core::Result<String> {
    let mut parts = order.splitn(3, ' ');
    let verb = parts.next().unwrap();
    let id: SandboxId = parts.next().unwrap().parse()?;
    let argument = parts.next().unwrap_or_default();
    match verb {
        "create" => runtime.create(&spec(runtime, id).await?).await?,
        "start" => runtime.start(&spec(runtime, id).await?).await?,
        "stop" => runtime.stop(id, Duration::from_millis(argument.parse().unwrap())).await?,
        "destroy" => runtime.destroy(id).await?,
        "freeze" => runtime.freeze(id).await?,
        "thaw" => runtime.thaw(id).await?,
        "resize" => {
            let disk_gib = argument.parse().unwrap();
            runtime.resize(id, Resources { disk_gib, ..Resources::DEFAULT }).await?;
        }
        "exec" => return exec(runtime, id, argument).await,
        "list" => return list(runtime).await,
        "logs" => {
            let logs = runtime.logs(id).await?;
            return Ok(logs
                .iter()
                .map(|log| format!("{}={:?}", log.process, log.exit_code))
                .collect::<Vec<_>>()
                .join(" "));
        }
        "forkserver" => return Ok(runtime.forkserver_pid().unwrap_or(0).to_string()),
        "warm" => runtime.warmed(NAMESPACES).await,
        _ => panic!("unknown verb {verb}"),
    }
    Ok(runtime.inspect(id).map_or(0, |(pid, _)| pid).to_string())
}

async fn spec(runtime: &LocalRuntime, id: SandboxId) -> mayfly_core::Result<SandboxSpec> {
    Ok(SandboxSpec {
        id,
        source: runtime.host_source().await?,
        resources: Resources { cpu: 1, memory_gib: 1, disk_gib: 1 },
        user: "root".to_owned(),
        workdir: None,
        env: BTreeMap::new(),
        volumes: Vec::new(),
        network: NetworkPolicy::default(),
    })
}

/// Runs a script; answers the number of its log, its exit code and its output.
async fn exec(runtime: &LocalRuntime, id: SandboxId, script: &str) -> mayfly_core::Result<String> {
    let request = ExecRequest {
        argv: ["/bin/sh", "-c", script].map(str::to_owned).to_vec(),
        title: script.to_owned(),
        cwd: None,
        env: BTreeMap::new(),
        stdin: bytes::Bytes::new(),
        timeout: Duration::from_secs(20),
        max_output: 1 << 16,
    };
    let ran = runtime.exec(id, request).await?;
    let text = String::from_utf8_lossy(&ran.output).replace('\n', " ");
    Ok(format!("{} {} {text}", ran.process, ran.exit_code))
}

/// All sandboxes: id, state, pid of process 1.
async fn list(runtime: &LocalRuntime) -> mayfly_core::Result<String> {
    let found = runtime.list().await?;
    let lines = found.iter().map(|seen| {
        let state = match (seen.running, seen.frozen) {
            (true, true) => "frozen",
            (true, false) => "running",
            (false, _) => "stopped",
        };
        let pid = runtime.inspect(seen.id).map_or(0, |(pid, _)| pid);
        format!("{}:{state}:{pid}", seen.id)
    });
    Ok(lines.collect::<Vec<_>>().join(" "))
}

/// The test's end of such a server.
pub(crate) struct Server {
    pub(crate) child: Child,
    input: Option<ChildStdin>,
    answers: Receiver<(usize, Result<String, String>)>,
    next: usize,
    pub(crate) forkserver: i32,
}

impl Server {
    /// Starts one on a data directory and waits until it is open.
    pub(crate) fn start(folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "tests::server", "--nocapture", "--test-threads=1"])
            .env(FOLDER, folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (input, output) = (child.stdin.take(), child.stdout.take().unwrap());
        let (give, answers) = sync_channel(4096);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let Some(at) = line.find('@') else { continue };
                let Some((number, rest)) = line[at + 1..].split_once(' ') else { continue };
                let answer = match rest.split_once(' ').unwrap_or((rest, "")) {
                    ("ok", text) => Ok(text.to_owned()),
                    (_, text) => Err(text.to_owned()),
                };
                if give.send((number.parse().unwrap(), answer)).is_err() {
                    return;
                }
            }
        });
        let mut server = Self { child, input, answers, next: 1, forkserver: 0 };
        let (_, opened) = server.answer().expect("the server opens");
        server.forkserver = opened.unwrap().parse().unwrap();
        server
    }

    /// Gives an order; its number.
    pub(crate) fn order(&mut self, order: &str) -> usize {
        let number = self.next;
        self.next += 1;
        let input = self.input.as_mut().expect("it is open");
        // A dead server answers nothing, which is noticed there.
        let _ = writeln!(input, "{number} {order}");
        number
    }

    /// The next answer; `None` when the server is gone.
    pub(crate) fn answer(&self) -> Option<(usize, Result<String, String>)> {
        match self.answers.recv_timeout(PATIENCE) {
            Ok(answer) => Some(answer),
            Err(RecvTimeoutError::Disconnected) => None,
            Err(RecvTimeoutError::Timeout) => panic!("a call hung longer than {PATIENCE:?}"),
        }
    }

    /// Gives an order and waits for its answer.
    pub(crate) fn ask(&mut self, order: &str) -> Result<String, String> {
        let number = self.order(order);
        loop {
            let (answered, answer) = self.answer().expect("the server lives");
            if answered == number {
                return answer;
            }
        }
    }

    /// Closes its input and waits for its end.
    pub(crate) fn close(&mut self) {
        drop(self.input.take());
        assert!(self.child.wait().unwrap().success(), "the server ends well");
    }
}
