//! Settings of git, and credentials that the caller wants kept.

use mayfly_core::{Error, Result};

use super::run::Call;
use super::{Git, names};

/// Longest value, bytes.
const MAX_VALUE: usize = 65_536;

/// Whose setting.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Scope {
    /// The sandbox's user.
    #[default]
    Global,
    /// All users of the sandbox.
    System,
    /// The repository at this path.
    Local(String),
}

impl Scope {
    /// Reads its word; `local` needs the path.
    pub fn parse(word: Option<&str>, path: Option<&str>) -> Result<Self> {
        match (word.unwrap_or("global"), path.filter(|path| !path.is_empty())) {
            ("global", _) => Ok(Self::Global),
            ("system", _) => Ok(Self::System),
            ("local", Some(path)) => {
                names::path("path", path)?;
                Ok(Self::Local(path.to_owned()))
            }
            ("local", None) => Err(Error::invalid("path: is needed when the scope is local")),
            _ => Err(Error::invalid("scope: expected global, local or system")),
        }
    }

    fn call(&self) -> Call<'_> {
        let call = Call::new("config", &["config"]);
        match self {
            Self::Global => call.and(&["--global"]),
            Self::System => call.and(&["--system"]),
            Self::Local(path) => call.and(&["--local"]).at(path),
        }
    }
}

/// A user name and password to keep for a host.
#[derive(Clone)]
pub struct Credentials {
    /// User name there.
    pub username: String,
    /// Password or token there.
    pub password: String,
    /// Host, with its port where that is not the usual one.
    pub host: String,
    /// `https` or `http`.
    pub protocol: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Credentials").field("host", &self.host).finish_non_exhaustive()
    }
}

impl Git<'_> {
    /// Value of a setting in that scope; of several the last. `None` = not set.
    pub async fn config(&self, key: &str, scope: &Scope) -> Result<Option<String>> {
        names::key("key", key)?;
        let done = self.run(scope.call().and(&["-z", "--get", key])).await?;
        if done.code == 1 {
            return Ok(None);
        }
        let done = done.ok()?;
        Ok(Some(done.fields().next().unwrap_or_default()))
    }

    /// Sets it, in the place of all its earlier values.
    pub async fn set_config(&self, key: &str, value: &str, scope: &Scope) -> Result<()> {
        names::key("key", key)?;
        if value.contains('\0') || value.len() > MAX_VALUE {
            let message = format!("value: expected at most {MAX_VALUE} bytes without NUL");
            return Err(Error::invalid(message));
        }
        self.must(scope.call().and(&["--replace-all", "--", key, value])).await.map(drop)
    }

    /// Says who makes commits.
    pub async fn set_user(&self, name: &str, email: &str, scope: &Scope) -> Result<()> {
        names::person("name", name)?;
        names::person("email", email)?;
        self.set_config("user.name", name, scope).await?;
        self.set_config("user.email", email, scope).await
    }

    /// Keeps credentials in git's own store, `~/.git-credentials` of the sandbox's user, readable by that user
    /// only, and lets git look there. An earlier password of that user at that host is replaced.
    pub async fn store_credentials(&self, credentials: &Credentials) -> Result<()> {
        let Credentials { username, password, host, protocol } = credentials;
        names::person("username", username)?;
        names::person("password", password)?;
        let is_host = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:[]".contains(&byte);
        let is_good = !host.is_empty() && host.len() <= 255 && !host.starts_with(['-', '.', ':']);
        if !is_good || !host.bytes().all(is_host) {
            return Err(Error::invalid(
                "host: expected a host name such as github.com, with a port if need be",
            ));
        }
        if protocol != "https" && protocol != "http" {
            return Err(Error::invalid("protocol: expected https or http"));
        }
        let text = format!(
            "protocol={protocol}\nhost={host}\nusername={username}\npassword={password}\n\n"
        );
        let approve = Call::new("credential", &["credential", "approve"])
            .with("credential.helper", "")
            .with("credential.helper", "store")
            .input(text);
        self.must(approve).await?;
        let ask = Scope::Global.call().and(&["-z", "--get-all", "credential.helper"]);
        let helpers = self.run(ask).await?;
        if helpers.fields().any(|helper| helper == "store") {
            return Ok(());
        }
        self.must(Scope::Global.call().and(&["--add", "credential.helper", "store"]))
            .await
            .map(drop)
    }
}
