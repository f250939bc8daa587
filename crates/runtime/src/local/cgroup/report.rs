//! What `mayfly doctor` says of the hierarchies: each limit is set on a group and read back.

use mayfly_core::ports::runtime::{Layer, LayerState};

use super::detect::remedy;
use super::hierarchy::Version;
use super::{Cgroups, Controller, Group, Limits};

/// Slot that no sandbox has.
const PROBE_SLOT: u32 = u32::MAX;
const PROBE: Limits = Limits { cpu_cores: 1, memory_bytes: 64 << 20, pids: 77 };

pub(super) fn report(cgroups: &Cgroups) -> Vec<Layer> {
    let group = cgroups.prepare(PROBE_SLOT);
    let set = group
        .as_ref()
        .map_err(ToString::to_string)
        .and_then(|group| group.set_limits(&PROBE).map_err(|error| error.to_string()));
    let mut layers: Vec<Layer> = [Controller::Cpu, Controller::Memory, Controller::Pids]
        .into_iter()
        .map(|controller| limit_layer(cgroups, controller, &set))
        .collect();
    layers.push(freeze_layer(group.as_ref().ok()));
    // The outcome of the probe is known; a leftover is swept at the next start.
    let _ = cgroups.group(PROBE_SLOT).remove();
    layers
}

fn limit_layer(cgroups: &Cgroups, controller: Controller, set: &Result<(), String>) -> Layer {
    let (state, evidence) = match cgroups.inner.require(controller) {
        Err(error) => (LayerState::Absent, error.message().to_owned()),
        Ok(hierarchy) => {
            let (file, wanted) = probe_file(controller, hierarchy.version);
            let seen = hierarchy.read(PROBE_SLOT, file).unwrap_or_default();
            let place = format!("{:?} at {}", hierarchy.version, hierarchy.path.display());
            if seen.trim() == wanted {
                (LayerState::Holds, format!("{place}: {file} = {wanted} was set and read back"))
            } else {
                let why = set.as_ref().err().map_or("", String::as_str);
                (LayerState::Absent, format!("{place}: {file} reads `{}`; {why}", seen.trim()))
            }
        }
    };
    Layer {
        name: format!("cgroup {}", controller.name()),
        state,
        required: true,
        evidence,
        remedy: (state != LayerState::Holds).then(|| remedy(controller)),
    }
}

fn probe_file(controller: Controller, version: Version) -> (&'static str, &'static str) {
    match (controller, version) {
        (Controller::Memory, Version::V2) => ("memory.max", "67108864"),
        (Controller::Memory, Version::V1) => ("memory.limit_in_bytes", "67108864"),
        (Controller::Pids, _) => ("pids.max", "77"),
        (_, Version::V2) => ("cpu.max", "100000 100000"),
        (_, Version::V1) => ("cpu.cfs_quota_us", "100000"),
    }
}

fn freeze_layer(group: Option<&Group>) -> Layer {
    let tried = group.map(|group| {
        let probed = group.freeze(true).and_then(|()| group.freeze(false));
        let how = if group.inner.v2().is_some() { "v2 cgroup.freeze" } else { "v1 freezer" };
        probed.map(|()| how).map_err(|error| error.to_string())
    });
    let (state, evidence) = match tried {
        Some(Ok(how)) => (LayerState::Holds, format!("{how}: an empty group froze and thawed")),
        Some(Err(error)) => (LayerState::Absent, error),
        None => (LayerState::Absent, "no group could be made".to_owned()),
    };
    Layer {
        name: "cgroup freeze".to_owned(),
        state,
        required: true,
        evidence,
        remedy: (state != LayerState::Holds).then(|| remedy(Controller::Freezer)),
    }
}
