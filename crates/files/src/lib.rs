//! File calls on the root of a sandbox: what they do, and how they are asked for across a socket.
//!
//! A call works below one folder descriptor, with the kernel's in-root lookup, on a thread that has taken
//! the sandbox's user ([`Identity`]). The server makes it on its own threads where it is root. Where it is
//! not, the program `mayfly-files` beside this library makes it ([`inside`]): a process of one thread that
//! has joined the sandbox's user namespace, since only from there its users can be taken.

pub mod accounts;
mod call;
mod change;
mod delete;
mod entry;
mod fault;
mod find;
#[cfg(any(test, feature = "fuzzing"))]
pub mod fuzz;
mod glob;
mod identity;
pub mod inside;
mod list;
mod names;
mod path;
mod read;
mod refusal;
mod replace;
mod root;
pub mod socket;
mod upload;
mod view;
mod walk;
pub mod wire;

pub use call::{Answer, Call, Change, Content, FileKind, Info, Match};
pub use identity::{Identity, POWERS, SWITCH, assume};
pub use path::check_path;
pub use read::{CHUNK, SMALL, read_at};
pub use refusal::{Code, Kind, Refusal};
pub use root::{Root, UserIds};
pub use upload::{Upload, append};
pub use view::View;
