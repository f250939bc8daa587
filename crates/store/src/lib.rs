//! Where platform state lives: adapters of the store port of the core.

mod rows;
mod sql;
pub mod sqlite;

pub use sqlite::SqliteStore;
