//! Running git: one script around it, its output and its complaints kept apart.

use std::collections::BTreeMap;

use bytes::Bytes;
use mayfly_core::process::ExecRequest;
use mayfly_core::{Error, Kind, Result};

use super::secret::Login;
use super::{Git, faults};

/// Most bytes of an answer of git, such as a status or a list.
const MAX_OUTPUT: usize = 8 << 20;
/// Most bytes of what git says beside its output; the last ones are kept.
const MAX_SAID: usize = 16_384;
/// The exit code that says that there is no git.
const ABSENT: i32 = 127;

/// `$1` is how much of standard error to keep, `$2` the repository or nothing, the rest is for git.
///
/// Output goes through as it comes; then follow the exit code on a line of its own, the last bytes of standard
/// error, and after a space the length of both. `tail` writes at the end of all that hold standard error, which
/// may be later than git's own end, so the code comes first. In the C locale lengths are in bytes.
///
/// ssh must never ask: it fails instead, and takes a host's key at first sight, as there is nobody to show it
/// to, but never a changed one. Whoever wants it otherwise says so in `core.sshCommand` or `GIT_SSH_COMMAND`:
/// of an option given twice, ssh takes the first.
const SCRIPT: &str = r#"
command -v git >/dev/null 2>&1 || exit 127
keep=$1 folder=$2; shift 2
if [ -z "${GIT_SSH_COMMAND-}" ] && [ -z "${GIT_SSH-}" ]; then
  GIT_SSH_COMMAND=$(git ${folder:+-C "$folder"} config --get core.sshCommand 2>/dev/null)
  GIT_SSH_COMMAND=${GIT_SSH_COMMAND:-ssh}
fi
if [ -n "${GIT_SSH_COMMAND-}" ]; then
  export GIT_SSH_COMMAND="$GIT_SSH_COMMAND -o BatchMode=yes -o StrictHostKeyChecking=accept-new"
fi
exec 3>&1
said=$({ { git ${folder:+-C "$folder"} "$@" 2>&1 >&3 3>&- 4>&-; printf '%d\n' "$?" >&4; } | tail -c "$keep"; } 4>&1)
printf '%s %d' "$said" "${#said}"
"#;

/// The same without ssh, for what stays inside the repository.
const LOCAL_SCRIPT: &str = r#"
command -v git >/dev/null 2>&1 || exit 127
keep=$1 folder=$2; shift 2
exec 3>&1
said=$({ { git ${folder:+-C "$folder"} "$@" 2>&1 >&3 3>&- 4>&-; printf '%d\n' "$?" >&4; } | tail -c "$keep"; } 4>&1)
printf '%s %d' "$said" "${#said}"
"#;

/// Settings of every run. The caller named the repository, so whose files it has says nothing; helpers that
/// are programs in a URL's place are off whatever the repository says.
const SETTINGS: &[(&str, &str)] = &[
    ("safe.directory", "*"),
    ("protocol.ext.allow", "never"),
    ("color.ui", "false"),
    ("core.pager", "cat"),
    ("advice.detachedHead", "false"),
];

/// One run of git, as it is put together.
#[derive(Debug)]
pub(super) struct Call<'a> {
    verb: &'static str,
    repository: Option<&'a str>,
    arguments: Vec<String>,
    settings: Vec<(String, String)>,
    env: BTreeMap<String, String>,
    input: Bytes,
    login: Option<&'a Login>,
    far: bool,
}

/// How a run ended.
#[derive(Debug)]
pub(super) struct Done {
    /// What git was asked to do, for messages.
    pub(super) verb: &'static str,
    /// Exit code.
    pub(super) code: i32,
    /// Standard output.
    pub(super) output: Bytes,
    /// The end of standard error.
    pub(super) said: String,
    /// Whether output was cut at its limit; the rest then lacks.
    pub(super) cut: bool,
}

impl<'a> Call<'a> {
    /// git with these arguments; `verb` is the word that errors and logs name it by.
    pub(super) fn new(verb: &'static str, arguments: &[&str]) -> Self {
        Self {
            verb,
            repository: None,
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            settings: Vec::new(),
            env: BTreeMap::new(),
            input: Bytes::new(),
            login: None,
            far: false,
        }
    }

    /// Works on the repository at this path.
    pub(super) fn at(mut self, path: &'a str) -> Self {
        self.repository = Some(path);
        self
    }

    /// Adds arguments.
    pub(super) fn and(mut self, arguments: &[&str]) -> Self {
        self.arguments.extend(arguments.iter().map(|&argument| argument.to_owned()));
        self
    }

    /// Adds arguments if that holds.
    pub(super) fn and_if(self, holds: bool, arguments: &[&str]) -> Self {
        if holds { self.and(arguments) } else { self }
    }

    /// A setting for this run only.
    pub(super) fn with(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.settings.push((key.into(), value.into()));
        self
    }

    /// A variable for this run only.
    pub(super) fn env(mut self, key: &str, value: &str) -> Self {
        self.env.insert(key.to_owned(), value.to_owned());
        self
    }

    /// Bytes on standard input.
    pub(super) fn input(mut self, input: impl Into<Bytes>) -> Self {
        self.input = input.into();
        self
    }

    /// Reads paths from standard input, so that neither their number nor their letters matter.
    pub(super) fn paths(self, paths: &[String]) -> Self {
        self.and(&["--pathspec-from-file=-", "--pathspec-file-nul"]).input(paths.join("\0"))
    }

    /// May talk to another host.
    pub(super) fn far(mut self, login: Option<&'a Login>) -> Self {
        self.far = true;
        self.login = login;
        self
    }

    fn into_request(self, timeout: std::time::Duration) -> ExecRequest {
        let script = if self.far { SCRIPT } else { LOCAL_SCRIPT };
        let keep = MAX_SAID.to_string();
        let words = ["/bin/sh", "-c", script, "git", &keep, self.repository.unwrap_or_default()];
        let mut argv: Vec<String> = words.into_iter().map(str::to_owned).collect();
        argv.extend(self.arguments);
        let mut env = self.env;
        let mut settings = self.settings;
        if let Some(login) = self.login {
            login.lend(&mut settings, &mut env);
        }
        let fixed = SETTINGS.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        for (index, (key, value)) in fixed.chain(settings).enumerate() {
            env.insert(format!("GIT_CONFIG_KEY_{index}"), key);
            env.insert(format!("GIT_CONFIG_VALUE_{index}"), value);
            env.insert("GIT_CONFIG_COUNT".to_owned(), (index + 1).to_string());
        }
        for (key, value) in [
            ("LC_ALL", "C"),
            ("LANGUAGE", ""),
            ("GIT_TERMINAL_PROMPT", "0"),
            ("GIT_ASKPASS", ""),
            ("SSH_ASKPASS", ""),
            ("SSH_ASKPASS_REQUIRE", "never"),
            ("GIT_EDITOR", ":"),
            ("GIT_PAGER", "cat"),
            ("GIT_OPTIONAL_LOCKS", "0"),
            ("GIT_LITERAL_PATHSPECS", "1"),
        ] {
            env.insert(key.to_owned(), value.to_owned());
        }
        ExecRequest {
            argv,
            // Kept on disk and shown: no argument of the caller belongs there.
            title: format!("git {}", self.verb),
            cwd: None,
            env,
            stdin: self.input,
            timeout,
            max_output: MAX_OUTPUT + MAX_SAID + 64,
        }
    }
}

impl Git<'_> {
    /// Runs it, whatever its exit code is.
    pub(super) async fn run(&self, call: Call<'_>) -> Result<Done> {
        let verb = call.verb;
        let outcome = self.reach.exec(call.into_request(self.timeout)).await?;
        if outcome.exit_code == ABSENT && outcome.output.is_empty() {
            return Err(absent());
        }
        let (output, code, said) = if outcome.truncated {
            // The end is lost, and with it the exit code: the callers that can use a part say so.
            (outcome.output.slice(..MAX_OUTPUT), 0, String::new())
        } else {
            split(&outcome.output).ok_or_else(|| unreadable(verb))?
        };
        Ok(Done { verb, code, output, said, cut: outcome.truncated })
    }

    /// Runs it and wants exit code 0 and the whole output.
    pub(super) async fn must(&self, call: Call<'_>) -> Result<Done> {
        let done = self.run(call).await?;
        done.ok()
    }
}

impl Done {
    /// Itself, or the error that git's failure means.
    pub(super) fn ok(self) -> Result<Self> {
        if self.cut {
            let message =
                format!("git {}: the answer is longer than {MAX_OUTPUT} bytes", self.verb);
            return Err(Error::invalid(message).with_hint("run git in the sandbox instead"));
        }
        if self.code == 0 { Ok(self) } else { Err(faults::error(&self)) }
    }

    /// Output as text, what is not UTF-8 replaced.
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.output).into_owned()
    }

    /// The fields of a list, each ended by NUL.
    pub(super) fn fields(&self) -> impl Iterator<Item = String> + '_ {
        let body = self.output.strip_suffix(b"\0").unwrap_or(&self.output);
        let is_empty = self.output.is_empty();
        let fields = body.split(|byte| *byte == 0);
        fields.filter(move |_| !is_empty).map(|field| String::from_utf8_lossy(field).into_owned())
    }
}

fn absent() -> Error {
    Error::new(Kind::Unsupported, "git is not supported by this sandbox: its image has no git")
        .with_hint("use a snapshot whose image has the program git")
}

fn unreadable(verb: &str) -> Error {
    Error::invalid(format!("git {verb}: the sandbox's shell gave an answer that makes no sense"))
}

/// Output, exit code and what was said, from what the script wrote. Nothing in it is believed beyond its bounds.
pub(super) fn split(whole: &Bytes) -> Option<(Bytes, i32, String)> {
    let space = whole.iter().rposition(|byte| *byte == b' ')?;
    let number = |bytes: &[u8]| std::str::from_utf8(bytes).ok()?.parse::<usize>().ok();
    let from = space.checked_sub(number(&whole[space + 1..])?)?;
    let said = &whole[from..space];
    let (code, said) = match said.iter().position(|byte| *byte == b'\n') {
        Some(line) => (&said[..line], &said[line + 1..]),
        None => (said, &[][..]),
    };
    let code = i32::try_from(number(code)?).ok()?;
    let said = String::from_utf8_lossy(said).into_owned();
    Some((whole.slice(..from), code, said))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts(whole: &'static [u8]) -> Option<(Vec<u8>, i32, String)> {
        split(&Bytes::from_static(whole)).map(|(output, code, said)| (output.to_vec(), code, said))
    }

    #[test]
    fn output_and_complaints_come_apart() {
        let of = |output: &[u8], code, said: &str| Some((output.to_vec(), code, said.to_owned()));
        assert_eq!(parts(b"out\0put\n0\nwarn: x 9"), of(b"out\0put\n", 0, "warn: x"));
        assert_eq!(parts(b"out\0put\n0 1"), of(b"out\0put\n", 0, ""));
        assert_eq!(parts(b"a 1128\nfatal: no 1 15"), of(b"a 1", 128, "fatal: no 1"));
        assert_eq!(parts(b"1 1"), of(b"", 1, ""));
    }

    #[test]
    fn what_a_hostile_shell_writes_is_refused() {
        for whole in
            [&b""[..], b"x", b" ", b"0 99", b"0 -1", b"0 18446744073709551616", b"x 1", b"0 0"]
        {
            assert_eq!(split(&Bytes::copy_from_slice(whole)), None, "{whole:?}");
        }
    }
}
