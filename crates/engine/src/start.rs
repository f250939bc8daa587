//! What a server reads, or writes down at its first start, before it does anything.

use std::sync::Arc;

use mayfly_core::Result;
use mayfly_core::access::{Organization, Quota};
use mayfly_core::id::OrganizationId;
use mayfly_core::ports::clock::Clock;
use mayfly_core::ports::entropy::Entropy;
use mayfly_core::ports::store::Store;
use mayfly_core::sandbox::Sandbox;
use mayfly_core::time::Timestamp;

use crate::commit;
use crate::organizations;
use crate::steady::{self, Steady};
use crate::tenants::Tenants;

/// Name of the setting that holds `<boot id> <offset in ms>`.
const CLOCK: &str = "clock";

/// The clock that continues the time of these rows.
pub(crate) async fn clock(
    clock: Arc<dyn Clock>,
    store: &dyn Store,
    rows: &[Sandbox],
) -> Result<Steady> {
    let boot = clock.boot_id().to_owned();
    let kept = store.setting(CLOCK).await?;
    let kept = kept.as_deref().and_then(|text| text.rsplit_once(' '));
    if let Some((_, offset)) = kept.filter(|(of, _)| *of == boot)
        && let Ok(offset) = offset.parse()
    {
        return Ok(Steady::new(clock, offset));
    }
    let offset = steady::offset(rows, clock.now());
    commit::set_setting(store, CLOCK, &format!("{boot} {offset}")).await?;
    Ok(Steady::new(clock, offset))
}

/// All organizations, the server's own one among them; made where the records have none.
pub(crate) async fn tenants(
    store: &dyn Store,
    own: OrganizationId,
    now: Timestamp,
) -> Result<Tenants> {
    let (tenants, all) = (Tenants::default(), store.organizations().await?);
    if !all.iter().any(|one| one.id == own) {
        let first = Organization {
            id: own,
            name: organizations::FIRST.to_owned(),
            quota: Quota::default(),
            created_at: now,
        };
        commit::put_organization(store, &first).await?;
        tenants.put(first);
    }
    for one in all {
        tenants.put(one);
    }
    Ok(tenants)
}

/// An id of the server itself, made at its first start.
pub(crate) async fn identity<T>(
    store: &dyn Store,
    entropy: &dyn Entropy,
    name: &str,
    wrap: fn(uuid::Uuid) -> T,
) -> Result<T>
where
    T: std::str::FromStr<Err = mayfly_core::Error> + std::fmt::Display,
{
    if let Some(kept) = store.setting(name).await? {
        return kept.parse();
    }
    let made = wrap(entropy.uuid());
    commit::set_setting(store, name, &made.to_string()).await?;
    Ok(made)
}
