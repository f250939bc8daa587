//! Volumes of the fake runtime: names and bytes of files.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use mayfly_core::id::{CaptureId, SandboxId, VolumeId};
use mayfly_core::ports::volumes::Volumes;
use mayfly_core::{Code, Error, Kind, Result};

use super::{Machines, State, Verb};
use crate::fuse::Fuse;

#[derive(Debug)]
pub(super) struct FakeVolumes {
    pub(super) machines: Arc<Machines>,
    pub(super) fuse: Fuse,
}

/// Files of one volume, by their path in it.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    files: BTreeMap<String, Bytes>,
    bytes: u64,
}

impl FakeVolumes {
    async fn act<T>(&self, verb: Verb, act: impl FnOnce(&mut State) -> Result<T>) -> Result<T> {
        self.fuse.step().await;
        let delay = self.machines.lock().delays.get(&verb).copied();
        if let Some(delay) = delay {
            tokio::time::sleep(delay).await;
        }
        let out = {
            let mut state = self.machines.lock();
            state.scripted(verb).and_then(|()| act(&mut state))
        };
        self.fuse.step().await;
        out
    }
}

#[async_trait]
impl Volumes for FakeVolumes {
    async fn create(&self, id: VolumeId, bytes: u64) -> Result<()> {
        self.act(Verb::CreateVolume, |state| {
            state.volumes.entry(id).or_default().bytes = bytes;
            Ok(())
        })
        .await
    }

    async fn delete(&self, id: VolumeId) -> Result<()> {
        self.act(Verb::DeleteVolume, |state| {
            let mounts = |machine: &super::Machine| {
                machine.running && machine.spec.volumes.iter().any(|mount| mount.volume == id)
            };
            assert!(!state.machines.values().any(mounts), "volume {id} is in use");
            state.volumes.remove(&id);
            Ok(())
        })
        .await
    }

    async fn list(&self) -> Result<Vec<VolumeId>> {
        Ok(self.machines.lock().volumes.keys().copied().collect())
    }

    async fn usage(&self, id: VolumeId) -> Result<u64> {
        let state = self.machines.lock();
        let shelf = state.volumes.get(&id).ok_or_else(|| missing(id))?;
        Ok(shelf.files.values().map(|file| file.len() as u64).sum())
    }

    async fn capture(&self, _: VolumeId, _: CaptureId) -> Result<()> {
        Err(Error::unsupported("copying volumes of the fake runtime"))
    }
}

fn missing(id: VolumeId) -> Error {
    Error::not_found(format!("volume {id} is not there"))
}

impl State {
    /// Refuses a sandbox whose volumes are not all there.
    pub(super) fn has_volumes(&self, spec: &super::SandboxSpec) -> Result<()> {
        let gone = spec.volumes.iter().find(|mount| !self.volumes.contains_key(&mount.volume));
        gone.map_or(Ok(()), |mount| Err(missing(mount.volume)))
    }

    /// The volume that a path of a sandbox lies in, its path there, and whether it may be changed.
    fn mounted(&self, id: SandboxId, path: &str) -> Option<(VolumeId, String, bool)> {
        let mounts = &self.machines.get(&id)?.spec.volumes;
        mounts.iter().find_map(|mount| {
            let rest = path.strip_prefix(&mount.path)?.strip_prefix('/')?;
            let folder = mount.subpath.as_deref().map_or(String::new(), |sub| format!("{sub}/"));
            Some((mount.volume, format!("{folder}{rest}"), !mount.read_only))
        })
    }

    /// A file of a sandbox, wherever it lies.
    pub(super) fn file(&mut self, id: SandboxId, path: &str) -> Result<Option<Bytes>> {
        match self.mounted(id, path) {
            Some((volume, path, _)) => {
                Ok(self.volumes.get(&volume).and_then(|shelf| shelf.files.get(&path)).cloned())
            }
            None => Ok(self.get(id)?.files.get(path).cloned()),
        }
    }

    /// Writes a file of a sandbox, or takes it away.
    pub(super) fn set_file(
        &mut self,
        id: SandboxId,
        path: &str,
        bytes: Option<Bytes>,
    ) -> Result<()> {
        let (files, path) = match self.mounted(id, path) {
            Some((_, _, false)) => {
                return Err(Error::new(Kind::Denied, format!("{path} is mounted read-only"))
                    .with_code(Code::FileAccessDenied));
            }
            Some((volume, path, true)) => {
                (&mut self.volumes.get_mut(&volume).ok_or_else(|| missing(volume))?.files, path)
            }
            None => (&mut self.get(id)?.files, path.to_owned()),
        };
        match bytes {
            Some(bytes) => drop(files.insert(path, bytes)),
            None => drop(files.remove(&path)),
        }
        Ok(())
    }
}
