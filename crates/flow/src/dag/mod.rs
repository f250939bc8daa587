//! Workflows as graphs: loading, running, resuming and looking at them.

pub mod action;
pub mod cache;
pub mod commands;
pub mod definitions;
pub mod events;
pub mod executor;
pub mod observe;
pub mod plan;
pub mod registry;
pub mod report;
pub mod yaml;

mod attempt;
mod draw;
mod driver;
mod grow;
mod recover;
mod services;
mod steps;
mod waits;
