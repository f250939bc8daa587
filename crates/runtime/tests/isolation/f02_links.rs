//! F2: links resolve inside the root only, also in chains and when written through.

use std::fs;

use crate::harness::Bench;
use crate::outside::Bait;

#[test]
fn f02_links_resolve_inside() {
    let Some(bench) = Bench::open("F2") else { return };
    let sandbox = bench.sandbox();
    let bait = Bait::new("f02");
    let target = bait.path().display();
    let ran = sandbox.sh(&format!(
        "cd /tmp; ln -s {target}/kept direct; ln -s ../../../../../..{target}/kept up
ln -s direct chain1; ln -s chain1 chain2; ln -s {target} folder; ln -s /proc/1/root{target} magic
ln -s {target}/new dangling; ln -s /proc/self/root/..{target}/kept self"
    ));
    assert_eq!(ran.code, 0);
    let (id, files) = (sandbox.id(), sandbox.files());
    let names = ["direct", "up", "chain2", "folder/kept", "magic/kept", "self"];
    for name in names {
        assert!(sandbox.get(&format!("/tmp/{name}")).is_err(), "{name}");
    }
    // The same path, made inside, is what they lead to.
    sandbox.put(&format!("{target}/kept"), b"inside");
    for name in ["direct", "up", "chain2", "folder/kept"] {
        assert_eq!(sandbox.get(&format!("/tmp/{name}")).unwrap(), b"inside", "{name}");
    }
    // Written through, renamed over, deleted: links or what is inside, never what is outside.
    for name in ["dangling", "direct", "up", "chain2", "folder/new", "magic/new", "self"] {
        let _ = sandbox.wait(async {
            let mut writer = files.write(id, &format!("/tmp/{name}")).await?;
            writer.write(bytes::Bytes::from_static(b"changed")).await?;
            writer.commit().await
        });
        assert_eq!(bait.changes(), Vec::<String>::new(), "{name}");
    }
    for name in ["folder", "magic", "direct", "dangling"] {
        let _ = sandbox.wait(files.delete(id, &format!("/tmp/{name}"), true));
        assert_eq!(bait.changes(), Vec::<String>::new(), "{name}");
    }
    // A server that follows links by path is led outside.
    sandbox.sh(&format!("ln -sf {target}/kept /tmp/naive"));
    let naive = fs::read(format!("/proc/{}/root/tmp/naive", sandbox.pid()));
    assert_eq!(naive.unwrap(), b"outside");
}
