//! Lines of a sandbox's own /etc/passwd and /etc/group, which are hostile text.
//!
//! Lines that make no sense are skipped, as C libraries do. The caller bounds the size of both texts, and
//! takes the first of several lines with one name or id.

use std::str::from_utf8;

/// Ids inside a sandbox are below this; its user namespace maps no more.
pub const IDS: u32 = 65_536;

/// Longest home or shell path that is believed, in bytes.
const PATH: usize = 4095;

/// One line of /etc/passwd.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// Its name.
    pub name: String,
    /// Its id, below [`IDS`].
    pub uid: u32,
    /// Its first group, below [`IDS`].
    pub gid: u32,
    /// Absolute path of its home; `/` where the file names none.
    pub home: String,
    /// Absolute path of its shell; `/bin/sh` where the file names none.
    pub shell: String,
}

/// One line of /etc/group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its name.
    pub name: String,
    /// Its id, below [`IDS`].
    pub gid: u32,
    /// Names of the users in it, besides those who have it as first group.
    pub members: Vec<String>,
}

/// The users of an /etc/passwd, in its order.
pub fn users(passwd: &[u8]) -> impl Iterator<Item = User> + '_ {
    lines(passwd).filter_map(|line| {
        let [name, _, uid, gid, _, home, shell] = fields(line)?;
        let path = |text: &str, instead: &str| {
            let sound = text.starts_with('/') && text.len() <= PATH;
            if sound { text.to_owned() } else { instead.to_owned() }
        };
        Some(User {
            name: account_name(name)?,
            uid: id(uid)?,
            gid: id(gid)?,
            home: path(home, "/"),
            shell: path(shell, "/bin/sh"),
        })
    })
}

/// The groups of an /etc/group, in its order.
pub fn groups(group: &[u8]) -> impl Iterator<Item = Group> + '_ {
    lines(group).filter_map(|line| {
        let [name, _, gid, members] = fields(line)?;
        let members = members.split(',').filter_map(account_name).collect();
        Some(Group { name: account_name(name)?, gid: id(gid)?, members })
    })
}

fn lines(text: &[u8]) -> impl Iterator<Item = &str> {
    text.split(|byte| *byte == b'\n').filter_map(|line| from_utf8(line).ok())
}

fn fields<const COUNT: usize>(line: &str) -> Option<[&str; COUNT]> {
    let mut fields = line.split(':');
    let mut array = [""; COUNT];
    for field in &mut array {
        *field = fields.next()?;
    }
    fields.next().is_none().then_some(array)
}

/// Names may be anything printable, but not the `+` and `-` lines of old network directories.
fn account_name(text: &str) -> Option<String> {
    let sound = !text.is_empty()
        && text.len() <= 256
        && !text.starts_with(['+', '-', '#'])
        && !text.contains(|sign: char| sign.is_control() || sign.is_whitespace());
    sound.then(|| text.to_owned())
}

/// A number that is an id inside a sandbox.
pub fn id(text: &str) -> Option<u32> {
    let digits = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|id| digits && *id < IDS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_makes_no_sense_is_passed_over() {
        let text = b"root:x:0:0::/root:/bin/sh\n\nbroken\n:x:5:5::/:\n+::::::\nhigh:x:65536:0::/:\n\xff:x:7:7::/:\nbare:x:7:7::relative:";
        let found: Vec<_> = users(text).map(|user| (user.name, user.uid, user.home)).collect();
        let expected =
            [("root".to_owned(), 0, "/root".to_owned()), ("bare".to_owned(), 7, "/".to_owned())];
        assert_eq!(found, expected);
        let found: Vec<_> = groups(b"wheel:x:10:ada,,bob\nx:y\n").collect();
        let members = vec!["ada".to_owned(), "bob".to_owned()];
        assert_eq!(found, [Group { name: "wheel".into(), gid: 10, members }]);
    }
}
