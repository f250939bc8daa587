//! Precedence and refusals of settings.

use std::collections::BTreeMap;
use std::path::PathBuf;

use super::*;

fn environment(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn load(file: &str, pairs: &[(&str, &str)]) -> Result<Config> {
    let files = [(PathBuf::from("/etc/mayfly/mayfly.toml"), file.to_owned())];
    Config::from_sources(&Overrides::default(), &files, &environment(pairs))
}

#[test]
fn the_embedded_defaults_are_complete_and_valid() {
    let config = load("", &[]).unwrap();
    assert_eq!(config.server.listen.to_string(), "127.0.0.1:3457");
    assert_eq!(config.isolation.profile, ProfileChoice::Auto);
    assert!(!config.isolation.allow_setuid);
    assert_eq!(config.sandbox.execute_seconds, 3600);
    assert_eq!(config.pool.namespaces, 64);
    assert!(config.storage.data_dir.is_absolute());
}

#[test]
fn every_default_has_a_comment_above_it() {
    let mut above = "";
    for line in DEFAULTS.lines() {
        if line.contains(" = ") && !line.starts_with('#') {
            assert!(above.starts_with('#'), "`{line}` has no comment");
        }
        above = line;
    }
}

#[test]
fn flags_win_over_environment_over_later_over_earlier_file_over_defaults() {
    let files = [
        ("/etc/mayfly/mayfly.toml", "[server]\nlisten = \"1.1.1.1:1\"\nrate = 1\n[pool]\nwarm = 1"),
        ("/home/u/.config/mayfly/mayfly.toml", "[server]\nlisten = \"2.2.2.2:2\"\nrate = 2"),
    ]
    .map(|(path, text)| (PathBuf::from(path), text.to_owned()));
    let variables = environment(&[("MAYFLY_SERVER_LISTEN", "3.3.3.3:3")]);
    let flags = Overrides { listen: Some("4.4.4.4:4".into()), ..Overrides::default() };
    let with = |files: &[_], variables: &BTreeMap<_, _>, flags: &Overrides| {
        Config::from_sources(flags, files, variables).unwrap()
    };
    let (none, no_flags) = (BTreeMap::new(), Overrides::default());
    let port = |config: Config| config.server.listen.port();
    assert_eq!(port(with(&[], &none, &no_flags)), 3457);
    assert_eq!(port(with(&files[..1], &none, &no_flags)), 1);
    assert_eq!(port(with(&files, &none, &no_flags)), 2);
    assert_eq!(port(with(&files, &variables, &no_flags)), 3);
    let all = with(&files, &variables, &flags);
    assert_eq!((all.server.rate, all.pool.warm), (2, 1), "each key by itself");
    assert_eq!(port(all), 4);
}

#[test]
fn the_first_underscore_ends_the_section_and_values_take_the_setting_s_type() {
    let config = load(
        "",
        &[
            ("MAYFLY_STORAGE_DATA_DIR", "/srv/1"),
            ("MAYFLY_LIMITS_OPEN_FILES", "77"),
            ("MAYFLY_ISOLATION_ALLOW_SETUID", "true"),
            ("MAYFLY_SANDBOX_TARGET", "1"),
            ("MAYFLY_URL", "http://x"),
            ("MAYFLY_API_KEY", "k"),
            ("MAYFLY_MASTER_KEY", "k"),
        ],
    )
    .unwrap();
    assert_eq!(config.storage.data_dir, PathBuf::from("/srv/1"));
    assert_eq!(config.limits.open_files, 77);
    assert!(config.isolation.allow_setuid);
    assert_eq!(config.sandbox.target, "1", "a number where text is wanted stays text");
}

#[test]
fn refusals_name_the_source_the_key_and_what_was_expected() {
    type Pairs = &'static [(&'static str, &'static str)];
    let cases: [(&str, Pairs, &[&str]); 11] = [
        ("", &[("MAYFLY_SERVER_PORT", "1")], &["MAYFLY_SERVER_PORT", "no setting"]),
        ("", &[("MAYFLY_FOO", "1")], &["MAYFLY_FOO"]),
        ("", &[("MAYFLY_POOL_WARM", "many")], &["MAYFLY_POOL_WARM", "pool.warm", "many", "u32"]),
        ("", &[("MAYFLY_POOL_WARM", "-1")], &["MAYFLY_POOL_WARM", "pool.warm", "-1"]),
        ("", &[("MAYFLY_SERVER_LISTEN", "here")], &["server.listen", "socket address"]),
        ("", &[("MAYFLY_ISOLATION_PROFILE", "some")], &["isolation.profile", "some", "full"]),
        ("", &[("MAYFLY_SERVER_PUBLIC_URL", "box")], &["server.public_url", "box", "http://"]),
        ("[limits]\npids = 0", &[], &["limits.pids", "1 or more"]),
        ("[server]\nport = 1", &[], &["/etc/mayfly/mayfly.toml", "server", "port"]),
        ("[wat]\nport = 1", &[], &["/etc/mayfly/mayfly.toml", "wat"]),
        ("[server\n", &[], &["/etc/mayfly/mayfly.toml", "line 1"]),
    ];
    for (file, variables, words) in cases {
        let error = load(file, variables).unwrap_err();
        assert_eq!(error.kind(), mayfly_core::Kind::Invalid);
        for word in words {
            assert!(error.message().contains(word), "`{error}` does not say `{word}`");
        }
    }
}

#[test]
fn networks_are_read_strictly_from_files_and_environment() {
    let config = load("[network]\ndefault = \"block\"\npermit = [\"10.1.0.0/16\"]", &[]).unwrap();
    assert_eq!(config.network.default, NetworkDefault::Block);
    assert_eq!(config.network.permit[0].to_string(), "10.1.0.0/16");
    let lists = [("MAYFLY_NETWORK_DENY", "1.1.1.1, 8.8.0.0/16"), ("MAYFLY_NETWORK_PERMIT", "")];
    let config = load("", &lists).unwrap();
    assert_eq!((config.network.deny.len(), config.network.permit.len()), (2, 0));
    let config =
        load("[network]\nresolvers = [\"10.0.0.2:53\"]\nproxy = \"http://p:1\"", &[]).unwrap();
    assert_eq!((config.network.resolvers.len(), config.network.proxy.is_some()), (1, true));
    for (text, named) in [
        ("permit = [\"10.0.0.1/8\"]", "10.0.0.1/8"),
        ("deny = [\"x\"]", "deny"),
        ("resolvers = [\"10.0.0.2\"]", "resolvers"),
        ("default = \"private\"", "default"),
        ("connections = 0", "network.connections"),
        ("steering = \"veth\"", "steering"),
        ("proxy = \"https://u:secret@p\"", "proxy"),
    ] {
        let refused = load(&format!("[network]\n{text}"), &[]).unwrap_err();
        assert!(refused.message().contains(named), "{refused}");
        assert!(!refused.message().contains("secret"), "{refused}");
    }
}
