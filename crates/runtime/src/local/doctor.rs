//! What the host offers, layer by layer, shown by live probes.

use mayfly_core::ports::runtime::Layer;

use super::host::Host;

/// Examines every layer.
pub(super) fn examine(host: &Host) -> Vec<Layer> {
    host.cgroups.report()
}
