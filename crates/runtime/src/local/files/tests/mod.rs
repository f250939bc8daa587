//! The file API against real folders, as root: each test has a root folder whose owner is root inside,
//! and beside it an outside that only the lookup protects, because it has the same owner.
//!
//! One suite, run over both ways: on threads of the server, and in a helper inside a user namespace.

mod bounds;
mod escapes;
pub(super) mod namespace;
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

use namespace::Nested;

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
    /// Where the helper is.
    _nested: Option<Nested>,
}

/// Makes the sandbox of a test.
type Make = fn(OwnedFd, UserIds, TempDir) -> Home;

thread_local! {
    /// How the test of this thread wants its sandboxes.
    static MAKE: std::cell::Cell<Make> = const { std::cell::Cell::new(on_threads) };
}

/// Makes two tests of each.
macro_rules! suite {
    ($($module:ident: $($test:ident)*;)*) => {
        mod here {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::MAKE.set(super::on_threads);
                    super::$module::$test().await;
                }
            )*)*
        }
        mod inside {
            $($(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $test() {
                    super::MAKE.set(super::in_a_helper);
                    super::$module::$test().await;
                }
            )*)*
        }
    };
}

suite! {
    bounds: f11_a_full_disk_leaves_no_part_of_a_file f10_a_read_only_mount_stays_as_it_is an_overlay_is_written_replaced_and_moved_in f12_many_files_and_a_hostile_pattern_end_soon;
    escapes: f1_dots_and_odd_spellings_stay_in_the_root f2_links_and_chains_lead_nowhere_but_inside f2_a_circle_of_links_is_refused f4_writing_to_a_hard_link_leaves_the_other_name_alone f10_kernel_folders_are_left_alone;
    odd_files: f5_pipes_sockets_and_devices_never_hang f5_a_pipe_as_passwd_is_passed_over f8_every_name_the_kernel_takes_makes_a_round_trip f8_a_tree_deeper_than_any_path_is_listed_in_part_and_deleted f9_a_file_that_grows_gives_its_first_size f9_a_file_that_shrinks_is_an_error_and_a_deleted_one_is_read_on f9_a_folder_that_takes_the_name_meanwhile_wins;
    races: f3_a_folder_swapped_for_an_absolute_link f3_a_folder_swapped_for_a_relative_link f3_a_folder_moved_away_during_recursive_delete_spares_the_rest uploads_to_one_name_at_once_leave_one_of_them_and_nothing_else a_taken_temporary_name_is_stepped_over;
    work: a_file_written_is_read_back_byte_for_byte pieces_of_any_size_arrive_in_order replacing_keeps_the_mode_and_never_shows_half an_abandoned_upload_leaves_nothing lists_sorted_with_depth_and_names_of_owners makes_folders_with_their_mode_and_moves_without_replacing deletes_files_and_whole_trees finds_searches_and_replaces_text owner_group_and_mode_change_with_mapped_ids an_ordinary_user_has_only_its_own_rights root_inside_has_no_power_over_what_is_the_hosts;
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

fn on(folder: OwnedFd, user: UserIds, place: TempDir) -> Home {
    MAKE.get()(folder, user, place)
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
    on(open_path(&root), user, place)
}

fn on_threads(folder: OwnedFd, user: UserIds, place: TempDir) -> Home {
    let root = Root::new(folder, BASE, 65_536, user, "/desk".into()).unwrap();
    let files = LocalFiles::start(Arc::new(One(Arc::new(root)))).unwrap();
    Home { files, id: id(), place, _nested: None }
}

fn in_a_helper(folder: OwnedFd, user: UserIds, place: TempDir) -> Home {
    let nested = Nested::start(BASE);
    let root = Root::joined(nested.open(), folder, 65_536, user, "/desk".into());
    let files = LocalFiles::unprivileged(Arc::new(One(Arc::new(root))));
    Home { files, id: id(), place, _nested: Some(nested) }
}

fn id() -> SandboxId {
    "0192f0c1-2b3c-7def-8123-456789abcdef".parse().unwrap()
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
