//! Messages between server, forkserver and init: length-prefixed fields in bounded packets.
//!
//! Every channel is a `SOCK_SEQPACKET` unix socket, so a packet is a message. The first byte of a packet
//! names its kind; integers are little-endian; byte strings carry a `u32` length. A reader never trusts a
//! length: it is checked against the packet before anything is copied. What init sends is judged as
//! hostile by the server, since it lives beside the sandbox's code.

pub mod kept;
pub mod stay;
pub mod volumes;

pub use volumes::Volume;

/// Version of this language. An init answers requests of its own and the previous version. Version 2 added
/// processes that stay, see [`stay`].
pub const VERSION: u16 = NEWEST - OLDER;

/// Version of the program. A forkserver is always of its server's own program, so their words carry this one.
const NEWEST: u16 = 2;

/// How many versions back this is compiled: tests of upgrades make older inits with it.
#[cfg(not(any(mayfly_older = "1", mayfly_older = "2")))]
const OLDER: u16 = 0;
#[cfg(mayfly_older = "1")]
const OLDER: u16 = 1;
#[cfg(mayfly_older = "2")]
const OLDER: u16 = 2;

/// Version that first had the run request as it is; an older init takes no higher number.
pub const RUN_VERSION: u16 = 1;

/// Largest packet in either direction, bytes.
pub const MAX_PACKET: usize = 64 << 10;

/// Largest run request (arguments and environment), bytes; sent in several packets when over one.
pub const MAX_RUN: usize = 4 << 20;

/// Bytes of payload in one output or input packet.
pub const MAX_CHUNK: usize = 32 << 10;

/// Most standard input of one command, bytes: what is held for one that does not read it.
pub const MAX_INPUT: usize = 4 << 20;

/// Commands that may run at once in one sandbox through init.
pub const MAX_COMMANDS: usize = 1024;

/// Logs kept per sandbox; older ones are deleted.
pub const MAX_LOGS: usize = 64;

/// Overlays of one sandbox; a request with more is malformed.
pub const MAX_OVERLAYS: u32 = 64;

/// Length of the fixed head of a log file: magic, version, exit code, start time, title length.
pub const LOG_HEAD: usize = 32;

/// First bytes of a log file.
pub const LOG_MAGIC: &[u8; 8] = b"mayflylg";

/// Exit code in the head of a log whose command still runs.
pub const LOG_RUNNING: i32 = i32::MIN;

/// Requests from the server to the forkserver.
pub mod fork {
    /// First request: layout of the host and the filter program for all sandboxes.
    pub const HELLO: u8 = 1;
    /// Mount the pool (device, mount point); the answer carries a descriptor of its root.
    pub const MOUNT_POOL: u8 = 2;
    /// Make the namespaces of one future sandbox; the answer carries a pidfd of its parked process 1.
    pub const PREPARE: u8 = 3;
    /// Turn a parked process into a sandbox; carries the listening socket and the status pipe.
    pub const CREATE: u8 = 4;
    /// Drop a parked process.
    pub const DISCARD: u8 = 5;
    /// Leave for a user namespace of one's own, before anything else; its ids are mapped from outside.
    pub const ENTER_USER: u8 = 6;
    /// The ids are mapped: become root there, as a fresh program.
    pub const MAPPED: u8 = 7;
    /// Give a folder and all below it to an id (owner, path); carries the status pipe.
    pub const OWN: u8 = 8;
    /// Delete a folder and all below it (path); carries the status pipe.
    pub const DELETE: u8 = 9;
    /// Answer: done; fields depend on the request.
    pub const OK: u8 = 64;
    /// Answer: an error with a stage and an errno.
    pub const FAILED: u8 = 65;
}

/// Messages between the server and process 1 of a sandbox; one connection per command.
pub mod init {
    /// Start of a run request: version, total length; its bytes follow in this and in [`MORE`] packets.
    pub const RUN: u8 = 1;
    /// Further bytes of a run request.
    pub const MORE: u8 = 2;
    /// Bytes for standard input; an empty one ends it.
    pub const INPUT: u8 = 3;
    /// Kill the command and every process that descends from it.
    pub const KILL: u8 = 4;
    /// End the sandbox: terminate signal to all, then leave when the last process is gone.
    pub const SHUTDOWN: u8 = 5;
    /// Ask for the version; what ended before is in the logs when the answer comes.
    pub const PING: u8 = 6;
    /// Answer: output of the command.
    pub const OUTPUT: u8 = 65;
    /// Answer: the command ended; exit code and number of its log.
    pub const EXITED: u8 = 66;
    /// Answer: the request failed; a stage and an errno.
    pub const FAILED: u8 = 67;
    /// Answer to [`PING`]: version.
    pub const PONG: u8 = 68;
}

/// Where a run request failed; sent as one byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Stage {
    /// The request could not be read.
    Request = 1,
    /// Too many commands at once.
    Busy = 2,
    /// No process or pipe could be made.
    Fork = 3,
    /// The ids of the user could not be taken.
    User = 4,
    /// The working folder is missing or closed to the user.
    Cwd = 5,
    /// The program was not found or could not be run.
    Exec = 6,
    /// No process of that number.
    Unknown = 7,
    /// It has ended, or takes no more.
    Ended = 8,
    /// Not now: its turn has not come, or it still runs.
    Early = 9,
    /// It is not of the kind that can do this.
    Unfit = 10,
}

impl Stage {
    /// The stage of that number.
    pub fn from_u8(number: u8) -> Option<Self> {
        use Stage::{Busy, Cwd, Early, Ended, Exec, Fork, Request, Unfit, Unknown, User};
        [Request, Busy, Fork, User, Cwd, Exec, Unknown, Ended, Early, Unfit]
            .into_iter()
            .find(|stage| *stage as u8 == number)
    }
}

/// Builds one message.
#[derive(Debug, Default, Clone)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// A message of this kind.
    pub fn new(kind: u8) -> Self {
        Self { bytes: vec![kind] }
    }

    /// Fields without a kind byte, for the body of a run request.
    pub fn body() -> Self {
        Self::default()
    }

    /// Appends a byte.
    #[must_use]
    pub fn u8(mut self, value: u8) -> Self {
        self.bytes.push(value);
        self
    }

    /// Appends a `u32`.
    #[must_use]
    pub fn u32(mut self, value: u32) -> Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Appends a `u64`.
    #[must_use]
    pub fn u64(mut self, value: u64) -> Self {
        self.bytes.extend_from_slice(&value.to_le_bytes());
        self
    }

    /// Appends a byte string with its length. Longer than `u32::MAX` is cut, which no caller reaches.
    #[must_use]
    pub fn bytes(self, value: &[u8]) -> Self {
        let length = u32::try_from(value.len()).unwrap_or(u32::MAX);
        let mut writer = self.u32(length);
        writer.bytes.extend_from_slice(&value[..length as usize]);
        writer
    }

    /// Appends a list of byte strings with its count.
    #[must_use]
    pub fn list<T: AsRef<[u8]>>(self, values: &[T]) -> Self {
        let count = u32::try_from(values.len()).unwrap_or(u32::MAX);
        values
            .iter()
            .take(count as usize)
            .fold(self.u32(count), |writer, value| writer.bytes(value.as_ref()))
    }

    /// The message.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }
}

/// Reads one message; every method answers `None` when the bytes do not hold what is asked for.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// Begins at the first byte.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (head, rest) = self.rest.split_at_checked(length)?;
        self.rest = rest;
        Some(head)
    }

    /// A byte.
    pub fn u8(&mut self) -> Option<u8> {
        self.take(1).map(|bytes| bytes[0])
    }

    /// A byte that says no (0) or yes (1), and nothing else.
    pub fn flag(&mut self) -> Option<bool> {
        self.u8().filter(|byte| *byte < 2).map(|byte| byte == 1)
    }

    /// A `u32`.
    pub fn u32(&mut self) -> Option<u32> {
        self.take(4)?.try_into().ok().map(u32::from_le_bytes)
    }

    /// A `u64`.
    pub fn u64(&mut self) -> Option<u64> {
        self.take(8)?.try_into().ok().map(u64::from_le_bytes)
    }

    /// A byte string.
    pub fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = self.u32()? as usize;
        self.take(length)
    }

    /// A list of byte strings.
    pub fn list(&mut self) -> Option<Vec<&'a [u8]>> {
        let count = self.u32()? as usize;
        // Each entry takes at least its length field, so a count beyond that is a lie.
        if count > self.rest.len() / 4 {
            return None;
        }
        (0..count).map(|_| self.bytes()).collect()
    }

    /// What was not read yet.
    pub fn rest(&self) -> &'a [u8] {
        self.rest
    }
}

/// Layout of the host, told to the forkserver once.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hello {
    /// Empty folder that the forkserver may mount its staging file system on.
    pub stage: Vec<u8>,
    /// Filter program, 8 bytes per instruction; empty = none (tests of weakened sandboxes only).
    pub filter: Vec<u8>,
    /// Capabilities that sandboxes keep, as a bit mask.
    pub capabilities: u64,
    /// Whether set-id programs may raise rights inside.
    pub allow_setuid: bool,
    /// Whether the forkserver is an ordinary user who is root of a user namespace of his own.
    pub rootless: bool,
    /// Layers switched off, as a bit mask of `WEAK_*`; only for tests of weakened sandboxes.
    pub weakened: u32,
}

/// Leaves out the user namespace.
pub const WEAK_USER: u32 = 1;
/// Leaves out the system call filter.
pub const WEAK_SECCOMP: u32 = 2;
/// Leaves out Landlock.
pub const WEAK_LANDLOCK: u32 = 4;
/// Leaves out masks and read-only parts of `/proc`.
pub const WEAK_MASKS: u32 = 8;
/// Keeps all capabilities.
pub const WEAK_CAPABILITIES: u32 = 16;
/// Leaves out the pid namespace's own `/proc` and keeps the host's network namespace.
pub const WEAK_NETWORK: u32 = 32;
/// Leaves out `no_new_privs`.
pub const WEAK_NEW_PRIVILEGES: u32 = 64;
/// Leaves out limits on open files and the like.
pub const WEAK_RLIMITS: u32 = 128;

impl Hello {
    /// As a message.
    pub fn encode(&self) -> Vec<u8> {
        Writer::new(fork::HELLO)
            .u32(NEWEST.into())
            .bytes(&self.stage)
            .bytes(&self.filter)
            .u64(self.capabilities)
            .u8(self.allow_setuid.into())
            .u8(self.rootless.into())
            .u32(self.weakened)
            .finish()
    }

    /// From a message after its kind byte; `None` also for another version.
    pub fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        if reader.u32()? != u32::from(NEWEST) {
            return None;
        }
        Some(Self {
            stage: reader.bytes()?.to_vec(),
            filter: reader.bytes()?.to_vec(),
            capabilities: reader.u64()?,
            allow_setuid: reader.flag()?,
            rootless: reader.flag()?,
            weakened: reader.u32()?,
        })
    }
}

/// Namespaces of one future sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Prepare {
    /// Names the parked process in later requests.
    pub slot: u32,
    /// Inside id 0 as the forkserver counts ids.
    pub id_base: u32,
    /// Number of ids inside.
    pub id_count: u32,
    /// Id that owns the user namespace, as the forkserver counts: the kernel adds up there what all that is
    /// inside uses.
    pub owner: u32,
    /// Processes and threads of the whole user namespace; 0 = control groups limit them.
    pub pids: u64,
    /// Folder of the version 2 control group to be cloned into; empty = none.
    pub cgroup: Vec<u8>,
    /// `cgroup.procs` files of version 1 groups to enter.
    pub joins: Vec<Vec<u8>>,
}

impl Prepare {
    /// As a message.
    pub fn encode(&self) -> Vec<u8> {
        Writer::new(fork::PREPARE)
            .u32(self.slot)
            .u32(self.id_base)
            .u32(self.id_count)
            .u32(self.owner)
            .u64(self.pids)
            .bytes(&self.cgroup)
            .list(&self.joins)
            .finish()
    }

    /// From a message after its kind byte.
    pub fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        Some(Self {
            slot: reader.u32()?,
            id_base: reader.u32()?,
            id_count: reader.u32()?,
            owner: reader.u32()?,
            pids: reader.u64()?,
            cgroup: reader.bytes()?.to_vec(),
            joins: reader.list()?.into_iter().map(<[u8]>::to_vec).collect(),
        })
    }
}

/// One overlay file system of a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Overlay {
    /// Folder in the sandbox's root to mount on; empty = the root itself.
    pub target: Vec<u8>,
    /// Read-only folders on the host, topmost first.
    pub lower: Vec<Vec<u8>>,
    /// Name of the writable folder within the sandbox's own folder.
    pub upper: Vec<u8>,
    /// Name of overlayfs's scratch folder beside it.
    pub work: Vec<u8>,
}

/// Everything that turns a parked process into a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Create {
    /// Which parked process.
    pub slot: u32,
    /// Host name inside.
    pub hostname: Vec<u8>,
    /// The sandbox's own folder on the host (upper folders and logs).
    pub folder: Vec<u8>,
    /// File systems, the root first.
    pub overlays: Vec<Overlay>,
    /// Mounted in it besides.
    pub volumes: Vec<Volume>,
    /// Size limit of `/dev/shm`, bytes.
    pub shm_bytes: u64,
    /// Open files per process.
    pub open_files: u64,
    /// Processes and threads of each user inside; 0 = control groups limit them.
    pub pids: u64,
    /// Largest file, bytes; 0 = only the disk limit holds.
    pub file_bytes: u64,
    /// Bytes kept per log.
    pub log_bytes: u64,
}

impl Create {
    /// As a message.
    pub fn encode(&self) -> Vec<u8> {
        let head = Writer::new(fork::CREATE)
            .u32(self.slot)
            .bytes(&self.hostname)
            .bytes(&self.folder)
            .u64(self.shm_bytes)
            .u64(self.open_files)
            .u64(self.pids)
            .u64(self.file_bytes)
            .u64(self.log_bytes)
            .u32(u32::try_from(self.overlays.len()).unwrap_or(0));
        let overlays = self.overlays.iter().fold(head, |writer, overlay| {
            writer
                .bytes(&overlay.target)
                .list(&overlay.lower)
                .bytes(&overlay.upper)
                .bytes(&overlay.work)
        });
        volumes::write(overlays, &self.volumes).finish()
    }

    /// From a message after its kind byte.
    pub fn decode(reader: &mut Reader<'_>) -> Option<Self> {
        let mut create = Self {
            slot: reader.u32()?,
            hostname: reader.bytes()?.to_vec(),
            folder: reader.bytes()?.to_vec(),
            shm_bytes: reader.u64()?,
            open_files: reader.u64()?,
            pids: reader.u64()?,
            file_bytes: reader.u64()?,
            log_bytes: reader.u64()?,
            overlays: Vec::new(),
            volumes: Vec::new(),
        };
        let count = reader.u32()?;
        if count > MAX_OVERLAYS {
            return None;
        }
        for _ in 0..count {
            create.overlays.push(Overlay {
                target: reader.bytes()?.to_vec(),
                lower: reader.list()?.into_iter().map(<[u8]>::to_vec).collect(),
                upper: reader.bytes()?.to_vec(),
                work: reader.bytes()?.to_vec(),
            });
        }
        create.volumes = volumes::read(reader)?;
        Some(create)
    }
}

/// A command to run inside a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// Inside user.
    pub uid: u32,
    /// Inside group.
    pub gid: u32,
    /// Inside supplementary groups.
    pub groups: Vec<u32>,
    /// Working folder inside, absolute.
    pub cwd: Vec<u8>,
    /// Program and arguments.
    pub argv: Vec<Vec<u8>>,
    /// `KEY=value` entries.
    pub env: Vec<Vec<u8>>,
    /// Shown in logs.
    pub title: Vec<u8>,
    /// Wall clock at the request, milliseconds, for the log.
    pub started_at: u64,
    /// Whether [`init::INPUT`] packets follow; otherwise standard input is empty.
    pub input: bool,
}

impl Run {
    /// The body of a run request.
    pub fn encode(&self) -> Vec<u8> {
        let head = Writer::body()
            .u32(self.uid)
            .u32(self.gid)
            .u32(u32::try_from(self.groups.len()).unwrap_or(0));
        self.groups
            .iter()
            .fold(head, |writer, group| writer.u32(*group))
            .bytes(&self.cwd)
            .list(&self.argv)
            .list(&self.env)
            .bytes(&self.title)
            .u64(self.started_at)
            .u8(self.input.into())
            .finish()
    }

    /// From the body of a run request.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body);
        let (uid, gid) = (reader.u32()?, reader.u32()?);
        let count = reader.u32()? as usize;
        if count > reader.rest().len() / 4 {
            return None;
        }
        let groups = (0..count).map(|_| reader.u32()).collect::<Option<Vec<_>>>()?;
        Some(Self {
            uid,
            gid,
            groups,
            cwd: reader.bytes()?.to_vec(),
            argv: reader.list()?.into_iter().map(<[u8]>::to_vec).collect(),
            env: reader.list()?.into_iter().map(<[u8]>::to_vec).collect(),
            title: reader.bytes()?.to_vec(),
            started_at: reader.u64()?,
            input: reader.flag()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_back_as_they_were() {
        let create = Create {
            slot: 7,
            hostname: b"box".to_vec(),
            folder: b"/pool/x".to_vec(),
            overlays: vec![Overlay {
                target: b"usr".to_vec(),
                lower: vec![b"a".to_vec(), b"b".to_vec()],
                upper: b"usr-upper".to_vec(),
                work: b"usr-work".to_vec(),
            }],
            volumes: vec![Volume {
                folder: b"/pool/v".to_vec(),
                subpath: b"a/b".to_vec(),
                target: b"data".to_vec(),
                read_only: true,
            }],
            shm_bytes: 1,
            open_files: 2,
            pids: 4,
            file_bytes: 5,
            log_bytes: 3,
        };
        let bytes = create.encode();
        assert_eq!(Create::decode(&mut Reader::new(&bytes[1..])), Some(create));
        let run = Run {
            uid: 1,
            groups: vec![5, 6],
            argv: vec![b"a".to_vec()],
            input: true,
            ..Run::default()
        };
        assert_eq!(Run::decode(&run.encode()), Some(run));
    }

    #[test]
    fn every_cut_message_is_refused() {
        let run = Run {
            argv: vec![b"sh".to_vec(), b"-c".to_vec()],
            title: b"t".to_vec(),
            ..Run::default()
        };
        let bytes = run.encode();
        for length in 0..bytes.len() {
            assert_eq!(Run::decode(&bytes[..length]), None, "cut at {length}");
        }
    }

    #[test]
    fn a_lying_count_allocates_nothing() {
        let bytes = Writer::body().u32(u32::MAX).finish();
        assert!(Reader::new(&bytes).list().is_none());
        let bytes = Writer::body().u32(u32::MAX).finish();
        assert!(Reader::new(&bytes).bytes().is_none());
    }
}
