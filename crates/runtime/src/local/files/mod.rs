//! The files of a running sandbox, reached from the host.
//!
//! What the calls do stands in the crate `files`. Here is where they run: on threads of a server that is
//! root, each taking the host identity of the sandbox's user for one call (`sys::creds`), or in helper
//! processes inside the sandbox's user namespace, for a server that is not.

mod inside;
mod lanes;
mod pool;
mod root;
#[cfg(test)]
mod tests;
mod threads;
mod transfer;
mod translate;
mod watch;

use std::sync::Arc;

use async_trait::async_trait;
use mayfly_core::file::{FileInfo, Match, Permissions, Replaced};
use mayfly_core::id::SandboxId;
use mayfly_core::ports::files::{FileReader, FileWriter, Files};
use mayfly_core::{Error, Kind, Result};
use mayfly_files::{Answer, Call, Change};

use inside::Made;
use lanes::Lanes;
pub use mayfly_files::UserIds;
use root::Way;
pub use root::{Root, Roots};
use threads::Threads;
use transfer::{Reader, Writer};

/// The file API of the sandboxes on this host.
#[derive(Debug)]
pub struct LocalFiles {
    roots: Arc<dyn Roots>,
    calls: Arc<Calls>,
}

impl LocalFiles {
    /// For a server that is root, whose sandboxes are [`Root::new`]; starts the worker threads.
    /// [`mayfly_core::Kind::Unavailable`] when the server may not take the identity of sandbox users.
    pub fn start(roots: Arc<dyn Roots>) -> Result<Self> {
        Ok(Self { roots, calls: Arc::new(Calls::new(Some(Lanes::start()?))) })
    }

    /// For a server that is an ordinary user, whose sandboxes are [`Root::joined`].
    pub fn unprivileged(roots: Arc<dyn Roots>) -> Self {
        Self { roots, calls: Arc::new(Calls::new(None)) }
    }

    async fn make(&self, sandbox: SandboxId, call: Call) -> Result<Answer> {
        let root = self.roots.root(sandbox)?;
        match self.calls.make(&root, call).await? {
            Made::Answer(answer) => Ok(answer),
            Made::Kept(_) => Err(out_of_order()),
        }
    }

    /// A call that answers nothing.
    async fn done(&self, sandbox: SandboxId, call: Call) -> Result<()> {
        match self.make(sandbox, call).await? {
            Answer::Done => Ok(()),
            _ => Err(out_of_order()),
        }
    }
}

/// Makes calls where each sandbox's are made.
#[derive(Debug)]
struct Calls {
    /// Of a server that is root.
    lanes: Option<Lanes>,
    /// Of one that is not.
    threads: Threads,
}

impl Calls {
    fn new(lanes: Option<Lanes>) -> Self {
        Self { lanes, threads: Threads::default() }
    }

    fn lanes(&self) -> Result<&Lanes> {
        self.lanes.as_ref().ok_or_else(|| {
            Error::new(Kind::Unavailable, "this server may not work on files as sandbox users")
                .with_hint("run the server as root")
        })
    }

    async fn make(&self, root: &Root, call: Call) -> Result<Made> {
        let here = match &root.way {
            Way::Here(here) => here,
            Way::Inside(helpers) => return helpers.make(call, &self.threads).await,
        };
        let lanes = self.lanes()?;
        let (is_small, is_long) = (call.is_small(), call.is_long());
        let work = move |view: &mayfly_files::View<'_>| call.make(view).map_err(translate::error);
        let answer = if is_small {
            lanes.small(here, work).await
        } else if is_long {
            lanes.long(here, &root.long_calls, work).await
        } else {
            lanes.quick(here, work).await
        };
        answer.map(Made::Answer)
    }

    /// Runs what waits for a disk, on a descriptor that is open already.
    async fn off_loop<T: Send + 'static>(
        &self,
        root: &Root,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Result<T> {
        match &root.way {
            Way::Here(here) => self.lanes()?.quick(here, |_| work()).await,
            Way::Inside(_) => self.threads.quick.run(work).await,
        }
    }
}

fn out_of_order() -> Error {
    Error::new(Kind::Internal, "a file call got the answer of another")
}

#[async_trait]
impl Files for LocalFiles {
    async fn list(&self, sandbox: SandboxId, path: &str, depth: u32) -> Result<Vec<FileInfo>> {
        match self.make(sandbox, Call::List { path: path.to_owned(), depth }).await? {
            Answer::Entries(entries) => Ok(entries.into_iter().map(translate::info).collect()),
            _ => Err(out_of_order()),
        }
    }

    async fn info(&self, sandbox: SandboxId, path: &str) -> Result<FileInfo> {
        match self.make(sandbox, Call::Info { path: path.to_owned() }).await? {
            Answer::Entries(mut entries) => {
                entries.pop().map(translate::info).ok_or_else(out_of_order)
            }
            _ => Err(out_of_order()),
        }
    }

    async fn make_folder(&self, sandbox: SandboxId, path: &str, mode: u32) -> Result<()> {
        self.done(sandbox, Call::MakeFolder { path: path.to_owned(), mode }).await
    }

    async fn delete(&self, sandbox: SandboxId, path: &str, recursive: bool) -> Result<()> {
        self.done(sandbox, Call::Delete { path: path.to_owned(), recursive }).await
    }

    async fn rename(&self, sandbox: SandboxId, source: &str, destination: &str) -> Result<()> {
        let (source, destination) = (source.to_owned(), destination.to_owned());
        self.done(sandbox, Call::Rename { source, destination }).await
    }

    async fn find(&self, sandbox: SandboxId, path: &str, text: &str) -> Result<Vec<Match>> {
        let (path, text) = (path.to_owned(), text.to_owned());
        match self.make(sandbox, Call::Find { path, text }).await? {
            Answer::Matches(matches) => Ok(matches.into_iter().map(translate::found).collect()),
            _ => Err(out_of_order()),
        }
    }

    async fn search(&self, sandbox: SandboxId, path: &str, glob: &str) -> Result<Vec<String>> {
        let (path, pattern) = (path.to_owned(), glob.to_owned());
        match self.make(sandbox, Call::Search { path, pattern }).await? {
            Answer::Paths(paths) => Ok(paths),
            _ => Err(out_of_order()),
        }
    }

    async fn replace(
        &self,
        sandbox: SandboxId,
        files: &[String],
        from: &str,
        to: &str,
    ) -> Result<Vec<Replaced>> {
        let (files, from, to) = (files.to_vec(), from.to_owned(), to.to_owned());
        match self.make(sandbox, Call::Replace { files, from, to }).await? {
            Answer::Replaced(each) => Ok(each.into_iter().map(translate::replaced).collect()),
            _ => Err(out_of_order()),
        }
    }

    async fn set_permissions(
        &self,
        sandbox: SandboxId,
        path: &str,
        change: &Permissions,
    ) -> Result<()> {
        let Permissions { owner, group, mode } = change.clone();
        let change = Change { owner, group, mode };
        self.done(sandbox, Call::Change { path: path.to_owned(), change }).await
    }

    async fn read(&self, sandbox: SandboxId, path: &str) -> Result<Box<dyn FileReader>> {
        let root = self.roots.root(sandbox)?;
        Ok(Box::new(Reader::open(Arc::clone(&self.calls), root, path.to_owned()).await?))
    }

    async fn write(&self, sandbox: SandboxId, path: &str) -> Result<Box<dyn FileWriter>> {
        let root = self.roots.root(sandbox)?;
        Ok(Box::new(Writer::new(Arc::clone(&self.calls), root, path)?))
    }
}
