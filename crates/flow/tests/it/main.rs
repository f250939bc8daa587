//! Flows from outside: what runs, in what order, what survives.

#[cfg(test)]
mod control;
#[cfg(test)]
mod failures;
#[cfg(test)]
mod growth;
#[cfg(test)]
mod kill;
#[cfg(test)]
mod limits;
#[cfg(test)]
mod order;
#[cfg(test)]
mod property;
#[cfg(test)]
mod pubsub;
#[cfg(test)]
mod pubsub_file;
#[cfg(test)]
mod pubsub_limits;
#[cfg(test)]
mod restart;
#[cfg(test)]
mod seed;
#[cfg(test)]
mod sim;
#[cfg(test)]
mod site;
#[cfg(test)]
mod tasks;
#[cfg(test)]
mod tasks_kill;
#[cfg(test)]
mod tasks_property;
#[cfg(test)]
mod tasks_remote;
#[cfg(test)]
mod tasks_seed;
#[cfg(test)]
mod tasks_site;
