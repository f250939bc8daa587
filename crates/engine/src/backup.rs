//! The platform at one moment, for backups: its records, and the files of every sandbox and volume.

use mayfly_core::access::Caller;
use mayfly_core::id::{CaptureId, SandboxId, VolumeId};
use mayfly_core::ports::captures::{Exported, Sink};
use mayfly_core::ports::store::Copy;
use mayfly_core::volume::VolumeState;
use mayfly_core::{Error, Kind, Result};
use tokio::sync::OwnedMutexGuard;

use crate::Engine;
use crate::house::{House, need_operator};

/// What a backup is written from. It takes disk only for what changes meanwhile; end it with [`Engine::end_frame`].
#[derive(Debug)]
pub struct Frame {
    /// All records.
    pub records: Copy,
    /// Files of the sandboxes in them, and of some that were made or deleted meanwhile.
    pub sandboxes: Vec<(SandboxId, CaptureId)>,
    /// Files of the volumes, likewise.
    pub volumes: Vec<(VolumeId, CaptureId)>,
    _only: OwnedMutexGuard<()>,
}

impl Engine {
    /// Holds the platform as it is now: whatever was acknowledged before the call is in it, and of each sandbox what
    /// was written before. Everything goes on meanwhile.
    ///
    /// The operator's alone, since the things and secrets of all organizations are in it.
    /// [`Kind::Conflict`] while another backup is under way, [`Kind::Unsupported`] where files cannot be copied.
    pub async fn frame(&self, caller: &Caller) -> Result<Frame> {
        need_operator(caller, "back it up")?;
        let house = &self.house;
        house.runtime.captures()?;
        let only = house.backing_up.clone().try_lock_owned().map_err(|_| {
            Error::conflict("a backup is under way").with_hint("wait for it, then repeat")
        })?;
        let mut held = Held::default();
        match hold(house, &mut held).await {
            Ok(records) => {
                let Held { sandboxes, volumes } = held;
                Ok(Frame { records, sandboxes, volumes, _only: only })
            }
            Err(error) => {
                discard(house, held.captures()).await;
                Err(error)
            }
        }
    }

    /// Writes the files of one sandbox or volume of a frame as tar members below `prefix`, and gives the sink back.
    pub async fn export(&self, id: CaptureId, prefix: &str, out: Sink) -> Result<(Sink, Exported)> {
        self.house.runtime.captures()?.export(id, prefix, out).await
    }

    /// Lets a frame go.
    pub async fn end_frame(&self, frame: Frame) {
        let Frame { sandboxes, volumes, .. } = frame;
        discard(&self.house, Held { sandboxes, volumes }.captures()).await;
    }
}

/// What was captured so far.
#[derive(Default)]
struct Held {
    sandboxes: Vec<(SandboxId, CaptureId)>,
    volumes: Vec<(VolumeId, CaptureId)>,
}

impl Held {
    fn captures(&self) -> Vec<CaptureId> {
        let sandboxes = self.sandboxes.iter().map(|(_, capture)| *capture);
        sandboxes.chain(self.volumes.iter().map(|(_, capture)| *capture)).collect()
    }
}

/// Files first, then the records, then the files of those that were made in between.
async fn hold(house: &House, held: &mut Held) -> Result<Copy> {
    capture_all(house, held).await?;
    let records = house.store.copy().await?;
    capture_all(house, held).await?;
    Ok(records)
}

async fn capture_all(house: &House, held: &mut Held) -> Result<()> {
    let captures = house.runtime.captures()?;
    for live in house.living.all() {
        let id = live.id();
        if held.sandboxes.iter().any(|(known, _)| *known == id) {
            continue;
        }
        let capture = CaptureId::from_uuid(house.entropy.uuid());
        match captures.capture(id, capture).await {
            Ok(()) => held.sandboxes.push((id, capture)),
            // On its way in or out: it has no files that anybody was told of.
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    capture_volumes(house, held).await
}

async fn capture_volumes(house: &House, held: &mut Held) -> Result<()> {
    for volume in house.shelf.all() {
        let id = volume.id;
        if volume.state != VolumeState::Ready || held.volumes.iter().any(|(known, _)| *known == id)
        {
            continue;
        }
        let capture = CaptureId::from_uuid(house.entropy.uuid());
        match house.runtime.volumes()?.capture(id, capture).await {
            Ok(()) => held.volumes.push((id, capture)),
            // Deleted meanwhile.
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn discard(house: &House, held: Vec<CaptureId>) {
    let Ok(captures) = house.runtime.captures() else { return };
    for capture in held {
        if let Err(error) = captures.discard(capture).await {
            tracing::warn!(%capture, %error, "a capture stays until the next start");
        }
    }
}

/// Deletes the captures that a server left which died during a backup.
pub(crate) async fn sweep(house: &House) {
    let Ok(captures) = house.runtime.captures() else { return };
    let left = captures.list().await.unwrap_or_default();
    discard(house, left).await;
}
