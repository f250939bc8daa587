//! The interpreter of fake sandboxes, behind the protocol of the engine's driver: `print(x)`, `x = 1`,
//! `raise ValueError(x)`, `hang()`, `quit()`.

use mayfly_core::process::Stream;
use serde_json::{Value, json};

use super::processes::FakeProcess;

/// Takes up the calls that are complete.
pub(super) fn go_on(process: &mut FakeProcess) {
    while process.todo.is_empty() {
        let Some(end) = process.input.iter().position(|byte| *byte == b'\n') else { return };
        let line: Vec<u8> = process.input.drain(..=end).collect();
        let call: Value = serde_json::from_slice(&line).unwrap_or_default();
        let mark = call["mark"].as_str().unwrap_or_default().to_owned();
        both(process, &format!("{mark}["));
        for (name, value) in call["envs"].as_object().into_iter().flatten() {
            process.env.insert(name.clone(), value.as_str().unwrap_or_default().to_owned());
        }
        process.todo.push_back(mark);
        let code = call["code"].as_str().unwrap_or_default();
        process.todo.extend(code.lines().map(str::to_owned));
        run(process);
    }
}

/// Ends the call that hangs.
pub(super) fn interrupted(process: &mut FakeProcess) {
    if process.todo.front().is_some() {
        over(process, &json!({ "name": "KeyboardInterrupt", "value": "", "traceback": "" }));
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
            let error = json!({ "name": "ValueError", "value": value, "traceback": traceback });
            return over(process, &error);
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
    over(process, &Value::Null);
}

fn over(process: &mut FakeProcess, error: &Value) {
    let mark = process.todo.pop_front().unwrap_or_default();
    process.todo.clear();
    both(process, &format!("{mark}]"));
    process.print(Stream::Output, format!("{error}\n"));
}

fn both(process: &mut FakeProcess, text: &str) {
    process.print(Stream::Error, text.to_owned());
    process.print(Stream::Output, text.to_owned());
}

fn inside<'a>(line: &'a str, call: &str) -> Option<&'a str> {
    line.strip_prefix(call)?.strip_suffix(')')
}
