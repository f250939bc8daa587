//! The platform at one moment, for backups: its records, and the files of every sandbox.

use mayfly_core::access::Caller;
use mayfly_core::id::{CaptureId, SandboxId};
use mayfly_core::ports::captures::{Exported, Sink};
use mayfly_core::ports::store::Copy;
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
        let mut sandboxes = Vec::new();
        let held = hold(house, &mut sandboxes).await;
        match held {
            Ok(records) => Ok(Frame { records, sandboxes, _only: only }),
            Err(error) => {
                discard(house, &sandboxes).await;
                Err(error)
            }
        }
    }

    /// Writes the files of one sandbox of a frame as tar members below `prefix`, and gives the sink back.
    pub async fn export(&self, id: CaptureId, prefix: &str, out: Sink) -> Result<(Sink, Exported)> {
        self.house.runtime.captures()?.export(id, prefix, out).await
    }

    /// Lets a frame go.
    pub async fn end_frame(&self, frame: Frame) {
        discard(&self.house, &frame.sandboxes).await;
    }
}

/// Files first, then the records, then the files of those that were made in between.
async fn hold(house: &House, held: &mut Vec<(SandboxId, CaptureId)>) -> Result<Copy> {
    capture_all(house, held).await?;
    let records = house.store.copy().await?;
    capture_all(house, held).await?;
    Ok(records)
}

async fn capture_all(house: &House, held: &mut Vec<(SandboxId, CaptureId)>) -> Result<()> {
    let captures = house.runtime.captures()?;
    for live in house.living.all() {
        let id = live.id();
        if held.iter().any(|(known, _)| *known == id) {
            continue;
        }
        let capture = CaptureId::from_uuid(house.entropy.uuid());
        match captures.capture(id, capture).await {
            Ok(()) => held.push((id, capture)),
            // On its way in or out: it has no files that anybody was told of.
            Err(error) if error.kind() == Kind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

async fn discard(house: &House, held: &[(SandboxId, CaptureId)]) {
    let Ok(captures) = house.runtime.captures() else { return };
    for (_, capture) in held {
        if let Err(error) = captures.discard(*capture).await {
            tracing::warn!(%capture, %error, "a capture stays until the next start");
        }
    }
}

/// Deletes the captures that a server left which died during a backup.
pub(crate) async fn sweep(house: &House) {
    let Ok(captures) = house.runtime.captures() else { return };
    let left = captures.list().await.unwrap_or_default();
    let left: Vec<_> =
        left.into_iter().map(|id| (SandboxId::from_uuid(*id.as_uuid()), id)).collect();
    discard(house, &left).await;
}
