//! Fuzz bodies of everything that this host reads from processes, disks and sandboxes.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use mayfly_core::Kind;
use mayfly_core::process::ExecRequest;
use mayfly_init::protocol::{Create, Hello, LOG_HEAD, Prepare, Reader, Run, fork};

use super::exec::{Output, Said, refusal};
use super::forkserver::{judge, setup_failure};
use super::logs::{Head, MAX_TITLE};
use super::spec::Spec;
use super::stay::fuzz::{stay_data, stay_head, stay_request};
use super::users::{Accounts, IDS, groups, users};

/// A body: its name and the function.
type Body = (&'static str, fn(&[u8]));

pub(crate) const BODIES: &[Body] = &[
    ("init_request", init_request),
    ("init_answer", init_answer),
    ("fork_request", fork_request),
    ("fork_answer", fork_answer),
    ("log_head", log_head),
    ("stay_data", stay_data),
    ("stay_request", stay_request),
    ("stay_head", stay_head),
    ("sandbox_spec", sandbox_spec),
    ("accounts", accounts),
];

/// Supplementary groups at most.
const MAX_GROUPS: usize = 64;

/// A run request that is read is written the same again, byte for byte; no part of one is taken for whole.
fn init_request(bytes: &[u8]) {
    let Some(run) = Run::decode(bytes) else { return };
    let again = run.encode();
    assert!(again.len() <= bytes.len(), "more was read than there is");
    let (flag, fields) = again.split_last().expect("a run has its last flag");
    assert!(bytes.starts_with(fields), "a run is written otherwise than it was read");
    assert_eq!(*flag != 0, bytes[fields.len()] != 0);
    assert_eq!(Run::decode(&again), Some(run));
    assert_eq!(Run::decode(fields), None, "a cut run is taken for whole");
}

/// What a hostile process 1 answers to one command, packet by packet: output stays within the limit, codes
/// within their range, refusals are typed.
fn init_answer(bytes: &[u8]) {
    const LIMIT: usize = 64;
    let asked = ExecRequest {
        argv: vec!["/bin/sh".to_owned()],
        title: String::new(),
        cwd: Some("/asked".to_owned()),
        env: BTreeMap::new(),
        stdin: Bytes::new(),
        timeout: Duration::ZERO,
        max_output: LIMIT,
    };
    let mut output = Output { bytes: Vec::new(), limit: LIMIT, truncated: false };
    let mut said = 0;
    // The first byte is the length of each packet.
    let (size, packets) = bytes.split_first().map_or((1, bytes), |(size, rest)| (*size, rest));
    for packet in packets.chunks(usize::from(size.max(1))) {
        match Said::read(packet) {
            Some(Said::Output(piece)) => {
                assert_eq!(piece.len() + 1, packet.len());
                said += piece.len();
                output.append(piece);
            }
            Some(Said::Exited(code, _)) => assert!((0..=255).contains(&code)),
            Some(Said::Failed(stage, errno)) => {
                let error = refusal(asked.cwd.as_deref(), stage, errno);
                assert!(matches!(error.kind(), Kind::Invalid | Kind::Limit | Kind::Internal));
                assert!(!error.message().is_empty());
            }
            Some(Said::Gone) => assert!(packet.is_empty()),
            None => {}
        }
    }
    assert_eq!(output.bytes.len(), said.min(LIMIT));
    assert_eq!(output.truncated, said > LIMIT);
    let whole = output.finish(0, 1);
    assert_eq!(whole.truncated, whole.output.len() > LIMIT, "the cut is not marked");
}

/// A request to the forkserver that is read is written the same again.
fn fork_request(bytes: &[u8]) {
    let mut reader = Reader::new(bytes);
    let Some(kind) = reader.u8() else { return };
    let again = match kind {
        fork::HELLO => Hello::decode(&mut reader).map(|hello| hello.encode()),
        fork::PREPARE => Prepare::decode(&mut reader).map(|prepare| prepare.encode()),
        fork::CREATE => Create::decode(&mut reader).map(|create| create.encode()),
        _ => return,
    };
    let Some(again) = again else { return };
    let read = &bytes[..bytes.len() - reader.rest().len()];
    assert_eq!(again.len(), read.len(), "another length was read than is written");
    if kind != fork::HELLO {
        assert_eq!(again, read, "a request is written otherwise than it was read");
    }
}

/// An answer of the forkserver is taken, or becomes a typed refusal with a remedy.
fn fork_answer(bytes: &[u8]) {
    match judge((bytes.to_vec(), Vec::new())) {
        Ok((answer, _)) => assert_eq!(answer, bytes),
        Err(error) => {
            assert!(matches!(error.kind(), Kind::Limit | Kind::Unavailable | Kind::Internal));
        }
    }
    let error = setup_failure(bytes);
    assert!(error.is_retryable() && error.hint().is_some());
    assert!(error.message().starts_with("the sandbox could not be isolated: "));
}

/// The head of a log gives a title within its bound and an end only where there is one.
fn log_head(bytes: &[u8]) {
    let mut head = [0; LOG_HEAD];
    let length = bytes.len().min(LOG_HEAD);
    head[..length].copy_from_slice(&bytes[..length]);
    let Some(read) = Head::read(&head) else { return };
    assert!(read.title_length <= MAX_TITLE);
    assert!(read.started_at.0 >= 0, "a log began before time");
    assert_eq!(read.exit_code.is_none(), head[8..12] == i32::MIN.to_le_bytes());
}

/// A sandbox's description that is read is written and read as the same.
fn sandbox_spec(bytes: &[u8]) {
    let Some(spec) = Spec::decode(bytes) else { return };
    assert!(spec.workdir.as_ref().is_none_or(|workdir| !workdir.is_empty()));
    let again = spec.encode();
    assert!(again.len() <= bytes.len(), "a description grows when it is written again");
    assert_eq!(Spec::decode(&again), Some(spec));
}

/// passwd, group and a wanted user, with a line of `--` between them: ids are always inside ones, names are
/// single fields, folders absolute.
fn accounts(bytes: &[u8]) {
    let mut parts = bytes.split_inclusive(|byte| *byte == b'\n');
    let mut part = || {
        let lines = parts.by_ref().take_while(|line| *line != b"--\n");
        lines.collect::<Vec<_>>().concat()
    };
    let (passwd, group, wanted) = (part(), part(), part());
    let wanted = String::from_utf8_lossy(&wanted);
    let wanted = wanted.trim_end_matches('\n');
    for user in users(&passwd) {
        assert!(user.uid < IDS && user.gid < IDS);
        assert!(!user.name.is_empty() && !user.name.contains([':', '\n', '\0']));
        assert!(user.home.starts_with('/') && user.shell.starts_with('/'));
    }
    for group in groups(&group) {
        assert!(group.gid < IDS && !group.name.contains([':', '\n']));
        assert!(group.members.iter().all(|member| !member.is_empty() && !member.contains(',')));
    }
    let accounts = Accounts::parse(&passwd, &group);
    match accounts.resolve(wanted) {
        Ok(identity) => {
            assert!(identity.uid < IDS && identity.gid < IDS);
            assert!(identity.groups.len() <= MAX_GROUPS);
            assert!(identity.groups.is_sorted() && identity.groups.iter().all(|id| *id < IDS));
            assert!(identity.home.starts_with('/') && identity.shell.starts_with('/'));
            assert!(!identity.name.is_empty() && !identity.name.contains([':', '\n']));
        }
        Err(error) => {
            assert_eq!(error.kind(), Kind::Invalid);
            assert!(error.message().contains("does not exist") && error.hint().is_some());
        }
    }
}
