//! Filters, order and pages of sandbox lists.

use mayfly_core::ports::store::{SandboxPage, SandboxQuery, SortBy};
use mayfly_core::sandbox::{Desired, Sandbox, State};
use mayfly_core::time::Timestamp;
use mayfly_core::{Error, Result};

/// One page of these rows.
pub(super) fn page(rows: Vec<Sandbox>, query: &SandboxQuery) -> Result<SandboxPage> {
    let mut found: Vec<(String, Sandbox)> = rows
        .into_iter()
        .filter(|row| fits(row, query))
        .map(|row| (format!("{}|{}", key(&row, query.sort), row.id), row))
        .collect();
    found.sort_by(
        |(left, _), (right, _)| {
            if query.ascending { left.cmp(right) } else { right.cmp(left) }
        },
    );
    let total = if query.uncounted { 0 } else { found.len() as u64 };
    if let Some(cursor) = &query.cursor {
        if !cursor.contains('|') {
            return Err(Error::invalid("cursor is not one that this server gave"));
        }
        found.retain(|(at, _)| if query.ascending { at > cursor } else { at < cursor });
    }
    let skip = usize::try_from(query.offset).unwrap_or(usize::MAX);
    let mut rest = found.into_iter().skip(skip);
    let items: Vec<_> = rest.by_ref().take(query.limit as usize).collect();
    let more = rest.next().is_some();
    let next = items.last().filter(|_| more).map(|(at, _)| at.clone());
    Ok(SandboxPage { items: items.into_iter().map(|(_, row)| row).collect(), next, total })
}

fn key(row: &Sandbox, sort: SortBy) -> String {
    match sort {
        SortBy::Name => row.name.clone(),
        SortBy::Cpu => format!("{:020}", row.resources.cpu),
        SortBy::Memory => format!("{:020}", row.resources.memory_gib),
        SortBy::Disk => format!("{:020}", row.resources.disk_gib),
        SortBy::LastActivity => format!("{:020}", row.last_activity.wall.0),
        SortBy::Created => format!("{:020}", row.created.wall.0),
    }
}

fn fits(row: &Sandbox, query: &SandboxQuery) -> bool {
    let any = |list: &[String], text: &String| list.is_empty() || list.contains(text);
    let state = if query.states.is_empty() {
        row.state != State::Destroyed
    } else {
        query.states.contains(&row.state)
    };
    let prefix = query
        .name_prefix
        .as_ref()
        .is_none_or(|prefix| row.name.to_lowercase().starts_with(&prefix.to_lowercase()));
    state
        && prefix
        && query.id.is_none_or(|id| id == row.id)
        && query.labels.iter().all(|(label, value)| row.labels.get(label) == Some(value))
        && any(&query.snapshots, &row.snapshot_name)
        && any(&query.targets, &row.target)
        && query.public.is_none_or(|public| public == row.public)
        && query.recoverable.is_none_or(|recoverable| recoverable == row.recoverable)
        && within(row.resources.cpu, query.cpu)
        && within(row.resources.memory_gib, query.memory_gib)
        && within(row.resources.disk_gib, query.disk_gib)
        && within(row.created.wall, query.created)
        && within(row.last_activity.wall, query.last_activity)
        && lives_until(row, query.destroy_at)
        && !(query.without_doomed && row.state == State::Error && row.desired == Desired::Destroyed)
}

fn lives_until(row: &Sandbox, bounds: (Option<Timestamp>, Option<Timestamp>)) -> bool {
    let end = row.ttl_from.wall.0 + i64::from(row.timers.ttl) * 60_000;
    bounds == (None, None) || (row.timers.ttl > 0 && within(Timestamp(end), bounds))
}

fn within<T: PartialOrd + Copy>(value: T, (from, to): (Option<T>, Option<T>)) -> bool {
    from.is_none_or(|from| value >= from) && to.is_none_or(|to| value <= to)
}
