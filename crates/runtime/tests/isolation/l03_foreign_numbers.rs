//! L3: a socket or number that now belongs to somebody else leads to no signal for him.

use std::os::unix::fs::symlink;

use mayfly_core::ports::runtime::Runtime as _;
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::harness::Bench;

#[test]
fn l03_whoever_else_listens_in_place_of_a_sandbox_is_left_alone() {
    let Some(mut bench) = Bench::open("L3") else { return };
    let sandbox = bench.sandbox();
    let (id, pid) = (sandbox.id(), sandbox.pid());
    let kept = bench.spec().id;
    let run = bench.dir().join("run");
    // This process listens where a sandbox of an earlier server would.
    let path = run.join(kept.to_string());
    let listener = rustix::net::socket_with(
        AddressFamily::UNIX,
        SocketType::SEQPACKET,
        SocketFlags::CLOEXEC,
        None,
    )
    .unwrap();
    rustix::net::bind(&listener, &SocketAddrUnix::new(&path).unwrap()).unwrap();
    rustix::net::listen(&listener, 8).unwrap();
    // A name without anybody, and odd names, are passed over.
    symlink("/etc/passwd", run.join(bench.spec().id.to_string())).unwrap();
    std::fs::write(run.join("no id"), "").unwrap();
    bench.reopen();
    let list = bench.wait(bench.runtime().list()).unwrap();
    assert_eq!(list.iter().map(|seen| seen.id).collect::<Vec<_>>(), [id], "only the real one");
    assert_eq!(bench.runtime().inspect(id).unwrap().0, pid);
    assert!(!path.exists(), "the name that lied is gone; this process lives to say so");
    assert!(std::path::Path::new("/etc/passwd").exists());
}
