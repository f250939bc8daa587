//! The driver under the host's own Python, as a sandbox would run it.

use std::io::{BufRead, BufReader, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use super::DRIVER;
use super::scan::Scan;

/// A driver that runs.
struct Driver {
    child: Child,
    calls: ChildStdin,
    out: BufReader<ChildStdout>,
    count: u32,
}

impl Driver {
    fn start() -> Self {
        let mut child = Command::new("python3")
            .args(["-c", DRIVER])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let (calls, out) = (child.stdin.take().unwrap(), child.stdout.take().unwrap());
        let mut driver = Self { child, calls, out: BufReader::new(out), count: 0 };
        let mut ready = String::new();
        driver.out.read_line(&mut ready).unwrap();
        assert_eq!(ready, "ready\n");
        driver
    }

    /// Hands in a call; the mark of it.
    fn call(&mut self, code: &str) -> Scan {
        self.count += 1;
        let mark = format!("\u{2}mark-{}", self.count);
        let call = serde_json::json!({ "mark": mark, "code": code, "envs": { "CALL": "c" } });
        writeln!(self.calls, "{call}").unwrap();
        Scan::new(&mark)
    }

    /// What the call printed, and what the driver says of its end.
    fn end(&mut self, mut scan: Scan) -> (String, serde_json::Value) {
        let (mut output, mut byte) = (Vec::new(), [0]);
        while !scan.rest().ends_with(b"\n") {
            self.out.read_exact(&mut byte).unwrap();
            output.extend_from_slice(&scan.feed(&byte));
        }
        (String::from_utf8(output).unwrap(), serde_json::from_slice(scan.rest()).unwrap())
    }

    fn run(&mut self, code: &str) -> (String, serde_json::Value) {
        let scan = self.call(code);
        self.end(scan)
    }

    fn interrupt(&self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-INT", &pid]).status().unwrap().success());
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn programs_keep_their_state_and_see_nothing_of_the_driver() {
    let mut driver = Driver::start();
    assert_eq!(driver.run("x = 1\ndef f(): return x + 1").1, serde_json::Value::Null);
    let code = "import sys, __main__\nprint(f(), __main__.x, __name__, sys.argv)\nprint(sorted(n for n in globals() if n[:2] != '__'))";
    let (output, error) = driver.run(code);
    assert_eq!(
        output,
        "2 1 __main__ ['']\n['__main__', 'f', 'sys', 'x']\n".replace("'__main__', ", "")
    );
    assert!(error.is_null());
    let (output, _) = driver.run("import os\nos.system('echo sub $CALL')\nos.write(1, b'raw\\n')\nprint(repr(sys.stdin.read()))");
    assert_eq!(output, "sub c\nraw\n''\n");
    assert_eq!(driver.run("print('CALL' in os.environ)").0, "True\n");
    assert_eq!(driver.run("1 + 1").0, "", "values are not printed");
}

#[test]
fn errors_show_the_program_only() {
    let mut driver = Driver::start();
    driver.run("def g():\n    raise ValueError('boom')");
    let (_, error) = driver.run("print('a')\ng()");
    assert_eq!((&error["name"], &error["value"]), (&"ValueError".into(), &"boom".into()));
    let text = error["traceback"].as_str().unwrap();
    assert!(
        text.starts_with("Traceback (most recent call last):\n  File \"<code 2>\", line 2"),
        "{text}"
    );
    assert!(text.contains("raise ValueError('boom')") && !text.contains("<string>"), "{text}");
    assert_eq!(driver.run("x = = 1").1["name"], "SyntaxError");
    assert_eq!(driver.run("import sys; sys.exit(3)").1["name"], "SystemExit");
    assert!(driver.run("sys.exit()").1.is_null());
    let odd = "class E(Exception):\n    def __str__(self): 1/0\nraise E()";
    assert_eq!(driver.run(odd).1["name"], "E");
    assert_eq!(driver.run("print('on')").0, "on\n");
}

#[test]
fn an_interrupt_ends_the_call_and_not_the_state() {
    let mut driver = Driver::start();
    driver.run("x = 7");
    driver.interrupt();
    assert_eq!(driver.run("print(x)").0, "7\n", "one that comes late hits nothing");
    let mut scan = driver.call("print('go')\nwhile True: pass");
    let mut byte = [0];
    while scan.feed(&byte[..usize::from(byte[0] > 0)]) != "o" {
        driver.out.read_exact(&mut byte).unwrap();
    }
    driver.interrupt();
    assert_eq!(driver.end(scan).1["name"], "KeyboardInterrupt");
    assert_eq!(driver.run("print(x)").0, "7\n");
    let closes = driver.run("import os\nos.close(1)\nos.close(2)\nos.close(0)").1;
    assert!(closes.is_null(), "{closes}");
    assert!(driver.run("y = 1").1.is_null(), "the way to the server is not the program's to close");
}
