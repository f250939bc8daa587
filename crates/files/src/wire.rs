//! What goes over the socket between the server and its helper, as bytes. Both come from one build, so
//! there are no versions; what is out of order is an error all the same.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::call::{Answer, Call, Change, Content, FileKind, Info, Match};
use crate::refusal::{Code, Kind, Refusal};
use crate::root::UserIds;

/// Most bytes of a request: a replace call with all its paths and texts.
pub const REQUEST: usize = 64 << 20;
/// Most bytes of a reply: a list with as many entries as it may have.
pub const REPLY: usize = 128 << 20;

/// What the server says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Request {
    /// First: which sandbox. Comes with its user namespace and its root folder.
    Join {
        /// How many ids the sandbox has.
        id_count: u32,
        /// Whose rights the calls have.
        user: UserIds,
        /// Where relative paths begin.
        workdir: String,
    },
    /// Make this call.
    Make {
        /// The call.
        call: Call,
    },
    /// Finish the file with this number; the path is for errors.
    Finish {
        /// Number of the file.
        upload: u32,
        /// For errors.
        path: String,
    },
    /// Forget the file with this number.
    Abandon {
        /// Number of the file.
        upload: u32,
    },
}

/// Kinds as they are written.
const KINDS: [Kind; 8] = [
    Kind::NotFound,
    Kind::Conflict,
    Kind::Invalid,
    Kind::Denied,
    Kind::Limit,
    Kind::Unavailable,
    Kind::Timeout,
    Kind::Internal,
];
const CODES: [Code; 4] =
    [Code::InvalidFilePath, Code::FileNotFound, Code::FileAccessDenied, Code::FileReadFailed];
const FILE_KINDS: [FileKind; 4] =
    [FileKind::File, FileKind::Folder, FileKind::Link, FileKind::Special];

/// Something that can be written and read again.
trait Field: Sized {
    fn put(&self, out: &mut Vec<u8>);
    fn take(from: &mut &[u8]) -> Option<Self>;
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Field for $number {
            fn put(&self, out: &mut Vec<u8>) {
                out.extend_from_slice(&self.to_le_bytes());
            }
            fn take(from: &mut &[u8]) -> Option<Self> {
                let (bytes, rest) = from.split_first_chunk()?;
                *from = rest;
                Some(Self::from_le_bytes(*bytes))
            }
        }
    )*};
}
numbers!(u8, u32, u64, i32, i64);

/// A record is its fields, one after the other.
macro_rules! records {
    ($($record:ty { $($field:ident),* })*) => {$(
        impl Field for $record {
            fn put(&self, out: &mut Vec<u8>) {
                $(self.$field.put(out);)*
            }
            fn take(from: &mut &[u8]) -> Option<Self> {
                $(let $field = Field::take(from)?;)*
                Some(Self { $($field),* })
            }
        }
    )*};
}
records! {
    Info { name, path, kind, size, mode, owner, group, modified }
    Match { file, line, content }
    Change { owner, group, mode }
    UserIds { uid, gid, groups }
    Refusal { kind, code, message, hint, errno }
}

/// One of a list is its place there.
macro_rules! choices {
    ($($choice:ty = $list:ident),*) => {$(
        impl Field for $choice {
            fn put(&self, out: &mut Vec<u8>) {
                let place = $list.iter().position(|one| one == self);
                place.and_then(|place| u8::try_from(place).ok()).unwrap_or(u8::MAX).put(out);
            }
            fn take(from: &mut &[u8]) -> Option<Self> {
                $list.get(usize::from(u8::take(from)?)).copied()
            }
        }
    )*};
}
choices!(Kind = KINDS, Code = CODES, FileKind = FILE_KINDS);

impl Field for bool {
    fn put(&self, out: &mut Vec<u8>) {
        u8::from(*self).put(out);
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        match u8::take(from)? {
            0 => Some(false),
            1 => Some(true),
            _ => None,
        }
    }
}

impl Field for String {
    fn put(&self, out: &mut Vec<u8>) {
        u32::try_from(self.len()).unwrap_or(u32::MAX).put(out);
        out.extend_from_slice(self.as_bytes());
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        let length = usize::try_from(u32::take(from)?).ok()?;
        let (bytes, rest) = from.split_at_checked(length)?;
        *from = rest;
        Self::from_utf8(bytes.to_vec()).ok()
    }
}

impl<T: Field> Field for Option<T> {
    fn put(&self, out: &mut Vec<u8>) {
        self.is_some().put(out);
        if let Some(value) = self {
            value.put(out);
        }
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        if bool::take(from)? { Some(Some(T::take(from)?)) } else { Some(None) }
    }
}

impl<T: Field> Field for Vec<T> {
    fn put(&self, out: &mut Vec<u8>) {
        u32::try_from(self.len()).unwrap_or(u32::MAX).put(out);
        for value in self {
            value.put(out);
        }
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        // No room is made ahead: the number may be a lie.
        let count = u32::take(from)?;
        (0..count).map(|_| T::take(from)).collect()
    }
}

impl<A: Field, B: Field> Field for (A, B) {
    fn put(&self, out: &mut Vec<u8>) {
        self.0.put(out);
        self.1.put(out);
    }
    fn take(from: &mut &[u8]) -> Option<Self> {
        Some((A::take(from)?, B::take(from)?))
    }
}

/// Variants by number, each with its fields.
macro_rules! variants {
    ($choice:ty { $($number:literal = $variant:ident { $($field:ident),* })* }) => {
        impl Field for $choice {
            fn put(&self, out: &mut Vec<u8>) {
                match self {$(
                    Self::$variant { $($field),* } => {
                        out.push($number);
                        $($field.put(out);)*
                    }
                )*}
            }
            fn take(from: &mut &[u8]) -> Option<Self> {
                match u8::take(from)? {
                    $($number => {
                        $(let $field = Field::take(from)?;)*
                        Some(Self::$variant { $($field),* })
                    })*
                    _ => None,
                }
            }
        }
    };
}
variants!(Call {
    0 = List { path, depth }
    1 = Info { path }
    2 = MakeFolder { path, mode }
    3 = Delete { path, recursive }
    4 = Rename { source, destination }
    5 = Find { path, text }
    6 = Search { path, pattern }
    7 = Replace { files, from, to }
    8 = Change { path, change }
    9 = Open { path }
    10 = Put { path, content }
    11 = Start { path }
});
variants!(Request {
    0 = Join { id_count, user, workdir }
    1 = Make { call }
    2 = Finish { upload, path }
    3 = Abandon { upload }
});

impl Request {
    /// As bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.put(&mut out);
        out
    }

    /// Read again; `None` when that is no request.
    pub fn decode(mut bytes: &[u8]) -> Option<Self> {
        let request = Self::take(&mut bytes)?;
        bytes.is_empty().then_some(request)
    }
}

/// A reply as bytes, and the descriptor that goes with it.
pub fn encode(reply: &Result<Answer, Refusal>) -> (Vec<u8>, Option<BorrowedFd<'_>>) {
    let mut out = Vec::new();
    let mut descriptor = None;
    match reply {
        Err(refusal) => (0_u8, refusal.clone()).put(&mut out),
        Ok(Answer::Done) => 1_u8.put(&mut out),
        Ok(Answer::Entries(entries)) => {
            2_u8.put(&mut out);
            entries.put(&mut out);
        }
        Ok(Answer::Matches(matches)) => {
            3_u8.put(&mut out);
            matches.put(&mut out);
        }
        Ok(Answer::Paths(paths)) => {
            4_u8.put(&mut out);
            paths.put(&mut out);
        }
        Ok(Answer::Replaced(replaced)) => {
            5_u8.put(&mut out);
            replaced.put(&mut out);
        }
        Ok(Answer::Opened(size, Content::Whole(content))) => {
            (6_u8, *size).put(&mut out);
            content.put(&mut out);
        }
        Ok(Answer::Opened(size, Content::File(file))) => {
            (7_u8, *size).put(&mut out);
            descriptor = Some(file.as_fd());
        }
        Ok(Answer::Kept(number, file)) => {
            (8_u8, *number).put(&mut out);
            descriptor = Some(file.as_fd());
        }
        // Stays in its process; nobody asks for it across a socket.
        Ok(Answer::Started(_)) => u8::MAX.put(&mut out),
    }
    (out, descriptor)
}

/// A reply read again; `None` when that is none.
pub fn decode(mut bytes: &[u8], descriptors: Vec<OwnedFd>) -> Option<Result<Answer, Refusal>> {
    let from = &mut bytes;
    let mut descriptors = descriptors.into_iter();
    let answer = match u8::take(from)? {
        0 => Err(Refusal::take(from)?),
        1 => Ok(Answer::Done),
        2 => Ok(Answer::Entries(Field::take(from)?)),
        3 => Ok(Answer::Matches(Field::take(from)?)),
        4 => Ok(Answer::Paths(Field::take(from)?)),
        5 => Ok(Answer::Replaced(Field::take(from)?)),
        6 => Ok(Answer::Opened(Field::take(from)?, Content::Whole(Field::take(from)?))),
        7 => Ok(Answer::Opened(Field::take(from)?, Content::File(descriptors.next()?))),
        8 => Ok(Answer::Kept(Field::take(from)?, descriptors.next()?)),
        _ => return None,
    };
    from.is_empty().then_some(answer)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn requests() -> Vec<Request> {
        let change = Change { owner: Some("ada".into()), group: None, mode: Some(0o640) };
        let path = "ü/x".to_owned();
        vec![
            Request::Join {
                id_count: 65_535,
                user: UserIds { uid: 1, gid: 2, groups: vec![3, 4] },
                workdir: "/desk".into(),
            },
            Request::Make { call: Call::List { path: path.clone(), depth: 3 } },
            Request::Make {
                call: Call::Replace {
                    files: vec![path.clone()],
                    from: "a".into(),
                    to: String::new(),
                },
            },
            Request::Make { call: Call::Change { path: path.clone(), change } },
            Request::Make { call: Call::Put { path: path.clone(), content: vec![0, 255, 7] } },
            Request::Make { call: Call::Delete { path: path.clone(), recursive: true } },
            Request::Finish { upload: 9, path },
            Request::Abandon { upload: u32::MAX },
        ]
    }

    #[test]
    fn requests_are_read_as_they_were_written() {
        for request in requests() {
            let bytes = request.encode();
            assert_eq!(Request::decode(&bytes), Some(request.clone()));
            for cut in 0..bytes.len() {
                assert_eq!(Request::decode(&bytes[..cut]), None, "{request:?} cut at {cut}");
            }
            assert_eq!(Request::decode(&[bytes, vec![0]].concat()), None, "{request:?} and more");
        }
    }

    #[test]
    fn replies_are_read_as_they_were_written() {
        let info = Info {
            name: "x".into(),
            path: "ü/x".into(),
            kind: FileKind::Special,
            size: u64::MAX,
            mode: 0o4755,
            owner: "root".into(),
            group: "7".into(),
            modified: -1,
        };
        let refusal = Refusal {
            kind: Kind::Internal,
            code: Some(Code::FileReadFailed),
            message: "m".into(),
            hint: Some("h".into()),
            errno: Some(5),
        };
        let replies = [
            Err(refusal),
            Ok(Answer::Done),
            Ok(Answer::Entries(vec![info.clone(), info])),
            Ok(Answer::Matches(vec![Match { file: "f".into(), line: 3, content: "c".into() }])),
            Ok(Answer::Paths(vec!["p".into()])),
            Ok(Answer::Replaced(vec![("f".into(), None), ("g".into(), Some("why".into()))])),
            Ok(Answer::Opened(3, Content::Whole(vec![1, 2, 3]))),
        ];
        for reply in replies {
            let (bytes, descriptor) = encode(&reply);
            assert!(descriptor.is_none());
            let read = decode(&bytes, Vec::new()).unwrap();
            assert_eq!(format!("{read:?}"), format!("{reply:?}"));
        }
        assert!(decode(&[7, 0, 0, 0, 0, 0, 0, 0, 0], Vec::new()).is_none(), "no descriptor");
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Some(request) = Request::decode(&bytes) {
                prop_assert_eq!(request.encode(), bytes.clone());
            }
            let _ = decode(&bytes, Vec::new());
        }
    }
}
