//! The audit: one line per event in a bounded file per sandbox, `<folder>/<id>.log` and `<id>.log.old`.
//!
//! Lines go to the file at once, so that neither a dead server nor a killed network process loses one that was
//! written; a connection has a line when it opens and one when it ends. The older half is dropped at the
//! bound. Denials beyond [`DENIALS_PER_SECOND`] are counted together in one line.

use std::collections::HashMap;
use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use crate::control::{SandboxId, hexadecimal};

/// Bytes of one file; a sandbox has two.
pub const MAX_FILE: u64 = 4 * 1024 * 1024;
/// Denials of one sandbox that get a line of their own, per second.
pub const DENIALS_PER_SECOND: u32 = 32;
/// Files kept open, in all.
const MAX_OPEN: usize = 128;

/// What a line tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A connection or flow was allowed and is being dialled.
    Open,
    /// It ended; the bytes are final.
    End,
    /// A connection, datagram or query was denied.
    Denied,
}

impl Kind {
    const ALL: [(Self, &'static str); 3] =
        [(Self::Open, "open"), (Self::End, "end"), (Self::Denied, "denied")];
}

/// One event. As text: `1 kind started-ms duration-ms protocol address port name verdict up down count`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Record {
    /// What it tells.
    pub kind: Kind,
    /// When the connection began, in milliseconds since 1970.
    pub started: u64,
    /// Milliseconds until this line.
    pub duration: u64,
    /// `tcp`, `udp` or `dns`.
    pub protocol: String,
    /// Address that the sandbox used.
    pub address: IpAddr,
    /// Port that the sandbox used.
    pub port: u16,
    /// The name that it stands for, if known.
    pub name: Option<String>,
    /// `allowed`, or the reason of a denial or failure.
    pub verdict: String,
    /// Bytes from the sandbox.
    pub up: u64,
    /// Bytes to the sandbox.
    pub down: u64,
    /// Events that this line stands for; more than 1 only for denials counted together.
    pub count: u64,
}

impl fmt::Display for Record {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind =
            Kind::ALL.iter().find(|(kind, _)| *kind == self.kind).map_or("", |(_, text)| text);
        let Self { started, duration, protocol, address, port, verdict, up, down, count, .. } =
            self;
        let name = self.name.as_deref().unwrap_or("-");
        write!(f, "1 {kind} {started} {duration} {protocol} {address} {port} {name} {verdict} ")?;
        write!(f, "{up} {down} {count}")
    }
}

impl FromStr for Record {
    type Err = ();

    /// Reads a line without its end.
    fn from_str(line: &str) -> Result<Self, ()> {
        let fields: Vec<&str> = line.split(' ').collect();
        let [
            version,
            kind,
            started,
            duration,
            protocol,
            address,
            port,
            name,
            verdict,
            up,
            down,
            count,
        ] = <[&str; 12]>::try_from(fields).map_err(drop)?;
        let number = |text: &str| text.parse::<u64>().map_err(drop);
        let known = Kind::ALL.iter().find(|(_, text)| *text == kind);
        if version != "1" {
            return Err(());
        }
        Ok(Self {
            kind: known.ok_or(())?.0,
            started: number(started)?,
            duration: number(duration)?,
            protocol: protocol.to_owned(),
            address: address.parse().map_err(drop)?,
            port: port.parse().map_err(drop)?,
            name: (name != "-").then(|| name.to_owned()),
            verdict: verdict.to_owned(),
            up: number(up)?,
            down: number(down)?,
            count: number(count)?,
        })
    }
}

impl Record {
    /// A denial of one event, now.
    pub(crate) fn denial(protocol: &str, target: SocketAddr, name: Option<String>) -> Self {
        Self {
            kind: Kind::Denied,
            started: 0,
            duration: 0,
            protocol: protocol.to_owned(),
            address: target.ip(),
            port: target.port(),
            name,
            verdict: String::new(),
            up: 0,
            down: 0,
            count: 1,
        }
    }
}

/// Name of a sandbox's file in the folder.
pub fn file_name(id: &SandboxId) -> String {
    format!("{}.log", hexadecimal(id))
}

/// The writer of all files.
#[derive(Debug)]
pub(crate) struct Audit {
    folder: PathBuf,
    open: HashMap<SandboxId, (File, u64)>,
    /// Lines that could not be written: the disk is full or the folder is gone.
    pub(crate) lost: u64,
    /// Connections and flows that were allowed.
    pub(crate) allowed: u64,
    /// Connections, datagrams and queries that were denied, those counted together each.
    pub(crate) denied: u64,
}

impl Audit {
    pub(crate) fn new(folder: PathBuf) -> Self {
        Self { folder, open: HashMap::new(), lost: 0, allowed: 0, denied: 0 }
    }

    /// Appends a line.
    pub(crate) fn write(&mut self, id: &SandboxId, record: &Record) {
        match record.kind {
            Kind::Open => self.allowed += 1,
            Kind::Denied => self.denied += record.count,
            Kind::End => {}
        }
        let line = format!("{record}\n");
        if self.append(id, line.as_bytes()).is_err() {
            self.open.remove(id);
            self.lost += 1;
        }
    }

    /// Lets go of a sandbox's file.
    pub(crate) fn close(&mut self, id: &SandboxId) {
        self.open.remove(id);
    }

    fn append(&mut self, id: &SandboxId, line: &[u8]) -> std::io::Result<()> {
        let length = line.len() as u64;
        if self.open.get(id).is_some_and(|(_, size)| size + length > MAX_FILE) {
            self.open.remove(id);
            let path = self.folder.join(file_name(id));
            std::fs::rename(&path, path.with_extension("log.old"))?;
        }
        if !self.open.contains_key(id) {
            if self.open.len() >= MAX_OPEN {
                self.open.clear();
            }
            let path = self.folder.join(file_name(id));
            let file = OpenOptions::new().append(true).create(true).open(path)?;
            let size = file.metadata()?.len();
            self.open.insert(*id, (file, size));
        }
        if let Some((file, size)) = self.open.get_mut(id) {
            file.write_all(line)?;
            *size += length;
        }
        Ok(())
    }
}

/// Denials of one sandbox in the present second.
#[derive(Debug, Default)]
pub(crate) struct Denials {
    window: u64,
    written: u32,
    /// The last one that got no line, and how many there were.
    pub(crate) together: Option<Record>,
}

impl Denials {
    /// The record to write now, if any; the rest is counted. `now` in milliseconds.
    pub(crate) fn take(&mut self, record: Record, now: u64) -> Option<Record> {
        if now / 1000 != self.window {
            (self.window, self.written) = (now / 1000, 0);
        }
        if self.written < DENIALS_PER_SECOND {
            self.written += 1;
            return Some(record);
        }
        let count = self.together.as_ref().map_or(0, |former| former.count);
        self.together = Some(Record { count: count + 1, ..record });
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        let target = "1.2.3.4:80".parse().unwrap();
        let denial = Record::denial("tcp", target, Some("a.com".to_owned()));
        Record { verdict: "name".to_owned(), up: 1, down: 2, started: 3, duration: 4, ..denial }
    }

    #[test]
    fn a_record_comes_back_from_its_line() {
        let line = record().to_string();
        assert_eq!(line, "1 denied 3 4 tcp 1.2.3.4 80 a.com name 1 2 1");
        assert_eq!(line.parse(), Ok(record()));
        for bad in ["", "2 denied 3 4 tcp 1.2.3.4 80 a name 1 2 1", "1 denied", &line[..9]] {
            assert_eq!(bad.parse::<Record>(), Err(()));
        }
        crate::seeded::mutations(line.as_bytes(), |bytes| {
            let _ = String::from_utf8_lossy(bytes).parse::<Record>();
        });
    }

    #[test]
    fn files_stay_within_their_bound_and_keep_the_newest() {
        let folder = std::env::temp_dir().join(format!("mayfly-audit-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let mut audit = Audit::new(folder.clone());
        let count = 3 * MAX_FILE / (record().to_string().len() as u64 + 1);
        for index in 0..count {
            audit.write(&[1; 16], &Record { count: index, ..record() });
        }
        let path = folder.join(file_name(&[1; 16]));
        let text = std::fs::read_to_string(&path).unwrap();
        let last: Record = text.lines().last().unwrap().parse().unwrap();
        let old = std::fs::metadata(path.with_extension("log.old")).unwrap().len();
        assert_eq!((last.count, audit.lost), (count - 1, 0));
        assert!(text.len() as u64 <= MAX_FILE && old <= MAX_FILE && old > MAX_FILE / 2);
        std::fs::remove_dir_all(folder).unwrap();
    }

    #[test]
    fn a_flood_of_denials_is_counted_together() {
        let mut denials = Denials::default();
        let written = (0..1000).filter(|_| denials.take(record(), 5_000).is_some()).count();
        assert_eq!(written, DENIALS_PER_SECOND as usize);
        assert_eq!(denials.together.take().unwrap().count, 1000 - u64::from(DENIALS_PER_SECOND));
        assert!(denials.take(record(), 6_000).is_some());
    }
}
