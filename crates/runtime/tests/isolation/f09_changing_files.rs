//! F9: a file that changes while it is read ends in a defined way.

use mayfly_core::Code;

use crate::harness::Bench;

#[test]
fn f09_changing_files_end_defined() {
    let Some(bench) = Bench::open("F9") else { return };
    let sandbox = bench.sandbox();
    let (id, files) = (sandbox.id(), sandbox.files());
    let size = 1 << 20;
    let changes = [
        ("echo more >> /srv/f", Ok(size)),
        ("rm /srv/f", Ok(size)),
        ("rm /srv/f; mkdir /srv/f", Ok(size)),
        ("echo other > /srv/g; mv /srv/g /srv/f", Ok(size)),
        ("truncate -s 300000 /srv/f", Err(Some(Code::FileReadFailed))),
    ];
    for (change, wanted) in changes {
        sandbox.sh("rm -rf /srv/f");
        sandbox.put("/srv/f", &vec![b'a'; size]);
        let mut reader = sandbox.wait(files.read(id, "/srv/f")).unwrap();
        assert_eq!(reader.size(), size as u64);
        let mut whole = sandbox.wait(reader.next()).unwrap().to_vec();
        assert_eq!(sandbox.sh(change).code, 0);
        let ended = loop {
            match sandbox.wait(reader.next()) {
                Ok(piece) if piece.is_empty() => break Ok(whole.len()),
                Ok(piece) => whole.extend_from_slice(&piece),
                Err(error) => break Err(error.code()),
            }
        };
        assert_eq!(ended, wanted, "{change}");
        assert!(whole.iter().all(|byte| *byte == b'a'), "{change}");
    }
    // A folder that takes the name during an upload is not replaced and gets no stray file.
    sandbox.sh("rm -rf /srv/f");
    let mut writer = sandbox.wait(files.write(id, "/srv/f")).unwrap();
    sandbox.wait(writer.write(bytes::Bytes::from_static(b"late"))).unwrap();
    sandbox.sh("mkdir /srv/f");
    assert!(sandbox.wait(writer.commit()).is_err());
    assert_eq!(sandbox.sh("ls -A /srv /srv/f").text, "/srv:\nf\n\n/srv/f:\n");
}
