//! The files of a running sandbox, reached from the host.
//!
//! Every call runs on a worker thread that has taken the host identity of the sandbox's user
//! (`sys::creds`) and looks paths up with the kernel's in-root lookup from a descriptor of the
//! sandbox's root. What was found is held by descriptor and its type checked before it is opened, so
//! neither links, renames nor odd files lead a call out of the sandbox or make it wait.

mod change;
mod delete;
mod entry;
mod fault;
mod find;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod glob;
mod lanes;
mod list;
mod names;
mod path;
mod pool;
mod replace;
mod root;
#[cfg(test)]
mod tests;
mod transfer;
mod upload;
mod view;
mod walk;
mod watch;

use std::sync::Arc;

use async_trait::async_trait;
use mayfly_core::file::{FileInfo, Match, Permissions, Replaced};
use mayfly_core::id::SandboxId;
use mayfly_core::ports::files::{FileReader, FileWriter, Files};
use mayfly_core::{Error, Result};

use fault::Fault;
use glob::Glob;
use lanes::Lanes;
use path::Asked;
pub use root::{Root, Roots, UserIds};
use transfer::{Reader, Writer};
use view::View;

/// Most files of one replace call.
const REPLACED: usize = 1000;

/// The file API of the sandboxes on this host.
#[derive(Debug)]
pub struct LocalFiles {
    roots: Arc<dyn Roots>,
    lanes: Arc<Lanes>,
}

impl LocalFiles {
    /// Starts the worker threads. [`mayfly_core::Kind::Unavailable`] when the server may not take the
    /// identity of sandbox users, which needs root.
    pub fn start(roots: Arc<dyn Roots>) -> Result<Self> {
        Ok(Self { roots, lanes: Arc::new(Lanes::start()?) })
    }

    fn asked(&self, sandbox: SandboxId, path: &str) -> Result<(Arc<Root>, Asked)> {
        let root = self.roots.root(sandbox)?;
        let asked = parse(path, &root)?;
        Ok((root, asked))
    }

    async fn small<T: Send + 'static>(
        &self,
        sandbox: SandboxId,
        path: &str,
        act: impl FnOnce(&View<'_>, &Asked) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        let (root, asked) = self.asked(sandbox, path)?;
        let work = move |view: &View<'_>| act(view, &asked).map_err(|fault| fault.at(&asked.text));
        self.lanes.small(&root, work).await
    }

    async fn quick<T: Send + 'static>(
        &self,
        sandbox: SandboxId,
        path: &str,
        act: impl FnOnce(&View<'_>, &Asked) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        let (root, asked) = self.asked(sandbox, path)?;
        let work = move |view: &View<'_>| act(view, &asked).map_err(|fault| fault.at(&asked.text));
        self.lanes.quick(&root, work).await
    }

    async fn long<T: Send + 'static>(
        &self,
        sandbox: SandboxId,
        path: &str,
        act: impl FnOnce(&View<'_>, &Asked) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        let (root, asked) = self.asked(sandbox, path)?;
        let work = move |view: &View<'_>| act(view, &asked).map_err(|fault| fault.at(&asked.text));
        self.lanes.long(&root, work).await
    }
}

#[async_trait]
impl Files for LocalFiles {
    async fn list(&self, sandbox: SandboxId, path: &str, depth: u32) -> Result<Vec<FileInfo>> {
        match depth {
            0 => Err(Error::invalid("depth is 0; expected at least 1")),
            1 => self.quick(sandbox, path, |view, asked| list::list(view, asked, 1)).await,
            _ => self.long(sandbox, path, move |view, asked| list::list(view, asked, depth)).await,
        }
    }

    async fn info(&self, sandbox: SandboxId, path: &str) -> Result<FileInfo> {
        self.small(sandbox, path, entry::info).await
    }

    async fn make_folder(&self, sandbox: SandboxId, path: &str, mode: u32) -> Result<()> {
        self.small(sandbox, path, move |view, asked| change::make_folder(view, asked, mode)).await
    }

    async fn delete(&self, sandbox: SandboxId, path: &str, recursive: bool) -> Result<()> {
        let act = move |view: &View<'_>, asked: &Asked| delete::delete(view, asked, recursive);
        if recursive {
            self.long(sandbox, path, act).await
        } else {
            self.quick(sandbox, path, act).await
        }
    }

    async fn rename(&self, sandbox: SandboxId, source: &str, destination: &str) -> Result<()> {
        let (root, source) = self.asked(sandbox, source)?;
        let destination = parse(destination, &root)?;
        let work = move |view: &View<'_>| change::rename(view, &source, &destination);
        self.lanes.small(&root, work).await
    }

    async fn find(&self, sandbox: SandboxId, path: &str, text: &str) -> Result<Vec<Match>> {
        if text.is_empty() || text.len() > find::TEXT {
            let most = find::TEXT;
            return Err(Error::invalid(format!("the text to find must have 1 to {most} bytes")));
        }
        let text = text.to_owned();
        self.long(sandbox, path, move |view, asked| find::find(view, asked, &text)).await
    }

    async fn search(&self, sandbox: SandboxId, path: &str, glob: &str) -> Result<Vec<String>> {
        let glob = Glob::parse(glob).ok_or_else(|| {
            Error::invalid(format!("the pattern must have 1 to {} bytes", glob::MOST))
        })?;
        self.long(sandbox, path, move |view, asked| list::search(view, asked, &glob)).await
    }

    async fn replace(
        &self,
        sandbox: SandboxId,
        files: &[String],
        from: &str,
        to: &str,
    ) -> Result<Vec<Replaced>> {
        if from.is_empty() {
            return Err(Error::invalid("the text to replace is empty"));
        }
        if files.len() > REPLACED {
            return Err(Error::invalid(format!("more than {REPLACED} files in one call")));
        }
        let root = self.roots.root(sandbox)?;
        let (files, from, to) = (files.to_vec(), from.to_owned(), to.to_owned());
        let work = move |view: &View<'_>| {
            let replaced = files.into_iter().map(|file| {
                let done = parse(&file, view.root).and_then(|asked| {
                    replace::replace(view, &asked, &from, &to).map_err(|fault| fault.at(&file))
                });
                Replaced { error: done.err().map(|error| error.to_string()), file }
            });
            Ok(replaced.collect())
        };
        self.lanes.long(&root, work).await
    }

    async fn set_permissions(
        &self,
        sandbox: SandboxId,
        path: &str,
        change: &Permissions,
    ) -> Result<()> {
        let change = change.clone();
        let act =
            move |view: &View<'_>, asked: &Asked| change::set_permissions(view, asked, &change);
        self.small(sandbox, path, act).await
    }

    async fn read(&self, sandbox: SandboxId, path: &str) -> Result<Box<dyn FileReader>> {
        let (root, asked) = self.asked(sandbox, path)?;
        Ok(Box::new(Reader::open(Arc::clone(&self.lanes), root, asked).await?))
    }

    async fn write(&self, sandbox: SandboxId, path: &str) -> Result<Box<dyn FileWriter>> {
        let (root, asked) = self.asked(sandbox, path)?;
        Ok(Box::new(Writer::new(Arc::clone(&self.lanes), root, asked)))
    }
}

fn parse(path: &str, root: &Root) -> Result<Asked> {
    Asked::parse(path, &root.workdir).map_err(|fault| fault.at(path))
}
