//! F11: an upload that does not fit leaves no partial file.

use bytes::Bytes;
use mayfly_core::Kind;

use crate::harness::{Bench, only_full};

#[test]
fn f11_an_upload_that_does_not_fit_leaves_nothing() {
    if !only_full("F11", "disk limit") {
        return;
    }
    let Some(bench) = Bench::with("F11", |options| options.pool_bytes = Some(2 << 30)) else {
        return;
    };
    let mut spec = bench.spec();
    spec.resources.disk_gib = 1;
    let sandbox = bench.sandbox_of(spec);
    let (id, files) = (sandbox.id(), sandbox.files());
    sandbox.put("/srv/old", b"old");
    // Leaves some megabytes of the sandbox's gibibyte.
    let filled = sandbox.python("os.posix_fallocate(os.open('/srv/filler', os.O_CREAT | os.O_WRONLY), 0, 1016 << 20); print('full')");
    assert!(filled.says("full"), "{}", filled.text);
    for path in ["/srv/new", "/srv/old"] {
        let upload = sandbox.wait(async {
            let mut writer = files.write(id, path).await?;
            for _ in 0..64 {
                writer.write(Bytes::from(vec![7; 1 << 20])).await?;
            }
            writer.commit().await
        });
        let error = upload.unwrap_err();
        assert_eq!(error.kind(), Kind::Limit, "{error:?}");
    }
    assert_eq!(sandbox.get("/srv/old").unwrap(), b"old");
    assert_eq!(sandbox.sh("ls -A /srv").text, "filler\nold\n");
    // With room again, the same upload works.
    sandbox.wait(files.delete(id, "/srv/filler", false)).unwrap();
    sandbox.sh("sync");
    sandbox.put("/srv/new", &vec![7; 4 << 20]);
    assert_eq!(sandbox.get("/srv/new").unwrap().len(), 4 << 20);
}
