//! The layers made from small hosts in a temporary folder.

use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};

use tempfile::TempDir;

use super::*;

struct Host {
    folder: TempDir,
}

impl Host {
    fn new() -> Self {
        let host = Self { folder: tempfile::tempdir().unwrap() };
        for folder in
            ["usr/bin", "usr/lib", "usr/local/lib", "etc/ssl/certs", "var/lib/dpkg", "layers"]
        {
            fs::create_dir_all(host.path(folder)).unwrap();
        }
        for name in ["bin", "lib"] {
            symlink(format!("usr/{name}"), host.path(name)).unwrap();
        }
        host.write("var/lib/dpkg/status", "Package: one", 0o644);
        host.write("usr/bin/sh", "", 0o755);
        host.write(
            "etc/passwd",
            "root:x:0:0:The Boss:/root:/bin/zsh\nwww:x:33:33::/var/www:/bin/sh\n\
             ada:x:1000:1000:Ada:/home/ada:/bin/sh\n",
            0o644,
        );
        host.write("etc/group", "root:x:0:\nwww:x:33:ada,www\nada:x:1000:\n", 0o644);
        host
    }

    fn path(&self, inner: &str) -> PathBuf {
        self.folder.path().join(inner)
    }

    fn write(&self, inner: &str, text: &str, mode: u32) {
        fs::create_dir_all(self.path(inner).parent().unwrap()).unwrap();
        fs::write(self.path(inner), text).unwrap();
        self.mode(inner, mode);
    }

    fn mode(&self, inner: &str, mode: u32) {
        fs::set_permissions(self.path(inner), fs::Permissions::from_mode(mode)).unwrap();
    }

    fn prepare(&self) -> Result<HostImage> {
        HostImage::prepare(&self.path("layers"), self.folder.path(), &Generator)
    }

    fn layers(&self) -> usize {
        fs::read_dir(self.path("layers")).unwrap().count()
    }
}

fn is_whiteout(path: &Path) -> bool {
    fs::symlink_metadata(path)
        .is_ok_and(|found| found.file_type().is_char_device() && found.rdev() == 0)
}

#[test]
fn the_skeleton_links_into_usr_and_has_empty_folders_only() {
    let host = Host::new();
    host.write("opt/secret", "x", 0o644);
    let image = host.prepare().unwrap();
    let [skeleton] = image.root_layers.as_slice() else { panic!("{image:?}") };
    assert_eq!(fs::read_link(skeleton.join("bin")).unwrap(), Path::new("usr/bin"));
    assert!(!skeleton.join("lib64").is_symlink(), "the host has none");
    for folder in ["opt", "home", "root", "usr", "proc", "var/lib/misc", "var/tmp"] {
        assert_eq!(fs::read_dir(skeleton.join(folder)).unwrap().count(), 0, "{folder}");
    }
    let mode = |name: &str| fs::metadata(skeleton.join(name)).unwrap().mode() & 0o7777;
    assert_eq!((mode("tmp"), mode("root"), mode("")), (0o1777, 0o700, 0o755));
}

#[test]
fn etc_names_no_people_and_holds_no_secrets() {
    let host = Host::new();
    host.write("etc/shadow", "root:$6$hash", 0o644);
    host.write("etc/environment", "TOKEN=1", 0o644);
    host.write("etc/ssl/certs/ca.crt", "CERTIFICATE", 0o644);
    host.write("etc/ssl/certs/oops.pem", "-----BEGIN PRIVATE KEY-----", 0o644);
    host.write("etc/ssl/private/key.pem", "x", 0o644);
    host.write("etc/services", "closed", 0o600);
    host.write("etc/python3.11/sitecustomize.py", "", 0o644);
    symlink("/etc/shadow", host.path("etc/ssl/certs/link.pem")).unwrap();
    let etc = host.prepare().unwrap().root_layers[0].join("etc");
    let read = |name: &str| fs::read_to_string(etc.join(name)).unwrap();
    assert_eq!(read("passwd"), "root:*:0:0:root:/root:/bin/sh\nwww:*:33:33::/var/www:/bin/sh\n");
    assert_eq!(read("group"), "root:*:0:\nwww:*:33:www\n");
    assert_eq!(read("ssl/certs/ca.crt"), "CERTIFICATE");
    assert_eq!(read("resolv.conf"), "nameserver 10.0.0.53\n");
    assert!(etc.join("python3.11/sitecustomize.py").is_file());
    assert!(etc.join("ssl/certs/link.pem").is_symlink(), "links stay links");
    for name in ["shadow", "environment", "ssl/certs/oops.pem", "ssl/private", "services", "pki"] {
        assert!(!etc.join(name).exists(), "{name}");
    }
}

#[test]
fn what_not_everybody_may_read_in_usr_is_whited_out() {
    let host = Host::new();
    host.write("usr/lib/a/secret", "", 0o640);
    host.write("usr/lib/a/open", "", 0o644);
    host.write("usr/lib/closed/open", "", 0o644);
    host.write("usr/bin/execute-only", "", 0o711);
    host.mode("usr/lib/a", 0o2755);
    host.mode("usr/lib/closed", 0o754);
    let image = host.prepare().unwrap();
    let [hidden, usr] = image.usr_layers.as_slice() else { panic!("{image:?}") };
    assert_eq!(usr, &host.path("usr"));
    for name in ["lib/a/secret", "lib/closed", "bin/execute-only"] {
        assert!(is_whiteout(&hidden.join(name)), "{name}");
    }
    assert!(!hidden.join("lib/a/open").exists() && !hidden.join("local").exists());
    assert_eq!(fs::metadata(hidden.join("lib/a")).unwrap().mode() & 0o7777, 0o2755);
}

#[test]
fn a_usr_without_secrets_needs_no_layer_over_it() {
    let host = Host::new();
    assert_eq!(host.prepare().unwrap().usr_layers, [host.path("usr")]);
}

#[test]
fn the_fingerprint_follows_packages_and_own_installs_and_nothing_else() {
    let host = Host::new();
    let print = || HostImage::fingerprint(host.folder.path()).unwrap();
    let mut last = print();
    assert_eq!(last.len(), 64);
    host.write("home/ada/file", "x", 0o644);
    host.write("var/lib/other", "x", 0o644);
    assert_eq!(print(), last);
    let changes: [(&str, &dyn Fn()); 4] = [
        ("package", &|| host.write("var/lib/dpkg/status", "Package: two", 0o644)),
        ("npm -g", &|| host.write("usr/local/lib/node_modules/tsx/x", "", 0o644)),
        ("program", &|| host.write("usr/bin/new", "", 0o755)),
        ("certificate", &|| host.write("etc/ssl/certs/new", "", 0o644)),
    ];
    for (what, change) in changes {
        change();
        let next = print();
        assert_ne!(next, last, "{what}");
        last = next;
    }
}

#[test]
fn calls_at_the_same_time_agree_and_leave_one_folder() {
    let host = Host::new();
    let images: Vec<_> = std::thread::scope(|scope| {
        let calls: Vec<_> = (0..8).map(|_| scope.spawn(|| host.prepare().unwrap())).collect();
        calls.into_iter().map(|call| call.join().unwrap()).collect()
    });
    assert!(images.windows(2).all(|pair| pair[0] == pair[1]));
    assert_eq!(host.layers(), 1);
}

#[test]
fn sweeping_deletes_what_is_unused_or_was_left_by_a_crash() {
    let host = Host::new();
    let old = host.prepare().unwrap().fingerprint;
    host.write("usr/bin/new", "", 0o755);
    let new = host.prepare().unwrap();
    fs::create_dir_all(host.path("layers/.host-1-0/skeleton")).unwrap();
    fs::create_dir_all(host.path("layers/0123-of-a-build")).unwrap();
    assert_eq!(host.layers(), 4);
    let sweep = |used: &[&String]| {
        let used = used.iter().map(|print| (*print).clone()).collect();
        HostImage::sweep(&host.path("layers"), &used, &Generator).unwrap();
    };
    sweep(&[&old, &new.fingerprint]);
    assert_eq!(host.layers(), 3);
    sweep(&[&new.fingerprint]);
    assert_eq!(host.layers(), 2);
    assert!(new.root_layers[0].is_dir());
}

#[test]
fn a_host_without_merged_usr_is_refused() {
    let host = Host::new();
    fs::remove_file(host.path("lib")).unwrap();
    fs::create_dir(host.path("lib")).unwrap();
    let error = host.prepare().unwrap_err();
    assert_eq!(error.kind(), Kind::Unsupported);
    assert!(error.message().contains("/lib`") && error.hint().is_some());
    assert_eq!(host.layers(), 0);
}

#[test]
fn a_failure_half_way_leaves_nothing() {
    let host = Host::new();
    host.mode("usr", 0o750);
    assert_eq!(host.prepare().unwrap_err().kind(), Kind::Unsupported);
    assert_eq!(host.layers(), 0);
}
