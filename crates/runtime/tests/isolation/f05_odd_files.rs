//! F5: pipes, sockets, devices, kernel files and endless files neither hang nor flood a file call.

use std::time::{Duration, Instant};

use crate::harness::Bench;

#[test]
fn f05_odd_files_neither_hang_nor_flood() {
    let Some(bench) = Bench::open("F5") else { return };
    let sandbox = bench.sandbox();
    let made = sandbox.python(
        "
os.makedirs('/srv/odd')
os.chdir('/srv/odd')
os.mkfifo('fifo')
socket.socket(socket.AF_UNIX).bind('socket')
os.symlink('/dev/zero', 'zero')
os.symlink('/proc/kmsg', 'kmsg')
os.symlink('/proc/self/mem', 'mem')
os.symlink('/dev/tty', 'tty')
os.symlink('loop', 'loop')
put('endless', 'x'); os.truncate('endless', 1 << 30)
put('plain', 'needle')
print('made')
",
    );
    assert!(made.says("made"), "{}", made.text);
    let (id, files) = (sandbox.id(), sandbox.files());
    let odd = [
        "fifo",
        "socket",
        "zero",
        "kmsg",
        "mem",
        "tty",
        "loop",
        ".",
        "/dev/zero",
        "/dev/random",
        "/dev/null",
        "/dev/tty",
        "/dev/ptmx",
        "/proc/kmsg",
        "/proc/1/mem",
        "/proc/self/mem",
        "/proc/self/fd/0",
    ];
    let start = Instant::now();
    for name in odd {
        let path = if name.starts_with('/') { name.to_owned() } else { format!("/srv/odd/{name}") };
        assert!(sandbox.get(&path).is_err(), "{path}");
        let list = [path.clone()];
        let replaced = sandbox.wait(files.replace(id, &list, "a", "b")).unwrap();
        assert!(replaced[0].error.is_some(), "{path}");
        let _ = sandbox.wait(files.info(id, &path));
    }
    // Reading is by pieces: the first of an endless file comes at once.
    let first =
        sandbox.wait(async { files.read(id, "/srv/odd/endless").await.unwrap().next().await });
    assert!(first.unwrap().len() <= 256 << 10);
    let found = sandbox.wait(files.find(id, "/srv/odd", "needle")).unwrap();
    assert_eq!(
        found.iter().map(|found| found.file.as_str()).collect::<Vec<_>>(),
        ["/srv/odd/plain"]
    );
    for folder in ["/dev", "/sys", "/proc"] {
        let _ = sandbox.wait(files.find(id, folder, "needle"));
        let _ = sandbox.wait(files.search(id, folder, "*none*"));
    }
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    // The same read by path waits for ever: the shell is stopped by its time limit.
    let hung = sandbox.exec(&["/bin/cat", "/srv/odd/fifo"], |request| {
        request.timeout = Duration::from_millis(100);
    });
    assert!(hung.is_err());
}
