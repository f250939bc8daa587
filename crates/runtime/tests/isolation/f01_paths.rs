//! F1: no spelling of a path leaves the sandbox.

use std::fs;
use std::path::PathBuf;

use mayfly_core::{Code, Kind};

use crate::harness::Bench;
use crate::outside::Bait;

#[test]
fn f01_no_spelling_leaves_the_root() {
    let Some(bench) = Bench::open("F1") else { return };
    let sandbox = bench.sandbox();
    let bait = Bait::new("f01");
    let kept = format!("{}/kept", bait.path().display());
    let encoded = kept.replace('/', "%2f");
    let spellings = [
        kept.clone(),
        format!("../../../../../../..{kept}"),
        format!("/../../../..{kept}"),
        format!("/tmp/../..//.././{kept}"),
        format!("//{kept}"),
        format!("/proc/self/root/..{kept}"),
        format!("/proc/self/root{kept}"),
        format!("/proc/1/root{kept}"),
        format!("/proc/1/cwd{kept}"),
        format!("/proc/thread-self/root/../../..{kept}"),
        format!("/dev/fd/3/..{kept}"),
        format!("%2e%2e%2f%2e%2e{encoded}"),
        format!("..\\..\\..{}", kept.replace('/', "\\")),
        format!("/tmp/\u{2025}/\u{2025}{kept}"),
        format!("/usr/..{kept}"),
    ];
    let (id, files) = (sandbox.id(), sandbox.files());
    for spelling in &spellings {
        assert!(sandbox.get(spelling).is_err(), "{spelling}");
        let renamed = sandbox.wait(files.rename(id, spelling, "/tmp/stolen"));
        assert!(renamed.is_err(), "{spelling}");
        assert!(sandbox.wait(files.delete(id, spelling, true)).is_err(), "{spelling}");
        // A write makes the parents it needs, below the sandbox's own root.
        let _ = sandbox.wait(async {
            let mut writer = files.write(id, spelling).await?;
            writer.write(bytes::Bytes::from_static(b"inside")).await?;
            writer.commit().await
        });
        assert_eq!(bait.changes(), Vec::<String>::new(), "{spelling}");
        let _ = sandbox.wait(files.delete(id, spelling, false));
    }
    for spelling in ["", "\0", "/tmp/a\0b"] {
        let error = sandbox.get(spelling).unwrap_err();
        assert_eq!((error.kind(), error.code()), (Kind::Invalid, Some(Code::InvalidFilePath)));
    }
    // A server that joins what it is given to a root is led outside at once.
    let root = PathBuf::from(format!("/proc/{}/root", sandbox.pid()));
    assert_eq!(fs::read(root.join(&kept)).unwrap(), b"outside");
}
