//! The contract of volumes, and of sandboxes that mount them.

use bytes::Bytes;
use mayfly_core::Result;
use mayfly_core::id::{SandboxId, VolumeId};
use mayfly_core::ports::runtime::{Runtime, SandboxSpec};
use mayfly_core::volume::Mount;
use std::time::Duration;
use uuid::Uuid;

use super::runtime::spec;

const SIZE: u64 = 64 << 20;

/// Runs the whole suite on a runtime that has volumes; leaves nothing behind when it passes.
///
/// # Panics
/// When a promise is broken.
pub async fn volumes_contract(runtime: &dyn Runtime) {
    let id = VolumeId::from_uuid(Uuid::now_v7());
    let volumes = runtime.volumes().expect("this runtime has volumes");
    volumes.create(id, SIZE).await.expect("create makes a volume");
    assert!(volumes.list().await.expect("list").contains(&id), "what was made is listed");
    let empty = volumes.usage(id).await.expect("usage");
    let whole = Mount { volume: id, path: "/data".to_owned(), subpath: None, read_only: false };
    let one = sandbox(runtime, vec![whole.clone()]).await;
    write(runtime, one.id, "/data/file", "first").await.expect("a volume can be written");
    write(runtime, one.id, "/data/part/inner", "inner").await.expect("folders can be made");
    volumes.create(id, SIZE).await.expect("create may be repeated");
    shares(runtime, &one, &whole).await;
    outlives(runtime, &one, &whole).await;
    assert!(volumes.usage(id).await.expect("usage") >= empty, "what is in it counts");
    volumes.delete(id).await.expect("delete");
    volumes.delete(id).await.expect("one that is gone is deleted");
    assert!(!volumes.list().await.expect("list").contains(&id), "what was deleted is gone");
    volumes.usage(id).await.expect_err("there is no use of what is gone");
    let late = SandboxSpec { volumes: vec![whole], ..fresh(runtime).await };
    runtime.create(&late).await.expect_err("a volume that is gone cannot be mounted");
    let seen = runtime.list().await.expect("list");
    assert!(!seen.iter().any(|seen| seen.id == late.id), "nothing half made is left");
    runtime.destroy(late.id).await.expect("destroy");
}

/// Several sandboxes see the same files, each as it mounts them.
async fn shares(runtime: &dyn Runtime, one: &SandboxSpec, whole: &Mount) {
    let part = Mount {
        path: "/opt/deep/part".to_owned(),
        subpath: Some("part".to_owned()),
        ..whole.clone()
    };
    let frozen = Mount { path: "/frozen".to_owned(), read_only: true, ..whole.clone() };
    let made =
        Mount { path: "/made".to_owned(), subpath: Some("new/folder".to_owned()), ..whole.clone() };
    let two = sandbox(runtime, vec![part, frozen, made]).await;
    let seen = async |path| read(runtime, two.id, path).await;
    assert_eq!(seen("/opt/deep/part/inner").await.expect("a subpath"), "inner");
    assert_eq!(seen("/frozen/file").await.expect("a read-only mount is read"), "first");
    write(runtime, one.id, "/data/file", "second").await.expect("it goes on");
    assert_eq!(seen("/frozen/file").await.expect("shared"), "second", "changes are seen at once");
    write(runtime, two.id, "/frozen/file", "x").await.expect_err("read-only stays so");
    write(runtime, two.id, "/made/here", "there").await.expect("a subpath is made");
    assert_eq!(
        read(runtime, one.id, "/data/new/folder/here").await.expect("the same file"),
        "there"
    );
    runtime.destroy(two.id).await.expect("destroy");
}

/// Files are there after a restart of the sandbox and after its end.
async fn outlives(runtime: &dyn Runtime, one: &SandboxSpec, whole: &Mount) {
    runtime.stop(one.id, Duration::ZERO).await.expect("stop");
    runtime.start(one).await.expect("start");
    assert_eq!(read(runtime, one.id, "/data/file").await.expect("mounted again"), "second");
    runtime.destroy(one.id).await.expect("destroy");
    let next = sandbox(runtime, vec![whole.clone()]).await;
    let kept = read(runtime, next.id, "/data/file").await;
    assert_eq!(kept.expect("a volume outlives its sandboxes"), "second");
    runtime.destroy(next.id).await.expect("destroy");
}

async fn fresh(runtime: &dyn Runtime) -> SandboxSpec {
    SandboxSpec { id: SandboxId::from_uuid(Uuid::now_v7()), ..spec(runtime).await }
}

async fn sandbox(runtime: &dyn Runtime, volumes: Vec<Mount>) -> SandboxSpec {
    let spec = SandboxSpec { volumes, ..fresh(runtime).await };
    runtime.create(&spec).await.expect("a sandbox with volumes");
    spec
}

async fn write(runtime: &dyn Runtime, id: SandboxId, path: &str, text: &str) -> Result<()> {
    let mut writer = runtime.files().write(id, path).await?;
    writer.write(Bytes::copy_from_slice(text.as_bytes())).await?;
    writer.commit().await
}

async fn read(runtime: &dyn Runtime, id: SandboxId, path: &str) -> Result<String> {
    let mut reader = runtime.files().read(id, path).await?;
    let mut whole = Vec::new();
    loop {
        let piece = reader.next().await?;
        if piece.is_empty() {
            return Ok(String::from_utf8_lossy(&whole).into_owned());
        }
        whole.extend_from_slice(&piece);
    }
}
