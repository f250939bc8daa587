//! The shell of fake sandboxes: `echo`, `export`, `read`, `exit`, `false`, `hang`, `flood`; `>&2` at the end.

use bytes::Bytes;
use mayfly_core::process::{Stream, Wiring};

use super::processes::{FakeProcess, Table};

/// What one statement does to the shell.
enum Next {
    On(i32),
    /// It waits for input or a signal.
    Stay,
    Exit(i32),
}

/// Runs what can run of a shell's queue.
pub(super) fn go_on(table: &mut Table, shell: u64) {
    loop {
        let Ok(process) = table.get(shell) else { return };
        let Some((number, text)) = process.queue.front_mut() else { return };
        let number = *number;
        if !text.is_empty() {
            let text = std::mem::take(text);
            process.todo = statements(&text);
        }
        match run(table, shell, number) {
            Next::Stay => return,
            Next::On(code) => {
                table.end(number, code);
                let Ok(process) = table.get(shell) else { return };
                process.queue.pop_front();
                process.input.clear();
            }
            Next::Exit(code) => return table.end(shell, code),
        }
    }
}

/// Takes what is typed on a terminal: echoes it and runs complete lines.
pub(super) fn typed(table: &mut Table, number: u64, input: &[u8]) {
    let Ok(process) = table.get(number) else { return };
    let echo = String::from_utf8_lossy(input).replace('\n', "\r\n");
    process.print(Stream::Output, echo);
    process.input.extend_from_slice(input);
    loop {
        let Ok(process) = table.get(number) else { return };
        if process.todo.is_empty() {
            let Some(line) = line(process) else { return };
            process.todo = statements(&line);
        }
        match run(table, number, number) {
            Next::Stay => return,
            Next::On(_) => {}
            Next::Exit(code) => return table.end(number, code),
        }
        if let Ok(process) = table.get(number) {
            process.print(Stream::Output, "$ ");
        }
    }
}

/// Ends what a shell hangs in.
pub(super) fn interrupted(table: &mut Table, number: u64) {
    if let Ok(process) = table.get(number) {
        process.todo.clear();
    }
    go_on(table, number);
}

fn statements(text: &str) -> std::collections::VecDeque<String> {
    text.split([';', '\n']).map(|one| one.trim().to_owned()).filter(|one| !one.is_empty()).collect()
}

/// Runs statements of a shell; what they print belongs to `to`.
fn run(table: &mut Table, shell: u64, to: u64) -> Next {
    let mut code = 0;
    loop {
        let Ok(process) = table.get(shell) else { return Next::Exit(1) };
        let Some(statement) = process.todo.front().cloned() else { return Next::On(code) };
        match one(process, &statement) {
            (Next::On(status), output) => {
                code = status;
                process.todo.pop_front();
                let terminal = matches!(process.shown.wiring, Some(Wiring::Terminal(_)));
                for (stream, bytes) in output {
                    let Ok(target) = table.get(to) else { continue };
                    if terminal {
                        let text = String::from_utf8_lossy(&bytes).replace('\n', "\r\n");
                        target.print(Stream::Output, text);
                    } else {
                        target.print(stream, bytes);
                    }
                }
            }
            (other, _) => return other,
        }
    }
}

fn one(process: &mut FakeProcess, statement: &str) -> (Next, Vec<(Stream, Bytes)>) {
    let (statement, stream) = match statement.strip_suffix(">&2") {
        Some(rest) => (rest.trim(), Stream::Error),
        None => (statement, Stream::Output),
    };
    let words: Vec<String> = statement.split(' ').map(|word| expanded(process, word)).collect();
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut output = Vec::new();
    let next = match words.as_slice() {
        ["echo", rest @ ..] => {
            output.push((stream, Bytes::from(format!("{}\n", rest.join(" ")))));
            Next::On(0)
        }
        ["export", pair] => {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            process.env.insert(name.to_owned(), value.to_owned());
            Next::On(0)
        }
        ["read", name] => match line(process) {
            Some(line) => {
                process.env.insert((*name).to_owned(), line);
                Next::On(0)
            }
            None => Next::Stay,
        },
        ["hang"] => Next::Stay,
        ["false"] => Next::On(1),
        ["flood", count] => {
            let piece = Bytes::from(vec![b'x'; 1 << 16]);
            for _ in 0..count.parse().unwrap_or(0) {
                output.push((stream, piece.clone()));
            }
            Next::On(0)
        }
        ["exit", code] => Next::Exit(code.parse().unwrap_or(2)),
        _ => {
            output.push((Stream::Error, Bytes::from("not found\n")));
            Next::On(127)
        }
    };
    (next, output)
}

fn expanded(process: &FakeProcess, word: &str) -> String {
    match word.strip_prefix('$') {
        Some(name) => process.env.get(name).cloned().unwrap_or_default(),
        None => word.to_owned(),
    }
}

/// The next line of the input, without its end.
fn line(process: &mut FakeProcess) -> Option<String> {
    let end = process.input.iter().position(|byte| matches!(byte, b'\n' | b'\r'))?;
    let line: Vec<u8> = process.input.drain(..=end).collect();
    Some(String::from_utf8_lossy(&line[..end]).into_owned())
}
