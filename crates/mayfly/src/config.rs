//! The operator's settings: flags over environment over files over the embedded, commented defaults.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;

use figment::Figment;
use figment::providers::{Format as _, Serialized, Toml};
use figment::value::{Dict, Value};
use mayfly_core::network::{Cidr, ProxyUrl};
use mayfly_core::{Error, Result};
use serde::Deserialize;

mod files;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod network;
mod tenants;
#[cfg(test)]
mod tests;

pub(crate) use tenants::Tenants;

/// Every key with its default and meaning.
pub(crate) const DEFAULTS: &str = include_str!("../config.default.toml");

/// Names in the environment that are no settings.
const EXCEPTIONS: [&str; 3] = ["MAYFLY_URL", "MAYFLY_API_KEY", "MAYFLY_MASTER_KEY"];

/// All settings, checked. Units and meanings stand in `config.default.toml`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// The HTTP listener.
    pub(crate) server: Server,
    /// The SSH gateway.
    pub(crate) ssh: Ssh,
    /// Where state lives.
    pub(crate) storage: Storage,
    /// How sandboxes are confined.
    pub(crate) isolation: Isolation,
    /// Defaults and bounds of sandboxes.
    pub(crate) sandbox: Sandbox,
    /// Files that sandboxes share.
    pub(crate) volumes: Volumes,
    /// Organizations and their limits.
    pub(crate) tenants: Tenants,
    /// What sandboxes may reach.
    pub(crate) network: Network,
    /// What is kept ready.
    pub(crate) pool: Pool,
    /// Ceilings that callers cannot choose.
    pub(crate) limits: Limits,
    /// The server's own log.
    pub(crate) log: Log,
}

/// `[server]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Server {
    /// Address and port to listen on.
    pub(crate) listen: SocketAddr,
    /// Empty = the Host of each request.
    pub(crate) public_url: String,
    /// Empty = localhost with the listener's port.
    pub(crate) proxy_domain: String,
    /// Empty = beside `listen`; `off` = none; see [`Neighbour`].
    pub(crate) preview_listen: Neighbour,
    /// Connections at once.
    pub(crate) connections: u32,
    /// Requests per second and key.
    pub(crate) rate: u32,
    /// web sockets at once.
    pub(crate) websockets: u32,
    /// web sockets at once of one key.
    pub(crate) websockets_per_key: u32,
    /// Listeners to events at once of one organization.
    pub(crate) listeners: u32,
    /// Origins whose pages may read answers in a browser.
    #[serde(deserialize_with = "tenants::origins")]
    pub(crate) cors_origins: Vec<String>,
    /// Largest JSON body.
    pub(crate) max_body_bytes: u64,
    /// Time for requests under way at the end.
    pub(crate) drain_seconds: u64,
}

/// `[ssh]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Ssh {
    /// Empty = port 2222 beside `server.listen`.
    pub(crate) listen: Neighbour,
}

/// Address of a listener beside the main one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Neighbour {
    /// Beside the main one, if there is room.
    Beside,
    /// None.
    Off,
    /// There, or the server does not start.
    At(SocketAddr),
}

impl<'de> Deserialize<'de> for Neighbour {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match String::deserialize(deserializer)?.as_str() {
            "" => Ok(Self::Beside),
            "off" => Ok(Self::Off),
            text => text.parse().map(Self::At).map_err(|_| {
                serde::de::Error::custom(format!(
                    "`{text}`: expected an address with a port such as 127.0.0.1:3458, nothing, or off"
                ))
            }),
        }
    }
}

/// `[storage]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Storage {
    /// Absolute once loaded.
    pub(crate) data_dir: PathBuf,
    /// 0 = half of the free space, at most 100 GiB.
    pub(crate) pool_bytes: u64,
    /// Always left free on the host's disk.
    pub(crate) reserve_bytes: u64,
}

/// `isolation.profile`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ProfileChoice {
    /// Full for root, unprivileged otherwise.
    Auto,
    /// Every layer; needs root.
    Full,
    /// What an ordinary user can have.
    Unprivileged,
    /// No isolation.
    None,
}

/// `[isolation]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Isolation {
    /// Which layers sandboxes get.
    pub(crate) profile: ProfileChoice,
    /// Whether set-user-id programs work inside.
    pub(crate) allow_setuid: bool,
}

/// `[sandbox]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Sandbox {
    /// Most at once.
    pub(crate) max_count: u32,
    /// Snapshot when the caller names none.
    pub(crate) snapshot: String,
    /// Region label when the caller names none.
    pub(crate) target: String,
    /// Most cores of one.
    pub(crate) max_cpu: u32,
    /// Most memory of one.
    pub(crate) max_memory_gib: u32,
    /// Most disk of one.
    pub(crate) max_disk_gib: u32,
    /// Longest command.
    pub(crate) execute_seconds: u64,
    /// Most output in one answer.
    pub(crate) output_bytes: u32,
    /// From terminate to kill.
    pub(crate) stop_grace_seconds: u64,
    /// How long a verb waits for its transition.
    pub(crate) patience_seconds: u64,
    /// How long records of destroyed ones are kept.
    pub(crate) keep_destroyed_seconds: u64,
}

/// `[volumes]`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Volumes {
    /// Size of one whose maker asks for none.
    pub(crate) size_gib: u32,
    /// Most of one.
    pub(crate) max_size_gib: u32,
}

/// `network.default`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum NetworkDefault {
    /// The public internet.
    Public,
    /// Nothing.
    Block,
}

/// `network.steering`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Steering {
    /// The best way that the host offers.
    Auto,
    /// BPF.
    SkLookup,
    /// Packet rules.
    Tproxy,
}

/// `[network]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Network {
    /// For sandboxes whose maker asks for nothing.
    pub(crate) default: NetworkDefault,
    /// Private ranges that callers may list.
    #[serde(deserialize_with = "network::ranges")]
    pub(crate) permit: Vec<Cidr>,
    /// Ranges that no sandbox reaches.
    #[serde(deserialize_with = "network::ranges")]
    pub(crate) deny: Vec<Cidr>,
    /// Empty = the host's.
    #[serde(deserialize_with = "network::resolvers")]
    pub(crate) resolvers: Vec<SocketAddr>,
    /// Of one sandbox.
    pub(crate) connections: u32,
    /// Of one sandbox.
    pub(crate) flows: u32,
    /// For everything.
    #[serde(deserialize_with = "network::proxy")]
    pub(crate) proxy: Option<ProxyUrl>,
    /// How connections come to the network process.
    pub(crate) steering: Steering,
}

/// `[pool]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Pool {
    /// Ready network namespaces.
    pub(crate) namespaces: u32,
    /// Ready sandboxes per snapshot.
    pub(crate) warm: u32,
}

/// `[limits]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Limits {
    /// Processes and threads of one sandbox.
    pub(crate) pids: u32,
    /// Open files of one process.
    pub(crate) open_files: u32,
    /// Output kept per command.
    pub(crate) log_bytes: u64,
}

/// `log.format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LogFormat {
    /// For people.
    Text,
    /// For machines.
    Json,
}

/// `[log]`
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Log {
    /// Filter of the server's own log.
    pub(crate) level: String,
    /// Form of its lines.
    pub(crate) format: LogFormat,
}

/// What the command line says about settings.
#[derive(Clone, Debug, Default)]
pub(crate) struct Overrides {
    /// `--config`: the only file read.
    pub(crate) file: Option<PathBuf>,
    /// `--listen`.
    pub(crate) listen: Option<String>,
    /// `--data-dir`.
    pub(crate) data_dir: Option<PathBuf>,
}

impl Config {
    /// Loads and checks the settings of this process. An error names the key and what was expected.
    pub(crate) fn load(overrides: &Overrides) -> Result<Self> {
        let environment = std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value)))
            .filter(|(name, _)| name.starts_with("MAYFLY_"))
            .map(|(name, value)| {
                let value = value.into_string().map_err(|_| {
                    Error::invalid(format!("{name} in the environment is not valid UTF-8"))
                })?;
                Ok((name, value))
            })
            .collect::<Result<_>>()?;
        Self::from_sources(overrides, &files::read(overrides.file.as_deref())?, &environment)
    }

    fn from_sources(
        overrides: &Overrides,
        files: &[(PathBuf, String)],
        environment: &BTreeMap<String, String>,
    ) -> Result<Self> {
        let mut figment = Figment::from(Toml::string(DEFAULTS));
        let known: Dict = figment.extract().map_err(|error| refused("the defaults", error))?;
        for (path, text) in files {
            // One at a time, so that a bad value is blamed on the file it stands in.
            figment = figment.merge(Toml::string(text));
            check(&figment, &path.display().to_string())?;
        }
        for (name, value) in environment {
            if EXCEPTIONS.contains(&name.as_str()) {
                continue;
            }
            let key = setting_of(name, &known)?;
            figment = figment.merge(Serialized::global(&key, typed(&known, &key, value)));
            check(&figment, name)?;
        }
        if let Some(listen) = &overrides.listen {
            figment = figment.merge(Serialized::global("server.listen", listen));
            check(&figment, "--listen")?;
        }
        if let Some(folder) = &overrides.data_dir {
            figment = figment.merge(Serialized::global("storage.data_dir", folder));
        }
        let mut config = check(&figment, "the settings")?;
        config.complete()?;
        Ok(config)
    }

    /// The socket of the local command line; its folder is private to the server's user.
    pub(crate) fn socket(&self) -> PathBuf {
        self.run_dir().join("mayfly.sock")
    }

    /// The socket behind `mayfly.internal`; as long as the other's name, so that both fit or neither does.
    pub(crate) fn internal_socket(&self) -> PathBuf {
        self.run_dir().join("inside.sock")
    }

    /// Folder of the sockets and the lock.
    pub(crate) fn run_dir(&self) -> PathBuf {
        self.storage.data_dir.join("run")
    }

    /// Platform state.
    pub(crate) fn database(&self) -> PathBuf {
        self.storage.data_dir.join("state.db")
    }

    /// Fills in what depends on the caller and checks what no type can.
    fn complete(&mut self) -> Result<()> {
        if self.storage.data_dir.as_os_str().is_empty() {
            self.storage.data_dir = files::default_data_dir()?;
        }
        self.storage.data_dir = std::path::absolute(&self.storage.data_dir).map_err(|error| {
            Error::invalid("storage.data_dir is not a usable path").with_source(error)
        })?;
        let url = &self.server.public_url;
        if !url.is_empty() && !url.starts_with("http://") && !url.starts_with("https://") {
            return Err(Error::invalid(format!(
                "server.public_url is `{url}`: expected a URL that begins with http:// or https://, or nothing"
            )));
        }
        let positive = [
            ("server.connections", u64::from(self.server.connections)),
            ("server.rate", u64::from(self.server.rate)),
            ("server.listeners", u64::from(self.server.listeners)),
            ("server.max_body_bytes", self.server.max_body_bytes),
            ("sandbox.max_count", u64::from(self.sandbox.max_count)),
            ("sandbox.max_cpu", u64::from(self.sandbox.max_cpu)),
            ("volumes.size_gib", u64::from(self.volumes.size_gib)),
            ("volumes.max_size_gib", u64::from(self.volumes.max_size_gib)),
            ("sandbox.max_memory_gib", u64::from(self.sandbox.max_memory_gib)),
            ("sandbox.max_disk_gib", u64::from(self.sandbox.max_disk_gib)),
            ("sandbox.execute_seconds", self.sandbox.execute_seconds),
            ("sandbox.output_bytes", u64::from(self.sandbox.output_bytes)),
            ("tenants.audit_lines", u64::from(self.tenants.audit_lines)),
            ("network.connections", u64::from(self.network.connections)),
            ("network.flows", u64::from(self.network.flows)),
            ("limits.pids", u64::from(self.limits.pids)),
            ("limits.open_files", u64::from(self.limits.open_files)),
            ("limits.log_bytes", self.limits.log_bytes),
        ];
        match positive.into_iter().find(|(_, value)| *value == 0) {
            Some((key, _)) => Err(Error::invalid(format!("{key} is 0: expected 1 or more"))),
            None => Ok(()),
        }
    }
}

fn check(figment: &Figment, source: &str) -> Result<Config> {
    figment.extract().map_err(|error| refused(source, error))
}

/// The setting that a name in the environment stands for: the first underscore ends the section.
fn setting_of(name: &str, known: &Dict) -> Result<String> {
    let unknown = || {
        Error::invalid(format!("{name} in the environment names no setting"))
            .with_hint("`mayfly serve --print-config` lists all settings; unset what is not one")
    };
    let rest = name.strip_prefix("MAYFLY_").unwrap_or(name).to_ascii_lowercase();
    let (section, key) = rest.split_once('_').ok_or_else(unknown)?;
    match known.get(section).and_then(Value::as_dict) {
        Some(keys) if keys.contains_key(key) => Ok(format!("{section}.{key}")),
        _ => Err(unknown()),
    }
}

/// The text of a variable in the type that the setting's default has; the text itself where it does not fit,
/// so that the refusal can say what was expected.
fn typed(known: &Dict, key: &str, text: &str) -> Value {
    let default = key
        .split_once('.')
        .and_then(|(section, key)| known.get(section)?.as_dict()?.get(key).cloned());
    match default {
        Some(Value::Num(..)) => text.parse::<i64>().map_or_else(|_| text.into(), Value::from),
        Some(Value::Array(..)) => {
            let parts = text.split(',').map(str::trim).filter(|part| !part.is_empty());
            parts.map(Value::from).collect::<Vec<Value>>().into()
        }
        Some(Value::Bool(..)) => text.parse::<bool>().map_or_else(|_| text.into(), Value::from),
        _ => text.into(),
    }
}

fn refused(source: &str, error: figment::Error) -> Error {
    let key = error.path.join(".");
    let what = error.kind.to_string();
    let message = if key.is_empty() {
        format!("{source}: {what}")
    } else {
        format!("{source}: {key}: {what}")
    };
    Error::invalid(message)
        .with_hint(
            "`mayfly serve --print-config` prints all settings with their defaults and meanings",
        )
        .with_source(error)
}
