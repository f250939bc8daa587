//! Organizations: made, limited and deleted by the operator.

use mayfly_core::access::{Caller, Organization, Quota};
use mayfly_core::id::OrganizationId;
use mayfly_core::{Error, Result};

use crate::commit;
use crate::house::{House, need_operator, not_found, operator};
use crate::tenants::Use;

/// Most bytes of a name.
const MAX_NAME: usize = 64;
/// Name of the organization that every server has.
pub(crate) const FIRST: &str = "default";

/// Use cases of organizations. A key sees its own one; the operator, whom the operating system vouches for,
/// sees and changes all.
#[derive(Clone, Copy, Debug)]
pub struct Organizations<'a>(pub(crate) &'a House);

impl Organizations<'_> {
    /// Those the caller sees, by name.
    pub async fn list(&self, caller: &Caller) -> Result<Vec<Organization>> {
        let mut all = self.0.store.organizations().await?;
        all.retain(|one| caller.operator || one.id == caller.organization);
        Ok(all)
    }

    /// One of them, by id, else by name.
    pub fn get(&self, caller: &Caller, id_or_name: &str) -> Result<Organization> {
        self.0
            .tenants
            .find(id_or_name)
            .filter(|one| caller.operator || one.id == caller.organization)
            .ok_or_else(|| not_found("organization", id_or_name))
    }

    /// What it uses of its limits, and the limits: its own, else the server's defaults.
    pub fn usage(&self, organization: &Organization) -> (Use, Quota) {
        let used = self.0.tenants.used(organization.id);
        (used, organization.quota.or(self.0.settings.quota))
    }

    /// Makes one. Operator only. [`mayfly_core::Kind::Conflict`] when the name is taken.
    pub async fn create(&self, caller: &Caller, name: &str, quota: Quota) -> Result<Organization> {
        need_operator(caller, "change organizations")?;
        check(name)?;
        let organization = Organization {
            id: OrganizationId::from_uuid(self.0.entropy.uuid()),
            name: name.to_owned(),
            quota,
            created_at: self.0.now().wall,
        };
        commit::put_organization(&*self.0.store, &organization).await?;
        self.0.tenants.put(organization.clone());
        Ok(organization)
    }

    /// Makes those of these names that are not there. For the configuration.
    pub async fn ensure(&self, names: &[String]) -> Result<()> {
        let operator = operator(self.0.organization);
        for name in names {
            if self.0.tenants.find(name).is_none() {
                self.create(&operator, name, Quota::default()).await?;
            }
        }
        Ok(())
    }

    /// Sets its own limits; what is over them already stays. Operator only.
    pub async fn set_quota(
        &self,
        caller: &Caller,
        id_or_name: &str,
        quota: Quota,
    ) -> Result<Organization> {
        need_operator(caller, "change organizations")?;
        let changed = Organization { quota, ..self.get(caller, id_or_name)? };
        commit::put_organization(&*self.0.store, &changed).await?;
        self.0.tenants.put(changed.clone());
        Ok(changed)
    }

    /// Deletes one with its keys, which are refused from then on. Operator only. [`mayfly_core::Kind::Conflict`] while it has
    /// sandboxes or snapshots, and for the server's own one.
    pub async fn delete(&self, caller: &Caller, id_or_name: &str) -> Result<()> {
        need_operator(caller, "change organizations")?;
        let house = self.0;
        let organization = self.get(caller, id_or_name)?;
        if organization.id == house.organization {
            return Err(Error::conflict("the server's own organization cannot be deleted"));
        }
        // Shut first, so that nothing is made in it between the look and the deletion.
        house.tenants.shut(organization.id)?;
        match commit::delete_organization(&*house.store, organization.id).await {
            Ok(_) => {
                house.tenants.forget(organization.id);
                house.keys.forget(|key| key.organization == organization.id);
                Ok(())
            }
            Err(error) => {
                house.tenants.put(organization);
                Err(error)
            }
        }
    }
}

fn check(name: &str) -> Result<()> {
    let fits = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let begins = name.chars().next().is_some_and(|c| c.is_ascii_alphanumeric());
    if name.len() > MAX_NAME || !begins || !name.chars().all(fits) {
        return Err(Error::invalid(format!(
            "name must have 1 to {MAX_NAME} letters, digits, `-`, `_` and `.`, and begin with a letter or digit"
        )));
    }
    if name.parse::<OrganizationId>().is_ok() {
        return Err(Error::invalid("name must not look like an id"));
    }
    Ok(())
}
