//! Who a name or number is, by the sandbox's own /etc/passwd and /etc/group, which are hostile.
//!
//! The first of several lines wins. The caller bounds the size of both texts.

use std::collections::BTreeMap;

use mayfly_core::{Error, Result};
use mayfly_files::accounts::id;
pub use mayfly_files::accounts::{Group, IDS, User, groups, users};

/// Most supplementary groups a user gets; the rest of its memberships is left out.
const GROUPS: usize = 64;

/// Who a process runs as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// User id inside.
    pub uid: u32,
    /// Group id inside.
    pub gid: u32,
    /// Supplementary group ids inside, ascending, at most 64.
    pub groups: Vec<u32>,
    /// Name, or the number of a user without one; for `USER` and `LOGNAME`.
    pub name: String,
    /// Absolute path of the home; `/` for a number without an account.
    pub home: String,
    /// Absolute path of the shell; `/bin/sh` for a number without an account.
    pub shell: String,
}

impl Identity {
    /// Root without an account: `/root` and `/bin/sh`.
    pub fn root() -> Self {
        Self {
            uid: 0,
            gid: 0,
            groups: Vec::new(),
            name: "root".to_owned(),
            home: "/root".to_owned(),
            shell: "/bin/sh".to_owned(),
        }
    }
}

/// All accounts of a sandbox.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Accounts {
    users: BTreeMap<String, User>,
    groups: BTreeMap<String, Group>,
    user_names: BTreeMap<u32, String>,
    group_names: BTreeMap<u32, String>,
}

impl Accounts {
    /// Reads both texts; anything may be in them.
    pub fn parse(passwd: &[u8], group: &[u8]) -> Self {
        let mut accounts = Self::default();
        for user in users(passwd) {
            accounts.user_names.entry(user.uid).or_insert_with(|| user.name.clone());
            accounts.users.entry(user.name.clone()).or_insert(user);
        }
        for group in groups(group) {
            accounts.group_names.entry(group.gid).or_insert_with(|| group.name.clone());
            accounts.groups.entry(group.name.clone()).or_insert(group);
        }
        accounts
    }

    /// Who `user`, `user:group` is; both parts are names or numbers, names first.
    ///
    /// As in image configurations: a number needs no account and then has group 0; an explicit group
    /// replaces the user's own groups, all of them. [`mayfly_core::Kind::Invalid`] names what is missing.
    pub fn resolve(&self, wanted: &str) -> Result<Identity> {
        let (user, group) = match wanted.split_once(':') {
            Some((user, group)) => (user, Some(group)),
            None => (wanted, None),
        };
        let account = self.user(user);
        let uid = self.user_id(user)?;
        let mut identity = Identity {
            uid,
            gid: account.map_or(0, |account| account.gid),
            groups: account.map(|account| self.groups_of(account)).unwrap_or_default(),
            name: account.map_or_else(|| uid.to_string(), |account| account.name.clone()),
            home: account.map_or("/", |account| &account.home).to_owned(),
            shell: account.map_or("/bin/sh", |account| &account.shell).to_owned(),
        };
        if let Some(group) = group {
            identity.gid = self.group_id(group)?;
            identity.groups.clear();
        }
        Ok(identity)
    }

    /// As [`Accounts::resolve`], but root needs no account: a sandbox that broke its own account files can
    /// still be repaired.
    pub fn identity(&self, wanted: &str) -> Result<Identity> {
        match self.resolve(wanted) {
            Err(_) if wanted == "root" => Ok(Identity::root()),
            found => found,
        }
    }

    /// The id of a user's name, or the number itself.
    pub fn user_id(&self, wanted: &str) -> Result<u32> {
        match self.users.get(wanted) {
            Some(user) => Ok(user.uid),
            None => id(wanted).ok_or_else(|| missing("user", wanted, "/etc/passwd")),
        }
    }

    /// The id of a group's name, or the number itself.
    pub fn group_id(&self, wanted: &str) -> Result<u32> {
        match self.groups.get(wanted) {
            Some(group) => Ok(group.gid),
            None => id(wanted).ok_or_else(|| missing("group", wanted, "/etc/group")),
        }
    }

    /// The name of a user id, where it has one.
    pub fn user_name(&self, uid: u32) -> Option<&str> {
        self.user_names.get(&uid).map(String::as_str)
    }

    /// The name of a group id, where it has one.
    pub fn group_name(&self, gid: u32) -> Option<&str> {
        self.group_names.get(&gid).map(String::as_str)
    }

    fn user(&self, wanted: &str) -> Option<&User> {
        let by_number = || self.users.get(self.user_names.get(&id(wanted)?)?);
        self.users.get(wanted).or_else(by_number)
    }

    fn groups_of(&self, user: &User) -> Vec<u32> {
        let member = |group: &&Group| group.members.contains(&user.name) && group.gid != user.gid;
        let mut ids: Vec<_> = self.groups.values().filter(member).map(|group| group.gid).collect();
        ids.sort_unstable();
        ids.dedup();
        ids.truncate(GROUPS);
        ids
    }
}

fn missing(what: &str, wanted: &str, file: &str) -> Error {
    let wanted: String = wanted.chars().take(64).collect();
    Error::invalid(format!("{what} `{wanted}` does not exist in the sandbox"))
        .with_hint(format!("name a {what} from its {file}, or a number below {IDS}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PASSWD: &[u8] = b"root:x:0:0:root:/root:/bin/bash\n\
        broken line\n\
        ada:x:1000:1000:Ada,,,:/home/ada:/bin/zsh\n\
        ada:x:0:0::/root:/bin/sh\n\
        high:x:65536:0::/:/bin/sh\n\
        plus:x:+7:0::/:/bin/sh\n\
        bare:x:7:7::relative:\n\
        \xff\xfe:x:8:8::/:/bin/sh\n\
        +::::::\n\
        1000:x:55:55::/fifty:/bin/sh";
    const GROUP: &[u8] =
        b"root:x:0:\nada:x:1000:ada\nwheel:x:10:bare,ada\nvideo:x:9:ada\nbig:x:70000:ada\n";

    fn resolve(wanted: &str) -> Result<Identity> {
        Accounts::parse(PASSWD, GROUP).resolve(wanted)
    }

    #[test]
    fn a_name_has_its_ids_groups_home_and_shell() {
        let ada = resolve("ada").unwrap();
        let expected = Identity {
            uid: 1000,
            gid: 1000,
            groups: vec![9, 10],
            name: "ada".into(),
            home: "/home/ada".into(),
            shell: "/bin/zsh".into(),
        };
        assert_eq!(ada, expected);
    }

    #[test]
    fn numbers_and_groups_resolve_as_in_image_configurations() {
        let cases = [
            ("0", 0, 0, "/root", "/bin/bash"),
            ("1000", 55, 55, "/fifty", "/bin/sh"),
            ("4242", 4242, 0, "/", "/bin/sh"),
            ("bare", 7, 7, "/", "/bin/sh"),
            ("ada:wheel", 1000, 10, "/home/ada", "/bin/zsh"),
            ("ada:77", 1000, 77, "/home/ada", "/bin/zsh"),
            ("65535:65535", 65535, 65535, "/", "/bin/sh"),
        ];
        for (wanted, uid, gid, home, shell) in cases {
            let found = resolve(wanted).unwrap();
            assert_eq!((found.uid, found.gid), (uid, gid), "{wanted}");
            assert_eq!((found.home.as_str(), found.shell.as_str()), (home, shell), "{wanted}");
        }
        assert!(resolve("ada:wheel").unwrap().groups.is_empty());
    }

    #[test]
    fn what_does_not_exist_is_named() {
        let wrong = [
            "", ":", "nobody", "high", "65536", "plus", "+7", "-1", "ada:", "ada:big", "0:no",
            "a:b:c",
        ];
        for wanted in wrong {
            let error = resolve(wanted).unwrap_err();
            assert_eq!(error.kind(), mayfly_core::Kind::Invalid, "{wanted}");
            assert!(error.hint().is_some_and(|hint| hint.contains("/etc/")), "{wanted}");
        }
        assert!(resolve("nobody").unwrap_err().message().contains("user `nobody`"));
        assert!(resolve("ada:big").unwrap_err().message().contains("group `big`"));
    }

    #[test]
    fn ids_have_the_first_name_that_the_file_gives_them() {
        let accounts = Accounts::parse(PASSWD, GROUP);
        assert_eq!(accounts.user_name(0), Some("root"));
        assert_eq!(accounts.user_name(65536), None);
        assert_eq!(accounts.group_name(9), Some("video"));
    }

    proptest! {
        #[test]
        fn no_text_panics_or_gives_an_id_out_of_range(
            passwd in "([a-c:0-9/+\\n,\\-]|\\PC){0,200}",
            group in proptest::collection::vec(any::<u8>(), 0..200),
            wanted in "[a-c0-9]{0,6}(:[a-c0-9]{0,6})?",
        ) {
            let accounts = Accounts::parse(passwd.as_bytes(), &group);
            let _ = Accounts::parse(&group, passwd.as_bytes()).resolve(&wanted);
            if let Ok(found) = accounts.resolve(&wanted) {
                prop_assert!(found.uid < IDS && found.gid < IDS);
                prop_assert!(found.groups.len() <= GROUPS && found.groups.iter().all(|id| *id < IDS));
                prop_assert!(found.home.starts_with('/') && found.shell.starts_with('/'));
            }
        }
    }
}
