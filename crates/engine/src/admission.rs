//! Whether there is room for what is asked; every refusal names its limit.

use mayfly_core::limits::Resources;
use mayfly_core::{Error, Kind, Result};

use crate::house::House;
use crate::living::Reserved;

/// Room for one more sandbox of this size, held until the guard is dropped.
pub(crate) fn admit(house: &House, size: Resources) -> Result<Reserved> {
    fits(house, size)?;
    let most = house.settings.max_sandboxes;
    house.living.reserve(most).ok_or_else(|| {
        Error::new(Kind::Limit, format!("the limit of {most} sandboxes on this server is reached"))
            .with_hint("delete some, or raise `max_sandboxes` in the configuration")
    })
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
