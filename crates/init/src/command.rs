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

/// Starts a command. When it cannot become its program, that is known at once: the child shares this
/// memory and leaves its stage and errno in it. It is reaped like any other child.
pub(crate) fn start(
    run: &Run,
    null: &OwnedFd,
    stack: &mut [u128],
) -> Result<Started, (Stage, i32)> {
    let at = |stage: Stage| move |error: std::io::Error| (stage, code(&error));
    let plan = Plan::new(run).ok_or((Stage::Request, 22))?;
    let (output, child_output) = sys::pipe(PipeEnd::Read).map_err(at(Stage::Fork))?;
    let (child_input, input) = if run.input {
        let (read, write) = sys::pipe(PipeEnd::Write).map_err(at(Stage::Fork))?;
        (Some(read), Some(write))
    } else {
        (None, None)
    };
    let mut failure = None;
    let child_input = child_input.as_ref().unwrap_or(null);
    let pid =
        sys::vfork(stack, &mut || failure = Some(plan.become_program(child_input, &child_output)))
            .map_err(at(Stage::Fork))?;
    match failure {
        Some(failure) => Err(failure),
        None => Ok(Started { pid, output, input }),
    }
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

/// Everything the child needs, made before it exists: it must not allocate.
struct Plan<'a> {
    run: &'a Run,
    cwd: CString,
    candidates: Vec<CString>,
    argv: Strings,
    env: Strings,
}

impl<'a> Plan<'a> {
    fn new(run: &'a Run) -> Option<Self> {
        let program = run.argv.first()?;
        let candidates = if program.contains(&b'/') {
            vec![CString::new(program.as_slice()).ok()?]
        } else {
            let path = run.env.iter().rev().find_map(|entry| entry.strip_prefix(b"PATH="));
            path.unwrap_or(DEFAULT_PATH)
                .split(|byte| *byte == b':')
                .filter(|folder| !folder.is_empty())
                .take(64)
                .map(|folder| CString::new([folder, b"/", program].concat()).ok())
                .collect::<Option<Vec<_>>>()?
        };
        let cwd = CString::new(run.cwd.as_slice()).ok()?;
        Some(Self {
            run,
            cwd,
            candidates,
            argv: Strings::new(&run.argv)?,
            env: Strings::new(&run.env)?,
        })
    }

    /// Runs in the child. Returns only on failure.
    fn become_program(&self, input: &OwnedFd, output: &OwnedFd) -> (Stage, i32) {
        const PR_SET_CHILD_SUBREAPER: usize = 36;
        let _ = sys::plain(numbers::SETSID, [0; 4]);
        let _ = sys::block_signals(&[]);
        let _ = sys::set_signal(numbers::SIGPIPE, false);
        let placed = sys::place(input.as_fd(), 0)
            .and_then(|()| sys::place(output.as_fd(), 1))
            .and_then(|()| sys::place(output.as_fd(), 2))
            .and_then(|()| sys::close_from(3));
        if let Err(error) = placed {
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
        (Stage::Exec, self.try_candidates())
    }

    fn try_candidates(&self) -> i32 {
        const EACCES: i32 = 13;
        const ENOENT: i32 = 2;
        const ENOTDIR: i32 = 20;
        let mut answer = ENOENT;
        for candidate in &self.candidates {
            match code(&sys::exec(candidate, &self.argv.pointers, &self.env.pointers)) {
                ENOENT | ENOTDIR => {}
                EACCES => answer = EACCES,
                other => return other,
            }
        }
        answer
    }
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

fn children(pid: i32) -> Vec<i32> {
    let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return Vec::new() };
    threads
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|list| {
            list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<i32>>()
        })
        .collect()
}
