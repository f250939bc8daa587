//! C4 end to end: policies that cannot be read are refused where they come in, and what is in force stays.

use std::process::Command;

use serde_json::{Value, json};

use super::server::{Sandbox, Server};
use super::world::{World, eventually};

/// Where `www.test` stands, and an address that nobody lists.
const LISTED: &str = "93.184.10.5";
const NOT_LISTED: &str = "93.184.10.1";
/// Goes on whatever becomes of the server.
const LOAD: &str = "setsid sh -c 'while :; do curl -s -m 1 http://www.test/; \
    curl -s -m 0.2 http://93.184.10.1/; done' > /dev/null 2>&1 < /dev/null &";

/// Settings that make no policy, and what the refusal names.
const BAD: &[(&str, &str, &str)] = &[
    ("networkAllowList", "1.1.1.0/33", "1.1.1.0/33"),
    ("networkAllowList", "1.1.1.1/24", "1.1.1.1/24"),
    ("networkAllowList", "1.1.1.1,,2.2.2.2", "networkAllowList"),
    ("networkAllowList", "example.com", "example.com"),
    ("domainAllowList", "www.test,,other.test", "domainAllowList"),
    ("domainAllowList", "*", "*"),
    ("domainAllowList", "a..test", "a..test"),
    ("outboundProxyUrl", "gopher://proxy", "outboundProxyUrl"),
];

fn goes_on(world: &World, when: &str) {
    let before = world.arrivals(&[LISTED]).len();
    eventually(&format!("listed connections arrive {when}"), || {
        world.arrivals(&[LISTED]).len() > before + 2
    });
    assert_eq!(world.arrivals(&[NOT_LISTED]), [""; 0], "{when}");
}

#[test]
fn c4_a_bad_policy_is_refused_by_name_and_the_running_one_is_kept() {
    let (world, server) = (World::enter(), Server::start());
    let sandbox = server.sandbox(&json!({ "domainAllowList": "www.test" }));
    sandbox.ok(LOAD);
    goes_on(&world, "at first");
    let before = server.json("GET /api/sandbox", &Value::Null)["items"].clone();
    for (field, value, named) in BAD {
        let body = json!({ *field: value }).to_string();
        for line in
            ["POST /api/sandbox", &format!("POST /api/sandbox/{}/network-settings", sandbox.id)]
        {
            let (status, answer) = server.ask(line, body.as_bytes()).unwrap();
            let answer = String::from_utf8_lossy(&answer).into_owned();
            assert_eq!(status, 400, "{line} {body}: {answer}");
            assert!(answer.contains(named), "{line} {body}: {answer}");
        }
    }
    let after = server.json("GET /api/sandbox", &Value::Null)["items"].clone();
    let kept = |list: &Value| {
        let list = list.as_array().unwrap();
        assert_eq!(list.len(), 1, "nothing was made");
        (list[0]["domainAllowList"].clone(), list[0]["networkAllowList"].clone())
    };
    assert_eq!(kept(&before), kept(&after));
    goes_on(&world, "after the refusals");
}

#[test]
fn c4_settings_and_records_that_cannot_be_read_stop_the_start_and_open_nothing() {
    let (world, mut server) = (World::enter(), Server::start());
    let id = {
        let sandbox = server.sandbox(&json!({ "domainAllowList": "www.test" }));
        sandbox.ok(LOAD);
        sandbox.id
    };
    goes_on(&world, "at first");
    server.kill();
    for (name, value) in [
        ("MAYFLY_NETWORK_PERMIT", "10.0.0.0/33"),
        ("MAYFLY_NETWORK_DEFAULT", "open"),
        ("MAYFLY_NETWORK_PERMITS", "10.0.0.0/8"),
        ("MAYFLY_NETWORK_RESOLVERS", "nowhere"),
    ] {
        let said = server.refuses_to_start(&[(name, value)]);
        assert!(said.contains(name) || said.contains(value), "{name}: {said}");
    }
    for text in [
        "{\"blockAll\":false",
        "{\"blockAll\":false,\"cidrs\":\"x\",\"domains\":\"\",\"proxy\":null}",
    ] {
        let good = change_record(&server, &id, text);
        server.refuses_to_start(&[]);
        goes_on(&world, "while the record cannot be read");
        change_record(&server, &id, &good);
    }
    server.restart();
    goes_on(&world, "with the record as it was");
    let sandbox = Sandbox::of(&server, &id);
    assert_eq!(sandbox.run("curl -s -m 1 http://93.184.10.1/").1, "");
    sandbox.set_network(&json!({ "networkBlockAll": true }));
    assert_eq!(sandbox.run("curl -s -m 1 http://www.test/").1, "");
}

/// Puts a text in the place of the policy of a sandbox's record; what stood there.
fn change_record(server: &Server, id: &str, text: &str) -> String {
    let program = "import sqlite3, sys, uuid\n\
                   base = sqlite3.connect(sys.argv[1])\n\
                   key = uuid.UUID(sys.argv[2]).bytes\n\
                   print(base.execute('SELECT network FROM sandboxes WHERE id = ?', (key,)).fetchone()[0], end='')\n\
                   base.execute('UPDATE sandboxes SET network = ? WHERE id = ?', (sys.argv[3], key))\n\
                   base.commit()";
    let database = server.data().join("state.db");
    let output = Command::new("/usr/bin/python3")
        .args(["-c", program])
        .arg(database)
        .args([id, text])
        .output();
    let output = output.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
