//! A session's channel: a shell, a command, or the file service, and the bytes to and from it.

use std::time::Duration;

use bytes::Bytes;
use mayfly_core::process::{StartRequest, Stream, Wiring};
use mayfly_core::{Error, Kind, Result};
use mayfly_engine::Reach;
use russh::server::{Handle, Msg};
use russh::{Channel, ChannelMsg, ChannelReadHalf, ChannelWriteHalf, Sig};

use super::door::Place;
use super::sftp;
use super::started::{Asked, Start, Step, window};

/// Longest time until something is started.
const START: Duration = Duration::from_mins(1);
/// Most bytes taken of a program's output at once.
const PIECE: usize = 256 << 10;
/// Number of the stream for errors in the protocol.
const ERRORS: u32 = 1;
/// Exit code of what did not run, as of the client itself.
const NOT_RUN: u32 = 255;
/// How long a program whose visitor left may take to end.
const HANGUP: Duration = Duration::from_secs(2);
/// The end-of-file character of a terminal.
const END: u8 = 4;

/// Serves a channel to its end.
pub(super) async fn serve(
    mut channel: Channel<Msg>,
    handle: Handle,
    reach: Result<Reach>,
    _place: Place,
) {
    let Ok(Some(start)) = tokio::time::timeout(START, ask(&mut channel, &handle)).await else {
        let _ = channel.close().await;
        return;
    };
    let id = channel.id();
    let started = match (reach, start) {
        (Ok(reach), Start::Sftp) => {
            let _busy = reach.busy();
            let farewell = async move {
                let _ = handle.exit_status_request(id, 0).await;
                let _ = handle.eof(id).await;
            };
            return sftp::serve(reach.clone(), channel.into_stream(), farewell).await;
        }
        (Ok(reach), Start::Program(request)) => run(reach, request, channel).await,
        (Err(error), _) => Err((error, channel)),
    };
    if let Err((error, channel)) = started {
        let hint = error.hint().map(|hint| format!("; {hint}")).unwrap_or_default();
        let words = format!("mayfly: {}{hint}\r\n", error.message());
        let _ = channel.extended_data_bytes(ERRORS, words).await;
        let _ = channel.exit_status(NOT_RUN).await;
        let _ = channel.eof().await;
        let _ = channel.close().await;
    }
}

/// Takes what is asked until something is to be started.
async fn ask(channel: &mut Channel<Msg>, handle: &Handle) -> Option<Start> {
    let (mut asked, id) = (Asked::default(), channel.id());
    loop {
        let message = channel.wait().await?;
        if matches!(message, ChannelMsg::Close) {
            return None;
        }
        let answered = match asked.take(message) {
            Step::Taken => handle.channel_success(id).await,
            Step::Refused => handle.channel_failure(id).await,
            Step::Ignored => Ok(()),
            Step::Start(start) => {
                handle.channel_success(id).await.ok()?;
                return Some(start);
            }
        };
        answered.ok()?;
    }
}

/// A program that runs for a visitor.
struct Program {
    reach: Reach,
    number: u64,
    terminal: bool,
}

async fn run(
    reach: Reach,
    mut request: StartRequest,
    channel: Channel<Msg>,
) -> std::result::Result<(), (Error, Channel<Msg>)> {
    let terminal = matches!(request.wiring, Wiring::Terminal(_));
    request.env = reach.environment(request.env);
    let number = match reach.processes().start(reach.id(), request).await {
        Ok(number) => number,
        Err(error) => return Err((error, channel)),
    };
    let program = Program { reach, number, terminal };
    // A command counts as use while it runs; a terminal somebody forgot does not.
    let busy = (!terminal).then(|| program.reach.busy());
    let (reading, writing) = channel.split();
    let ended = tokio::select! {
        ended = program.give(&writing) => Some(ended),
        () = program.take(reading) => None,
    };
    match ended {
        Some(Ok(code)) => {
            let _ = writing.exit_status(code.cast_unsigned()).await;
        }
        Some(Err(error)) => {
            let words = format!("mayfly: {}\r\n", error.message());
            let _ = writing.extended_data_bytes(ERRORS, words).await;
            let _ = writing.exit_status(NOT_RUN).await;
            program.hang_up().await;
        }
        None => program.hang_up().await,
    }
    let _ = writing.eof().await;
    let _ = writing.close().await;
    drop(busy);
    // Nobody asks for its output again.
    let _ = program.reach.processes().forget(program.reach.id(), program.number).await;
    Ok(())
}

impl Program {
    /// Passes its output on until it ends; its exit code.
    async fn give(&self, channel: &ChannelWriteHalf<Msg>) -> Result<i32> {
        let processes = self.reach.processes();
        let mut output = processes.follow_all(self.reach.id(), self.number, 0).await?;
        let mut at = 0;
        loop {
            let read = output.next(PIECE).await?;
            if read.from > at {
                let lost = read.from - at;
                return Err(Error::new(
                    Kind::Limit,
                    format!("{lost} bytes of output came faster than the connection took them"),
                ));
            }
            at = read.next;
            self.reach.touch();
            for piece in read.pieces {
                let sent = match piece.stream {
                    Stream::Output => channel.data_bytes(piece.bytes).await,
                    Stream::Error => channel.extended_data_bytes(ERRORS, piece.bytes).await,
                };
                sent.map_err(|error| Error::internal("the visitor left", error))?;
            }
            if let Some(code) = read.exit_code {
                return Ok(code);
            }
        }
    }

    /// Passes on what the visitor sends, until the visitor leaves.
    async fn take(&self, mut channel: ChannelReadHalf) {
        let (processes, id, number) = (self.reach.processes(), self.reach.id(), self.number);
        while let Some(message) = channel.wait().await {
            match message {
                ChannelMsg::Data { data } => self.write(data).await,
                ChannelMsg::Eof if self.terminal => self.write(Bytes::from_static(&[END])).await,
                ChannelMsg::Eof => self.write(Bytes::new()).await,
                ChannelMsg::WindowChange { col_width, row_height, .. } => {
                    let _ = processes.resize(id, number, window(col_width, row_height)).await;
                }
                ChannelMsg::Signal { signal } => {
                    if let Some(signal) = signal_number(&signal) {
                        let _ = processes.signal(id, number, signal).await;
                    }
                }
                ChannelMsg::Close => return,
                _ => {}
            }
        }
    }

    /// Gives it input, for as long as it takes; one that has ended or closed its input gets none.
    async fn write(&self, input: Bytes) {
        self.reach.touch();
        loop {
            let written =
                self.reach.processes().write(self.reach.id(), self.number, input.clone()).await;
            match written {
                // It does not read at the moment, and the visitor waits with it.
                Err(error) if error.kind() == Kind::Timeout => {}
                _ => return,
            }
        }
    }

    /// Ends it as the loss of a terminal would, then for sure.
    async fn hang_up(&self) {
        let (processes, id, number) = (self.reach.processes(), self.reach.id(), self.number);
        let _ = processes.signal(id, number, 1).await;
        let ended = async {
            let mut output = processes.follow(id, number, 0).await?;
            while output.next(PIECE).await?.exit_code.is_none() {}
            Ok::<_, Error>(())
        };
        if !matches!(tokio::time::timeout(HANGUP, ended).await, Ok(Ok(()))) {
            let _ = processes.kill(id, number).await;
        }
    }
}

fn signal_number(signal: &Sig) -> Option<i32> {
    Some(match signal {
        Sig::HUP => 1,
        Sig::INT => 2,
        Sig::QUIT => 3,
        Sig::ILL => 4,
        Sig::ABRT => 6,
        Sig::FPE => 8,
        Sig::KILL => 9,
        Sig::USR1 => 10,
        Sig::SEGV => 11,
        Sig::PIPE => 13,
        Sig::ALRM => 14,
        Sig::TERM => 15,
        Sig::Custom(name) if name == "USR2" => 12,
        Sig::Custom(_) => return None,
    })
}
