//! N1: the metadata service in no form; N4: private ranges only when listed and permitted.

use mayfly_core::network::{NetworkPolicy, cidrs};

use crate::internet::{Internet, lists};

const FORMS: [&str; 8] = [
    "169.254.169.254",
    "0xa9fea9fe",
    "2852039166",
    "0251.0376.0251.0376",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "2002:a9fe:a9fe::1",
    "fd00:ec2::254",
];

/// Redirects to the metadata service.
fn redirect(mut stream: std::net::TcpStream) {
    use std::io::{Read as _, Write as _};
    let _ = stream.read(&mut [0; 4096]);
    let _ = stream.write_all(
        b"HTTP/1.1 302 Found\r\nLocation: http://169.254.169.254:7/secret\r\nContent-Length: 0\r\n\r\n",
    );
}

fn script() -> String {
    let tries = FORMS.map(|form| format!("say({form:?}, tcp({form:?}))\n")).concat();
    format!("{tries}say('name', tcp('metadata.example'))\nsay('plain', tcp('1.1.1.1'))\n")
}

#[test]
fn n1_metadata_is_out_of_reach_in_every_form() {
    let Some((internet, bench)) = Internet::open("N1", |_| {}) else { return };
    internet.serve(80, redirect);
    let all = lists("0.0.0.0/0,::/0", "");
    for policy in
        [NetworkPolicy::default(), all, lists("169.254.169.254,1.1.1.1,fd00:ec2::/32", "")]
    {
        let sandbox = bench.sandbox_under(policy);
        let ran = sandbox.reach(&script());
        assert!(ran.says("plain=True"), "{}", ran.text);
        for what in FORMS.into_iter().chain(["name"]) {
            assert_eq!(ran.value(what), "False", "{what}");
        }
        let followed = sandbox.sh("curl -sSL -m 5 http://1.1.1.1/ 2>&1; echo code=$?");
        assert!(!followed.says("code=0"), "{}", followed.text);
        let audit = bench.audit(&sandbox);
        let reasons = |entry: &&mayfly_core::network::AuditEntry| entry.verdict == "metadata";
        assert!(audit.iter().filter(reasons).count() >= 4, "{audit:?}");
    }
}

#[test]
fn n1_shows_where_nothing_judges() {
    let Some((internet, _bench)) = Internet::open("N1", |_| {}) else { return };
    let ran = internet.outside(&script());
    for what in ["169.254.169.254", "0xa9fea9fe", "2852039166", "fd00:ec2::254", "plain"] {
        assert_eq!(ran.value(what), "True", "{}", ran.text);
    }
}

#[test]
fn n1_a_name_that_changes_its_mind_leads_nowhere() {
    let Some((internet, bench)) = Internet::open("N1", |_| {}) else { return };
    let sandbox = bench.sandbox_under(lists("", "*.example"));
    let ran = sandbox.reach(
        "
address = socket.gethostbyname('rebinding.example')
say('synthetic', address.startswith('198.18.') or address.startswith('198.19.'))
say('first', tcp(address))
say('second', tcp(address))
say('third', tcp('rebinding.example'))
say('good', tcp('good.example'))
",
    );
    assert!(ran.says("synthetic=True") && ran.says("good=True"), "{}", ran.text);
    // The host resolves at each dial: the first one still finds the public address.
    assert!(ran.says("second=False") && ran.says("third=False"), "{}", ran.text);
    assert!(internet.asked("rebinding.example") >= 2);
}

#[test]
fn n4_private_ranges_need_the_caller_and_the_operator() {
    const SCRIPT: &str = "say('listed', tcp('10.0.0.9'))\nsay('beside', tcp('10.9.0.9'))\n\
                          say('name', tcp('private.example'))\nsay('six', tcp('fd12::1'))\n\
                          say('udp', udp('10.0.0.9'))";
    let permit = |options: &mut mayfly_runtime::local::Options| {
        options.network.permitted = cidrs("10.0.0.0/16").unwrap();
    };
    let Some((internet, bench)) = Internet::open("N4", permit) else { return };
    assert!(internet.outside(SCRIPT).says("listed=True"), "within reach where nothing judges");
    for policy in [NetworkPolicy::default(), lists("0.0.0.0/1", "*.example")] {
        let ran = bench.sandbox_under(policy.clone()).reach(SCRIPT);
        let listed = policy.lists();
        assert_eq!(ran.value("beside"), "False");
        assert_eq!(ran.value("listed"), if listed { "True" } else { "False" }, "{}", ran.text);
        assert_eq!(ran.value("udp"), ran.value("listed"));
        assert_eq!(ran.value("six"), "False");
    }
    let ran = bench.sandbox_under(lists("10.0.0.0/8", "")).reach(SCRIPT);
    assert!(ran.says("listed=True") && ran.says("beside=False"), "{}", ran.text);
    let ran = bench.sandbox_under(lists("192.168.0.0/16", "")).reach(SCRIPT);
    assert!(!ran.text.contains("True"), "{}", ran.text);
}
