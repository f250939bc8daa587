//! `mayfly volume`: files that sandboxes share.

use clap::{Args, Subcommand};
use hyper::Method;
use mayfly_core::Result;
use serde_json::{Value, json};

use super::output::{cell, table};
use super::{Ended, Session};
use crate::client::{Client, encode};
use crate::exit_code;

/// Make and delete volumes: files that sandboxes share and that outlive them
#[derive(Debug, Subcommand)]
pub(super) enum Volume {
    /// Make a volume
    Create(Create),
    /// List volumes, oldest first
    List,
    /// Show all about a volume
    Show(Name),
    /// Delete volumes with everything in them
    Rm(Remove),
}

/// Make a volume
#[derive(Debug, Args)]
pub(super) struct Create {
    /// Name of the volume
    name: String,
    /// Most that it holds, GiB; default: the server's
    #[arg(long, value_name = "GIB")]
    size: Option<u32>,
}

/// One volume.
#[derive(Debug, Args)]
pub(super) struct Name {
    /// Name or id
    volume: String,
}

/// Delete volumes with everything in them
#[derive(Debug, Args)]
pub(super) struct Remove {
    /// Names or ids
    #[arg(required = true)]
    volumes: Vec<String>,
}

impl Volume {
    pub(super) async fn run(self, session: &Session<'_>) -> Ended {
        let client = session.client().await?;
        match self {
            Self::Create(create) => create.run(&client, session).await,
            Self::List => list(&client, session).await,
            Self::Show(name) => show(&name.volume, &client, session).await,
            Self::Rm(remove) => remove.run(&client, session).await,
        }
    }
}

impl Create {
    async fn run(self, client: &Client, session: &Session<'_>) -> Ended {
        let body = json!({ "name": self.name, "size": self.size });
        let made = client.call(Method::POST, "/api/volumes", Some(&body)).await?;
        session.output.show(&made, || format!("{}\n", cell(&made["name"])))?;
        Ok(exit_code::SUCCESS)
    }
}

impl Remove {
    /// All are tried; the first failure is reported at the end.
    async fn run(self, client: &Client, session: &Session<'_>) -> Ended {
        let (mut done, mut failed) = (Vec::new(), None);
        for volume in self.volumes {
            match client.call(Method::DELETE, &path(&volume), None).await {
                Ok(_) => done.push(volume),
                Err(error) if failed.is_none() => failed = Some(error),
                Err(error) => session.output.error(&error),
            }
        }
        session.output.show(&json!({ "deleted": done }), || {
            done.iter().map(|name| format!("{name} deleted\n")).collect::<Vec<_>>().concat()
        })?;
        failed.map_or(Ok(exit_code::SUCCESS), Err)
    }
}

async fn list(client: &Client, session: &Session<'_>) -> Ended {
    let volumes = client.call(Method::GET, "/api/volumes", None).await?;
    let rows: Vec<Vec<String>> = volumes
        .as_array()
        .into_iter()
        .flatten()
        .map(|volume| {
            ["name", "state", "size", "createdAt", "lastUsedAt"]
                .map(|field| cell(&volume[field]))
                .into()
        })
        .collect();
    session
        .output
        .show(&volumes, || table(&["NAME", "STATE", "SIZE", "CREATED", "LAST USED"], &rows))?;
    Ok(exit_code::SUCCESS)
}

async fn show(volume: &str, client: &Client, session: &Session<'_>) -> Ended {
    let found = client.call(Method::GET, &path(volume), None).await?;
    let rows: Vec<Vec<String>> = found
        .as_object()
        .into_iter()
        .flatten()
        .map(|(field, value)| vec![field.clone(), cell(value)])
        .collect();
    session.output.show(&found, || table(&["FIELD", "VALUE"], &rows))?;
    Ok(exit_code::SUCCESS)
}

fn path(volume: &str) -> String {
    format!("/api/volumes/{}", encode(volume))
}

/// `NAME:PATH` or `NAME:PATH:ro`, with `NAME/FOLDER` for a folder of the volume.
pub(super) fn mount(text: &str) -> Result<Value, String> {
    let wrong = || {
        "expected NAME:PATH, NAME/FOLDER:PATH, or one of them with :ro, such as data:/data:ro"
            .to_owned()
    };
    let (rest, read_only) = text.strip_suffix(":ro").map_or((text, false), |rest| (rest, true));
    let (volume, path) = rest.split_once(':').ok_or_else(wrong)?;
    let (name, subpath) = match volume.split_once('/') {
        Some((name, subpath)) => (name, Some(subpath)),
        None => (volume, None),
    };
    if name.is_empty() || !path.starts_with('/') {
        return Err(wrong());
    }
    Ok(json!({ "volumeId": name, "mountPath": path, "subpath": subpath, "readOnly": read_only }))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_a_volume_a_path_and_perhaps_read_only() {
        let read = |text| mount(text).unwrap();
        assert_eq!(
            read("data:/srv/x"),
            json!({ "volumeId": "data", "mountPath": "/srv/x", "subpath": null, "readOnly": false })
        );
        assert_eq!(
            read("data/a/b:/x:y:ro"),
            json!({ "volumeId": "data", "mountPath": "/x:y", "subpath": "a/b", "readOnly": true })
        );
        for wrong in ["", "data", "data:x", ":/x", "/data:/x", "data:"] {
            assert!(mount(wrong).is_err(), "{wrong}");
        }
    }
}
