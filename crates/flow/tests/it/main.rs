//! Flows from outside: what runs, in what order, what survives.

mod control;
mod failures;
mod growth;
mod kill;
mod limits;
mod order;
mod property;
mod restart;
mod seed;
mod sim;
mod site;
