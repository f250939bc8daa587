//! The clean /etc: generated where it names people, machines or networks, copied by an allow-list where
//! programs under /usr need their settings.

use std::fmt::Write as _;
use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};

use mayfly_core::{Error, Kind, Result};
use rustix::fs::OFlags;

use super::{failed, make_folder, set_mode};
use crate::local::users;

/// What is copied, below /etc; a trailing `*` stands for any rest of the last part. Not listed, because
/// administrators keep secrets there: environment, profile.d, shell, pip, npm, git, wget and apt settings.
const COPIED: [&str; 62] = [
    // Libraries and alternatives.
    "alternatives",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "glvnd",
    "OpenCL",
    "vulkan",
    // Certificates; never the private folders beside them.
    "ssl/certs",
    "ssl/openssl.cnf",
    "ssl/cert.pem",
    "ca-certificates",
    "ca-certificates.conf",
    "pki/ca-trust/extracted",
    "pki/tls/certs",
    "pki/tls/cert.pem",
    "pki/tls/openssl.cnf",
    "crypto-policies",
    // What the system is.
    "os-release",
    "debian_version",
    "lsb-release",
    "redhat-release",
    "fedora-release",
    "alpine-release",
    "arch-release",
    "issue",
    "dpkg",
    // Names and numbers.
    "services",
    "protocols",
    "rpc",
    "networks",
    "ethertypes",
    "netconfig",
    "host.conf",
    "gai.conf",
    "localtime",
    "timezone",
    "locale.alias",
    "mime.types",
    "mailcap",
    "magic",
    "magic.mime",
    "papersize",
    "mke2fs.conf",
    "inputrc",
    "terminfo",
    // Accounts and logging in as another user inside.
    "login.defs",
    "shells",
    "skel",
    "adduser.conf",
    "deluser.conf",
    "pam.conf",
    "pam.d",
    "security/limits.conf",
    // Languages, fonts and documents.
    "python3*",
    "perl",
    "java-*",
    "R",
    "fonts",
    "matplotlibrc",
    "ImageMagick-*",
    "xml",
    "sgml",
];

/// Most entries copied, deepest folder and largest file, in bytes; what is over them is not settings.
const ENTRIES: usize = 20_000;
const DEPTH: usize = 12;
const FILE: u64 = 16 << 20;

/// First id of people's accounts; those below are the system's, which packages rely on.
const PEOPLE: u32 = 1000;

/// Owner of nothing, above the people.
const NOBODY: u32 = 65_534;

const GENERATED: [(&str, &str); 6] = [
    ("hostname", "sandbox\n"),
    // A sandbox's own host name is answered by its resolver, since these files are the same for all.
    (
        "hosts",
        "127.0.0.1 localhost sandbox\n::1 localhost ip6-localhost ip6-loopback\n10.0.0.1 mayfly.internal\n",
    ),
    // Any address would do: port 53 of all of them is answered by the network process.
    ("resolv.conf", "nameserver 10.0.0.53\n"),
    (
        "nsswitch.conf",
        "passwd: files\ngroup: files\nshadow: files\nhosts: files dns\nnetworks: files\n\
         protocols: files\nservices: files\nethers: files\nrpc: files\n",
    ),
    (
        "profile",
        "PATH=${PATH:-/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}\nexport PATH\n\
         if [ -n \"$BASH_VERSION\" ] && [ -r /etc/bash.bashrc ]; then . /etc/bash.bashrc; fi\n\
         for part in /etc/profile.d/*.sh; do [ -r \"$part\" ] && . \"$part\"; done\nunset part\n",
    ),
    ("bash.bashrc", "[ -z \"$PS1\" ] && return\nshopt -s checkwinsize\nPS1='\\u@\\h:\\w\\$ '\n"),
];

/// Writes the folder's content to `target`, which exists and is empty.
pub(super) fn generate(root: &Path, target: &Path) -> Result<()> {
    let etc = root.join("etc");
    let mut copied = 0;
    for source in sources(root)? {
        let name = source.strip_prefix(&etc).expect("sources lie below etc");
        let made = name == Path::new("passwd") || name == Path::new("group");
        if !made && (source.is_symlink() || source.exists()) {
            parents(target, name)?;
            copy(&source, &target.join(name), DEPTH, &mut copied)?;
        }
    }
    for (name, text) in GENERATED {
        write(&target.join(name), text.as_bytes(), 0o644)?;
    }
    let mtab = target.join("mtab");
    symlink("/proc/self/mounts", &mtab).map_err(|error| failed("make", &mtab, error))?;
    make_folder(&target.join("profile.d"), 0o755)?;
    accounts(root, target)
}

/// The host's files and folders that this /etc is made from, in a fixed order; some may be absent.
pub(super) fn sources(root: &Path) -> Result<Vec<PathBuf>> {
    let etc = root.join("etc");
    let mut names = Vec::new();
    for entry in fs::read_dir(&etc).map_err(|error| failed("read", &etc, error))? {
        names.push(entry.map_err(|error| failed("read", &etc, error))?.file_name());
    }
    names.sort();
    let mut sources = vec![etc.join("passwd"), etc.join("group")];
    for pattern in COPIED {
        match pattern.strip_suffix('*') {
            Some(start) => {
                let fits = |name: &&std::ffi::OsString| name.to_string_lossy().starts_with(start);
                sources.extend(names.iter().filter(fits).map(|name| etc.join(name)));
            }
            None => sources.push(etc.join(pattern)),
        }
    }
    Ok(sources)
}

fn parents(target: &Path, name: &Path) -> Result<()> {
    let mut above: Vec<_> =
        name.ancestors().skip(1).filter(|path| !path.as_os_str().is_empty()).collect();
    above.reverse();
    for folder in above.into_iter().map(|folder| target.join(folder)) {
        if !folder.is_dir() {
            make_folder(&folder, 0o755)?;
        }
    }
    Ok(())
}

/// Copies links, files that everybody may read, and folders of such; leaves out all else.
fn copy(source: &Path, target: &Path, depth: usize, copied: &mut usize) -> Result<()> {
    let metadata = match fs::symlink_metadata(source) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        outcome => outcome.map_err(|error| failed("read", source, error))?,
    };
    *copied += 1;
    if *copied > ENTRIES {
        let what = format!("`{}` is past {ENTRIES} entries of settings", source.display());
        return Err(Error::new(Kind::Unsupported, what)
            .with_hint("use another snapshot source than `host`"));
    }
    if metadata.is_symlink() {
        let to = fs::read_link(source).map_err(|error| failed("read", source, error))?;
        symlink(to, target).map_err(|error| failed("make", target, error))
    } else if metadata.is_dir() && metadata.mode() & 0o005 == 0o005 && depth > 0 {
        make_folder(target, 0o755)?;
        for entry in fs::read_dir(source).map_err(|error| failed("read", source, error))? {
            let entry = entry.map_err(|error| failed("read", source, error))?;
            copy(&entry.path(), &target.join(entry.file_name()), depth - 1, copied)?;
        }
        Ok(())
    } else if is_open(&metadata) {
        match read(source).map_err(|error| failed("read", source, error))? {
            Some(bytes) => write(target, &bytes, metadata.mode() & 0o755),
            None => Ok(()),
        }
    } else {
        Ok(())
    }
}

/// A file's bytes, unless it became something else meanwhile or holds a private key.
fn read(source: &Path) -> io::Result<Option<Vec<u8>>> {
    const KEY: &[u8] = b"PRIVATE KEY";
    let flags = OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let flags = i32::try_from(flags.bits()).expect("open flags fit an int");
    let file = File::options().read(true).custom_flags(flags).open(source)?;
    if !is_open(&file.metadata()?) {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    file.take(FILE).read_to_end(&mut bytes)?;
    let secret = bytes.windows(KEY.len()).any(|window| window == KEY);
    Ok((!secret).then_some(bytes))
}

fn is_open(metadata: &Metadata) -> bool {
    metadata.is_file() && metadata.mode() & 0o004 != 0 && metadata.len() <= FILE
}

fn write(target: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    OpenOptions::new()
        .write(true)
        .create_new(true)
        .open(target)
        .and_then(|mut file| file.write_all(bytes))
        .map_err(|error| failed("write", target, error))?;
    set_mode(target, mode)
}

/// Root and the system's accounts without passwords, comments or people. No shadow file: `*` in its
/// place lets root become any of them and nobody log in.
fn accounts(root: &Path, target: &Path) -> Result<()> {
    let read = |name: &str| {
        let path = root.join("etc").join(name);
        match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            outcome => outcome.map_err(|error| failed("read", &path, error)),
        }
    };
    let of_system = |id: u32| (1..PEOPLE).contains(&id) || id == NOBODY;
    let shell = if root.join("usr/bin/bash").exists() { "/bin/bash" } else { "/bin/sh" };
    let mut passwd = format!("root:*:0:0:root:/root:{shell}\n");
    let mut names = vec!["root".to_owned()];
    for user in users::users(&read("passwd")?).filter(|user| of_system(user.uid)) {
        let users::User { name, uid, gid, home, shell } = user;
        let _ = writeln!(passwd, "{name}:*:{uid}:{gid}::{home}:{shell}");
        names.push(name);
    }
    let mut group = "root:*:0:\n".to_owned();
    for users::Group { name, gid, mut members } in users::groups(&read("group")?) {
        if of_system(gid) {
            members.retain(|member| names.contains(member));
            let _ = writeln!(group, "{name}:*:{gid}:{}", members.join(","));
        }
    }
    write(&target.join("passwd"), passwd.as_bytes(), 0o644)?;
    write(&target.join("group"), group.as_bytes(), 0o644)
}
