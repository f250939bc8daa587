//! Installers and other programs that nobody here wrote reach the names that are listed, and no others.

use serde_json::json;

use super::server::Server;
use super::world::{FORBIDDEN, World};

/// Debian's pip is itself a wheel; unpacked, Python compiles it once only.
const PIP: &str = "set -e; export PYTHONPATH=/tmp/pip\n\
                   [ -d /tmp/pip ] || \
                   python3 -m zipfile -e /usr/share/python-wheels/pip-2*.whl /tmp/pip\n";
/// What dpkg and apt-get expect and the `host` image leaves out.
const APT: &str = "set -e; mkdir -p /etc/apt /var/lib/dpkg/info /var/lib/dpkg/updates /var/log/apt \
                   /var/lib/apt/lists/partial /var/cache/apt/archives/partial\n\
                   touch /var/lib/dpkg/status\n";
/// Keys and hosts of the pretend internet are made for one test.
const SSH: &str = "set -e; chmod 600 /tmp/key\n\
                   export GIT_SSH_COMMAND='ssh -i /tmp/key -o BatchMode=yes -o StrictHostKeyChecking=no \
                   -o UserKnownHostsFile=/dev/null -o ConnectTimeout=20'\n";

/// A command line that works if and only if some names may be reached.
struct Client {
    /// The names, as the API takes them.
    names: &'static str,
    /// Address of the first one in the pretend internet.
    address: &'static str,
    /// Where its denial shows.
    denial: &'static str,
    command: String,
    /// What it prints when it works.
    prints: &'static str,
}

/// It works where the names are listed; fails, with the denial in the audit and no arrival, where they are not;
/// and works again where the policy is switched off, so that it was nothing else that stopped it.
fn passes_by_policy_only(client: &Client) {
    let world = World::enter();
    let server = Server::start();
    let sandbox = server.sandbox(&json!({ "domainAllowList": client.names }));
    sandbox.put("/tmp/ca.pem", &world.file("ca.pem"));
    sandbox.put("/tmp/key", &world.file("client_key"));
    let seen = sandbox.ok(&client.command);
    assert!(seen.contains(client.prints), "{seen}");
    assert!(!world.arrivals(&[client.address]).is_empty(), "it went through the world");
    // apt-get asks for a service record first, which is no address and never answered.
    let denials = sandbox.denials();
    assert!(denials.iter().all(|denial| denial.starts_with("dns _")), "{denials:?}");

    let before = world.arrivals(&[client.address]);
    sandbox.set_network(&json!({ "domainAllowList": "other.test" }));
    let (code, seen) = sandbox.run(&client.command);
    assert!(code != 0 && !seen.contains(client.prints), "{code} {seen}");
    let denials = sandbox.denials();
    assert!(denials.iter().any(|denial| denial == client.denial), "{denials:?}\n{seen}");
    assert_eq!(world.arrivals(&[client.address]), before, "nothing arrived");

    sandbox.set_network(&json!({ "domainAllowList": "" }));
    let seen = sandbox.ok(&client.command);
    assert!(seen.contains(client.prints), "{seen}");
}

#[test]
fn pip_installs_from_an_index_that_is_listed() {
    passes_by_policy_only(&Client {
        names: "pypi.test",
        address: "93.184.10.1",
        denial: "dns pypi.test 53",
        command: format!(
            "{PIP}rm -rf /tmp/site\n\
             python3 -m pip install --cert /tmp/ca.pem --retries 0 --no-cache-dir --no-input \
             --disable-pip-version-check --root-user-action ignore \
             --index-url https://pypi.test/simple --target /tmp/site worldgreeting\n\
             PYTHONPATH=/tmp/site python3 -c 'import worldgreeting; print(worldgreeting.greet())'"
        ),
        prints: "a wheel from the world",
    });
}

#[test]
fn python_requests_verify_what_they_reach() {
    passes_by_policy_only(&Client {
        names: "www.test",
        address: "93.184.10.5",
        denial: "dns www.test 53",
        // The library itself, as pip carries it.
        command: format!(
            "{PIP}python3 -c '\
             from pip._vendor import requests\n\
             print(requests.get(\"https://www.test/\", verify=\"/tmp/ca.pem\", timeout=20).text)'"
        ),
        prints: "you reached www.test",
    });
}

#[test]
fn npm_installs_from_a_registry_that_is_listed() {
    passes_by_policy_only(&Client {
        names: "npm.test",
        address: "93.184.10.2",
        denial: "dns npm.test 53",
        command: "set -e; rm -rf /tmp/module /tmp/cache; mkdir /tmp/module; cd /tmp/module\n\
                  npm install --cafile /tmp/ca.pem --cache /tmp/cache --fetch-retries 0 --no-audit \
                  --no-fund --no-update-notifier --registry https://npm.test/ world-greeting\n\
                  node -p 'require(\"world-greeting\")'"
            .to_owned(),
        prints: "a module from the world",
    });
}

#[test]
fn node_fetches_from_a_name_that_is_listed() {
    passes_by_policy_only(&Client {
        names: "www.test",
        address: "93.184.10.5",
        denial: "dns www.test 53",
        command: "NODE_EXTRA_CA_CERTS=/tmp/ca.pem node -e \
                  'fetch(\"https://www.test/\").then(r => r.text()).then(console.log)'"
            .to_owned(),
        prints: "you reached www.test",
    });
}

#[test]
fn apt_get_updates_and_installs_as_root_of_its_own_user_namespace() {
    passes_by_policy_only(&Client {
        names: "deb.test",
        address: "93.184.10.3",
        denial: "dns deb.test 53",
        command: format!(
            "{APT}echo 'deb [trusted=yes] https://deb.test/ ./' > /etc/apt/sources.list\n\
             rm -rf /var/lib/apt/lists/deb* /srv/world-greeting.txt\n\
             apt=\"apt-get -q -o Acquire::https::CaInfo=/tmp/ca.pem -o Acquire::Retries=0 \
             -o APT::Update::Error-Mode=any\"\n\
             $apt update\n$apt install --yes --reinstall world-greeting\n\
             cat /var/lib/world-greeting /srv/world-greeting.txt"
        ),
        prints: "configured\na package from the world",
    });
}

#[test]
fn git_clones_over_https() {
    passes_by_policy_only(&Client {
        names: "git.test",
        address: "93.184.10.4",
        denial: "dns git.test 53",
        command: "set -e; rm -rf /tmp/clone\n\
                  GIT_SSL_CAINFO=/tmp/ca.pem git clone -q https://git.test/greeting.git /tmp/clone\n\
                  cat /tmp/clone/greeting.txt"
            .to_owned(),
        prints: "a commit from the world",
    });
}

#[test]
fn git_clones_over_ssh() {
    passes_by_policy_only(&Client {
        names: "git.test",
        address: "93.184.10.4",
        denial: "dns git.test 53",
        command: format!(
            "{SSH}rm -rf /tmp/clone; git clone -q root@git.test:greeting.git /tmp/clone\n\
             cat /tmp/clone/greeting.txt"
        ),
        prints: "a commit from the world",
    });
}

#[test]
fn curl_reaches_http_and_https_of_a_name_that_is_listed() {
    passes_by_policy_only(&Client {
        names: "*.test",
        address: "93.184.10.5",
        denial: "dns www.test 53",
        command: "set -e; curl -sS -m 20 http://www.test/\n\
                  curl -sS -m 20 --cacert /tmp/ca.pem https://www.test/ | sed 's/^/then /'\n\
                  curl -sSf -m 20 --cacert /tmp/ca.pem https://www.test/"
            .to_owned(),
        prints: "you reached www.test\nthen you reached www.test",
    });
}

/// Names that are listed but stand for what no policy opens: private, metadata, and one that moves there
/// between two questions.
#[test]
fn a_listed_name_does_not_open_what_is_never_reached() {
    let world = World::enter();
    let server = Server::start();
    let sandbox = server.sandbox(&json!({ "domainAllowList": "*.test" }));
    let reach = |place: &str| sandbox.run(&format!("curl -sS -m 20 http://{place}/"));
    assert_eq!(reach("www.test"), (0, "you reached www.test\n".to_owned()));
    assert_eq!(reach("rebind.test"), (0, "you reached rebind.test\n".to_owned()));
    for name in ["rebind.test", "private.test", "metadata.test"] {
        assert_ne!(reach(name).0, 0, "{name}");
        assert!(sandbox.denials().contains(&format!("tcp {name} 80")), "{:?}", sandbox.denials());
    }
    for settings in [json!({ "domainAllowList": "*.test" }), json!({ "domainAllowList": "" })] {
        sandbox.set_network(&settings);
        for address in ["10.0.0.9", "169.254.169.254", "[fd00::9]", "[fd00:ec2::254]"] {
            assert_ne!(reach(address).0, 0, "{address}");
        }
    }
    // Of the world, only the address that was never listed is part of the public internet.
    assert_eq!(reach("evil.test"), (0, "you reached evil.test\n".to_owned()));
    assert_eq!(world.arrivals(FORBIDDEN).len(), 1);
}
