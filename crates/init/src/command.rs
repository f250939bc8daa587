//! Starting one command inside the sandbox, and ending it with all that descends from it.

use std::ffi::CString;
use std::fs;
use std::os::fd::{AsFd, OwnedFd};

use crate::numbers;
use crate::protocol::{Run, Stage};
use crate::sys::{self, PipeEnd};

/// A command that was started.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pid: i32,
    /// Reading end of its merged output.
    pub(crate) output: OwnedFd,
    /// Writing end of its standard input.
    pub(crate) input: Option<OwnedFd>,
}

const DEFAULT_PATH: &[u8] = b"/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// Where a shell reads its commands, and reports that one is over. Numbers of one digit, which every shell
/// can redirect, and not the first that scripts choose.
pub(crate) const SCRIPT: i32 = 3;
pub(crate) const STATUS: i32 = 8;

/// Descriptors that a child begins with.
#[derive(Debug)]
pub(crate) struct Streams<'a> {
    pub(crate) input: &'a OwnedFd,
    pub(crate) output: &'a OwnedFd,
    pub(crate) error: &'a OwnedFd,
    /// Of a shell: its script and its status.
    pub(crate) shell: Option<(&'a OwnedFd, &'a OwnedFd)>,
    /// Whether its input is a terminal that it shall control.
    pub(crate) terminal: bool,
}

/// A program in the words of a request.
#[derive(Debug)]
pub(crate) struct Program<'a> {
    pub(crate) run: &'a Run,
    /// Tried in place of the first argument where that is not found.
    pub(crate) others: &'a [Vec<u8>],
    /// Whether it is told that it is a login shell.
    pub(crate) login: bool,
}

/// Starts a command with its output merged.
pub(crate) fn start(
    run: &Run,
    null: &OwnedFd,
    stack: &mut [u128],
) -> Result<Started, (Stage, i32)> {
    let at = |stage: Stage| move |error: std::io::Error| (stage, code(&error));
    let (output, child_output) = sys::pipe(PipeEnd::Read).map_err(at(Stage::Fork))?;
    let (child_input, input) = if run.input {
        let (read, write) = sys::pipe(PipeEnd::Write).map_err(at(Stage::Fork))?;
        (Some(read), Some(write))
    } else {
        (None, None)
    };
    let input_end = child_input.as_ref().unwrap_or(null);
    let (output_end, terminal) = (&child_output, false);
    let streams =
        Streams { input: input_end, output: output_end, error: output_end, shell: None, terminal };
    let pid = spawn(&Program { run, others: &[], login: false }, &streams, stack)?;
    Ok(Started { pid, output, input })
}

/// Starts a child. When it cannot become its program, that is known at once: the child shares this
/// memory and leaves its stage and errno in it. It is reaped like any other child.
pub(crate) fn spawn(
    program: &Program<'_>,
    streams: &Streams<'_>,
    stack: &mut [u128],
) -> Result<i32, (Stage, i32)> {
    let plan = Plan::new(program).ok_or((Stage::Request, 22))?;
    let mut failure = None;
    let pid = sys::vfork(stack, &mut || failure = Some(plan.become_program(streams)))
        .map_err(|error| (Stage::Fork, code(&error)))?;
    failure.map_or(Ok(pid), Err)
}

fn code(error: &std::io::Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}

/// A list of strings as the kernel takes it.
struct Strings {
    /// Keeps alive what `pointers` point at.
    _owned: Vec<CString>,
    pointers: Vec<*const std::ffi::c_char>,
}

impl Strings {
    fn new(list: &[Vec<u8>]) -> Option<Self> {
        let owned =
            list.iter().map(|one| CString::new(one.as_slice()).ok()).collect::<Option<Vec<_>>>()?;
        let pointers = owned.iter().map(|one| one.as_ptr()).chain([std::ptr::null()]).collect();
        Some(Self { _owned: owned, pointers })
    }
}

/// One program to try: where it may be, and its arguments.
struct Choice {
    places: Vec<CString>,
    argv: Strings,
}

impl Choice {
    fn new(program: &[u8], asked: &Program<'_>) -> Option<Self> {
        let run = asked.run;
        let places = if program.contains(&b'/') {
            vec![CString::new(program).ok()?]
        } else {
            let path = run.env.iter().rev().find_map(|entry| entry.strip_prefix(b"PATH="));
            path.unwrap_or(DEFAULT_PATH)
                .split(|byte| *byte == b':')
                .filter(|folder| !folder.is_empty())
                .take(64)
                .map(|folder| CString::new([folder, b"/", program].concat()).ok())
                .collect::<Option<Vec<_>>>()?
        };
        let mut argv = run.argv.clone();
        let name = program.rsplit(|byte| *byte == b'/').next().unwrap_or(program);
        argv[0] = if asked.login { [b"-", name].concat() } else { program.to_vec() };
        Some(Self { places, argv: Strings::new(&argv)? })
    }
}

/// Everything the child needs, made before it exists: it must not allocate.
struct Plan<'a> {
    run: &'a Run,
    cwd: CString,
    choices: Vec<Choice>,
    env: Strings,
}

impl<'a> Plan<'a> {
    fn new(asked: &Program<'a>) -> Option<Self> {
        let run = asked.run;
        let first = run.argv.first()?;
        let choices = std::iter::once(first)
            .chain(asked.others.iter().take(8))
            .map(|program| Choice::new(program, asked))
            .collect::<Option<Vec<_>>>()?;
        let cwd = CString::new(run.cwd.as_slice()).ok()?;
        Some(Self { run, cwd, choices, env: Strings::new(&run.env)? })
    }

    /// Runs in the child. Returns only on failure.
    fn become_program(&self, streams: &Streams<'_>) -> (Stage, i32) {
        const PR_SET_CHILD_SUBREAPER: usize = 36;
        let _ = sys::plain(numbers::SETSID, [0; 4]);
        let _ = sys::block_signals(&[]);
        let _ = sys::set_signal(numbers::SIGPIPE, false);
        if let Err(error) = place_all(streams) {
            return (Stage::Fork, code(&error));
        }
        let run = self.run;
        if (run.uid, run.gid, run.groups.len()) != (0, 0, 0)
            && let Err(error) = sys::become_user(run.uid, run.gid, &run.groups)
        {
            return (Stage::User, code(&error));
        }
        // As the user, so that a folder closed to it stays closed.
        if let Err(error) = sys::enter(&self.cwd) {
            return (Stage::Cwd, code(&error));
        }
        // Orphans below this command come to it and not to process 1, so that a kill finds them all.
        let _ = sys::prctl(PR_SET_CHILD_SUBREAPER, 1);
        (Stage::Exec, self.try_choices())
    }

    fn try_choices(&self) -> i32 {
        const EACCES: i32 = 13;
        const ENOENT: i32 = 2;
        const ENOTDIR: i32 = 20;
        let mut answer = ENOENT;
        for choice in &self.choices {
            for place in &choice.places {
                match code(&sys::exec(place, &choice.argv.pointers, &self.env.pointers)) {
                    ENOENT | ENOTDIR => {}
                    EACCES => answer = EACCES,
                    other => return other,
                }
            }
        }
        answer
    }
}

/// Gives this process exactly its streams.
fn place_all(streams: &Streams<'_>) -> std::io::Result<()> {
    /// Above the numbers that are given out.
    const ASIDE: i32 = 64;
    let aside = |fd: &OwnedFd| sys::copy_above(fd.as_fd(), ASIDE);
    let shell = match streams.shell {
        Some((script, status)) => Some((aside(script)?, aside(status)?)),
        None => None,
    };
    sys::place(streams.input.as_fd(), 0)?;
    sys::place(streams.output.as_fd(), 1)?;
    sys::place(streams.error.as_fd(), 2)?;
    if streams.terminal {
        sys::take_terminal(streams.input.as_fd())?;
    }
    let Some((script, status)) = shell else { return sys::close_from(3) };
    sys::place_number(script, SCRIPT)?;
    sys::place_number(status, STATUS)?;
    sys::close_range(4, 7)?;
    sys::close_from(9)
}

/// Most rounds of looking for processes that were born during a kill.
const KILL_ROUNDS: usize = 64;

/// Kills a command and everything that descends from it. Every process found is stopped first, so that
/// the tree cannot grow behind the search; each round finds what the last one missed.
pub(crate) fn kill_tree(root: i32) {
    let mut found = vec![root];
    let _ = sys::kill(root, numbers::SIGSTOP);
    for _ in 0..KILL_ROUNDS {
        let mut grown = false;
        let mut index = 0;
        while index < found.len() {
            for child in children(found[index]) {
                if !found.contains(&child) {
                    let _ = sys::kill(child, numbers::SIGSTOP);
                    found.push(child);
                    grown = true;
                }
            }
            index += 1;
        }
        if !grown {
            break;
        }
    }
    // The root last: until then orphans keep coming to it.
    for pid in found.into_iter().rev() {
        let _ = sys::kill(pid, numbers::SIGKILL);
    }
}

/// Children of a process, of all its threads.
pub(crate) fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>()
        })
        .collect()
}
