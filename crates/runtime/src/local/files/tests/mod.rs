//! The file API against real folders, as root: each test has a root folder whose owner is root inside,
//! and beside it an outside that only the lookup protects, because it has the same owner.

mod bounds;
mod escapes;
mod odd_files;
mod races;
mod work;

use std::os::fd::OwnedFd;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use mayfly_core::file::FileInfo;
use mayfly_core::id::SandboxId;
use mayfly_core::ports::files::Files;
use mayfly_core::{Error, Kind, Result};
use rustix::fs::{Mode, OFlags};
use tempfile::TempDir;

use super::{LocalFiles, Root, Roots, UserIds};

const BASE: u32 = 100_000;

#[derive(Debug)]
struct One(Arc<Root>);

impl Roots for One {
    fn root(&self, _: SandboxId) -> Result<Arc<Root>> {
        Ok(Arc::clone(&self.0))
    }
}

struct Home {
    files: LocalFiles,
    id: SandboxId,
    place: TempDir,
}

fn root_user() -> UserIds {
    UserIds::default()
}

fn plain_user() -> UserIds {
    UserIds { uid: 1000, gid: 1000, groups: vec![] }
}

fn home() -> Home {
    home_of(root_user())
}

fn home_of(user: UserIds) -> Home {
    let place = TempDir::new().unwrap();
    let root = place.path().join("root");
    std::fs::create_dir(&root).unwrap();
    std::fs::create_dir_all(place.path().join("outside/folder")).unwrap();
    for file in ["outside/file", "outside/folder/inner"] {
        std::fs::write(place.path().join(file), "outside").unwrap();
    }
    std::fs::create_dir(root.join("desk")).unwrap();
    for own in
        ["root", "root/desk", "outside", "outside/file", "outside/folder", "outside/folder/inner"]
    {
        chown(place.path().join(own), Some(BASE + user.uid), Some(BASE + user.gid)).unwrap();
    }
    let folder = open_path(&root);
    on(folder, user, place)
}

fn on(folder: OwnedFd, user: UserIds, place: TempDir) -> Home {
    let root = Root::new(folder, BASE, 65_536, user, "/desk".into()).unwrap();
    let files = LocalFiles::start(Arc::new(One(Arc::new(root)))).unwrap();
    let id = "0192f0c1-2b3c-7def-8123-456789abcdef".parse().unwrap();
    Home { files, id, place }
}

fn open_path(path: &Path) -> OwnedFd {
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).unwrap()
}

/// Gives a folder to root inside.
fn own(folder: &OwnedFd) {
    let id = Some(rustix::fs::Uid::from_raw(BASE));
    let flags = rustix::fs::AtFlags::EMPTY_PATH;
    rustix::fs::chownat(folder, "", id, Some(rustix::fs::Gid::from_raw(BASE)), flags).unwrap();
}

impl Home {
    /// The host's path of a path inside.
    fn host(&self, inside: &str) -> PathBuf {
        self.place.path().join("root").join(inside.trim_start_matches('/'))
    }

    fn outside(&self, path: &str) -> PathBuf {
        self.place.path().join("outside").join(path)
    }

    fn owned(&self, inside: &str, id: u32) {
        std::os::unix::fs::lchown(self.host(inside), Some(BASE + id), Some(BASE + id)).unwrap();
    }

    async fn put(&self, path: &str, bytes: impl Into<Bytes>) -> Result<FileInfo> {
        let mut writer = self.files.write(self.id, path).await?;
        writer.write(bytes.into()).await?;
        writer.commit().await?;
        self.files.info(self.id, path).await
    }

    async fn get(&self, path: &str) -> Result<Vec<u8>> {
        soon(async {
            let mut reader = self.files.read(self.id, path).await?;
            let mut all = Vec::new();
            loop {
                let chunk = reader.next().await?;
                if chunk.is_empty() {
                    return Ok(all);
                }
                all.extend_from_slice(&chunk);
            }
        })
        .await
    }

    /// Nothing outside was read into, changed, added or removed.
    fn outside_is_untouched(&self) {
        let mut names: Vec<_> = std::fs::read_dir(self.outside(""))
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, ["file", "folder"]);
        for file in ["file", "folder/inner"] {
            assert_eq!(std::fs::read_to_string(self.outside(file)).unwrap(), "outside");
            let meta = self.outside(file).metadata().unwrap();
            assert_eq!((meta.mode() & 0o7777, meta.nlink()), (0o644, 1), "{file}");
            assert!(meta.uid() >= BASE && meta.uid() <= BASE + 1000);
        }
        assert_eq!(std::fs::read_dir(self.outside("folder")).unwrap().count(), 1);
        assert_eq!(self.outside("folder").metadata().unwrap().mode() & 0o7777, 0o755);
    }
}

/// Fails instead of hanging.
async fn soon<T>(call: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), call).await.expect("a file call hangs")
}

fn kind<T: std::fmt::Debug>(result: Result<T>) -> Kind {
    result.map_err(|error: Error| error.kind()).expect_err("must be refused")
}
