//! The engine over a runtime and a store in memory: guarantees of the lifecycle (isolation contract, 3.6).

#[cfg(test)]
mod access;
#[cfg(test)]
mod audit;
#[cfg(test)]
mod crash;
#[cfg(test)]
mod create;
#[cfg(test)]
mod network;
#[cfg(test)]
mod processes;
#[cfg(test)]
mod profile;
#[cfg(test)]
mod site;
#[cfg(test)]
mod tenants;
#[cfg(test)]
mod timers;
#[cfg(test)]
mod verbs;
#[cfg(test)]
mod volumes;
#[cfg(test)]
mod warm;
