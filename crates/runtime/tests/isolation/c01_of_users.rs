//! C1, C2: what the unprivileged profile needs and a host may lack, named with the reason and a remedy.
//!
//! Root plays such a host: it installs the filter, or hides a file in a mount namespace of its own, becomes
//! the ordinary user of the tests, and runs this program again. (A filter that an ordinary user installs
//! would take from him the set-id programs that map his ids.)

use std::ffi::OsString;

use mayfly_core::Kind;
use mayfly_runtime::local::{LocalRuntime, Options};

use crate::c01_missing_layers::{
    ENOSYS, EPERM, LANDLOCK_CREATE, NEW_NETWORK, NEW_USER, OPEN_TREE, judge, number,
};
use crate::harness::{Bench, rootless};
use crate::outside::{is_inner, passes_apart};

/// The user that `cargo xtask setup` makes.
pub(crate) const USER: &str = "mayfly-test";
/// Becomes the user and runs a program, by descriptor since its folder may be closed to him; a system call,
/// if one is named, then answers an error, also when only a flag of its first argument is set.
pub(crate) const PLAY: &str = "
import ctypes, os, pwd, struct, sys
user, call, flag, error = sys.argv[1], *map(int, sys.argv[2:5])
account = pwd.getpwnam(user)
program = os.open(sys.argv[5], os.O_RDONLY)
if call >= 0:
    test = [(0x20, 0, 0, 16), (0x45, 0, 1, flag)] if flag else []
    steps = [(0x20, 0, 0, 0), (0x15, 0, len(test) + 1, call), *test, (6, 0, 0, 0x50000 | error), (6, 0, 0, 0x7fff0000)]
    code = ctypes.create_string_buffer(b''.join(struct.pack('HBBI', *step) for step in steps))
    filter = struct.pack('HP', len(steps), ctypes.addressof(code))
    assert ctypes.CDLL(None, use_errno=True).prctl(22, 2, filter, 0, 0) == 0
os.chdir('/')
os.setgroups([])
os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
os.execve(program, sys.argv[5:], os.environ)
";

/// Whether this is the inner run, as the user. The outer one starts it and demands that it passes: behind a
/// script that prepares the host, and a system call that is refused.
fn as_user(test: &str, script: &str, call: i64, flag: u64, error: u32) -> bool {
    if is_inner() {
        assert!(rootless());
        return true;
    }
    if rootless() {
        println!("SKIP {test}: root, who plays a host without a layer");
        return false;
    }
    if !has_user() {
        println!("SKIP {test}: the user {USER}, made by `cargo xtask setup`");
        return false;
    }
    let whole = format!("set -e\n{script}\nexec \"$@\"");
    let numbers = [call.to_string(), flag.to_string(), error.to_string()];
    let mut played: Vec<OsString> =
        ["/usr/bin/python3", "-I", "-c", PLAY, USER].map(OsString::from).to_vec();
    played.extend(numbers.map(OsString::from));
    passes_apart(test, &whole, played);
    false
}

/// Whether the ordinary user is there.
pub(crate) fn has_user() -> bool {
    let accounts = std::fs::read_to_string("/etc/passwd").unwrap();
    accounts.lines().any(|line| line.starts_with(&format!("{USER}:")))
}

fn refused_without(test: &str, layer: &str, call: i64, flag: u64, error: u32) {
    if as_user(&format!("c01_of_users::{test}"), "", call, flag, error) {
        judge(&Bench::open("C1").unwrap(), layer, error);
    }
}

/// The refusal of the whole server.
fn refused_at_start() -> mayfly_core::Error {
    let folder = tempfile::tempdir().unwrap();
    let tokio = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let refused = tokio.block_on(LocalRuntime::open(Options::new(folder.path()))).unwrap_err();
    assert_eq!(refused.kind(), Kind::Unavailable, "{refused:?}");
    assert!(refused.message().contains("user namespace"), "{refused}");
    refused
}

#[test]
fn c01_users_without_user_namespaces() {
    let test = "c01_of_users::c01_users_without_user_namespaces";
    let flag = NEW_USER;
    if as_user(test, "", number::UNSHARE, flag, EPERM) {
        let refused = refused_at_start();
        assert!(refused.hint().is_some_and(|hint| hint.contains("max_user_namespaces")));
    }
}

#[test]
fn c01_users_without_namespaces_for_each_sandbox() {
    let test = "c01_users_without_namespaces_for_each_sandbox";
    refused_without(test, "user namespace", number::CLONE, NEW_USER, EPERM);
}

#[test]
fn c01_users_without_network_namespaces() {
    let test = "c01_users_without_network_namespaces";
    refused_without(test, "network and cgroup namespaces", number::UNSHARE, NEW_NETWORK, EPERM);
}

#[test]
fn c01_users_without_the_system_call_filter() {
    let test = "c01_users_without_the_system_call_filter";
    refused_without(test, "system call filter", number::SECCOMP, 0, ENOSYS);
}

#[test]
fn c01_users_without_landlock() {
    refused_without("c01_users_without_landlock", "Landlock", LANDLOCK_CREATE, 0, ENOSYS);
}

#[test]
fn c01_users_without_mounts_by_descriptor() {
    refused_without("c01_users_without_mounts_by_descriptor", "layer", OPEN_TREE, 0, ENOSYS);
}

#[test]
fn c01_users_without_pivot_root() {
    refused_without("c01_users_without_pivot_root", "pivot_root", number::PIVOT_ROOT, 0, EPERM);
}

#[test]
fn c01_users_without_subordinate_ids() {
    for file in ["/etc/subuid", "/etc/subgid"] {
        let test = "c01_of_users::c01_users_without_subordinate_ids";
        if as_user(test, &format!("export HIDDEN={file}\nmount --bind /dev/null {file}"), -1, 0, 0)
        {
            let file = std::env::var("HIDDEN").unwrap();
            let refused = refused_at_start();
            assert!(refused.message().contains(&file), "{refused}");
            assert!(refused.hint().is_some_and(|hint| hint.contains("usermod --add-subuids")));
            return;
        }
    }
}

#[test]
fn c02_users_with_a_broken_mapper() {
    let test = "c01_of_users::c02_users_with_a_broken_mapper";
    if as_user(test, "mount --bind /bin/false /usr/bin/newgidmap", -1, 0, 0) {
        let refused = refused_at_start();
        assert!(refused.message().contains("newgidmap failed"), "{refused}");
        assert!(refused.hint().is_some_and(|hint| hint.contains("set-user-id")), "{refused:?}");
    }
}
