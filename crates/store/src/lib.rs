//! Where platform state lives: adapters of the store port of the core.

#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod rows;
mod sql;
pub mod sqlite;

pub use sqlite::SqliteStore;
