//! The published clients, which nobody here wrote, against the built server. Needs what `cargo xtask setup`
//! installs, and no network.

#[cfg(test)]
mod clients;
#[cfg(test)]
mod property_tester;
#[cfg(test)]
mod server;
