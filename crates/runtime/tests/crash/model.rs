//! What the test knows of each sandbox from acknowledged calls.

use mayfly_core::id::SandboxId;

use crate::dice::Dice;
use crate::load::rootless;

/// State after the last acknowledged call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Absent,
    Stopped,
    /// With the pid of process 1.
    Running(i32),
    Frozen(i32),
}

/// One sandbox.
#[derive(Debug)]
pub(crate) struct Known {
    pub(crate) id: SandboxId,
    pub(crate) state: State,
    /// A call was under way when something was killed: any state that it could lead to is right.
    pub(crate) unsure: bool,
    /// Inside pids of background processes of this life.
    pub(crate) daemons: Vec<String>,
    /// Log and exit code of the last acknowledged command.
    pub(crate) last: Option<(String, String)>,
}

/// A call that is under way.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) verb: &'static str,
    pub(crate) order: String,
}

impl Known {
    pub(crate) fn new(dice: &mut Dice) -> Self {
        let uuid = uuid::Builder::from_random_bytes(dice.bytes()).into_uuid();
        Self {
            id: SandboxId::from_uuid(uuid),
            state: State::Absent,
            unsure: false,
            daemons: Vec::new(),
            last: None,
        }
    }

    /// A call that its state allows.
    pub(crate) fn choose(&self, dice: &mut Dice) -> Call {
        let choices: &[(&str, &str)] = match self.state {
            State::Absent => &[("create", "")],
            State::Stopped => &[("start", ""), ("start", ""), ("resize", "2"), ("destroy", "")],
            State::Frozen(_) => &[("thaw", ""), ("thaw", ""), ("stop", "0"), ("destroy", "")],
            State::Running(_) => &[
                ("exec", "echo said; exit 3"),
                ("exec", "head -c 200000 /dev/zero | tr '\\0' x"),
                ("daemon", "sleep 3600 >/dev/null 2>&1 & echo $!"),
                ("stop", "50"),
                ("freeze", ""),
                ("resize", "1"),
                ("destroy", ""),
            ],
        };
        let (verb, argument) = match choices[dice.below(choices.len())] {
            // An ordinary user has no freezer.
            ("freeze", _) if rootless() => ("exec", "true"),
            choice => choice,
        };
        let spoken = if verb == "daemon" { "exec" } else { verb };
        Call { verb, order: format!("{spoken} {} {argument}", self.id) }
    }

    /// Takes in that a call succeeded.
    pub(crate) fn acknowledge(&mut self, verb: &str, answer: &str) {
        let pid = || answer.parse().unwrap();
        match (verb, self.state) {
            ("create" | "start", _) => {
                self.state = State::Running(pid());
                self.daemons.clear();
            }
            ("stop", _) => self.state = State::Stopped,
            ("destroy", _) => self.state = State::Absent,
            ("freeze", State::Running(pid)) => self.state = State::Frozen(pid),
            ("thaw", State::Frozen(pid)) => self.state = State::Running(pid),
            ("exec" | "daemon", _) => {
                let mut parts = answer.split(' ');
                let (process, code) = (parts.next().unwrap(), parts.next().unwrap());
                self.last = Some((process.to_owned(), code.to_owned()));
                if verb == "daemon" {
                    self.daemons.push(parts.next().unwrap().to_owned());
                }
            }
            _ => {}
        }
    }

    /// Compares with what a server observes; takes it over where anything is right.
    pub(crate) fn compare(&mut self, observed: State) {
        if std::mem::take(&mut self.unsure) {
            if observed != self.state {
                self.daemons.clear();
                self.last = None;
            }
            self.state = observed;
        }
        assert_eq!(self.state, observed, "{self:?}");
        if observed == State::Absent {
            self.daemons.clear();
            self.last = None;
        }
    }
}
