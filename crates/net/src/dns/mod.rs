//! Names: the server that sandboxes ask, and the questions to the host's resolvers.

pub(crate) mod message;
pub(crate) mod server;
pub(crate) mod synthetic;
pub(crate) mod upstream;
