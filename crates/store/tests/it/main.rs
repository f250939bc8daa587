//! The store from outside: contract, races, crashes, lists.

#[cfg(test)]
mod contract;
#[cfg(test)]
mod durability;
#[cfg(test)]
mod lists;
#[cfg(test)]
mod records;
#[cfg(test)]
mod reopen;
#[cfg(test)]
mod sample;
#[cfg(test)]
mod speed;
