//! The interpreter of fake sandboxes, behind the protocol of the engine's driver: `print(x)`, `x = 1`,
//! `raise ValueError(x)`, `hang()`, `quit()`.

use mayfly_core::process::Stream;

use super::processes::FakeProcess;

/// Takes up the calls that are complete.
pub(super) fn go_on(process: &mut FakeProcess) {
    while process.todo.is_empty() {
        let Some(call) = call(&mut process.input) else { return };
        let mut fields = call.into_iter();
        let mark = fields.next().unwrap_or_default();
        let code = fields.next().unwrap_or_default();
        both(process, &format!("{mark}["));
        while let (Some(name), Some(value)) = (fields.next(), fields.next()) {
            process.env.insert(name, value);
        }
        process.todo.push_back(mark);
        process.todo.extend(code.lines().map(str::to_owned));
        run(process);
    }
}

/// Ends the call that hangs.
pub(super) fn interrupted(process: &mut FakeProcess) {
    if process.todo.front().is_some() {
        over(process, &["KeyboardInterrupt", "", ""]);
        go_on(process);
    }
}

fn run(process: &mut FakeProcess) {
    while let Some(line) = process.todo.get(1).cloned() {
        if line == "hang()" {
            return;
        }
        if line == "quit()" {
            process.shown.exit_code = Some(3);
            return;
        }
        if let Some(value) = inside(&line, "raise ValueError(") {
            let value = value.trim_matches('\'').to_owned();
            let traceback = format!("Traceback (most recent call last):\nValueError: {value}\n");
            return over(process, &["ValueError", &value, &traceback]);
        }
        if let Some(name) = inside(&line, "print(") {
            let value = process.env.get(name).cloned();
            let text = value.unwrap_or_else(|| name.trim_matches('\'').to_owned());
            process.print(Stream::Output, format!("{text}\n"));
        } else if let Some(name) = inside(&line, "warn(") {
            process.print(Stream::Error, format!("{name}\n"));
        } else if let Some((name, value)) = line.split_once(" = ") {
            process.env.insert(name.to_owned(), value.to_owned());
        }
        process.todo.remove(1);
    }
    over(process, &[]);
}

fn over(process: &mut FakeProcess, error: &[&str]) {
    let mark = process.todo.pop_front().unwrap_or_default();
    process.todo.clear();
    both(process, &format!("{mark}]"));
    process.print(Stream::Output, field(&error.iter().map(|part| field(part)).collect::<String>()));
}

fn field(text: &str) -> String {
    format!("{}:{text},", text.len())
}

/// The next call, when it is complete: its length, then its fields.
fn call(input: &mut Vec<u8>) -> Option<Vec<String>> {
    let end = input.iter().position(|byte| *byte == b'\n')?;
    let length: usize = String::from_utf8_lossy(&input[..end]).parse().ok()?;
    if input.len() < end + 1 + length {
        return None;
    }
    let whole: Vec<u8> = input.drain(..end + 1 + length).skip(end + 1).collect();
    let (mut rest, mut fields) = (String::from_utf8(whole).ok()?, Vec::new());
    while let Some((size, after)) = rest.split_once(':') {
        let size: usize = size.parse().ok()?;
        fields.push(after.get(..size)?.to_owned());
        rest = after.get(size + 1..)?.to_owned();
    }
    Some(fields)
}

fn both(process: &mut FakeProcess, text: &str) {
    process.print(Stream::Error, text.to_owned());
    process.print(Stream::Output, text.to_owned());
}

fn inside<'a>(line: &'a str, call: &str) -> Option<&'a str> {
    line.strip_prefix(call)?.strip_suffix(')')
}
