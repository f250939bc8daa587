//! Makes folders, renames, and changes owner, group and mode.

use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, RenameFlags, Uid};
use rustix::io::Errno;
use rustix::path::DecInt;

use crate::call::Change;
use crate::fault::Fault;
use crate::names;
use crate::path::Asked;
use crate::refusal::Refusal;
use crate::view::{Node, View};

/// Makes a folder with exactly this mode, and its parents (0755); an existing folder stays as it is.
pub(crate) fn make_folder(view: &View<'_>, asked: &Asked, mode: u32) -> Result<(), Fault> {
    check_mode(mode)?;
    match view.node(&asked.full, OFlags::DIRECTORY) {
        Err(fault) if fault.is_missing() => {}
        found => return found.map(drop),
    }
    let made = view.make_folders(&asked.full, mode)?;
    if mode & 0o6000 == 0 { Ok(()) } else { set_mode(view, &made, mode) }
}

/// Renames; a link itself, never what it leads to. The error names the path it is about.
pub(crate) fn rename(view: &View<'_>, source: &Asked, destination: &Asked) -> Result<(), Refusal> {
    let from = view.place(&source.full).map_err(|fault| fault.at(&source.text))?;
    let to = view.place(&destination.full).map_err(|fault| fault.at(&destination.text))?;
    let moved = from.stat.ok_or_else(|| Fault::from(Errno::NOENT).at(&source.text))?;
    view.require_files(&from.folder).map_err(|fault| fault.at(&source.text))?;
    view.require_files(&to.folder).map_err(|fault| fault.at(&destination.text))?;
    if to.stat.is_some() {
        return Err(Fault::Exists.at(&destination.text));
    }
    let owners = [&from.folder.stat, &to.folder.stat, &moved];
    let renamed = view.on_all(&owners, || {
        let (from_folder, to_folder) = (&from.folder.fd, &to.folder.fd);
        let flags = RenameFlags::NOREPLACE;
        rustix::fs::renameat_with(from_folder, &from.name, to_folder, &to.name, flags)
    });
    renamed.map_err(|fault| match fault {
        Fault::Exists => Fault::Exists.at(&destination.text),
        Fault::Os(Errno::INVAL) => {
            Fault::Wrong("cannot be moved into itself".into()).at(&source.text)
        }
        other => other.at(&source.text),
    })
}

/// Changes owner and group, then the mode (a change of owner clears set-id bits). Links are followed
/// inside the root; what was found is changed, whatever its name means by then.
pub(crate) fn set_permissions(
    view: &View<'_>,
    asked: &Asked,
    change: &Change,
) -> Result<(), Fault> {
    let owner = change.owner.as_deref().map(|name| owner(view, name)).transpose()?;
    let group = change.group.as_deref().map(|name| group(view, name)).transpose()?;
    change.mode.map_or(Ok(()), check_mode)?;
    let node = view.node(&asked.full, OFlags::empty())?;
    view.require_files(&node)?;
    if matches!(node.kind(), FileType::CharacterDevice | FileType::BlockDevice) {
        return Err(Fault::NotPlain);
    }
    if owner.is_some() || group.is_some() {
        view.on(&node.stat, || {
            rustix::fs::chownat(&node.fd, "", owner, group, AtFlags::EMPTY_PATH)
        })?;
    }
    change.mode.map_or(Ok(()), |mode| set_mode(view, &node, mode))
}

fn set_mode(view: &View<'_>, node: &Node, mode: u32) -> Result<(), Fault> {
    view.on(&node.stat, || {
        let name = DecInt::from_fd(&node.fd);
        rustix::fs::chmodat(view.descriptors, name, Mode::from_raw_mode(mode), AtFlags::empty())
    })
}

fn check_mode(mode: u32) -> Result<(), Fault> {
    if mode > 0o7777 {
        return Err(Fault::Wrong(format!("cannot have mode {mode:o}: at most 7777 is possible")));
    }
    Ok(())
}

fn owner(view: &View<'_>, name: &str) -> Result<Uid, Fault> {
    let id = names::users(view).id(name).and_then(|id| view.root.outside(id));
    id.map(Uid::from_raw).ok_or_else(|| unknown("user", name))
}

fn group(view: &View<'_>, name: &str) -> Result<Gid, Fault> {
    let id = names::groups(view).id(name).and_then(|id| view.root.outside(id));
    id.map(Gid::from_raw).ok_or_else(|| unknown("group", name))
}

fn unknown(what: &str, name: &str) -> Fault {
    let name: String = name.chars().take(64).collect();
    Fault::Wrong(format!("cannot belong to {what} `{name}`: the sandbox does not know it"))
}
