//! What the attributes refuse, as a program's author sees it: the compiler's message and the line that it points to.

use std::path::PathBuf;
use std::process::Command;

/// The attributes as a compiled library, which stands beside this test.
fn library() -> PathBuf {
    let folder = std::env::current_exe().unwrap().parent().unwrap().to_owned();
    let is_ours = |path: &PathBuf| {
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        name.starts_with("libmayfly_flow_macros-") && name.ends_with(std::env::consts::DLL_SUFFIX)
    };
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let changed = |path: &PathBuf| path.metadata().unwrap().modified().unwrap();
    files.filter(is_ours).max_by_key(changed).expect("the library is built before its tests")
}

/// Compiles and expects an error of the attribute, at the line.
fn refused(source: &str, message: &str, line: usize) {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("program.rs");
    std::fs::write(&file, source).unwrap();
    let rustc = std::env::var("RUSTC").unwrap_or_else(|_| "rustc".to_owned());
    let output = Command::new(rustc)
        .args(["--edition", "2024", "--crate-type", "lib", "--emit", "metadata", "--out-dir"])
        .arg(folder.path())
        .arg("--extern")
        .arg(format!("mayfly_flow_macros={}", library().display()))
        .arg(&file)
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(!output.status.success(), "it compiles:\n{source}");
    assert!(told.contains(&format!("error: {message}")), "{told}\nexpected: {message}");
    assert!(told.contains(&format!("program.rs:{line}:")), "{told}\nexpected line {line}");
}

#[test]
fn agents_that_are_none_are_refused_with_the_forms_that_are() {
    let cases = [
        ("#[task_agent]\nfn work(task: u8) -> u8 { task }", "a task agent is an `async fn", 3),
        ("#[task_agent]\nasync fn work() -> u8 { 0 }", "a task agent is an `async fn", 2),
        ("#[task_agent]\nasync fn work(a: u8, b: u8, c: u8) -> u8 { 0 }", "a task agent is", 3),
        ("#[task_agent]\nasync fn work(task: u8) {}", "it returns nothing; a task agent is", 3),
        ("#[task_agent]\nasync fn work<T>(task: T) -> u8 { 0 }", "a task agent has no type", 3),
        (
            "#[task_agent(title = \"x\")]\nasync fn work(task: u8) -> u8 { 0 }",
            "unknown argument `title`; expected one of name, description, input_schema, output_schema",
            2,
        ),
        (
            "#[task_agent(name = \"\")]\nasync fn work(task: u8) -> u8 { 0 }",
            "`name` is empty; tasks call an agent by its name",
            2,
        ),
        (
            "#[task_agent(input_schema = \"{\")]\nasync fn work(task: u8) -> u8 { 0 }",
            "`input_schema` is not JSON",
            2,
        ),
        (
            "#[task_agent(output_schema = \"5\")]\nasync fn work(task: u8) -> u8 { 0 }",
            "`output_schema` must be a JSON Schema: an object",
            2,
        ),
    ];
    for (source, message, line) in cases {
        refused(&format!("use mayfly_flow_macros::task_agent;\n{source}\n"), message, line);
    }
}

#[test]
fn actions_that_are_none_are_refused_with_the_form_that_is() {
    let cases = [
        ("#[action]\nfn work(input: u8) -> u8 { input }", "an action is an `async fn(Value)", 3),
        ("#[action]\nasync fn work() -> u8 { 0 }", "an action takes one parameter", 2),
        ("#[action]\nasync fn work(input: u8) {}", "an action returns a `Result<Value>`", 3),
        (
            "#[action(name = 5)]\nasync fn work(input: u8) -> u8 { 0 }",
            "`name` takes a text, such as name = \"...\"",
            2,
        ),
        (
            "#[action(name = \"a\", name = \"b\")]\nasync fn work(input: u8) -> u8 { 0 }",
            "`name` is given twice",
            2,
        ),
        (
            "#[action(input_schema = \"[\")]\nasync fn work(input: u8) -> u8 { 0 }",
            "`input_schema` is not JSON",
            2,
        ),
    ];
    for (source, message, line) in cases {
        refused(&format!("use mayfly_flow_macros::action;\n{source}\n"), message, line);
    }
}

#[test]
fn subscribers_that_are_none_are_refused_with_the_form_that_is() {
    let cases = [
        (
            "#[pubsub_agent(subscribe = \"a\")]\nfn agent(message: u8) -> u8 { message }",
            "an agent is an `async fn(Message) -> Result<T>`",
            3,
        ),
        (
            "#[pubsub_agent(publish = \"b\")]\nasync fn agent(message: u8) -> u8 { 0 }",
            "an agent needs `subscribe = \"channel, another\"`",
            3,
        ),
        (
            "#[pubsub_agent(subscribe = \"a\", input_schema = \"{type: object}\")]\nasync fn agent(message: u8) -> u8 { 0 }",
            "`input_schema` is not JSON",
            2,
        ),
        (
            "#[pubsub_agent(subscribes = \"a\")]\nasync fn agent(message: u8) -> u8 { 0 }",
            "unknown argument `subscribes`; expected one of subscribe, publish, name",
            2,
        ),
    ];
    for (source, message, line) in cases {
        refused(&format!("use mayfly_flow_macros::pubsub_agent;\n{source}\n"), message, line);
    }
}
