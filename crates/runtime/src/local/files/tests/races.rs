//! F3: a folder is swapped for a link to the outside while the file API works on it.

use std::os::unix::fs::{PermissionsExt, symlink};
use std::sync::atomic::{AtomicBool, Ordering};

use mayfly_core::file::Permissions;
use rustix::fs::{CWD, RenameFlags};

use super::*;

/// 500 rounds, times `MAYFLY_TEST_SCALE`.
fn rounds() -> u32 {
    let scale = std::env::var("MAYFLY_TEST_SCALE").ok().and_then(|text| text.parse::<u32>().ok());
    500 * scale.unwrap_or(1)
}

/// Swaps two names without pause until dropped.
struct Swapper {
    stop: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<u64>>,
}

impl Swapper {
    fn start(one: PathBuf, other: PathBuf) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let thread = std::thread::spawn(move || {
            let mut swaps = 0;
            while !stopped.load(Ordering::Relaxed) {
                let flags = RenameFlags::EXCHANGE;
                swaps +=
                    u64::from(rustix::fs::renameat_with(CWD, &one, CWD, &other, flags).is_ok());
            }
            swaps
        });
        Self { stop, thread: Some(thread) }
    }

    fn finish(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

async fn attack(target: &Path, home: &Home) {
    std::fs::create_dir_all(home.host("desk/dir")).unwrap();
    home.owned("desk/dir", 0);
    symlink(target, home.host("desk/link")).unwrap();
    let swapper = Swapper::start(home.host("desk/dir"), home.host("desk/link"));
    let open = Permissions { mode: Some(0o777), owner: Some("5".into()), ..Permissions::default() };
    let mut successes = 0;
    for round in 0..rounds() {
        let results = soon(async {
            let mut big = home.files.write(home.id, "dir/file").await.unwrap();
            let begun = big.write(vec![b'x'; 300_000].into()).await.is_ok();
            [
                begun && big.commit().await.is_ok(),
                home.put("dir/folder/inner", "x").await.is_ok(),
                home.files.set_permissions(home.id, "dir/file", &open).await.is_ok(),
                home.files.rename(home.id, "dir/file", &format!("moved{round}")).await.is_ok(),
                home.files.rename(home.id, "dir/folder", &format!("dir/f{round}")).await.is_ok(),
                home.files.delete(home.id, "dir/folder", true).await.is_ok(),
                home.files.delete(home.id, "dir", true).await.is_ok(),
                home.files.make_folder(home.id, "dir", 0o755).await.is_ok(),
            ]
        })
        .await;
        successes += results.into_iter().filter(|ok| *ok).count();
        let found = home.files.find(home.id, "dir", "outside").await;
        assert!(found.is_err() || found.is_ok_and(|found| found.is_empty()));
        // The attack goes on only while both names are there.
        if !home.host("desk/link").exists() && home.host("desk/link").symlink_metadata().is_err() {
            let _ = symlink(target, home.host("desk/link"));
        }
        let _ = std::fs::remove_file(home.host(&format!("desk/moved{round}")));
    }
    let swaps = swapper.finish();
    assert!(swaps > 0, "nothing was swapped");
    assert!(successes > 0, "nothing ever worked");
    home.outside_is_untouched();
}

pub(super) async fn f3_a_folder_swapped_for_an_absolute_link() {
    let home = home();
    let target = home.outside("");
    attack(&target, &home).await;
}

pub(super) async fn f3_a_folder_swapped_for_a_relative_link() {
    let home = home();
    attack(Path::new("../../outside"), &home).await;
}

pub(super) async fn f3_a_folder_moved_away_during_recursive_delete_spares_the_rest() {
    let home = home();
    home.put("/keep/file", "kept").await.unwrap();
    for _ in 0..rounds() / 10 {
        for at in 0..20 {
            home.put(&format!("/tree/a/b/c{at}/f"), "x").await.unwrap();
        }
        home.files.make_folder(home.id, "/keep/a/b", 0o755).await.unwrap();
        let swapper = Swapper::start(home.host("tree/a"), home.host("keep/a"));
        let _ = soon(home.files.delete(home.id, "/tree", true)).await;
        swapper.finish();
        assert_eq!(home.get("/keep/file").await.unwrap(), b"kept");
    }
    home.outside_is_untouched();
}

pub(super) async fn uploads_to_one_name_at_once_leave_one_of_them_and_nothing_else() {
    let home = Arc::new(home());
    home.put("f", "0").await.unwrap();
    std::fs::set_permissions(home.host("desk/f"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let uploads: Vec<_> = (1..=40_usize)
        .map(|size| {
            let home = Arc::clone(&home);
            tokio::spawn(async move {
                let content = vec![b'x'; size];
                home.put("f", content).await.unwrap();
                let read = home.get("f").await.unwrap();
                assert!(!read.is_empty() && read.iter().all(|byte| *byte == b'x'), "{read:?}");
            })
        })
        .collect();
    for upload in uploads {
        upload.await.unwrap();
    }
    let listed = home.files.list(home.id, ".", 1).await.unwrap();
    let names: Vec<_> = listed.iter().map(|info| (info.name.as_str(), info.mode)).collect();
    assert_eq!(names, [("f", 0o600)]);
}

pub(super) async fn a_taken_temporary_name_is_stepped_over() {
    let home = home();
    home.put("f", "old").await.unwrap();
    std::fs::create_dir(home.host("desk/.mayfly-upload-af63db4c8601ead9")).unwrap();
    home.put("f", "new").await.unwrap();
    assert_eq!(home.get("f").await.unwrap(), b"new");
    assert_eq!(home.files.list(home.id, ".", 1).await.unwrap().len(), 2);
}
