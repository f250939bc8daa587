//! The language that the server speaks with the network process: one packet per message over a unix
//! SEQPACKET socket, answered in order.
//!
//! ```text
//! request: version u8 | kind u8 | 0 u16 | number u32 | sandbox [u8; 16] | text          little-endian
//! answer:  version u8 | status u8 | 0 u16 | number u32 | body
//! ```
//! An ADD packet carries the sandbox's network namespace as its one descriptor. The text of an ASSIGN packet is
//! the sandbox's id in hexadecimal digits, a line end, and the policy.

use std::borrow::Cow;
use std::fmt;

/// Version of the language; a packet of another one is answered with [`Status::Malformed`].
pub const VERSION: u8 = 1;
/// Longest request, in bytes.
pub const MAX_REQUEST: usize = HEAD + ID_LINE + crate::policy::MAX_TEXT;
/// Longest answer, in bytes.
pub const MAX_ANSWER: usize = 32 * 1024;
/// Ids in one answer to [`Request::List`], at most.
pub const LIST_PAGE: usize = 1024;
const HEAD: usize = 24;
const ANSWER_HEAD: usize = 8;
/// Length of the line that begins the text of an ASSIGN packet.
const ID_LINE: usize = 33;

/// Id of a sandbox.
pub type SandboxId = [u8; 16];

/// An id as 32 hexadecimal digits.
pub fn hexadecimal(id: &SandboxId) -> String {
    format!("{:032x}", u128::from_be_bytes(*id))
}

/// The id of 32 hexadecimal digits.
pub fn from_hexadecimal(text: &str) -> Option<SandboxId> {
    let is_id = text.len() == 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    u128::from_str_radix(text, 16).ok().filter(|_| is_id).map(u128::to_be_bytes)
}

/// What the server asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// Who is there? Answered with the process's counters as text.
    Hello,
    /// Takes charge of a namespace (the packet's descriptor) under a policy text.
    Add(SandboxId, String),
    /// Another policy; flows that it does not allow are closed before the answer.
    SetPolicy(SandboxId, String),
    /// Closes everything of a sandbox and forgets it; of an unknown one: done.
    Remove(SandboxId),
    /// Counters of a sandbox, see [`Statistics`].
    Statistics(SandboxId),
    /// Ids greater than this one, ascending, [`LIST_PAGE`] at most.
    List(SandboxId),
    /// Gives a namespace that was added under the first id to the sandbox of the second, and sets its policy.
    Assign(SandboxId, SandboxId, String),
}

/// How a request ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// Done.
    Done,
    /// The packet is no request of this version.
    Malformed,
    /// The policy cannot be read; the running one is kept.
    BadPolicy,
    /// No such sandbox.
    Unknown,
    /// The sandbox is there already.
    Exists,
    /// A bound of the process is reached.
    Full,
    /// The host lacks a layer that is needed, named by the body.
    MissingLayer,
    /// A step of the set-up failed, named by the body; nothing of it remains.
    Failed,
}

impl Status {
    const ALL: [Self; 8] = [
        Self::Done,
        Self::Malformed,
        Self::BadPolicy,
        Self::Unknown,
        Self::Exists,
        Self::Full,
        Self::MissingLayer,
        Self::Failed,
    ];
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::Malformed => "malformed request",
            Self::BadPolicy => "bad policy",
            Self::Unknown => "unknown sandbox",
            Self::Exists => "sandbox exists",
            Self::Full => "network process is full",
            Self::MissingLayer => "host lacks a layer",
            Self::Failed => "set-up failed",
        })
    }
}

/// An answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Number of the request.
    pub number: u32,
    /// How it ended.
    pub status: Status,
    /// Ids, counters, or the text of an error.
    pub body: Vec<u8>,
}

/// Counters of one sandbox since its ADD.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Bytes from the sandbox.
    pub up: u64,
    /// Bytes to the sandbox.
    pub down: u64,
    /// Open TCP connections.
    pub connections: u64,
    /// Open UDP flows.
    pub flows: u64,
    /// TCP connections and UDP flows ever allowed.
    pub allowed: u64,
    /// Connections, datagrams and queries ever denied.
    pub denied: u64,
}

impl Request {
    fn parts(&self) -> (u8, SandboxId, Cow<'_, str>) {
        match self {
            Self::Hello => (0, [0; 16], "".into()),
            Self::Add(id, text) => (1, *id, text.into()),
            Self::SetPolicy(id, text) => (2, *id, text.into()),
            Self::Remove(id) => (3, *id, "".into()),
            Self::Statistics(id) => (4, *id, "".into()),
            Self::List(id) => (5, *id, "".into()),
            Self::Assign(from, to, text) => {
                (6, *from, format!("{}\n{text}", hexadecimal(to)).into())
            }
        }
    }

    /// The packet of this request.
    pub fn encode(&self, number: u32) -> Vec<u8> {
        let (kind, id, text) = self.parts();
        let mut packet = vec![VERSION, kind, 0, 0];
        packet.extend_from_slice(&number.to_le_bytes());
        packet.extend_from_slice(&id);
        packet.extend_from_slice(text.as_bytes());
        packet
    }

    /// Reads a packet: the number, and the request unless it is malformed.
    pub fn decode(packet: &[u8]) -> (u32, Option<Self>) {
        let Some((head, text)) = packet.split_at_checked(HEAD) else {
            return (0, None);
        };
        let number = u32::from_le_bytes(head[4..8].try_into().unwrap_or_default());
        let id: SandboxId = head[8..].try_into().unwrap_or_default();
        let text = std::str::from_utf8(text).ok().filter(|_| packet.len() <= MAX_REQUEST);
        let request = match (&head[..4], text) {
            ([VERSION, 0, 0, 0], Some("")) => Some(Self::Hello),
            ([VERSION, 1, 0, 0], Some(text)) => Some(Self::Add(id, text.to_owned())),
            ([VERSION, 2, 0, 0], Some(text)) => Some(Self::SetPolicy(id, text.to_owned())),
            ([VERSION, 3, 0, 0], Some("")) => Some(Self::Remove(id)),
            ([VERSION, 4, 0, 0], Some("")) => Some(Self::Statistics(id)),
            ([VERSION, 5, 0, 0], Some("")) => Some(Self::List(id)),
            ([VERSION, 6, 0, 0], Some(text)) => text.split_once('\n').and_then(|(to, text)| {
                Some(Self::Assign(id, from_hexadecimal(to)?, text.to_owned()))
            }),
            _ => None,
        };
        (number, request)
    }
}

impl Answer {
    /// The packet of this answer; a body beyond the bound is cut.
    pub fn encode(&self) -> Vec<u8> {
        let status = Status::ALL.iter().position(|status| *status == self.status);
        let mut packet = vec![VERSION, u8::try_from(status.unwrap_or(1)).unwrap_or(1), 0, 0];
        packet.extend_from_slice(&self.number.to_le_bytes());
        packet.extend_from_slice(&self.body[..self.body.len().min(MAX_ANSWER - ANSWER_HEAD)]);
        packet
    }

    /// Reads a packet; nothing when it is no answer of this version.
    pub fn decode(packet: &[u8]) -> Option<Self> {
        let (head, body) = packet.split_at_checked(ANSWER_HEAD)?;
        let number = u32::from_le_bytes(head[4..].try_into().ok()?);
        let status = *Status::ALL.get(usize::from(head[1]))?;
        let is_ours = head[0] == VERSION && head[2..4] == [0, 0] && packet.len() <= MAX_ANSWER;
        is_ours.then(|| Self { number, status, body: body.to_vec() })
    }

    /// The ids in an answer to [`Request::List`].
    pub fn ids(&self) -> Vec<SandboxId> {
        self.body.chunks_exact(16).filter_map(|id| id.try_into().ok()).collect()
    }
}

impl Statistics {
    fn fields(&self) -> [u64; 6] {
        [self.up, self.down, self.connections, self.flows, self.allowed, self.denied]
    }

    /// The body of an answer.
    pub fn encode(&self) -> Vec<u8> {
        self.fields().iter().flat_map(|field| field.to_le_bytes()).collect()
    }

    /// Reads the body of an answer.
    pub fn decode(body: &[u8]) -> Option<Self> {
        let field = |at: usize| -> Option<u64> {
            Some(u64::from_le_bytes(body.get(8 * at..8 * at + 8)?.try_into().ok()?))
        };
        let fields = [field(0)?, field(1)?, field(2)?, field(3)?, field(4)?, field(5)?];
        let [up, down, connections, flows, allowed, denied] = fields;
        Some(Self { up, down, connections, flows, allowed, denied })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_and_answers_come_back_as_they_went() {
        for request in [
            Request::Hello,
            Request::Add([7; 16], "mode public".to_owned()),
            Request::SetPolicy([8; 16], String::new()),
            Request::Remove([9; 16]),
            Request::Statistics([1; 16]),
            Request::List([0; 16]),
            Request::Assign([2; 16], [0xab; 16], "mode block\n".to_owned()),
        ] {
            assert_eq!(Request::decode(&request.encode(77)), (77, Some(request)));
        }
        for status in Status::ALL {
            let answer = Answer { number: 3, status, body: b"text".to_vec() };
            assert_eq!(Answer::decode(&answer.encode()), Some(answer));
        }
        let counters =
            Statistics { up: 1, down: 2, connections: 3, flows: 4, allowed: 5, denied: 6 };
        assert_eq!(Statistics::decode(&counters.encode()), Some(counters));
    }

    #[test]
    fn foreign_packets_are_refused() {
        let good = Request::Remove([9; 16]).encode(1);
        for (at, value) in [(0, 2), (1, 9), (2, 1), (3, 1)] {
            let mut bad = good.clone();
            bad[at] = value;
            assert_eq!(Request::decode(&bad).1, None);
        }
        assert_eq!(Request::decode(&good[..23]).1, None);
        assert_eq!(Request::decode(&[good.as_slice(), b"x"].concat()).1, None);
        let long = Request::Add([1; 16], "x".repeat(MAX_REQUEST)).encode(1);
        assert_eq!(Request::decode(&long).1, None);
        crate::seeded::mutations(
            &Request::Add([7; 16], "mode block".to_owned()).encode(1),
            |bytes| {
                let _ = (Request::decode(bytes), Answer::decode(bytes), Statistics::decode(bytes));
            },
        );
    }
}
