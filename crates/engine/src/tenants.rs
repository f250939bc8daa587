//! Organizations in memory: their limits, and what they use of them.
//!
//! Use is counted as records are published, so that asking for room costs the same with one sandbox as with
//! ten thousand. What is being made is reserved first, which keeps racing calls within the limit.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use mayfly_core::access::{Organization, Quota};
use mayfly_core::id::OrganizationId;
use mayfly_core::sandbox::{Sandbox, State};
use mayfly_core::{Error, Kind, Result};

/// What an organization has, in the units of its limits.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Use {
    /// Sandboxes that are not destroyed.
    pub sandboxes: u64,
    /// Cores of sandboxes that run.
    pub cpu: u64,
    /// GiB of memory of sandboxes that run.
    pub memory_gib: u64,
    /// GiB of disk of sandboxes that are not destroyed.
    pub disk_gib: u64,
    /// Volumes that are not deleted.
    pub volumes: u64,
}

impl Use {
    /// What a record counts for. Warm ones belong to nobody yet.
    pub(crate) fn of(record: &Sandbox) -> Self {
        if record.warm || record.state == State::Destroyed {
            return Self::default();
        }
        let kept =
            Self { sandboxes: 1, disk_gib: record.resources.disk_gib.into(), ..Self::default() };
        if runs(record.state) { kept.and(Self::running(record)) } else { kept }
    }

    /// What a record counts for besides, while it runs.
    pub(crate) fn running(record: &Sandbox) -> Self {
        Self {
            cpu: record.resources.cpu.into(),
            memory_gib: record.resources.memory_gib.into(),
            ..Self::default()
        }
    }

    fn and(self, other: Self) -> Self {
        Self {
            sandboxes: self.sandboxes + other.sandboxes,
            cpu: self.cpu + other.cpu,
            memory_gib: self.memory_gib + other.memory_gib,
            disk_gib: self.disk_gib + other.disk_gib,
            volumes: self.volumes + other.volumes,
        }
    }

    /// What is over `other`, 0 where nothing is.
    pub(crate) fn over(self, other: Self) -> Self {
        Self {
            sandboxes: self.sandboxes.saturating_sub(other.sandboxes),
            cpu: self.cpu.saturating_sub(other.cpu),
            memory_gib: self.memory_gib.saturating_sub(other.memory_gib),
            disk_gib: self.disk_gib.saturating_sub(other.disk_gib),
            volumes: self.volumes.saturating_sub(other.volumes),
        }
    }
}

/// Whether a sandbox in this state takes cores and memory, or is about to.
fn runs(state: State) -> bool {
    match state {
        State::Stopped
        | State::Archiving
        | State::Archived
        | State::Error
        | State::Destroying
        | State::Destroyed => false,
        State::Creating
        | State::Started
        | State::Stopping
        | State::Starting
        | State::Restoring
        | State::Pausing
        | State::Paused
        | State::Resuming
        | State::Resizing => true,
    }
}

#[derive(Debug, Default)]
struct Tenant {
    /// `None` = unknown, or being deleted.
    organization: Option<Organization>,
    used: Use,
    reserved: Use,
}

/// All organizations.
#[derive(Debug, Default)]
pub(crate) struct Tenants(Mutex<HashMap<OrganizationId, Tenant>>);

impl Tenants {
    /// Takes over an organization as it was written.
    pub(crate) fn put(&self, organization: Organization) {
        let id = organization.id;
        self.lock().entry(id).or_default().organization = Some(organization);
    }

    /// The organization of this id.
    pub(crate) fn get(&self, id: OrganizationId) -> Option<Organization> {
        self.lock().get(&id).and_then(|tenant| tenant.organization.clone())
    }

    /// Whether there is one of this id.
    pub(crate) fn has(&self, id: OrganizationId) -> bool {
        self.lock().get(&id).is_some_and(|tenant| tenant.organization.is_some())
    }

    /// The organization of this id, else of this name.
    pub(crate) fn find(&self, text: &str) -> Option<Organization> {
        if let Some(found) = text.parse().ok().and_then(|id| self.get(id)) {
            return Some(found);
        }
        let all = self.lock();
        let mut known = all.values().filter_map(|tenant| tenant.organization.as_ref());
        known.find(|organization| organization.name == text).cloned()
    }

    /// What an organization uses.
    pub(crate) fn used(&self, id: OrganizationId) -> Use {
        self.lock().get(&id).map(|tenant| tenant.used).unwrap_or_default()
    }

    /// Lets nothing new into an organization that is about to be deleted; refused while anything is being made
    /// in it. [`Tenants::put`] opens it again.
    pub(crate) fn shut(&self, id: OrganizationId) -> Result<()> {
        let mut all = self.lock();
        let Some(tenant) = all.get_mut(&id) else { return Ok(()) };
        if tenant.reserved != Use::default() {
            return Err(Error::conflict("something of the organization is being made")
                .with_hint("delete its sandboxes and volumes first"));
        }
        tenant.organization = None;
        Ok(())
    }

    /// Forgets one that was deleted.
    pub(crate) fn forget(&self, id: OrganizationId) {
        self.lock().remove(&id);
    }

    /// Counts a record that took the place of another one.
    pub(crate) fn count(&self, before: Option<&Sandbox>, after: &Sandbox) {
        let (gone, came) = (before.map(|record| (record, Use::of(record))), Use::of(after));
        if let Some((before, gone)) = gone
            && gone == came
            && before.organization == after.organization
        {
            return;
        }
        let mut all = self.lock();
        if let Some((before, gone)) = gone
            && let Some(tenant) = all.get_mut(&before.organization)
        {
            tenant.used = tenant.used.over(gone);
        }
        let tenant = all.entry(after.organization).or_default();
        tenant.used = tenant.used.and(came);
    }

    /// Counts a volume of an organization by whether it was there and is now.
    pub(crate) fn count_volume(&self, id: OrganizationId, before: bool, after: bool) {
        let mut all = self.lock();
        let volumes = &mut all.entry(id).or_default().used.volumes;
        *volumes = (*volumes + u64::from(after)).saturating_sub(u64::from(before));
    }

    /// Room for so much more in an organization, held until the guard is dropped; `defaults` are the limits
    /// where it has none of its own. A refusal names the limit.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        id: OrganizationId,
        more: Use,
        defaults: Quota,
    ) -> Result<Room> {
        let mut all = self.lock();
        let tenant = all.entry(id).or_default();
        let organization = tenant.organization.as_ref().ok_or_else(|| {
            Error::new(Kind::Unauthenticated, "the organization of this key was deleted")
        })?;
        let quota = organization.quota.or(defaults);
        let have = tenant.used.and(tenant.reserved);
        for (noun, most, have, more) in [
            ("sandboxes", quota.sandboxes, have.sandboxes, more.sandboxes),
            ("cores", quota.cpu, have.cpu, more.cpu),
            ("GiB of memory", quota.memory_gib, have.memory_gib, more.memory_gib),
            ("GiB of disk", quota.disk_gib, have.disk_gib, more.disk_gib),
            ("volumes", quota.volumes, have.volumes, more.volumes),
        ] {
            let most = most.unwrap_or_default();
            if most > 0 && more > 0 && have + more > u64::from(most) {
                return Err(Error::new(
                    Kind::Limit,
                    format!(
                        "the limit of {most} {noun} of this organization is reached: {have} in use, {more} asked for"
                    ),
                )
                .with_hint("stop or delete some of them, or ask the operator for more"));
            }
        }
        tenant.reserved = tenant.reserved.and(more);
        Ok(Room { tenants: Arc::clone(self), id, more })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<OrganizationId, Tenant>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room in an organization for something that is being made.
#[derive(Debug)]
pub(crate) struct Room {
    tenants: Arc<Tenants>,
    id: OrganizationId,
    more: Use,
}

impl Drop for Room {
    fn drop(&mut self) {
        if let Some(tenant) = self.tenants.lock().get_mut(&self.id) {
            tenant.reserved = tenant.reserved.over(self.more);
        }
    }
}
