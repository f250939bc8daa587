//! Programs that people use, through the policy of a sandbox and into it, in a world of the test's own: the
//! server runs in a network namespace that is linked to nothing but a pretend internet. Needs root, what
//! `cargo xtask setup` installs, and no network.

#[cfg(test)]
mod browser;
#[cfg(test)]
mod clients;
#[cfg(test)]
mod gateway;
#[cfg(test)]
mod kills;
#[cfg(test)]
mod policies;
#[cfg(test)]
mod server;
#[cfg(test)]
mod world;
