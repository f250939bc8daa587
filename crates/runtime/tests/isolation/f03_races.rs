//! F3: a folder swapped for a link during file calls never leads one of them outside.

use std::fs;

use mayfly_core::file::Permissions;

use crate::harness::{Bench, rounds};
use crate::outside::Bait;

#[test]
fn f03_a_swapped_folder_leads_nowhere() {
    let Some(bench) = Bench::open("F3") else { return };
    let sandbox = bench.sandbox();
    let bait = Bait::new("f03");
    fs::create_dir(bait.path().join("sub")).unwrap();
    fs::write(bait.path().join("sub/file"), "outside").unwrap();
    sandbox.swap("/tmp/d", &format!("/../../../..{}", bait.path().display()));
    let (id, files) = (sandbox.id(), sandbox.files());
    let change = Permissions { owner: None, group: None, mode: Some(0o777) };
    let (mut worked, mut refused) = (0, 0);
    let enough = rounds(10_000, 500);
    for round in 0..20 * enough {
        // On a busy host one side may not be seen for a while.
        if round >= enough && worked > 0 && refused > 0 {
            break;
        }
        let written = sandbox.wait(async {
            let mut writer = files.write(id, "/tmp/d/kept").await?;
            writer.write(bytes::Bytes::from_static(b"changed")).await?;
            writer.commit().await
        });
        let results = sandbox.wait(async {
            [
                written.map(drop),
                files.set_permissions(id, "/tmp/d/kept", &change).await,
                files.make_folder(id, "/tmp/d/sub/deep", 0o755).await,
                files.rename(id, "/tmp/d/sub", "/tmp/d/moved").await,
                files.delete(id, "/tmp/d/sub", true).await,
                files.delete(id, "/tmp/d/moved", true).await,
            ]
        });
        worked += results.iter().filter(|result| result.is_ok()).count();
        refused += results.iter().filter(|result| result.is_err()).count();
        if round % 50 == 0 {
            assert_eq!(bait.changes(), ["sub"], "round {round}");
        }
    }
    assert!(worked > 0 && refused > 0, "no race: {worked} {refused}");
    assert_eq!(bait.changes(), ["sub"]);
    assert_eq!(fs::read(bait.path().join("sub/file")).unwrap(), b"outside");
    // A server that works by path is led outside within a few tries.
    let naive = format!("/proc/{}/root/tmp/d/naive", sandbox.pid());
    let led = (0..20_000).any(|_| {
        let _ = fs::write(&naive, "changed");
        bait.path().join("naive").exists()
    });
    assert!(led, "the race cannot be lost here");
}
