//! The interpreter's driver under the host's own Python, as a sandbox would run it.

use std::io::{Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

const DRIVER: &str = include_str!("../../../../engine/src/contexts/driver.py");

/// A driver that runs.
struct Driver {
    child: Child,
    calls: ChildStdin,
    out: ChildStdout,
    count: u32,
}

fn join(fields: &[&str]) -> String {
    fields.iter().map(|field| format!("{}:{field},", field.len())).collect()
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
        let mut driver = Self { child, calls, out, count: 0 };
        assert_eq!(driver.until("\n"), "ready");
        driver
    }

    /// What comes before the word.
    fn until(&mut self, word: &str) -> String {
        let (mut seen, mut byte) = (Vec::new(), [0]);
        while !seen.ends_with(word.as_bytes()) {
            self.out.read_exact(&mut byte).unwrap();
            seen.push(byte[0]);
        }
        seen.truncate(seen.len() - word.len());
        String::from_utf8(seen).unwrap()
    }

    /// Hands in a call; its mark.
    fn call(&mut self, code: &str) -> String {
        self.count += 1;
        let mark = format!("\u{2}mark-{}", self.count);
        let call = join(&[&mark, code, "CALL", "c"]);
        write!(self.calls, "{}\n{call}", call.len()).unwrap();
        self.until(&format!("{mark}["));
        mark
    }

    /// What the call printed, and name, text and traceback of its error.
    fn end(&mut self, mark: &str) -> (String, Vec<String>) {
        let output = self.until(&format!("{mark}]"));
        let size: usize = self.until(":").parse().unwrap();
        let mut said = vec![0; size + 1];
        self.out.read_exact(&mut said).unwrap();
        let (mut rest, mut fields) = (&said[..size], Vec::new());
        while let Some(colon) = rest.iter().position(|byte| *byte == b':') {
            let size: usize = std::str::from_utf8(&rest[..colon]).unwrap().parse().unwrap();
            let field = rest[colon + 1..][..size].to_vec();
            fields.push(String::from_utf8(field).unwrap());
            rest = &rest[colon + size + 2..];
        }
        (output, fields)
    }

    fn run(&mut self, code: &str) -> (String, Vec<String>) {
        let mark = self.call(code);
        self.end(&mark)
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
    assert!(driver.run("x = 1\ndef f(): return x + 1").1.is_empty());
    let code = "import sys, __main__\nprint(f(), __main__.x, __name__, sys.argv)\nprint(sorted(n for n in globals() if n[:2] != '__'))";
    let (output, error) = driver.run(code);
    assert_eq!(
        output,
        "2 1 __main__ ['']\n['__main__', 'f', 'sys', 'x']\n".replace("'__main__', ", "")
    );
    assert!(error.is_empty());
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
    assert_eq!(error[..2], ["ValueError", "boom"]);
    let text = &error[2];
    assert!(
        text.starts_with("Traceback (most recent call last):\n  File \"<code 2>\", line 2"),
        "{text}"
    );
    assert!(text.contains("raise ValueError('boom')") && !text.contains("<string>"), "{text}");
    assert_eq!(driver.run("x = = 1").1[0], "SyntaxError");
    assert_eq!(driver.run("import sys; sys.exit(3)").1[0], "SystemExit");
    assert!(driver.run("sys.exit()").1.is_empty());
    let odd = "class E(Exception):\n    def __str__(self): 1/0\nraise E()";
    assert_eq!(driver.run(odd).1[0], "E");
    assert_eq!(driver.run("print('on')").0, "on\n");
}

#[test]
fn an_interrupt_ends_the_call_and_not_the_state() {
    let mut driver = Driver::start();
    driver.run("x = 7");
    driver.interrupt();
    assert_eq!(driver.run("print(x)").0, "7\n", "one that comes late hits nothing");
    let mark = driver.call("print('go')\nwhile True: pass");
    driver.until("go\n");
    driver.interrupt();
    assert_eq!(driver.end(&mark).1[0], "KeyboardInterrupt");
    assert_eq!(driver.run("print(x)").0, "7\n");
    let closes = driver.run("import os\nos.close(1)\nos.close(2)\nos.close(0)").1;
    assert!(closes.is_empty(), "{closes:?}");
    assert!(
        driver.run("y = 1").1.is_empty(),
        "the way to the server is not the program's to close"
    );
}
