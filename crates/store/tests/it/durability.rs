//! What was acknowledged is there after kill -9.

use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::sync::Arc;

use mayfly_core::ports::store::Store;

use crate::sample::{create, id, open, sandbox};

const FOLDER: &str = "STORE_TEST_FOLDER";

#[test]
#[ignore = "the child process of the test below"]
fn writer_child() {
    let Some(folder) = std::env::var_os(FOLDER) else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).build().unwrap();
    runtime.block_on(async {
        let store = Arc::new(open(folder.as_ref()));
        let mut lanes = Vec::new();
        for lane in 0..8_u128 {
            let store = Arc::clone(&store);
            lanes.push(tokio::spawn(async move {
                for n in 1..100_000 {
                    create(&store, sandbox(lane * 1_000_000 + n)).await;
                    writeln!(std::io::stdout(), "acknowledged {}", lane * 1_000_000 + n).unwrap();
                }
            }));
        }
        for lane in lanes {
            lane.await.unwrap();
        }
    });
}

#[test]
fn acknowledged_rows_survive_a_kill_at_any_point() {
    for acknowledged_before_kill in [1, 7, 200, 1500] {
        let folder = tempfile::tempdir().unwrap();
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "durability::writer_child", "--ignored", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut acknowledged = Vec::new();
        let mut killed = false;
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            // A line cut by the kill names no whole number that was acknowledged.
            if let Some((_, n)) = line.split_once("acknowledged ")
                && let Ok(n) = n.parse::<u128>()
            {
                acknowledged.push(n);
            }
            if acknowledged.len() >= acknowledged_before_kill && !killed {
                child.kill().unwrap();
                killed = true;
            }
        }
        child.wait().unwrap();
        assert!(killed, "the child ended by itself");
        let last = acknowledged.pop().unwrap();
        let store = open(folder.path());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            for n in &acknowledged {
                let stored = store.sandbox(id(*n)).await.unwrap();
                assert_eq!(stored, Some(sandbox(*n)), "{n} of {}", acknowledged.len());
                assert_eq!(store.events(id(*n), 9).await.unwrap().len(), 1);
            }
            // The last line may be a cut one, so it is checked only for wholeness.
            let stored = store.sandbox(id(last)).await.unwrap();
            assert!(stored.is_none_or(|stored| stored == sandbox(last)));
        });
    }
}
