//! The commits of a repository.

use mayfly_core::time::Timestamp;
use mayfly_core::{Error, Result};

use super::run::Call;
use super::{Git, names};

/// Most commits in an answer.
const MAX_COMMITS: usize = 10_000;
/// Fields of one commit.
const FIELDS: usize = 5;

/// A commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Commit {
    /// Its hash.
    pub hash: String,
    /// Name of its author.
    pub author: String,
    /// Address of its author.
    pub email: String,
    /// Its message without the line feed at the end.
    pub message: String,
    /// When its author made it.
    pub at: Timestamp,
}

impl Git<'_> {
    /// Commits behind what is checked out, newest first: the newest 10,000, or fewer when their messages are
    /// longer than 8 MiB together.
    pub async fn history(&self, path: &str) -> Result<Vec<Commit>> {
        names::path("path", path)?;
        let head = ["rev-parse", "--verify", "--quiet", "HEAD"];
        let done = self.run(Call::new("history", &head).at(path)).await?;
        if done.code == 1 {
            return Ok(Vec::new());
        }
        done.ok()?;
        let max = format!("--max-count={MAX_COMMITS}");
        let list = [
            "log",
            "-z",
            &max,
            "--no-color",
            "--no-show-signature",
            "--no-notes",
            "--encoding=UTF-8",
            "--format=%H%x00%an%x00%ae%x00%at%x00%B",
            "HEAD",
            "--",
        ];
        let done = self.run(Call::new("history", &list).at(path)).await?;
        let is_cut = done.cut;
        let done = if is_cut { done } else { done.ok()? };
        let fields: Vec<String> = done.fields().collect();
        parse(&fields, is_cut)
    }
}

/// Five fields per commit; of a list that was cut, the last commit is not whole.
fn parse(fields: &[String], is_cut: bool) -> Result<Vec<Commit>> {
    let (whole, rest) = fields.as_chunks::<FIELDS>();
    if !rest.is_empty() && !is_cut {
        return Err(Error::invalid("git history: the sandbox's git gave a list of no known form"));
    }
    let whole = if is_cut && rest.is_empty() {
        whole.split_last().map_or(whole, |(_, whole)| whole)
    } else {
        whole
    };
    let commits = whole.iter().map(|[hash, author, email, seconds, message]| Commit {
        hash: hash.clone(),
        author: author.clone(),
        email: email.clone(),
        message: message.trim_end_matches('\n').to_owned(),
        at: Timestamp(seconds.parse::<i64>().unwrap_or_default().saturating_mul(1000)),
    });
    Ok(commits.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, is_cut: bool) -> Result<Vec<Commit>> {
        let fields: Vec<String> = text.split('|').map(str::to_owned).collect();
        parse(&fields, is_cut)
    }

    #[test]
    fn messages_of_any_form_and_times_of_any_size() {
        let found = read("h1|Ü \"q\"|a@b|1700000000|one\n\ntwo\n|h2|||-5|", false).unwrap();
        let first = Commit {
            hash: "h1".into(),
            author: "Ü \"q\"".into(),
            email: "a@b".into(),
            message: "one\n\ntwo".into(),
            at: Timestamp(1_700_000_000_000),
        };
        assert_eq!(found[0], first);
        assert_eq!((found[1].at, found[1].message.as_str()), (Timestamp(-5000), ""));
        assert_eq!(read("h|a|e|9223372036854775807|m", false).unwrap()[0].at, Timestamp(i64::MAX));
        assert_eq!(read("h|a|e|x|m", false).unwrap()[0].at, Timestamp(0));
    }

    #[test]
    fn a_list_that_was_cut_loses_its_last_commit() {
        assert_eq!(read("h|a|e|1|m|h2|a", true).unwrap().len(), 1);
        assert_eq!(read("h|a|e|1|m|h2|a|e|2|par", true).unwrap().len(), 1);
        assert!(read("h|a|e|1|m|h2|a", false).is_err());
    }
}
