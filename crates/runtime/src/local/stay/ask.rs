//! One question to process 1 about what stays, and its answer.

use std::io;
use std::time::Duration;

use mayfly_core::{Code, Error, Kind, Result};
use mayfly_init::protocol::stay::DONE;
use mayfly_init::protocol::{MAX_PACKET, Reader, Stage, VERSION, Writer, init};

use crate::local::exec::{connect, refusal};
use crate::local::host::Host;
use crate::local::init::{Connection, Sender, nonsense};
use crate::local::live::{Live, not_started};

/// Longest wait for an answer: a process that does not read its input, a kill that takes its time.
pub(super) const PATIENCE: Duration = Duration::from_secs(10);
/// After this long it is looked whether the sandbox can answer at all.
const MOMENT: Duration = Duration::from_millis(200);

/// What is asked, for what an answer must be like and what a refusal means.
#[derive(Clone, Copy, Debug)]
pub(super) enum Verb<'a> {
    /// A new process, in this folder.
    Start {
        /// As it was asked for.
        cwd: Option<&'a str>,
    },
    /// A command for a shell.
    Queue(u64),
    /// Something of the process of this number.
    Of(u64),
}

/// A long request as packets.
pub(super) fn packets(kind: u8, body: &[u8]) -> Vec<Vec<u8>> {
    let length = u32::try_from(body.len()).unwrap_or(u32::MAX);
    let head = Writer::new(kind).u32(VERSION.into()).u32(length).finish();
    let (first, rest) = body.split_at(body.len().min(MAX_PACKET - head.len()));
    let more = rest.chunks(MAX_PACKET - 1).map(|piece| [&[init::MORE], piece].concat());
    std::iter::once([head.as_slice(), first].concat()).chain(more).collect()
}

/// Asks, and waits for the answer within a bound.
pub(super) async fn ask(
    host: &Host,
    live: &Live,
    verb: Verb<'_>,
    packets: &[Vec<u8>],
) -> Result<u64> {
    let asking = async {
        let mut connection = connect(&host.sockets, live).await?;
        let sender = connection.sender();
        ask_on((&sender, &mut connection), live, verb, packets).await
    };
    bounded(live, asking).await
}

/// Asks on a connection, and waits for one answer.
pub(super) async fn ask_on(
    (sender, connection): (&Sender, &mut Connection),
    live: &Live,
    verb: Verb<'_>,
    packets: &[Vec<u8>],
) -> Result<u64> {
    let send = async {
        for packet in packets {
            // When it could not be sent, the answer says why.
            if sender.send(packet).await.is_err() {
                break;
            }
        }
        std::future::pending::<()>().await;
    };
    let answer = connection.receive();
    let packet = tokio::select! {
        answer = answer => answer,
        () = send => Ok(&[][..]),
    };
    let packet = packet.map_err(|error| ended(live).with_source(error))?;
    judge(live, verb, packet)
}

/// Waits within the bound of all questions; a sandbox that cannot answer is not waited for.
pub(super) async fn bounded<T>(live: &Live, asking: impl Future<Output = Result<T>>) -> Result<T> {
    tokio::pin!(asking);
    if let Ok(answer) = tokio::time::timeout(MOMENT, &mut asking).await {
        return answer;
    }
    let late = |why: &str| {
        Err(Error::new(Kind::Timeout, format!("sandbox {} {why}", live.id))
            .with_hint("resume it if it is paused, or try again"))
    };
    if live.group.is_frozen().unwrap_or(false) {
        return late("is paused and cannot answer");
    }
    match tokio::time::timeout(PATIENCE, asking).await {
        Ok(answer) => answer,
        Err(_) => late(&format!("did not do it within {} s", PATIENCE.as_secs())),
    }
}

/// An answer that is taken, or a refusal in words.
pub(super) fn judge(live: &Live, verb: Verb<'_>, packet: &[u8]) -> Result<u64> {
    let mut reader = Reader::new(packet);
    match (reader.u8(), verb) {
        (None, _) => Err(ended(live)),
        (Some(DONE), Verb::Of(asked)) => {
            reader.u64().filter(|number| *number == asked).ok_or_else(|| nonsense(live.id))
        }
        (Some(DONE), _) => {
            reader.u64().filter(|number| *number > 0).ok_or_else(|| nonsense(live.id))
        }
        (Some(init::FAILED), _) => {
            let stage = reader.u8().and_then(Stage::from_u8);
            Err(refused(verb, stage, reader.u32().unwrap_or(0).cast_signed()))
        }
        _ => Err(nonsense(live.id)),
    }
}

/// What a refusal means for what was asked.
pub(super) fn refused(verb: Verb<'_>, stage: Option<Stage>, errno: i32) -> Error {
    let (number, cwd) = match verb {
        Verb::Start { cwd } => (0, cwd),
        Verb::Queue(number) | Verb::Of(number) => (number, None),
    };
    match (stage, verb) {
        (Some(Stage::Unknown), _) => missing(number),
        (Some(Stage::Ended), Verb::Queue(_)) => {
            Error::new(Kind::Gone, format!("shell {number} has ended"))
                .with_code(Code::SessionEnded)
                .with_hint("start another one")
        }
        (Some(Stage::Ended), _) => {
            Error::new(Kind::Gone, format!("process {number} has ended or closed its input"))
        }
        (Some(Stage::Early), _) => Error::conflict(format!(
            "process {number} is not ready for that: it waits for its turn, or still runs"
        )),
        (Some(Stage::Unfit), Verb::Queue(_)) => {
            Error::invalid(format!("process {number} is not a shell that takes commands"))
        }
        (Some(Stage::Unfit), _) => Error::invalid(format!("process {number} has no terminal")),
        (Some(Stage::Busy), Verb::Queue(_)) => {
            Error::new(Kind::Limit, format!("shell {number} has as many commands as it may"))
                .with_hint("wait for some to end")
        }
        (Some(Stage::Request), _) => Error::new(
            Kind::Unsupported,
            "the sandbox was started by an earlier version, which has no processes that stay",
        )
        .with_hint("stop the sandbox and start it again"),
        (stage, _) => refusal(cwd, stage, errno),
    }
}

/// No such process.
pub(super) fn missing(number: u64) -> Error {
    Error::not_found(format!("no process {number} is kept"))
        .with_code(Code::ProcessNotFound)
        .with_hint("its output may have given way to that of newer ones")
}

fn ended(live: &Live) -> Error {
    not_started(live.id).with_source(io::Error::from(io::ErrorKind::UnexpectedEof))
}
