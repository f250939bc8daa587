//! The built program from outside.

#[cfg(test)]
mod cli;
#[cfg(test)]
mod gc;
#[cfg(test)]
mod house;
#[cfg(test)]
mod load;
#[cfg(test)]
mod newcomer;
#[cfg(test)]
mod ordinary_user;
#[cfg(test)]
mod packaging;
#[cfg(test)]
mod reach;
#[cfg(test)]
mod socket;
#[cfg(test)]
mod sockets;
#[cfg(test)]
mod terminal;
#[cfg(test)]
mod upgrade;
