//! Settings of `[network]`: texts that must be ranges, addresses and URLs.

use std::fmt::Display;
use std::net::SocketAddr;
use std::str::FromStr;

use mayfly_core::network::{Cidr, ProxyUrl};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

/// Most entries of a list; all of them go into the policy of every sandbox.
const MOST: usize = 64;
/// Most resolvers; the C library takes three.
const MOST_RESOLVERS: usize = 4;

pub(super) fn ranges<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Cidr>, D::Error> {
    each(from, MOST)
}

pub(super) fn resolvers<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<SocketAddr>, D::Error> {
    each(from, MOST_RESOLVERS)
}

pub(super) fn proxy<'de, D: Deserializer<'de>>(from: D) -> Result<Option<ProxyUrl>, D::Error> {
    let text = String::deserialize(from)?;
    if text.is_empty() {
        return Ok(None);
    }
    // The core's words name the field of the API, and never the text, which may hold a password.
    text.parse().map(Some).map_err(|_| {
        D::Error::custom("not a proxy: expected http://[user:password@]host[:port], or nothing")
    })
}

fn each<'de, D, T>(from: D, most: usize) -> Result<Vec<T>, D::Error>
where
    D: Deserializer<'de>,
    T: FromStr,
    T::Err: Display,
{
    let texts = Vec::<String>::deserialize(from)?;
    if texts.len() > most {
        return Err(D::Error::custom(format!("{} entries: expected at most {most}", texts.len())));
    }
    texts
        .iter()
        .map(|text| text.parse().map_err(|error| D::Error::custom(format!("`{text}`: {error}"))))
        .collect()
}
