//! Messages about processes that stay: kinds of packets, and the bodies of those that hold more than numbers.
//!
//! One connection per request; only [`FOLLOW`] goes on, with a [`READ`] for each [`DATA`].

use super::{Reader, Run, Writer, kept};

/// Start a process: version, total length; its [`Start`] follows in this and in `MORE` packets.
pub const START: u8 = 16;
/// Queue a command: version, total length; its [`Queue`] follows likewise.
pub const QUEUE: u8 = 17;
/// Give input: version, total length; its [`Write`] follows likewise.
pub const WRITE: u8 = 18;
/// Change the size of a terminal: number, columns, rows.
pub const RESIZE: u8 = 19;
/// Send a signal: number, signal.
pub const SIGNAL: u8 = 20;
/// Kill with all that descends from it: number; answered at its end.
pub const KILL_TREE: u8 = 21;
/// Forget an ended one: number.
pub const FORGET: u8 = 22;
/// Follow output: number, offset.
pub const FOLLOW: u8 = 23;
/// Ask a followed one for output: most bytes, whether to wait. Each is answered by one [`DATA`], in order; one
/// that does not wait lets those before it wait no longer.
pub const READ: u8 = 24;
/// Answer: done; a number.
pub const DONE: u8 = 80;
/// Answer to [`READ`]: offset, whether it has ended and this is the rest, exit code, runs of output.
pub const DATA: u8 = 81;

/// Processes and commands that have not ended, per sandbox.
pub const MAX_STAYING: usize = 512;
/// Longest command for a shell, bytes.
pub const MAX_COMMAND: usize = 1 << 20;
/// Commands that may wait for one shell, and their bytes.
pub const MAX_QUEUED: usize = 256;
/// Bytes of commands that may wait for one shell.
pub const MAX_QUEUED_BYTES: usize = 4 << 20;
/// Most input in one request, bytes.
pub const MAX_WRITE: usize = 1 << 20;
/// Followers of one process.
pub const MAX_FOLLOWERS: usize = 64;
/// Bytes of a [`DATA`] packet before its runs.
pub const DATA_HEAD: usize = 14;
/// Bytes of a run before its output.
pub const RUN_HEAD: usize = 5;

/// A process to start.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Start {
    /// What to run and as whom; title and input flag are not used.
    pub run: Run,
    /// Programs to try in place of the first argument where that is not found.
    pub others: Vec<Vec<u8>>,
    /// Whether the program is told that it is a login shell.
    pub login: bool,
    /// Standard streams, a [`kept::Kind`].
    pub kind: u8,
    /// Size of the terminal.
    pub columns: u16,
    /// Size of the terminal.
    pub rows: u16,
    /// What the caller wants back.
    pub note: Vec<u8>,
}

impl Start {
    /// The body of a request.
    pub fn encode(&self) -> Vec<u8> {
        Writer::body()
            .bytes(&self.run.encode())
            .list(&self.others)
            .u8(self.login.into())
            .u8(self.kind)
            .u32(self.columns.into())
            .u32(self.rows.into())
            .bytes(&self.note)
            .finish()
    }

    /// From the body of a request.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        Some(Self {
            run: Run::decode(reader.bytes()?)?,
            others: reader.list()?.into_iter().map(<[u8]>::to_vec).collect(),
            login: reader.flag()?,
            kind: reader.u8()?,
            columns: reader.u32()?.try_into().ok()?,
            rows: reader.u32()?.try_into().ok()?,
            note: note(&mut reader)?,
        })
    }
}

/// A command for a shell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Queue {
    /// Number of the shell.
    pub shell: u64,
    /// Wall clock at the request, milliseconds.
    pub started_at: u64,
    /// Text in the shell's language.
    pub command: Vec<u8>,
    /// What the caller wants back.
    pub note: Vec<u8>,
}

impl Queue {
    /// The body of a request.
    pub fn encode(&self) -> Vec<u8> {
        Writer::body()
            .u64(self.shell)
            .u64(self.started_at)
            .bytes(&self.command)
            .bytes(&self.note)
            .finish()
    }

    /// From the body of a request.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let queue = Self {
            shell: reader.u64()?,
            started_at: reader.u64()?,
            command: reader.bytes()?.to_vec(),
            note: note(&mut reader)?,
        };
        (queue.command.len() <= MAX_COMMAND && !queue.command.contains(&0)).then_some(queue)
    }
}

/// Input for a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Write {
    /// Its number.
    pub number: u64,
    /// The input; empty = no more will come.
    pub bytes: Vec<u8>,
}

impl Write {
    /// The body of a request.
    pub fn encode(&self) -> Vec<u8> {
        Writer::body().u64(self.number).bytes(&self.bytes).finish()
    }

    /// From the body of a request.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let write = Self { number: reader.u64()?, bytes: reader.bytes()?.to_vec() };
        (write.bytes.len() <= MAX_WRITE).then_some(write)
    }
}

fn note(reader: &mut Reader<'_>) -> Option<Vec<u8>> {
    reader.bytes().filter(|note| note.len() <= kept::MAX_NOTE).map(<[u8]>::to_vec)
}

/// What process 1 says of output; nothing in it is believed beyond its bounds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Data<'a> {
    /// Offset of the first byte.
    pub from: u64,
    /// Exit code, when it has ended and this is the rest.
    pub exit: Option<i32>,
    /// Output in order; `true` = standard error. No run is empty.
    pub runs: Vec<(bool, &'a [u8])>,
}

impl<'a> Data<'a> {
    /// From a packet behind its kind byte.
    pub fn decode(reader: &mut Reader<'a>) -> Option<Self> {
        let from = reader.u64()?;
        let (ended, code) = (reader.u8()?, reader.u32()?.cast_signed());
        let mut runs = Vec::new();
        while !reader.rest().is_empty() {
            let error = match reader.u8()? {
                0 => false,
                1 => true,
                _ => return None,
            };
            let bytes = reader.bytes()?;
            if bytes.is_empty() {
                return None;
            }
            runs.push((error, bytes));
        }
        let exit = match ended {
            0 => None,
            1 => Some(code.clamp(0, 255)),
            _ => return None,
        };
        Some(Self { from, exit, runs })
    }

    /// Bytes of output.
    pub fn length(&self) -> u64 {
        self.runs.iter().map(|(_, bytes)| bytes.len() as u64).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_come_back_and_no_cut_of_them_is_taken() {
        let start = Start {
            run: Run { argv: vec![b"sh".to_vec()], ..Run::default() },
            others: vec![b"x".to_vec()],
            login: true,
            kind: 2,
            columns: 80,
            rows: 24,
            note: b"n".to_vec(),
        };
        let queue = Queue { shell: 1, started_at: 2, command: b"c".to_vec(), note: b"n".to_vec() };
        let write = Write { number: 1, bytes: b"w".to_vec() };
        let bodies = (start.encode(), queue.encode(), write.encode());
        for length in 0..bodies.0.len() {
            assert_eq!(Start::decode(&bodies.0[..length]), None);
        }
        for length in 0..bodies.1.len() {
            assert_eq!(Queue::decode(&bodies.1[..length]), None);
        }
        for length in 0..bodies.2.len() {
            assert_eq!(Write::decode(&bodies.2[..length]), None);
        }
        assert_eq!(Start::decode(&bodies.0), Some(start));
        assert_eq!(Queue::decode(&bodies.1), Some(queue.clone()));
        assert_eq!(Write::decode(&bodies.2), Some(write));
        let nul = Queue { command: b"a\0b".to_vec(), ..queue };
        assert_eq!(Queue::decode(&nul.encode()), None, "a NUL is no text");
    }
}
