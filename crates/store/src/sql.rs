//! The list query: filters as SQL with parameters, and the cursor that continues a list.
//!
//! Pages go by (sort key, id), so rows that come and go elsewhere neither repeat nor hide a row.

use mayfly_core::id::{OrganizationId, SandboxId};
use mayfly_core::ports::store::{SandboxQuery, SortBy};
use mayfly_core::sandbox::{Sandbox, State};
use mayfly_core::{Error, Result};
use rusqlite::types::Value;

use crate::rows;

/// Rows of a page at most.
const MOST: u32 = 200;

/// Conditions joined by AND, with their parameters in order.
#[derive(Debug, Default)]
pub(crate) struct Filter {
    text: String,
    /// Values of the `?`s.
    pub(crate) values: Vec<Value>,
}

impl Filter {
    /// What the query asks of every row, on all pages.
    pub(crate) fn of(organization: OrganizationId, query: &SandboxQuery) -> Self {
        let mut filter = Self::default();
        filter.and("organization = ?", [blob(organization.as_uuid())]);
        filter.and("warm = 0", []);
        if let Some(id) = query.id {
            filter.and("id = ?", [blob(id.as_uuid())]);
        }
        if let Some(prefix) = &query.name_prefix {
            let prefix = prefix.to_lowercase();
            let length = i64::try_from(prefix.chars().count()).unwrap_or(i64::MAX);
            filter.and("substr(name_folded, 1, ?) = ?", [length.into(), prefix.into()]);
        }
        for (key, value) in &query.labels {
            filter.and(
                "EXISTS (SELECT 1 FROM json_each(labels) AS label WHERE label.key = ? AND label.value = ?)",
                [key.clone().into(), value.clone().into()],
            );
        }
        // Said also where states are asked for: the index of lists holds no others.
        if !query.states.contains(&State::Destroyed) {
            filter.and("state <> 'destroyed'", []);
        }
        filter.any("state", query.states.iter().map(|state| rows::state_text(*state)));
        filter.any("snapshot_name", query.snapshots.iter().map(String::as_str));
        filter.any("target", query.targets.iter().map(String::as_str));
        filter.equal("public", query.public);
        filter.equal("recoverable", query.recoverable);
        filter.between("cpu", pair(query.cpu, i64::from));
        filter.between("memory_gib", pair(query.memory_gib, i64::from));
        filter.between("disk_gib", pair(query.disk_gib, i64::from));
        filter.between("created_wall", pair(query.created, |at| at.0));
        filter.between("last_wall", pair(query.last_activity, |at| at.0));
        if query.destroy_at != (None, None) {
            filter.and("ttl > 0", []);
            filter.between("ttl_from_wall + ttl * 60000", pair(query.destroy_at, |at| at.0));
        }
        if query.without_doomed {
            filter.and("NOT (state = 'error' AND desired = 'destroyed')", []);
        }
        filter
    }

    /// Only rows behind the cursor.
    pub(crate) fn after(&mut self, query: &SandboxQuery, cursor: &Cursor) {
        let sign = if query.ascending { '>' } else { '<' };
        let column = column(query.sort);
        self.and(
            &format!("({column}, id) {sign} (?, ?)"),
            [cursor.key.clone(), blob(cursor.id.as_uuid())],
        );
    }

    /// The text behind `WHERE`.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    fn and<const N: usize>(&mut self, condition: &str, values: [Value; N]) {
        if !self.text.is_empty() {
            self.text.push_str(" AND ");
        }
        self.text.push_str(condition);
        self.values.extend(values);
    }

    fn any<'a>(&mut self, column: &str, words: impl Iterator<Item = &'a str>) {
        let words: Vec<_> = words.map(serde_json::Value::from).collect();
        if !words.is_empty() {
            let list = serde_json::Value::from(words).to_string();
            self.and(&format!("{column} IN (SELECT value FROM json_each(?))"), [list.into()]);
        }
    }

    fn equal(&mut self, column: &str, wanted: Option<bool>) {
        if let Some(wanted) = wanted {
            self.and(&format!("{column} = ?"), [Value::from(wanted)]);
        }
    }

    fn between(&mut self, column: &str, (least, most): (Option<i64>, Option<i64>)) {
        if let Some(least) = least {
            self.and(&format!("{column} >= ?"), [least.into()]);
        }
        if let Some(most) = most {
            self.and(&format!("{column} <= ?"), [most.into()]);
        }
    }
}

/// The text behind `ORDER BY`.
pub(crate) fn order(query: &SandboxQuery) -> String {
    let (column, direction) = (column(query.sort), if query.ascending { "ASC" } else { "DESC" });
    format!("{column} {direction}, id {direction}")
}

/// Refuses a query that no page can answer.
pub(crate) fn check(query: &SandboxQuery) -> Result<()> {
    if !(1..=MOST).contains(&query.limit) {
        return Err(Error::invalid(format!("limit must be 1 to {MOST}, not {}", query.limit)));
    }
    if query.cursor.is_some() && query.offset > 0 {
        return Err(Error::invalid("a cursor and an offset cannot be used together"));
    }
    Ok(())
}

/// Where a page ended: the sort key and id of its last row.
#[derive(Debug, PartialEq)]
pub(crate) struct Cursor {
    key: Value,
    id: SandboxId,
}

impl Cursor {
    /// Behind this row.
    pub(crate) fn behind(sort: SortBy, row: &Sandbox) -> Self {
        let key = match sort {
            SortBy::Name => row.name.clone().into(),
            SortBy::Cpu => row.resources.cpu.into(),
            SortBy::Memory => row.resources.memory_gib.into(),
            SortBy::Disk => row.resources.disk_gib.into(),
            SortBy::LastActivity => row.last_activity.wall.0.into(),
            SortBy::Created => row.created.wall.0.into(),
        };
        Self { key, id: row.id }
    }

    /// `<sort letter>.<key>.<id>`, fit for URLs as it is.
    pub(crate) fn to_text(&self, sort: SortBy) -> String {
        let key = match &self.key {
            Value::Text(text) => hex(text.as_bytes()),
            Value::Integer(number) => number.to_string(),
            _ => String::new(),
        };
        format!("{}.{key}.{}", letter(sort), self.id)
    }

    /// The cursor of a text made for the same sort order.
    pub(crate) fn parse(sort: SortBy, text: &str) -> Result<Self> {
        let bad = || {
            Error::invalid("cursor is not one of this list")
                .with_hint("pass nextCursor of the previous page unchanged, with the same sort")
        };
        let mut parts = text.split('.');
        let (Some(made_for), Some(key), Some(id), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(bad());
        };
        if made_for != letter(sort) {
            return Err(bad());
        }
        let key = match sort {
            SortBy::Name => unhex(key).map(Value::from).ok_or_else(bad)?,
            _ => key.parse::<i64>().map(Value::from).map_err(|_| bad())?,
        };
        Ok(Self { key, id: id.parse().map_err(|_| bad())? })
    }
}

fn column(sort: SortBy) -> &'static str {
    match sort {
        SortBy::Name => "name",
        SortBy::Cpu => "cpu",
        SortBy::Memory => "memory_gib",
        SortBy::Disk => "disk_gib",
        SortBy::LastActivity => "last_wall",
        SortBy::Created => "created_wall",
    }
}

fn letter(sort: SortBy) -> &'static str {
    match sort {
        SortBy::Name => "n",
        SortBy::Cpu => "c",
        SortBy::Memory => "m",
        SortBy::Disk => "d",
        SortBy::LastActivity => "l",
        SortBy::Created => "t",
    }
}

fn blob(id: &uuid::Uuid) -> Value {
    Value::Blob(id.as_bytes().to_vec())
}

fn pair<T>(bounds: (Option<T>, Option<T>), number: fn(T) -> i64) -> (Option<i64>, Option<i64>) {
    (bounds.0.map(number), bounds.1.map(number))
}

fn hex(bytes: &[u8]) -> String {
    let digit = |digit: u8| char::from(b"0123456789abcdef"[usize::from(digit)]);
    bytes.iter().flat_map(|byte| [digit(byte >> 4), digit(byte & 15)]).collect()
}

fn unhex(text: &str) -> Option<String> {
    let digits: Option<Vec<u32>> = text.chars().map(|digit| digit.to_digit(16)).collect();
    let digits = digits.filter(|digits| digits.len().is_multiple_of(2))?;
    let bytes: Option<Vec<u8>> =
        digits.chunks(2).map(|pair| u8::try_from(pair[0] * 16 + pair[1]).ok()).collect();
    String::from_utf8(bytes?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursors_read_back_and_nothing_else_passes() {
        let id = SandboxId::from_uuid(uuid::Uuid::from_u128(7));
        let by_name = Cursor { key: Value::from("ä.b".to_owned()), id };
        let text = by_name.to_text(SortBy::Name);
        assert_eq!(Cursor::parse(SortBy::Name, &text).unwrap(), by_name);
        let by_time = Cursor { key: Value::from(-5_i64), id };
        let text = by_time.to_text(SortBy::Created);
        assert_eq!(Cursor::parse(SortBy::Created, &text).unwrap(), by_time);
        for wrong in ["", ".", "t..", "t.5", "t.x.00", &text[1..], &format!("{text}.1"), "n.ff.0"] {
            let error = Cursor::parse(SortBy::Created, wrong).unwrap_err();
            assert_eq!(error.kind(), mayfly_core::Kind::Invalid, "{wrong:?}");
        }
        assert!(Cursor::parse(SortBy::Cpu, &text).is_err(), "made for another order");
        assert!(Cursor::parse(SortBy::Name, &format!("n.f.{id}")).is_err(), "odd digits");
        assert!(Cursor::parse(SortBy::Name, &format!("n.ff.{id}")).is_err(), "not UTF-8");
    }
}
