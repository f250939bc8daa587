//! User name and password of one call, and the URL they are for.

use std::collections::BTreeMap;
use std::fmt;

use mayfly_core::{Error, Result};

use super::names;

/// Answers git's question for a password from the environment, for one host only: a redirect or a submodule
/// elsewhere gets nothing. Asked to store or erase, it does nothing.
const HELPER: &str = r#"!f() {
test "$1" = get || exit 0
while IFS='=' read -r key value; do
case $key in protocol) p=$value;; host) h=$value;; esac
done
test "$p://$h" = "$MAYFLY_GIT_PLACE" || exit 0
printf 'username=%s\npassword=%s\n' "$MAYFLY_GIT_USER" "$MAYFLY_GIT_PASSWORD"
}; f"#;

/// User name and password for one call to a remote; never stored.
#[derive(Clone, PartialEq, Eq)]
pub struct Login {
    username: String,
    password: String,
    /// `https://host:port` that it is for; empty = not yet known.
    place: String,
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Login").field("place", &self.place).finish_non_exhaustive()
    }
}

impl Login {
    /// From what a caller gave; neither = none. A lone password goes with the name `git`, which token services
    /// accept.
    pub fn given(username: Option<String>, password: Option<String>) -> Result<Option<Self>> {
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        let (username, password) = (filled(username), filled(password));
        if username.is_none() && password.is_none() {
            return Ok(None);
        }
        let username = username.unwrap_or_else(|| "git".to_owned());
        let password = password.unwrap_or_default();
        names::line("username", &username)?;
        names::line("password", &password)?;
        Ok(Some(Self { username, password, place: String::new() }))
    }

    /// Binds it to the host of a URL; nothing where the URL's transport takes no password.
    pub(super) fn bound(mut self, url: &str) -> Option<Self> {
        self.place = place(url)?;
        Some(self)
    }

    /// Puts it where the helper finds it.
    pub(super) fn lend(
        &self,
        settings: &mut Vec<(String, String)>,
        env: &mut BTreeMap<String, String>,
    ) {
        // The empty one forgets helpers of the repository and the user: they must not learn this password.
        settings.push(("credential.helper".to_owned(), String::new()));
        settings.push(("credential.helper".to_owned(), HELPER.to_owned()));
        settings.push(("credential.useHttpPath".to_owned(), "false".to_owned()));
        env.insert("MAYFLY_GIT_PLACE".to_owned(), self.place.clone());
        env.insert("MAYFLY_GIT_USER".to_owned(), self.username.clone());
        env.insert("MAYFLY_GIT_PASSWORD".to_owned(), self.password.clone());
    }
}

/// `https://host:port` of a URL that takes a password.
fn place(url: &str) -> Option<String> {
    let (scheme, rest) = url.split_once("://")?;
    let scheme = scheme.to_ascii_lowercase();
    if scheme != "http" && scheme != "https" {
        return None;
    }
    let host = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    let host = host.rsplit_once('@').map_or(host, |(_, host)| host);
    Some(format!("{scheme}://{}", host.to_ascii_lowercase()))
}

/// A URL without the user name and password in it, and these.
pub(super) fn strip(url: &str) -> Result<(String, Option<Login>)> {
    let Some(place) = place(url) else { return Ok((url.to_owned(), None)) };
    let (scheme, rest) = url.split_once("://").expect("a URL with a place has a scheme");
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let Some((user, host)) = rest[..end].rsplit_once('@') else {
        return Ok((url.to_owned(), None));
    };
    let plain = format!("{scheme}://{host}{}", &rest[end..]);
    let (username, password) = user.split_once(':').unwrap_or((user, ""));
    let decoded = |text| {
        unescape(text).ok_or_else(|| Error::invalid("url: its user name or password is not UTF-8"))
    };
    let login = Login::given(Some(decoded(username)?), Some(decoded(password)?))?;
    Ok((plain, login.map(|login| Login { place, ..login })))
}

/// Whether a URL carries a password.
pub(super) fn has_password(url: &str) -> bool {
    let Some((_, rest)) = url.split_once("://") else { return false };
    let host = rest.split(['/', '?', '#']).next().unwrap_or(rest);
    host.rsplit_once('@').is_some_and(|(user, _)| user.contains(':'))
}

/// Percent-decoding; a percent sign without digits stands for itself.
fn unescape(text: &str) -> Option<String> {
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    decoded.ok().map(std::borrow::Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn login(username: &str, password: &str, place: &str) -> Login {
        Login { username: username.into(), password: password.into(), place: place.into() }
    }

    #[test]
    fn a_url_loses_what_is_secret_in_it() {
        for (url, plain, found) in [
            ("https://h/r", "https://h/r", None),
            ("https://u:p@h:1/r", "https://h:1/r", Some(login("u", "p", "https://h:1"))),
            (
                "https://u:a%40b%2@H/r?x@y",
                "https://H/r?x@y",
                Some(login("u", "a@b%2", "https://h")),
            ),
            ("http://token@h", "http://h", Some(login("token", "", "http://h"))),
            ("ssh://git@h/r", "ssh://git@h/r", None),
            ("git@h:r", "git@h:r", None),
            ("/a@b:c", "/a@b:c", None),
        ] {
            assert_eq!(strip(url).unwrap(), (plain.to_owned(), found), "{url}");
        }
        assert!(strip("https://u:a%0ab@h/").is_err());
        assert!(strip("https://u:%ff@h/").is_err());
    }

    #[test]
    fn a_login_is_for_one_host_and_shows_no_password() {
        let given = Login::given(None, Some("secret".into())).unwrap().unwrap();
        assert_eq!(given.clone().bound("ssh://h/r"), None);
        let bound = given.bound("HTTPS://x@H:8/r").unwrap();
        assert_eq!(bound, login("git", "secret", "https://h:8"));
        assert!(!format!("{bound:?}").contains("secret"));
        assert_eq!(Login::given(Some(String::new()), None).unwrap(), None);
        assert!(Login::given(Some("a\nhost=evil".into()), None).is_err());
    }

    #[test]
    fn passwords_in_urls_are_seen() {
        assert!(has_password("https://u:p@h/r"));
        assert!(!has_password("https://u@h:1/r"));
        assert!(!has_password("git@h:r:x"));
    }
}
