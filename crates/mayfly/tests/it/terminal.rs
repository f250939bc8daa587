//! `mayfly sandbox shell` on a terminal of the test's own.

use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::OwnedFd;
use std::process::{Child, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{Termios, Winsize, tcgetattr, tcsetwinsize};

use crate::house::House;

/// The operator's terminal, with the program on it.
struct Screen {
    master: File,
    child: Child,
    shown: Receiver<Vec<u8>>,
    text: String,
    before: Termios,
}

impl Screen {
    fn open(house: &House, arguments: &[&str]) -> Self {
        let master =
            openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC).unwrap();
        grantpt(&master).unwrap();
        unlockpt(&master).unwrap();
        let name = ptsname(&master, Vec::new()).unwrap();
        let slave = File::options().read(true).write(true).open(name.to_str().unwrap()).unwrap();
        size(&slave, 80, 24);
        let before = tcgetattr(&slave).unwrap();
        let end = || Stdio::from(OwnedFd::from(slave.try_clone().unwrap()));
        let mut command = house.command(arguments);
        let child = command.stdin(end()).stdout(end()).stderr(end()).spawn().unwrap();
        let mut reader = File::from(master.try_clone().unwrap());
        let (sender, shown) = channel();
        std::thread::spawn(move || {
            let mut buffer = [0; 4096];
            while let Ok(length @ 1..) = reader.read(&mut buffer) {
                if sender.send(buffer[..length].to_vec()).is_err() {
                    return;
                }
            }
        });
        Self { master: File::from(master), child, shown, text: String::new(), before }
    }

    fn type_keys(&mut self, keys: &str) {
        self.master.write_all(keys.as_bytes()).unwrap();
    }

    /// Waits until this was shown since the last wait.
    fn wait(&mut self, wanted: &str) {
        while !self.text.contains(wanted) {
            let more = self.shown.recv_timeout(Duration::from_secs(20));
            let more = more.unwrap_or_else(|_| panic!("{wanted:?} did not come: {:?}", self.text));
            self.text.push_str(&String::from_utf8_lossy(&more));
        }
        let at = self.text.find(wanted).unwrap() + wanted.len();
        self.text.drain(..at);
    }

    fn end(mut self) -> Option<i32> {
        self.child.wait().unwrap().code()
    }
}

fn size(terminal: &File, columns: u16, rows: u16) {
    let size = Winsize { ws_col: columns, ws_row: rows, ws_xpixel: 0, ws_ypixel: 0 };
    tcsetwinsize(terminal, size).unwrap();
}

#[test]
fn a_terminal_inside_takes_keys_follows_the_window_and_gives_its_code() {
    let house = House::new();
    house.ok(&["sandbox", "create", "--name", "box"]);
    let mut screen = Screen::open(&house, &["sandbox", "shell", "box", "--cwd", "/usr"]);
    screen.type_keys("stty size; echo at-$PWD\n");
    screen.wait("24 80");
    screen.wait("at-/usr");
    size(&screen.master, 132, 43);
    super::house::signal(i32::try_from(screen.child.id()).unwrap(), "WINCH");
    // The new size arrives by a request of its own.
    screen.type_keys("until [ \"$(stty size)\" = '43 132' ]; do sleep 0.02; done; echo wi''de\n");
    screen.wait("wide");
    // It says so itself, since a shell that is about to start it takes no interrupt.
    screen.type_keys("sh -c 'echo rea''dy; exec sleep 100'\n");
    screen.wait("ready");
    screen.type_keys("\x03");
    screen.type_keys("echo still-$((40+2))\n");
    screen.wait("still-42");
    screen.type_keys("exit 7\n");
    let (master, before) = (screen.master.try_clone().unwrap(), screen.before.clone());
    assert_eq!(screen.end(), Some(7));
    let after = tcgetattr(&master).unwrap();
    assert_eq!(after.local_modes, before.local_modes, "the terminal is as it was");
}

#[test]
fn a_named_terminal_outlives_its_client_and_is_found_again() {
    let house = House::new();
    house.ok(&["sandbox", "create", "--name", "box"]);
    let arguments = ["sandbox", "shell", "box", "--attach", "work"];
    let mut first = Screen::open(&house, &arguments);
    first.type_keys("secret=hea''rd; echo $secret\n");
    first.wait("heard");
    first.child.kill().unwrap();
    first.end();
    let mut again = Screen::open(&house, &arguments);
    again.type_keys("echo again-$secret; exit 0\n");
    again.wait("again-heard");
    assert_eq!(again.end(), Some(0));
}
