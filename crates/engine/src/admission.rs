//! Whether there is room for what is asked; every refusal names its limit.

use mayfly_core::id::OrganizationId;
use mayfly_core::limits::Resources;
use mayfly_core::ports::runtime::Profile;
use mayfly_core::sandbox::{Resize, Sandbox};
use mayfly_core::{Error, Kind, Result};

use crate::house::House;
use crate::living::Reserved;
use crate::tenants::{Room, Use};

/// Room for one more sandbox of this size, held until the guard is dropped.
pub(crate) fn admit(house: &House, size: Resources) -> Result<Reserved> {
    fits(house, size)?;
    let most = house.settings.max_sandboxes;
    house.living.reserve(most).ok_or_else(|| {
        Error::new(Kind::Limit, format!("the limit of {most} sandboxes on this server is reached"))
            .with_hint("delete some, or raise `max_sandboxes` in the configuration")
    })
}

/// An organization's room for so much more, held until the guard is dropped.
pub(crate) fn share(house: &House, organization: OrganizationId, more: Use) -> Result<Room> {
    house.tenants.reserve(organization, more, house.settings.quota)
}

/// Refuses sizes that were asked for where nothing enforces them; the message names the field.
pub(crate) fn enforceable(house: &House, asked: &Resize) -> Result<()> {
    if house.runtime.profile() == Profile::Full {
        return Ok(());
    }
    let fields = [("cpu", asked.cpu), ("memory", asked.memory_gib), ("disk", asked.disk_gib)];
    match fields.into_iter().find(|(_, value)| value.is_some()) {
        Some((field, _)) => Err(Error::invalid(format!(
            "{field} cannot be limited in the isolation profile `unprivileged` of this server"
        ))
        .with_hint("leave out cpu, memory and disk, or run the server as root")),
        None => Ok(()),
    }
}

/// Refuses pausing, also by a timer of this many minutes, where nothing can freeze a sandbox.
pub(crate) fn may_pause(house: &House, minutes: i64) -> Result<()> {
    if minutes <= 0 || house.runtime.profile() == Profile::Full {
        return Ok(());
    }
    Err(Error::unsupported("pausing in the isolation profile `unprivileged`")
        .with_hint("stop the sandbox instead, or run the server as root"))
}

/// Refuses to serve sandboxes that were made with another isolation than this server gives.
pub(crate) fn same_profile(rows: &[Sandbox], profile: Profile) -> Result<()> {
    let others: Vec<&Sandbox> = rows.iter().filter(|row| row.profile != profile).collect();
    let Some(first) = others.first() else { return Ok(()) };
    let (name, theirs, count) = (&first.name, profile_name(first.profile), others.len());
    Err(Error::conflict(format!(
        "{count} sandboxes here, `{name}` among them, were made in the isolation profile `{theirs}`, and \
         this server has `{}`",
        profile_name(profile)
    ))
    .with_hint(match first.profile {
        Profile::Full => "start the server as root and delete them, or use another data directory",
        _ => {
            "start the server as the ordinary user who made them and delete them, or use another data \
             directory"
        }
    }))
}

fn profile_name(profile: Profile) -> &'static str {
    match profile {
        Profile::Full => "full",
        Profile::Unprivileged => "unprivileged",
        Profile::None => "none",
    }
}

/// Whether a sandbox may have this size at all.
pub(crate) fn fits(house: &House, size: Resources) -> Result<()> {
    let most = house.settings.max_resources;
    for (field, asked, most, unit) in [
        ("cpu", size.cpu, most.cpu, "cores"),
        ("memory", size.memory_gib, most.memory_gib, "GiB"),
        ("disk", size.disk_gib, most.disk_gib, "GiB"),
    ] {
        if asked > most {
            let message = format!("{field} of {asked} {unit} is over the limit of {most} {unit}");
            return Err(Error::new(Kind::Limit, message)
                .with_hint("ask for less, or raise the limit per sandbox in the configuration"));
        }
    }
    Ok(())
}
