//! The remotes that a repository knows.

use mayfly_core::{Error, Result};

use super::run::Call;
use super::{Git, names, secret};

/// A remote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Remote {
    /// Its name.
    pub name: String,
    /// Where it is fetched from, as it is configured.
    pub url: String,
}

/// A remote to add.
#[derive(Clone, Debug, Default)]
pub struct AddRemote {
    /// Its name.
    pub name: String,
    /// Where it is; must not carry a password.
    pub url: String,
    /// Fetches from it, too; when that fails, nothing is added.
    pub fetch: bool,
    /// Replaces a remote of that name.
    pub overwrite: bool,
}

impl Git<'_> {
    /// Remotes in the order of the configuration.
    pub async fn remotes(&self, path: &str) -> Result<Vec<Remote>> {
        names::path("path", path)?;
        let list = ["config", "--local", "-z", "--get-regexp", r"^remote\..*\.url$"];
        let done = self.run(Call::new("remotes", &list).at(path)).await?;
        if done.code == 1 {
            return Ok(Vec::new());
        }
        let done = done.ok()?;
        Ok(parse(done.fields()))
    }

    /// Adds a remote. A taken name without `overwrite` is a conflict.
    pub async fn add_remote(&self, path: &str, remote: &AddRemote) -> Result<()> {
        names::remote("name", &remote.name)?;
        names::url("url", &remote.url)?;
        if secret::has_password(&remote.url) {
            return Err(Error::invalid("url: must not carry a password, as it is stored").with_hint(
                "give username and password to push and pull, or store them by POST /git/credentials",
            ));
        }
        let known = self.remotes(path).await?;
        let earlier = known.iter().find(|known| known.name == remote.name);
        let name = remote.name.as_str();
        match earlier {
            None => self.must(remote_call(path, &["add", name, &remote.url])).await?,
            Some(_) if remote.overwrite => {
                self.must(remote_call(path, &["set-url", name, &remote.url])).await?
            }
            Some(_) => {
                return Err(Error::conflict(format!(
                    "git remote: there is a remote {name} already"
                ))
                .with_hint("choose another name, or set overwrite"));
            }
        };
        if !remote.fetch {
            return Ok(());
        }
        let fetch = Call::new("fetch", &["fetch", "--quiet", name]).at(path).far(None);
        let fetched = self.must(fetch).await;
        if fetched.is_err() {
            let undo = match earlier {
                None => remote_call(path, &["remove", name]),
                Some(earlier) => remote_call(path, &["set-url", name, &earlier.url]),
            };
            self.must(undo).await?;
        }
        fetched.map(drop)
    }
}

fn remote_call<'a>(path: &'a str, arguments: &[&str]) -> Call<'a> {
    Call::new("remote", &["remote"]).and(arguments).at(path)
}

/// `remote.<name>.url`, a line feed, the URL; of several URLs the first.
fn parse(fields: impl Iterator<Item = String>) -> Vec<Remote> {
    let mut remotes: Vec<Remote> = Vec::new();
    for field in fields {
        let Some((key, url)) = field.split_once('\n') else { continue };
        let name = key.strip_prefix("remote.").and_then(|key| key.strip_suffix(".url"));
        let Some(name) = name else { continue };
        if remotes.iter().all(|known| known.name != name) {
            remotes.push(Remote { name: name.to_owned(), url: url.to_owned() });
        }
    }
    remotes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn remotes_with_dots_and_several_urls() {
        let fields = ["remote.a.url\nx", "remote.a.b c.url\ny\nz", "remote.a.url\nsecond", "odd"];
        let found = parse(fields.into_iter().map(str::to_owned));
        let remote = |name: &str, url: &str| Remote { name: name.into(), url: url.into() };
        assert_eq!(found, [remote("a", "x"), remote("a.b c", "y\nz")]);
    }
}
