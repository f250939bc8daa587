//! Volumes: made, shown and deleted; what a crash cut short is finished by the same steps.

use std::sync::Arc;

use mayfly_core::access::{Caller, Permission};
use mayfly_core::id::VolumeId;
use mayfly_core::volume::{Volume, VolumeState, check_name};
use mayfly_core::{Error, Kind, Result};

use crate::admission;
use crate::commit;
use crate::house::{House, need, not_found};
use crate::tenants::Use;

/// Steps of one drive; a volume that could not be made takes three.
const MAX_STEPS: usize = 4;

/// Use cases of volumes.
#[derive(Clone, Copy, Debug)]
pub struct Volumes<'a>(pub(crate) &'a Arc<House>);

impl Volumes<'_> {
    /// Makes one of this size in GiB, else of the server's default; it is ready when this returns.
    ///
    /// [`Kind::Conflict`] for a taken name, `Limit` naming the quota, `Unsupported` with the reason where there are
    /// no volumes.
    pub async fn create(&self, caller: &Caller, name: &str, size: Option<u32>) -> Result<Volume> {
        need(caller, Permission::WriteVolumes)?;
        let house = self.0;
        check_name(name)?;
        house.runtime.volumes()?;
        let (most, size_gib) =
            (house.settings.max_volume_gib, size.unwrap_or(house.settings.volume_gib));
        if size_gib == 0 {
            return Err(Error::invalid("size must be at least 1 GiB"));
        }
        if size_gib > most {
            let message = format!("size of {size_gib} GiB is over the limit of {most} GiB");
            return Err(Error::new(Kind::Limit, message)
                .with_hint("ask for less, or raise the limit per volume in the configuration"));
        }
        let now = house.now().wall;
        let volume = Volume {
            id: VolumeId::from_uuid(house.entropy.uuid()),
            organization: caller.organization,
            name: name.to_owned(),
            state: VolumeState::Creating,
            size_gib,
            error_reason: None,
            created_at: now,
            updated_at: now,
            last_used_at: None,
        };
        let within = Arc::clone(house);
        house.tasks.adopt(async move { make(&within, volume).await }).await
    }

    /// One of them, by id, else by name.
    pub fn get(&self, caller: &Caller, id_or_name: &str) -> Result<Volume> {
        self.0.shelf.find(caller.organization, id_or_name)
    }

    /// One of them, by name only.
    pub fn by_name(&self, caller: &Caller, name: &str) -> Result<Volume> {
        let found = self.list(caller, false).into_iter().find(|volume| volume.name == name);
        found.ok_or_else(|| not_found("volume", name))
    }

    /// Volumes of the organization, oldest first; deleted ones only if they are asked for, and for as long as their
    /// records are kept.
    pub fn list(&self, caller: &Caller, with_deleted: bool) -> Vec<Volume> {
        let mut all = self.0.shelf.all();
        all.retain(|volume| {
            volume.organization == caller.organization
                && (with_deleted || volume.state != VolumeState::Deleted)
        });
        all
    }

    /// Deletes one with its files. [`Kind::Conflict`], naming a sandbox, while one that is not destroyed mounts it.
    pub async fn delete(&self, caller: &Caller, id_or_name: &str) -> Result<Volume> {
        need(caller, Permission::DeleteVolumes)?;
        let house = self.0;
        let volume = house.shelf.find(caller.organization, id_or_name)?;
        let within = Arc::clone(house);
        house.tasks.adopt(async move { delete(&within, volume).await }).await
    }
}

async fn make(house: &House, volume: Volume) -> Result<Volume> {
    let more = Use { volumes: 1, ..Use::default() };
    let room = admission::share(house, volume.organization, more)?;
    let id = volume.id;
    commit::put_volume(house, volume).await?;
    drop(room);
    drive(house, id).await
}

async fn delete(house: &House, volume: Volume) -> Result<Volume> {
    let id = volume.id;
    house.shelf.doom(id, || mounted(house, id))?;
    let begun = begin_deletion(house, id).await;
    if begun.is_err() {
        house.shelf.spare(id);
    }
    begun?;
    drive(house, id).await
}

async fn begin_deletion(house: &House, id: VolumeId) -> Result<()> {
    let Some(lane) = house.shelf.lane(id) else { return Ok(()) };
    let _lane = lane.lock().await;
    match house.shelf.get(id) {
        Some(now) if matches!(now.state, VolumeState::Ready | VolumeState::Error) => {
            let doomed = now.moved(VolumeState::Deleting, house.now().wall);
            commit::put_volume(house, doomed).await
        }
        // Another call was first; or it is being made, and that call takes it to its end before this one has the lane.
        _ => Ok(()),
    }
}

/// A sandbox that mounts the volume.
fn mounted(house: &House, id: VolumeId) -> Option<String> {
    house.living.all().iter().find_map(|live| {
        let record = live.record();
        record.volumes.iter().any(|mount| mount.volume == id).then(|| record.name.clone())
    })
}

/// Takes a transition to its end; one driver per volume at a time. What could not be made is taken away again.
pub(crate) async fn drive(house: &House, id: VolumeId) -> Result<Volume> {
    let gone = || not_found("volume", &id.to_string());
    let lane = house.shelf.lane(id).ok_or_else(gone)?;
    let _lane = lane.lock().await;
    let volumes = house.runtime.volumes()?;
    let limit = house.settings.effect_timeout;
    let mut refused = None;
    for _ in 0..MAX_STEPS {
        let record = house.shelf.get(id).ok_or_else(gone)?;
        let next = match record.state {
            VolumeState::Creating => {
                match within(limit, volumes.create(id, record.bytes())).await {
                    Ok(()) => VolumeState::Ready,
                    Err(error) => {
                        refused = Some(error);
                        VolumeState::Deleting
                    }
                }
            }
            VolumeState::Deleting => match within(limit, volumes.delete(id)).await {
                Ok(()) => VolumeState::Deleted,
                Err(error) => return Err(refused.unwrap_or(error)),
            },
            VolumeState::Ready | VolumeState::Deleted | VolumeState::Error => {
                return refused.map_or(Ok(record), Err);
            }
        };
        commit::put_volume(house, record.moved(next, house.now().wall)).await?;
    }
    Err(Error::new(Kind::Internal, format!("volume {id} does not come to rest")))
}

async fn within(
    limit: std::time::Duration,
    effect: impl Future<Output = Result<()>>,
) -> Result<()> {
    tokio::time::timeout(limit, effect).await.unwrap_or_else(|_| {
        Err(Error::new(Kind::Timeout, format!("the volume was not ready within {limit:?}")))
    })
}
