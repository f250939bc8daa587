//! Forward-only numbered migrations; `user_version` holds the number of the last one that ran.

use mayfly_core::{Error, Kind, Result};
use rusqlite::{Connection, TransactionBehavior};

use super::fault;

/// What kind of database a file is and how it came to its newest version.
#[derive(Clone, Copy, Debug)]
pub struct Schema {
    /// Marks a file as a database of one program; stands in its header.
    pub application_id: i32,
    /// Migration n stands at index n - 1. A released one never changes.
    pub migrations: &'static [&'static str],
    /// What to do about a file of another program.
    pub hint: &'static str,
}

/// The platform's own tables.
pub(super) const PLATFORM: Schema = Schema {
    application_id: 0x6d66_6c79,
    migrations: &[
        include_str!("migrations/0001_start.sql"),
        include_str!("migrations/0002_network.sql"),
        include_str!("migrations/0003_ways_in.sql"),
        include_str!("migrations/0004_tenants.sql"),
        include_str!("migrations/0005_later_env.sql"),
        include_str!("migrations/0006_volumes.sql"),
        include_str!("migrations/0007_key_uses.sql"),
    ],
    hint: "point storage.data_dir at a folder of its own",
};

/// Brings the database to the newest version, all in one transaction.
///
/// A database of a newer program is [`Kind::Unsupported`], one of another program [`Kind::Invalid`]; both stay as they are.
pub(super) fn migrate(connection: &mut Connection, schema: &Schema) -> Result<()> {
    let failed = |error| fault::explain("bring the database to its newest version", error);
    let (version, application, tables) = identity(connection).map_err(failed)?;
    let ours = application == schema.application_id || (application == 0 && tables == 0);
    if !ours {
        return Err(Error::new(Kind::Invalid, "the database file belongs to another program")
            .with_hint(schema.hint));
    }
    let newest = schema.migrations.len();
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
    let transaction =
        connection.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
    // Another process may have been faster.
    let current = transaction
        .pragma_query_value(None, "user_version", |row| row.get::<_, i64>(0))
        .map_err(failed)?;
    let current = usize::try_from(current).unwrap_or(usize::MAX);
    for migration in schema.migrations.iter().skip(current) {
        transaction.execute_batch(migration).map_err(failed)?;
    }
    transaction.pragma_update(None, "application_id", schema.application_id).map_err(failed)?;
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
        migrate(&mut connection, &PLATFORM).unwrap();
        let first = identity(&connection).unwrap();
        assert_eq!(usize::try_from(first.0).unwrap(), PLATFORM.migrations.len());
        assert_eq!(first.1, PLATFORM.application_id);
        migrate(&mut connection, &PLATFORM).unwrap();
        assert_eq!(identity(&connection).unwrap(), first);
    }

    #[test]
    fn a_newer_database_is_refused_with_both_versions_and_a_remedy() {
        let mut connection = Connection::open_in_memory().unwrap();
        migrate(&mut connection, &PLATFORM).unwrap();
        connection.pragma_update(None, "user_version", 99).unwrap();
        let error = migrate(&mut connection, &PLATFORM).unwrap_err();
        assert_eq!(error.kind(), Kind::Unsupported);
        let newest = format!("up to {}", PLATFORM.migrations.len());
        assert!(error.message().contains("version 99") && error.message().contains(&newest));
        assert!(error.hint().is_some_and(|hint| hint.contains("newer")));
    }

    #[test]
    fn a_database_of_another_program_is_refused() {
        let mut connection = Connection::open_in_memory().unwrap();
        connection.execute_batch("CREATE TABLE theirs (x)").unwrap();
        assert_eq!(migrate(&mut connection, &PLATFORM).unwrap_err().kind(), Kind::Invalid);
    }
}
