//! Forward-only numbered migrations; `user_version` holds the number of the last one that ran.

use mayfly_core::{Error, Kind, Result};
use rusqlite::Connection;

use super::fault;

/// Marks a file as a database of this program ("mfly").
const APPLICATION_ID: i32 = 0x6d66_6c79;

/// Migration n stands at index n - 1. A released one never changes.
const MIGRATIONS: [&str; 5] = [
    include_str!("migrations/0001_start.sql"),
    include_str!("migrations/0002_network.sql"),
    include_str!("migrations/0003_ways_in.sql"),
    include_str!("migrations/0004_tenants.sql"),
    include_str!("migrations/0005_later_env.sql"),
];

/// Brings the database to the newest version, all in one transaction.
///
/// A database of a newer program is [`Kind::Unsupported`], one of another program [`Kind::Invalid`]; both stay as they are.
pub(super) fn migrate(connection: &mut Connection) -> Result<()> {
    let failed = |error| fault::explain("bring the database to its newest version", error);
    let (version, application, tables) = identity(connection).map_err(failed)?;
    let ours = application == APPLICATION_ID || (application == 0 && tables == 0);
    if !ours {
        return Err(Error::new(Kind::Invalid, "the database file belongs to another program")
            .with_hint("point storage.data_dir at a folder of its own"));
    }
    let newest = MIGRATIONS.len();
    let current = usize::try_from(version).unwrap_or(usize::MAX);
    if current > newest {
        return Err(Error::new(
            Kind::Unsupported,
            format!(
                "the database has version {version}, this program knows versions up to {newest}"
            ),
        )
        .with_hint(
            "start the newer mayfly that wrote it, or restore a backup of the older version",
        ));
    }
    if current == newest {
        return Ok(());
    }
    let transaction = connection.transaction().map_err(failed)?;
    for migration in MIGRATIONS.iter().skip(current) {
        transaction.execute_batch(migration).map_err(failed)?;
    }
    transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
    transaction
        .pragma_update(None, "user_version", i32::try_from(newest).unwrap_or(i32::MAX))
        .map_err(failed)?;
    transaction.commit().map_err(failed)
}

fn identity(connection: &Connection) -> rusqlite::Result<(i32, i32, i64)> {
    connection.query_row(
        "SELECT user_version, application_id, (SELECT count(*) FROM sqlite_schema)
         FROM pragma_user_version, pragma_application_id",
        [],
        |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_database_gets_the_newest_version_and_a_second_run_changes_nothing() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        let first = identity(&connection).unwrap();
        assert_eq!(usize::try_from(first.0).unwrap(), MIGRATIONS.len());
        assert_eq!(first.1, APPLICATION_ID);
        migrate(&mut connection).unwrap();
        assert_eq!(identity(&connection).unwrap(), first);
    }

    #[test]
    fn a_newer_database_is_refused_with_both_versions_and_a_remedy() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let error = migrate(&mut connection).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        let newest = format!("up to {}", MIGRATIONS.len());
        assert!(error.message().contains("version 99") && error.message().contains(&newest));
        assert!(error.hint().is_some_and(|hint| hint.contains("newer")));
    }

    #[test]
    fn a_database_of_another_program_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE theirs (x)").unwrap();
        assert_eq!(migrate(&mut connection).unwrap_err().kind(), Kind::Invalid);
    }
}
