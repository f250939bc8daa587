//! Sandboxes as they look on the wire.

use std::collections::BTreeMap;

use mayfly_core::network::joined;
use mayfly_core::ports::runtime::Profile;
use mayfly_core::sandbox::{CreateSandbox, MAX_AUTO_ARCHIVE, Resize, Sandbox, Timers};
use mayfly_core::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::fault::{Answer, Fault};
use super::input::environment;
use super::network;
use super::time::rfc3339;
use super::volumes::MountBody;

/// A sandbox. Sizes are whole numbers; `cpu` in cores, `memory` and `disk` in GiB; 0 = not limited, as in the
/// isolation profile of ordinary users. (The clients take no `null` there.)
#[derive(Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Sandbox)]
#[expect(clippy::struct_excessive_bools, reason = "the contract has these flags")]
pub(crate) struct SandboxBody {
    id: String,
    organization_id: String,
    name: String,
    snapshot: String,
    user: String,
    env: BTreeMap<String, String>,
    labels: BTreeMap<String, String>,
    public: bool,
    /// Whether nothing can be reached, whatever the lists say.
    network_block_all: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    network_allow_list: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    domain_allow_list: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    outbound_proxy_url: Option<String>,
    kvm: bool,
    target: String,
    cpu: u32,
    gpu: u32,
    memory: u32,
    disk: u32,
    state: &'static str,
    desired_state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_reason: Option<String>,
    recoverable: bool,
    auto_stop_interval: u32,
    auto_pause_interval: u32,
    auto_archive_interval: u32,
    auto_delete_interval: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    auto_destroy_at: Option<String>,
    volumes: Vec<MountBody>,
    created_at: String,
    updated_at: String,
    last_activity_at: String,
    backup_state: &'static str,
    sandbox_class: &'static str,
    daemon_version: &'static str,
    /// Base of the toolbox, without the sandbox id and without a trailing slash.
    toolbox_proxy_url: String,
}

impl SandboxBody {
    /// The wire form of a record; `seen` is the scheme and host the client uses.
    pub(crate) fn new(sandbox: Sandbox, seen: &str) -> Self {
        let limited = sandbox.profile == Profile::Full;
        let limit = |value: u32| if limited { value } else { 0 };
        let Timers { auto_stop, auto_pause, auto_archive, auto_delete, ttl } = sandbox.timers;
        let network = sandbox.network;
        Self {
            id: sandbox.id.to_string(),
            organization_id: sandbox.organization.to_string(),
            name: sandbox.name,
            snapshot: sandbox.snapshot_name,
            user: sandbox.user,
            env: sandbox.env,
            labels: sandbox.labels,
            public: sandbox.public,
            network_block_all: network.block_all,
            network_allow_list: listed(&network.cidrs),
            domain_allow_list: listed(&network.domains),
            outbound_proxy_url: network.proxy.map(|url| url.as_str().to_owned()),
            kvm: false,
            target: sandbox.target,
            cpu: limit(sandbox.resources.cpu),
            gpu: 0,
            memory: limit(sandbox.resources.memory_gib),
            disk: limit(sandbox.resources.disk_gib),
            state: sandbox.state.as_str(),
            desired_state: sandbox.desired.as_str(),
            error_reason: sandbox.error_reason,
            recoverable: sandbox.recoverable,
            auto_stop_interval: auto_stop,
            auto_pause_interval: auto_pause,
            auto_archive_interval: if auto_archive == 0 { MAX_AUTO_ARCHIVE } else { auto_archive },
            auto_delete_interval: auto_delete,
            auto_destroy_at: (ttl > 0).then(|| {
                rfc3339(Timestamp(sandbox.ttl_from.wall.0.saturating_add(i64::from(ttl) * 60_000)))
            }),
            volumes: sandbox.volumes.into_iter().map(MountBody::new).collect(),
            created_at: rfc3339(sandbox.created.wall),
            updated_at: rfc3339(sandbox.updated_at),
            last_activity_at: rfc3339(sandbox.last_activity.wall),
            backup_state: "None",
            sandbox_class: "container",
            daemon_version: env!("CARGO_PKG_VERSION"),
            toolbox_proxy_url: format!("{seen}/toolbox"),
        }
    }
}

fn listed<T: std::fmt::Display>(entries: &[T]) -> Option<String> {
    (!entries.is_empty()).then(|| joined(entries))
}

/// A wish for a sandbox; everything is optional and `null` means absent.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", default)]
#[schema(as = CreateSandbox)]
pub(crate) struct CreateBody {
    /// Default: its id.
    name: Option<String>,
    /// Id or name. Default: the server's default snapshot.
    snapshot: Option<String>,
    user: Option<String>,
    env: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
    public: Option<bool>,
    /// Wins over the lists. Default: false, unless the server's default says otherwise and nothing is listed.
    network_block_all: Option<bool>,
    /// Ranges with commas between. With a list only what a list names is reachable.
    network_allow_list: Option<String>,
    /// Names, `name` or `*.name`, with commas between.
    domain_allow_list: Option<String>,
    /// Where all TCP goes through: `http://[user:password@]host[:port]`.
    outbound_proxy_url: Option<String>,
    target: Option<String>,
    cpu: Option<u32>,
    memory: Option<u32>,
    disk: Option<u32>,
    gpu: Option<u32>,
    gpu_type: Option<Vec<String>>,
    spot: Option<bool>,
    kvm: Option<bool>,
    /// Idle minutes until it is stopped; 0 = never. Default 15.
    auto_stop_interval: Option<u32>,
    /// Idle minutes until it is paused; 0 = never. Default 0.
    auto_pause_interval: Option<u32>,
    /// Minutes stopped until it is archived; 0 = the maximum. Default 10080.
    auto_archive_interval: Option<u32>,
    /// Minutes stopped until it is deleted; negative = never, 0 = at once. Default -1.
    auto_delete_interval: Option<i32>,
    /// Minutes until it is deleted in any state; 0 = never. Default 0.
    ttl_minutes: Option<u32>,
    queue_timeout: Option<u32>,
    volumes: Option<Vec<MountBody>>,
    #[schema(value_type = Option<Vec<Object>>)]
    secrets: Option<Vec<Value>>,
    linked_sandbox: Option<String>,
    otel_endpoint_override: Option<String>,
    sandbox_class: Option<String>,
    #[schema(value_type = Option<Object>)]
    build_info: Option<Value>,
}

impl CreateBody {
    /// The wish as the engine takes it; 501 for what is not built, 400 for what contradicts itself.
    pub(crate) fn into_wish(self, idempotency_key: Option<String>) -> Answer<CreateSandbox> {
        if self.snapshot.is_some() && self.build_info.is_some() {
            return Err(Fault::bad_request(
                "snapshot and buildInfo exclude each other: give one of them",
            ));
        }
        self.refuse_unsupported()?;
        let _ = self.queue_timeout;
        let network = network::wish(
            self.network_block_all,
            self.network_allow_list.as_deref(),
            self.domain_allow_list.as_deref(),
            self.outbound_proxy_url.as_deref(),
        )?;
        let defaults = Timers::default();
        let auto_pause = self.auto_pause_interval.unwrap_or(defaults.auto_pause);
        // Who asks for pausing only does not want the default of stopping as well.
        let auto_stop_default = if auto_pause > 0 { 0 } else { defaults.auto_stop };
        Ok(CreateSandbox {
            name: self.name.filter(|name| !name.is_empty()),
            snapshot: self.snapshot.filter(|snapshot| !snapshot.is_empty()),
            user: self.user.filter(|user| !user.is_empty()),
            env: environment("env", self.env)?,
            labels: self.labels.unwrap_or_default(),
            public: self.public.unwrap_or_default(),
            target: self.target.filter(|target| !target.is_empty()),
            cpu: self.cpu,
            memory_gib: self.memory,
            disk_gib: self.disk,
            network,
            volumes: self
                .volumes
                .unwrap_or_default()
                .into_iter()
                .map(MountBody::into_wish)
                .collect(),
            timers: Timers {
                auto_stop: self.auto_stop_interval.unwrap_or(auto_stop_default),
                auto_pause,
                auto_archive: self.auto_archive_interval.unwrap_or(defaults.auto_archive),
                auto_delete: self.auto_delete_interval.unwrap_or(defaults.auto_delete).max(-1),
                ttl: self.ttl_minutes.unwrap_or(defaults.ttl),
            },
            idempotency_key,
        })
    }

    fn refuse_unsupported(&self) -> Answer<()> {
        let text = |text: &Option<String>| text.as_ref().is_some_and(|text| !text.is_empty());
        let list = |list: &Option<Vec<Value>>| list.as_ref().is_some_and(|list| !list.is_empty());
        let wanted = [
            ("gpu", self.gpu.unwrap_or_default() > 0),
            ("gpuType", self.gpu_type.as_ref().is_some_and(|types| !types.is_empty())),
            ("spot", self.spot.unwrap_or_default()),
            ("kvm", self.kvm.unwrap_or_default()),
            ("linkedSandbox", text(&self.linked_sandbox)),
            ("otelEndpointOverride", text(&self.otel_endpoint_override)),
            ("secrets", list(&self.secrets)),
            ("buildInfo", self.build_info.is_some()),
            (
                "sandboxClass",
                self.sandbox_class.as_deref().is_some_and(|it| !matches!(it, "" | "container")),
            ),
        ];
        match wanted.into_iter().find(|(_, asked)| *asked) {
            Some((field, _)) => Err(Fault::unsupported(field)),
            None => Ok(()),
        }
    }
}

/// A wish for another size; what is absent stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default)]
#[schema(as = ResizeSandbox)]
pub(crate) struct ResizeBody {
    cpu: Option<u32>,
    memory: Option<u32>,
    disk: Option<u32>,
    gpu: Option<u32>,
}

impl ResizeBody {
    /// The wish as the engine takes it.
    pub(crate) fn into_wish(self) -> Answer<Resize> {
        if self.gpu.unwrap_or_default() > 0 {
            return Err(Fault::unsupported("gpu"));
        }
        Ok(Resize { cpu: self.cpu, memory_gib: self.memory, disk_gib: self.disk })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http::input::parse;

    #[test]
    fn fields_that_are_not_built_are_501_unless_they_ask_for_nothing() {
        for (text, field) in [
            (r#"{"gpu":1}"#, "gpu"),
            (r#"{"gpuType":["a"]}"#, "gpuType"),
            (r#"{"spot":true}"#, "spot"),
            (r#"{"kvm":true}"#, "kvm"),
            (r#"{"linkedSandbox":"x"}"#, "linkedSandbox"),
            (r#"{"otelEndpointOverride":"http://x"}"#, "otelEndpointOverride"),
            (r#"{"secrets":[{"A":"b"}]}"#, "secrets"),
            (r#"{"buildInfo":{"dockerfileContent":"FROM x"}}"#, "buildInfo"),
            (r#"{"sandboxClass":"linux-vm"}"#, "sandboxClass"),
        ] {
            let body: CreateBody = parse(text.as_bytes()).expect(text);
            let fault = body.into_wish(None).expect_err(text);
            assert_eq!(fault.status.as_u16(), 501, "{text}");
            assert_eq!(fault.message, format!("{field} is not supported by this server"));
        }
        let nothing = br#"{"gpu":0,"gpuType":[],"spot":false,"kvm":false,"linkedSandbox":null,"volumes":[],
            "secrets":[],"networkAllowList":null,"networkBlockAll":true,"sandboxClass":"container"}"#;
        let body: CreateBody = parse(nothing).expect("a good body");
        assert!(body.into_wish(None).is_ok());
        let both: CreateBody = parse(br#"{"snapshot":"a","buildInfo":{}}"#).expect("a good body");
        assert_eq!(both.into_wish(None).expect_err("both").status.as_u16(), 400);
    }

    #[test]
    fn timers_have_the_defaults_of_the_contract() {
        let body: CreateBody = parse(b"{}").expect("an empty body");
        assert_eq!(body.into_wish(None).expect("a wish").timers, Timers::default());
        let body: CreateBody =
            parse(br#"{"autoPauseInterval":5,"autoDeleteInterval":-7}"#).expect("timers");
        let timers = body.into_wish(None).expect("a wish").timers;
        assert_eq!((timers.auto_stop, timers.auto_pause, timers.auto_delete), (0, 5, -1));
    }
}
