//! Running one command in a sandbox and collecting its bounded output.

use std::collections::BTreeMap;
use std::io;
use std::time::{Duration, Instant};

use bytes::Bytes;
use mayfly_core::process::{ExecOutcome, ExecRequest};
use mayfly_core::{Code, Error, Kind, Result};
use mayfly_init::protocol::{
    MAX_CHUNK, MAX_INPUT, MAX_PACKET, MAX_RUN, RUN_VERSION, Reader, Run, Stage, Writer, init,
};

use super::init::{Connection, Sender, Sockets, nonsense};
use super::live::{Live, not_started};

/// How long a killed command may take to be reported as ended.
const AFTER_KILL: Duration = Duration::from_secs(5);
/// Tries while init's queue of new connections is full; 10 ms apart.
const CONNECT_TRIES: u32 = 500;
/// What a command finds when nobody says otherwise.
const DEFAULT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// Runs a command to its end. Its time limit holds for everything, also when process 1 cannot answer.
pub(super) async fn run(
    sockets: &Sockets,
    live: &Live,
    request: ExecRequest,
    started_at: u64,
) -> Result<ExecOutcome> {
    let body = message(live, &request, started_at)?;
    let begin = Instant::now();
    let Ok(connected) = tokio::time::timeout(request.timeout, connect(sockets, live)).await else {
        return Err(timed_out(request.timeout));
    };
    let mut connection = connected?;
    let sender = connection.sender();
    let mut output = Output { bytes: Vec::new(), limit: request.max_output, truncated: false };
    let whole = tokio::time::timeout(
        request.timeout.saturating_sub(begin.elapsed()),
        converse(&sender, &mut connection, live, (&body, &request), &mut output),
    )
    .await;
    let Ok(ended) = whole else {
        let killed = async {
            // When it cannot be said, the connection's end before that of the input says it.
            let _ = sender.send(&[init::KILL]).await;
            // Whatever it still says is of no interest; its end is.
            let _ = collect(&mut connection, live, &request, &mut output).await;
        };
        // A frozen one cannot answer; its command ends when it is thawed.
        let frozen = live.group.is_frozen().unwrap_or(false);
        let patience = if frozen { Duration::ZERO } else { AFTER_KILL };
        let _ = tokio::time::timeout(patience, killed).await;
        return Err(timed_out(request.timeout));
    };
    let (exit_code, process) = ended?;
    Ok(output.finish(exit_code, process))
}

/// Gives the request and its input while answers are taken, so that neither waits for the other.
async fn converse(
    sender: &Sender,
    connection: &mut Connection,
    live: &Live,
    (body, asked): (&[u8], &ExecRequest),
    output: &mut Output,
) -> Result<(i32, u64)> {
    let answers = collect(connection, live, asked, output);
    let request = send_request(sender, body, &asked.stdin);
    tokio::pin!(answers, request);
    tokio::select! {
        answer = &mut answers => answer,
        // When it could not be sent, the answer says why.
        _ = &mut request => answers.await,
    }
}

fn timed_out(limit: Duration) -> Error {
    Error::new(
        Kind::Timeout,
        format!("command timeout: it ran longer than {} and was killed", seconds(limit)),
    )
    .with_code(Code::ProcessExecutionTimeout)
    .with_hint("give a longer timeout, or run it in the background")
}

fn seconds(duration: Duration) -> String {
    format!("{} s", duration.as_secs_f64())
}

fn ended(live: &Live) -> Error {
    let reason = match live.group.oom_kills() {
        Ok(kills) if kills > 0 => " after it ran out of memory",
        _ => "",
    };
    Error::new(Kind::Conflict, format!("sandbox {} ended while the command ran{reason}", live.id))
        .with_code(Code::SandboxNotStarted)
}

fn message(live: &Live, request: &ExecRequest, started_at: u64) -> Result<Vec<u8>> {
    let given = live.spec.env.iter().chain(&request.env);
    let env = given.map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let mut run = describe(live, &request.argv, request.cwd.as_deref(), env)?;
    run.title = request.title.as_bytes().to_vec();
    run.started_at = started_at;
    run.input = !request.stdin.is_empty();
    let body = run.encode();
    if request.stdin.len() > MAX_INPUT {
        return Err(Error::invalid(format!(
            "standard input is {} bytes long: expected at most {MAX_INPUT}",
            request.stdin.len()
        ))
        .with_hint("write it to a file first and read the file"));
    }
    if body.len() > MAX_RUN {
        return Err(Error::invalid(format!(
            "the command and its environment are {} bytes long: expected at most {MAX_RUN}",
            body.len()
        ))
        .with_hint("write it to a file first and run the file"));
    }
    Ok(body)
}

/// A program in the words of process 1: as the sandbox's user, in its folder, with its environment.
pub(super) fn describe(
    live: &Live,
    argv: &[String],
    cwd: Option<&str>,
    given: BTreeMap<&str, &str>,
) -> Result<Run> {
    let user = live.user()?;
    let cwd = match cwd {
        Some(cwd) if cwd.starts_with('/') => cwd.to_owned(),
        Some(cwd) => format!("{}/{cwd}", live.workdir()?),
        None => live.workdir()?.to_owned(),
    };
    let mut env: BTreeMap<&str, &str> = BTreeMap::from([
        ("PATH", DEFAULT_PATH),
        ("HOME", user.home.as_str()),
        ("USER", user.name.as_str()),
        ("LOGNAME", user.name.as_str()),
        ("SHELL", user.shell.as_str()),
        ("LANG", "C.UTF-8"),
    ]);
    env.extend(given);
    Ok(Run {
        uid: user.uid,
        gid: user.gid,
        groups: user.groups.clone(),
        cwd: cwd.into_bytes(),
        argv: argv.iter().map(|argument| argument.as_bytes().to_vec()).collect(),
        env: env.iter().map(|(key, value)| format!("{key}={value}").into_bytes()).collect(),
        ..Run::default()
    })
}

pub(super) async fn connect(sockets: &Sockets, live: &Live) -> Result<Connection> {
    for _ in 0..CONNECT_TRIES {
        match sockets.connect(live.id) {
            Ok(socket) => {
                return Connection::new(socket)
                    .map_err(|error| Error::internal("a connection could not be watched", error));
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
            Err(error) => return Err(not_started(live.id).with_source(error)),
        }
    }
    Err(Error::new(
        Kind::Unavailable,
        format!("sandbox {} is too busy to take another command", live.id),
    )
    .with_hint("try again when commands have ended, or resume it if it is paused"))
}

async fn send_request(sender: &Sender, body: &[u8], stdin: &[u8]) -> io::Result<()> {
    let head = Writer::new(init::RUN)
        .u32(RUN_VERSION.into())
        .u32(u32::try_from(body.len()).unwrap_or(u32::MAX))
        .finish();
    let (first, rest) = body.split_at(body.len().min(MAX_PACKET - head.len()));
    sender.send(&[head.as_slice(), first].concat()).await?;
    for piece in rest.chunks(MAX_PACKET - 1) {
        sender.send(&[&[init::MORE], piece].concat()).await?;
    }
    if !stdin.is_empty() {
        for piece in stdin.chunks(MAX_CHUNK) {
            sender.send(&[&[init::INPUT], piece].concat()).await?;
        }
        sender.send(&[init::INPUT]).await?;
    }
    Ok(())
}

/// Reads until the command's end; its exit code and log number.
async fn collect(
    connection: &mut Connection,
    live: &Live,
    asked: &ExecRequest,
    output: &mut Output,
) -> Result<(i32, u64)> {
    loop {
        let packet = connection.receive().await.map_err(|error| ended(live).with_source(error))?;
        match Said::read(packet) {
            Some(Said::Gone) => return Err(ended(live)),
            Some(Said::Output(bytes)) => output.append(bytes),
            Some(Said::Exited(code, number)) => return Ok((code, number)),
            Some(Said::Failed(stage, errno)) => {
                return Err(refusal(asked.cwd.as_deref(), stage, errno));
            }
            None => return Err(nonsense(live.id)),
        }
    }
}

/// What process 1 says of a command; nothing in it is believed beyond its bounds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said<'a> {
    /// The connection ended.
    Gone,
    /// More output.
    Output(&'a [u8]),
    /// Exit code from 0 to 255, and number of the log.
    Exited(i32, u64),
    /// Where it failed, if that makes sense, and the kernel's reason.
    Failed(Option<Stage>, i32),
}

impl<'a> Said<'a> {
    /// `None` = nonsense.
    pub(super) fn read(packet: &'a [u8]) -> Option<Self> {
        let mut reader = Reader::new(packet);
        match reader.u8() {
            None => Some(Self::Gone),
            Some(init::OUTPUT) => Some(Self::Output(reader.rest())),
            Some(init::EXITED) => {
                let (code, number) = (reader.u32()?, reader.u64()?);
                Some(Self::Exited(code.cast_signed().clamp(0, 255), number))
            }
            Some(init::FAILED) => {
                let stage = reader.u8().and_then(Stage::from_u8);
                Some(Self::Failed(stage, reader.u32().unwrap_or(0).cast_signed()))
            }
            Some(_) => None,
        }
    }
}

pub(super) fn refusal(cwd: Option<&str>, stage: Option<Stage>, errno: i32) -> Error {
    let reason = io::Error::from_raw_os_error(errno);
    match stage {
        Some(Stage::Cwd) => {
            let cwd = cwd.unwrap_or("the sandbox's own");
            Error::invalid(format!("the working directory {cwd} cannot be entered: {reason}"))
                .with_hint("create it first, or leave `cwd` out")
        }
        Some(Stage::Exec) => Error::invalid(format!("the program cannot be run: {reason}"))
            .with_hint("is it installed in the sandbox's image?"),
        Some(Stage::User) => {
            Error::invalid(format!("the sandbox's user cannot be taken: {reason}"))
        }
        Some(Stage::Busy) => Error::new(Kind::Limit, "the sandbox runs as many commands as it may")
            .with_hint("wait for some to end"),
        Some(Stage::Fork) => {
            Error::new(Kind::Limit, format!("no process could be made in the sandbox: {reason}"))
                .with_hint("its limit of processes or memory may be used up")
        }
        // Others are no answers to a command.
        Some(_) | None => {
            Error::new(Kind::Internal, format!("the request was not understood: {reason}"))
        }
    }
}

pub(super) struct Output {
    pub(super) bytes: Vec<u8>,
    pub(super) limit: usize,
    pub(super) truncated: bool,
}

impl Output {
    pub(super) fn append(&mut self, bytes: &[u8]) {
        let kept = bytes.len().min(self.limit - self.bytes.len());
        self.bytes.extend_from_slice(&bytes[..kept]);
        self.truncated |= kept < bytes.len();
    }

    pub(super) fn finish(mut self, exit_code: i32, process: u64) -> ExecOutcome {
        if self.truncated {
            let mark = format!(
                "\n[output cut after {} bytes; the log of the command has more]\n",
                self.limit
            );
            self.bytes.extend_from_slice(mark.as_bytes());
        }
        ExecOutcome {
            exit_code,
            output: Bytes::from(self.bytes),
            truncated: self.truncated,
            process,
        }
    }
}
