//! The helper: a process of one thread inside a sandbox's user namespace, making file calls for the server
//! until the server hangs up.
//!
//! ```text
//! server                                   helper
//!   Join, user namespace, root folder  -->   joins, becomes the user, keeps at most four capabilities
//!                                      <--   Done
//!   Make, Finish, Abandon              -->
//!                                      <--   answer or refusal, with a descriptor where content is large
//! ```

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use rustix::fs::{Mode, OFlags};
use rustix::thread::LinkNameSpaceType;

use crate::call::{Answer, Call};
use crate::identity;
use crate::refusal::{Kind, Refusal};
use crate::root::Root;
use crate::socket::{receive, send};
use crate::upload::Upload;
use crate::view::View;
use crate::wire::{self, Request};

/// Longest time of one call.
pub const TIME: Duration = Duration::from_secs(30);
/// Longest wait for the server to read an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// Files being written at once.
const UPLOADS: usize = 256;

/// Serves the server at the other end of this socket until it hangs up.
pub fn run(socket: &OwnedFd) -> io::Result<()> {
    let first = receive(socket, wire::REQUEST, Some(Instant::now() + PATIENCE))?;
    let Some((bytes, descriptors)) = first else { return Ok(()) };
    let Some(request) = Request::decode(&bytes) else { return Err(out_of_order()) };
    let mut inside = match Inside::join(request, descriptors) {
        Ok(inside) => inside,
        Err(error) => {
            let message = "the file helper could not join the sandbox";
            let refused = Err(Refusal::internal(format!("{message}: {error}"), &error));
            return reply(socket, &refused);
        }
    };
    reply(socket, &Ok(Answer::Done))?;
    while let Some((bytes, _)) = receive(socket, wire::REQUEST, None)? {
        let request = Request::decode(&bytes).ok_or_else(out_of_order)?;
        reply(socket, &inside.answer(request))?;
    }
    Ok(())
}

fn reply(socket: &OwnedFd, reply: &Result<Answer, Refusal>) -> io::Result<()> {
    let (bytes, descriptor) = wire::encode(reply);
    send(socket, &bytes, descriptor.as_slice(), Some(Instant::now() + PATIENCE))
}

fn out_of_order() -> io::Error {
    io::Error::other("the server said something out of order")
}

/// The helper once it is inside.
struct Inside {
    root: Root,
    descriptors: OwnedFd,
    uploads: BTreeMap<u32, Box<Upload>>,
    next: u32,
}

impl Inside {
    fn join(request: Request, descriptors: Vec<OwnedFd>) -> io::Result<Self> {
        let Request::Join { id_count, user, workdir } = request else { return Err(out_of_order()) };
        let mut given = descriptors.into_iter();
        let (Some(namespace), Some(folder)) = (given.next(), given.next()) else {
            return Err(out_of_order());
        };
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let descriptors = rustix::fs::open("/proc/self/fd", flags, Mode::empty())?;
        rustix::thread::move_into_link_name_space(
            namespace.as_fd(),
            Some(LinkNameSpaceType::User),
        )?;
        rustix::thread::set_no_new_privs(true)?;
        rustix::process::umask(Mode::empty());
        let root = Root::inside_namespace(folder, id_count, user, workdir)
            .map_err(|refusal| io::Error::other(refusal.message))?;
        identity::assume(&root.identity())?;
        Ok(Self { root, descriptors, uploads: BTreeMap::new(), next: 0 })
    }

    fn answer(&mut self, request: Request) -> Result<Answer, Refusal> {
        let stopping = AtomicBool::new(false);
        let view = View {
            root: &self.root,
            descriptors: self.descriptors.as_fd(),
            deadline: Instant::now() + TIME,
            stopping: &stopping,
        };
        match request {
            Request::Join { .. } => Err(Refusal::new(Kind::Internal, "joined already")),
            Request::Make { call: Call::Start { .. } } if self.uploads.len() >= UPLOADS => {
                let message = format!("{UPLOADS} files are being written already");
                Err(Refusal::new(Kind::Unavailable, message))
            }
            Request::Make { call } => match call.make(&view)? {
                Answer::Started(upload) => {
                    let file = upload.file().try_clone_to_owned();
                    let file = file.map_err(|error| Refusal::internal("no descriptor", &error))?;
                    self.next = self.next.wrapping_add(1);
                    self.uploads.insert(self.next, upload);
                    Ok(Answer::Kept(self.next, file))
                }
                answer => Ok(answer),
            },
            Request::Finish { upload, path } => match self.uploads.remove(&upload) {
                Some(upload) => upload.finish(&view, &path).map(|()| Answer::Done),
                None => Err(Refusal::new(Kind::Internal, format!("`{path}` is not being written"))),
            },
            Request::Abandon { upload } => {
                self.uploads.remove(&upload);
                Ok(Answer::Done)
            }
        }
    }
}
