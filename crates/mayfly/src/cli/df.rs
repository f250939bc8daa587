//! `mayfly df`: what takes room.

use std::fmt::Write as _;

use hyper::Method;
use serde_json::{Value, json};

use super::output::table;
use super::{Ended, Session};
use crate::client::{Client, Place};
use crate::{exit_code, folder, lock};

/// What only a server can tell, since only it sees into the pool.
const ONLY_A_SERVER: &[&str] = &["sandboxes", "archives", "captures", "pool", "memory"];

/// Asks the named server, else the one of the data directory; without one tells what the folder shows.
pub(super) async fn run(session: &Session<'_>) -> Ended {
    let named = session.named()?;
    let value = if let Some(client) = named {
        client.call(Method::GET, "/api/system/df", None).await?
    } else {
        let config = session.config(None)?;
        if lock::answers(&config.socket()).await {
            let client = Client::new(Place::Socket(config.socket()));
            client.call(Method::GET, "/api/system/df", None).await?
        } else {
            without_server(&config.storage.data_dir, config.storage.reserve_bytes)?
        }
    };
    session.output.show(&value, || text(&value))?;
    Ok(exit_code::SUCCESS)
}

fn without_server(data_dir: &std::path::Path, reserve: u64) -> mayfly_core::Result<Value> {
    let parts: Vec<Value> = folder::parts(data_dir)?
        .into_iter()
        .map(|share| json!({ "name": share.name, "inPool": false, "bytes": share.bytes }))
        .collect();
    let disk = folder::disk(data_dir)?;
    Ok(json!({
        "dataDir": data_dir.display().to_string(),
        "disk": { "bytes": disk.size, "free": disk.free },
        "reserve": reserve,
        "pool": null,
        "memory": null,
        "sandboxMemory": null,
        "parts": parts,
        "unknown": ONLY_A_SERVER,
    }))
}

fn text(value: &Value) -> String {
    let mut rows: Vec<Vec<String>> = Vec::new();
    for part in value["parts"].as_array().into_iter().flatten() {
        let place = if part["inPool"] == true { "pool" } else { "disk" };
        let count = part["count"].as_u64().map(|count| count.to_string()).unwrap_or_default();
        let name = part["name"].as_str().unwrap_or_default().to_owned();
        rows.push(vec![name, place.to_owned(), count, size(&part["bytes"])]);
    }
    let mut text = table(&["WHAT", "WHERE", "COUNT", "SIZE"], &rows);
    let room = |name: &str, room: &Value| {
        let (bytes, free) = (&room["bytes"], &room["free"]);
        let used = bytes.as_u64().zip(free.as_u64()).map(|(all, free)| all.saturating_sub(free));
        vec![name.to_owned(), size(bytes), size(&json!(used)), size(free)]
    };
    let named = [("disk", "disk"), ("pool", "pool"), ("memory", "memory")];
    let rows: Vec<Vec<String>> = named
        .iter()
        .filter(|(_, field)| value[*field].is_object())
        .map(|(name, field)| room(name, &value[*field]))
        .collect();
    text.push('\n');
    text.push_str(&table(&["ROOM", "SIZE", "USED", "FREE"], &rows));
    let reserve = size(&value["reserve"]);
    let _ = writeln!(text, "\nof the disk {reserve} are always left free");
    if value["sandboxMemory"].is_u64() {
        let memory = size(&value["sandboxMemory"]);
        let _ = writeln!(text, "sandboxes that run use {memory} of memory");
    }
    if value["unknown"].is_array() {
        text.push_str("no server runs, so what sandboxes and captures use is not known; the pool file holds them\n");
    }
    text
}

/// Bytes as people read them; `?` where nothing counts them.
fn size(bytes: &Value) -> String {
    const UNITS: [&str; 6] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let Some(bytes) = bytes.as_u64() else { return "?".to_owned() };
    let unit = (bytes.max(1).ilog2() / 10).min(5);
    if unit == 0 {
        return format!("{bytes} B");
    }
    let tenths = (u128::from(bytes) * 10) >> (10 * unit);
    format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit as usize])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_at_a_glance() {
        for (bytes, expected) in [
            (json!(0), "0 B"),
            (json!(1023), "1023 B"),
            (json!(1536), "1.5 KiB"),
            (json!(10_u64 << 30), "10.0 GiB"),
            (json!(u64::MAX), "16383.9 PiB"),
            (Value::Null, "?"),
        ] {
            assert_eq!(size(&bytes), expected);
        }
    }
}
