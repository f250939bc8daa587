//! What sandboxes may reach: what callers may ask for, and how it comes into force.

use mayfly_core::network::{Cidr, NetworkChange, NetworkPolicy};
use mayfly_core::sandbox::{Command, Sandbox, on_command};
use mayfly_core::{Error, Result};

use crate::commit;
use crate::house::House;
use crate::living::Live;

/// What the operator decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NetworkSettings {
    /// Whether sandboxes whose maker asks for nothing reach nothing. Default no: the public internet.
    pub default_block: bool,
    /// Private ranges that callers may list.
    pub permitted: Vec<Cidr>,
    /// Whether there is a proxy for all, so that callers cannot name another.
    pub has_proxy: bool,
}

/// What a sandbox may reach whose maker asks for nothing.
pub(crate) fn default(house: &House) -> NetworkPolicy {
    let block_all = house.settings.network.default_block || !has_network(house);
    NetworkPolicy { block_all, ..NetworkPolicy::default() }
}

/// What a new sandbox may reach; the message of a refusal names the field or the entry.
pub(crate) fn of_new(house: &House, wanted: &NetworkChange) -> Result<NetworkPolicy> {
    let mut policy = wanted.apply(&NetworkPolicy::default());
    if wanted.block_all.is_none() && !policy.lists() {
        policy.block_all = house.settings.network.default_block;
    }
    check(house, &policy)?;
    // Nothing was listed, so nothing that was asked for is left out.
    policy.block_all |= !has_network(house);
    Ok(policy)
}

/// Changes what a sandbox may reach; when this returns it is written down and in force.
pub(crate) async fn change(house: &House, live: &Live, wanted: &NetworkChange) -> Result<()> {
    let next = wanted.apply(&live.record().network);
    check(house, &next)?;
    if !has_network(house) && !next.block_all {
        return Err(no_network("networkBlockAll"));
    }
    commit::change(house, live, |current: &Sandbox, now| {
        on_command(current, Command::SetNetwork(wanted.clone()), now)
            .map_err(|denied| denied.into_error(&current.name))
    })
    .await?;
    apply(house, live).await
}

/// Puts what the record says in force. One at a time, so that no older wish comes last.
pub(crate) async fn apply(house: &House, live: &Live) -> Result<()> {
    let _one = live.wire.lock().await;
    let record = live.record();
    house.runtime.set_network(record.id, &record.network).await
}

/// Tells the runtime again of every sandbox: it remembers nothing of what an earlier server told it, and that
/// one may have been killed between writing a change down and applying it.
pub(crate) async fn apply_all(house: &House) {
    for live in house.living.all() {
        if let Err(error) = apply(house, &live).await {
            tracing::warn!(sandbox = %live.id(), %error, "its network stays closed");
        }
    }
}

fn check(house: &House, policy: &NetworkPolicy) -> Result<()> {
    let settings = &house.settings.network;
    if !has_network(house) {
        let asked = [
            ("networkAllowList", !policy.cidrs.is_empty()),
            ("domainAllowList", !policy.domains.is_empty()),
            ("outboundProxyUrl", policy.proxy.is_some()),
        ];
        if let Some((field, _)) = asked.into_iter().find(|(_, asked)| *asked) {
            return Err(no_network(field));
        }
    }
    let refused = policy.cidrs.iter().find(|cidr| {
        cidr.is_private() && !settings.permitted.iter().any(|permitted| permitted.covers(cidr))
    });
    if let Some(cidr) = refused {
        return Err(Error::invalid(format!(
            "networkAllowList: `{cidr}` is private and not permitted by this server"
        ))
        .with_hint("ask the operator to add it to network.permit"));
    }
    if policy.proxy.is_some() && settings.has_proxy {
        return Err(Error::invalid(
            "outboundProxyUrl cannot be set: this server sends everything through a proxy of its own",
        ));
    }
    Ok(())
}

fn no_network(field: &str) -> Error {
    Error::invalid(format!(
        "{field} cannot be granted: the host of this server offers ordinary users no way to steer the network \
         of sandboxes, so they have only loopback"
    ))
    .with_hint("leave it out, or ask the operator to look at `mayfly doctor`")
}

fn has_network(house: &House) -> bool {
    house.runtime.has_network()
}
