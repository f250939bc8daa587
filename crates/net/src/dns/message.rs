//! DNS messages (RFC 1035): a strict reader of questions and answers, and a writer of both.

use std::net::IpAddr;

use crate::names::Name;

pub(crate) const TYPE_A: u16 = 1;
const TYPE_CNAME: u16 = 5;
pub(crate) const TYPE_AAAA: u16 = 28;
const TYPE_OPT: u16 = 41;
const CLASS_INTERNET: u16 = 1;

/// Longest question that is read: longer ones carry something else.
pub(crate) const MAX_QUESTION: usize = 512;
/// Longest answer over UDP without extensions.
const MAX_UDP: usize = 512;
const HEAD: usize = 12;
const MAX_RECORDS: u16 = 128;
const MAX_CHAIN: usize = 8;

/// How a question ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Fine = 0,
    Malformed = 1,
    Failed = 2,
    NoSuchName = 3,
    NotImplemented = 4,
    Refused = 5,
}

/// A question of a sandbox.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Question {
    id: u16,
    wants_recursion: bool,
    /// Nothing when it is none that could be allowed: the root, or labels of other bytes.
    pub(crate) name: Option<Name>,
    pub(crate) kind: u16,
    /// The question as it was written, to be repeated in the answer.
    text: Vec<u8>,
}

/// What an answer of a resolver says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Found {
    /// Addresses (none: the name has no such ones) and the seconds that they hold.
    Addresses(Vec<IpAddr>, u32),
    NoSuchName,
    Failed,
    /// Cut: to be asked again over TCP.
    Cut,
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes([*bytes.get(at)?, *bytes.get(at + 1)?]))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// The name at a place, and where it ends. Pointers go backwards only. Inner nothing: no name that we know.
fn name_at(bytes: &[u8], mut at: usize, pointers: bool) -> Option<(Option<Name>, usize)> {
    let mut labels: Vec<&[u8]> = Vec::new();
    let mut end = None;
    let mut total = 0;
    loop {
        let length = usize::from(*bytes.get(at)?);
        match length {
            0 => {
                let end = end.unwrap_or(at + 1);
                let is_plain = labels.iter().all(|label| !label.contains(&b'.'));
                let text = String::from_utf8(labels.join(&b'.')).ok();
                let name = text.filter(|_| is_plain).and_then(|text| Name::parse(&text));
                return Some((name.filter(|_| !labels.is_empty()), end));
            }
            1..=63 => {
                labels.push(bytes.get(at + 1..at + 1 + length)?);
                total += length + 1;
                at += length + 1;
                if total > 254 {
                    return None;
                }
            }
            192.. if pointers => {
                let target = usize::from(u16_at(bytes, at)? & 0x3fff);
                end = end.or(Some(at + 2));
                if target >= at {
                    return None;
                }
                at = target;
            }
            _ => return None,
        }
    }
}

/// Reads a question; the error is the answer to send, if it deserves one.
pub(crate) fn read_question(bytes: &[u8]) -> Result<Question, Option<Vec<u8>>> {
    let flags = u16_at(bytes, 2).ok_or(None)?;
    if bytes.len() < HEAD || flags & 0x8000 != 0 {
        return Err(None);
    }
    let id = u16_at(bytes, 0).ok_or(None)?;
    let refuse = |code: Code| Some(head(id, 0x8000 | (flags & 0x7900) | code as u16, 0, 0));
    if flags & 0x7800 != 0 {
        return Err(refuse(Code::NotImplemented));
    }
    question_after_head(bytes, id, flags).ok_or_else(|| refuse(Code::Malformed))
}

fn question_after_head(bytes: &[u8], id: u16, flags: u16) -> Option<Question> {
    let counts = [u16_at(bytes, 4)?, u16_at(bytes, 6)?, u16_at(bytes, 8)?];
    if counts != [1, 0, 0] || flags & 0x0200 != 0 || bytes.len() > MAX_QUESTION {
        return None;
    }
    let (name, end) = name_at(bytes, HEAD, false)?;
    let (kind, class) = (u16_at(bytes, end)?, u16_at(bytes, end + 2)?);
    let mut at = end + 4;
    match u16_at(bytes, 10)? {
        0 => {}
        1 => {
            // The one extension record that every resolver sends: root name, type, size, flags, data.
            let is_extension = *bytes.get(at)? == 0 && u16_at(bytes, at + 1)? == TYPE_OPT;
            at += 11 + usize::from(u16_at(bytes, at + 9)?);
            is_extension.then_some(())?;
        }
        _ => return None,
    }
    let text = bytes.get(HEAD..end + 4)?.to_vec();
    let is_whole = at == bytes.len() && class == CLASS_INTERNET;
    is_whole.then_some(Question { id, wants_recursion: flags & 0x0100 != 0, name, kind, text })
}

fn head(id: u16, flags: u16, questions: u16, answers: u16) -> Vec<u8> {
    [id, flags, questions, answers, 0, 0].iter().flat_map(|word| word.to_be_bytes()).collect()
}

impl Question {
    /// The answer with these addresses, as many as fit.
    pub(crate) fn answer(&self, code: Code, addresses: &[IpAddr], seconds: u32) -> Vec<u8> {
        let size = if self.kind == TYPE_A { 16 } else { 28 };
        let fitting = (MAX_UDP - HEAD - self.text.len()) / size;
        let addresses = &addresses[..addresses.len().min(fitting)];
        let flags = 0x8080 | u16::from(self.wants_recursion) << 8 | code as u16;
        let mut message = head(self.id, flags, 1, u16::try_from(addresses.len()).unwrap_or(0));
        message.extend_from_slice(&self.text);
        for address in addresses {
            let (kind, octets) = match address {
                IpAddr::V4(v4) => (TYPE_A, v4.octets().to_vec()),
                IpAddr::V6(v6) => (TYPE_AAAA, v6.octets().to_vec()),
            };
            message.extend_from_slice(&[0xc0, 12]);
            message.extend_from_slice(&kind.to_be_bytes());
            message.extend_from_slice(&CLASS_INTERNET.to_be_bytes());
            message.extend_from_slice(&seconds.to_be_bytes());
            message.extend_from_slice(&u16::try_from(octets.len()).unwrap_or(0).to_be_bytes());
            message.extend_from_slice(&octets);
        }
        message
    }
}

/// A question to a resolver.
pub(crate) fn write_question(id: u16, name: &Name, kind: u16) -> Vec<u8> {
    let mut message = head(id, 0x0100, 1, 0);
    for label in name.as_str().split('.') {
        message.push(u8::try_from(label.len()).unwrap_or(0));
        message.extend_from_slice(label.as_bytes());
    }
    message.push(0);
    message.extend_from_slice(&kind.to_be_bytes());
    message.extend_from_slice(&CLASS_INTERNET.to_be_bytes());
    message
}

/// Reads a resolver's answer to exactly this question; nothing when it is not one.
pub(crate) fn read_answer(bytes: &[u8], id: u16, name: &Name, kind: u16) -> Option<Found> {
    let flags = u16_at(bytes, 2)?;
    if u16_at(bytes, 0)? != id || flags & 0xf800 != 0x8000 || u16_at(bytes, 4)? != 1 {
        return None;
    }
    let (asked, end) = name_at(bytes, HEAD, false)?;
    let asked = (asked.as_ref(), u16_at(bytes, end)?, u16_at(bytes, end + 2)?);
    if asked != (Some(name), kind, CLASS_INTERNET) {
        return None;
    }
    match flags & 0xf {
        _ if flags & 0x0200 != 0 => Some(Found::Cut),
        0 => Some(read_records(bytes, end + 4, name, kind).unwrap_or(Found::Failed)),
        3 => Some(Found::NoSuchName),
        _ => Some(Found::Failed),
    }
}

enum Data {
    Alias(Name),
    Address(IpAddr),
}

fn read_records(bytes: &[u8], mut at: usize, name: &Name, kind: u16) -> Option<Found> {
    let count = u16_at(bytes, 6)?;
    if count > MAX_RECORDS {
        return None;
    }
    let mut records = Vec::new();
    for _ in 0..count {
        let (owner, end) = name_at(bytes, at, true)?;
        let (of, class, seconds) =
            (u16_at(bytes, end)?, u16_at(bytes, end + 2)?, u32_at(bytes, end + 4)?);
        let length = usize::from(u16_at(bytes, end + 8)?);
        let data = bytes.get(end + 10..end + 10 + length)?;
        at = end + 10 + length;
        let data = match of {
            _ if class != CLASS_INTERNET => None,
            TYPE_CNAME => name_at(bytes, end + 10, true)?.0.map(Data::Alias),
            TYPE_A if kind == of => {
                Some(Data::Address(IpAddr::from(<[u8; 4]>::try_from(data).ok()?)))
            }
            TYPE_AAAA if kind == of => {
                Some(Data::Address(IpAddr::from(<[u8; 16]>::try_from(data).ok()?)))
            }
            _ => None,
        };
        records.extend(owner.zip(data).map(|(owner, data)| (owner, data, seconds)));
    }
    Some(follow(&records, name))
}

/// The addresses at the end of the chain of aliases that begins at this name.
fn follow(records: &[(Name, Data, u32)], name: &Name) -> Found {
    let mut current = name;
    let mut seconds = u32::MAX;
    for _ in 0..MAX_CHAIN {
        let own = || records.iter().filter(|(owner, _, _)| owner == current);
        let addresses = own().filter_map(|(_, data, of)| match data {
            Data::Address(address) => Some((*address, *of)),
            Data::Alias(_) => None,
        });
        let (found, times): (Vec<IpAddr>, Vec<u32>) = addresses.unzip();
        if !found.is_empty() {
            return Found::Addresses(found, times.into_iter().fold(seconds, u32::min));
        }
        let alias = own().find_map(|(_, data, of)| match data {
            Data::Alias(alias) => Some((alias, *of)),
            Data::Address(_) => None,
        });
        let Some((alias, of)) = alias else { break };
        seconds = seconds.min(of);
        current = alias;
    }
    Found::Addresses(Vec::new(), 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        Name::parse(text).unwrap()
    }

    fn encoded(text: &str) -> Vec<u8> {
        let message = write_question(0, &name(text), TYPE_A);
        message[HEAD..message.len() - 4].to_vec()
    }

    fn record(owner: &str, kind: u16, seconds: u32, data: &[u8]) -> Vec<u8> {
        let mut record = encoded(owner);
        for part in [kind.to_be_bytes(), CLASS_INTERNET.to_be_bytes()] {
            record.extend_from_slice(&part);
        }
        record.extend_from_slice(&seconds.to_be_bytes());
        record.extend_from_slice(&u16::try_from(data.len()).unwrap().to_be_bytes());
        record.extend_from_slice(data);
        record
    }

    fn reply(asked: &str, flags: u16, records: &[Vec<u8>]) -> Vec<u8> {
        let mut message = write_question(7, &name(asked), TYPE_A);
        message[2..4].copy_from_slice(&flags.to_be_bytes());
        message[6..8].copy_from_slice(&u16::try_from(records.len()).unwrap().to_be_bytes());
        message.extend_from_slice(&records.concat());
        message
    }

    fn read(asked: &str, message: &[u8]) -> Option<Found> {
        read_answer(message, 7, &name(asked), TYPE_A)
    }

    #[test]
    fn questions_are_read_and_answered() {
        let bytes = write_question(9, &name("www.Example.com"), TYPE_AAAA);
        let question = read_question(&bytes).unwrap();
        assert_eq!((question.name.clone().unwrap(), question.kind), (name("www.example.com"), 28));
        let answer = question.answer(Code::Fine, &["2606::1".parse().unwrap()], 60);
        let read = read_answer(&answer, 9, &name("www.example.com"), TYPE_AAAA);
        assert_eq!(read, Some(Found::Addresses(vec!["2606::1".parse().unwrap()], 60)));
        let many = vec![IpAddr::from([1, 2, 3, 4]); 500];
        let question = read_question(&write_question(9, &name("a.com"), TYPE_A)).unwrap();
        assert!(question.answer(Code::Fine, &many, 1).len() <= 512);
    }

    #[test]
    fn an_extension_record_is_allowed_and_nothing_else() {
        let mut bytes = write_question(9, &name("a.com"), TYPE_A);
        bytes[11] = 1;
        let extended = [bytes.as_slice(), &[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0]].concat();
        assert!(read_question(&extended).is_ok());
        assert!(read_question(&[extended.as_slice(), b"x"].concat()).is_err());
        assert!(
            read_question(&[bytes.as_slice(), &record("a.com", 1, 1, b"1234")].concat()).is_err()
        );
        assert!(read_question(&bytes).is_err());
    }

    #[test]
    fn what_is_no_question_is_refused_or_ignored() {
        let good = write_question(9, &name("a.com"), TYPE_A);
        let changed = |at: usize, value: u8| {
            let mut bytes = good.clone();
            bytes[at] = value;
            read_question(&bytes)
        };
        assert_eq!(read_question(&[]), Err(None));
        assert_eq!(read_question(&good[..11]), Err(None));
        assert_eq!(changed(2, 0x81), Err(None), "an answer is never answered");
        for (at, value, code) in [
            (2, 0x28, 4),
            (5, 2, 1),
            (7, 1, 1),
            (9, 1, 1),
            (2, 3, 1),
            (12, 0xc0, 1),
            (12, 64, 1),
            (good.len() - 1, 3, 1),
        ] {
            let answer = changed(at, value).unwrap_err().unwrap();
            assert_eq!(answer[3] & 0xf, code, "{at}");
        }
        let odd = changed(13, b'.').unwrap();
        assert_eq!(odd.name, None);
        let long = [good.as_slice(), &[0; 600]].concat();
        assert!(read_question(&long).is_err());
    }

    #[test]
    fn chains_of_aliases_are_followed_to_their_end() {
        let chain = [
            record("a.com", 5, 300, &encoded("b.com")),
            record("b.com", 5, 20, &encoded("c.com")),
            record("c.com", 1, 100, &[1, 2, 3, 4]),
            record("other.com", 1, 1, &[6, 6, 6, 6]),
        ];
        let expected = Found::Addresses(vec![[1, 2, 3, 4].into()], 20);
        assert_eq!(read("a.com", &reply("a.com", 0x8180, &chain)), Some(expected));
        let circle =
            [record("a.com", 5, 1, &encoded("b.com")), record("b.com", 5, 1, &encoded("a.com"))];
        let nothing = Some(Found::Addresses(Vec::new(), 0));
        assert_eq!(read("a.com", &reply("a.com", 0x8180, &circle)), nothing);
        assert_eq!(read("a.com", &reply("a.com", 0x8180, &chain[3..])), nothing);
    }

    #[test]
    fn foreign_answers_are_ignored_and_bad_ones_fail() {
        let records = [record("a.com", 1, 9, &[1, 2, 3, 4])];
        let good = reply("a.com", 0x8180, &records);
        assert_eq!(read("b.com", &good), None);
        assert_eq!(read_answer(&good, 8, &name("a.com"), TYPE_A), None);
        assert_eq!(read_answer(&good, 7, &name("a.com"), TYPE_AAAA), None);
        assert_eq!(read("a.com", &reply("a.com", 0x0180, &records)), None);
        assert_eq!(read("a.com", &reply("a.com", 0x8183, &[])), Some(Found::NoSuchName));
        assert_eq!(read("a.com", &reply("a.com", 0x8182, &[])), Some(Found::Failed));
        assert_eq!(read("a.com", &reply("a.com", 0x8380, &[])), Some(Found::Cut));
        let short = [record("a.com", 1, 9, &[1, 2, 3])];
        assert_eq!(read("a.com", &reply("a.com", 0x8180, &short)), Some(Found::Failed));
        assert_eq!(read("a.com", &good[..good.len() - 1]), Some(Found::Failed));
    }

    #[test]
    fn random_messages_never_panic() {
        let records = [record("a.com", 5, 300, &[0xc0, 12]), record("a.com", 1, 9, &[1, 2, 3, 4])];
        crate::seeded::mutations(&reply("a.com", 0x8180, &records), |bytes| {
            let _ = read("a.com", bytes);
            let _ = read_question(bytes).map(|question| question.answer(Code::Refused, &[], 0));
        });
    }
}
