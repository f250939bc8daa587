//! The attributes as programs meet them.

#[cfg(test)]
mod refused;
