//! N5, N6, N10: only what proves that it goes to an allowed name; only the policy's resolver.

use crate::internet::{Internet, lists};

/// Answers every request, whatever it is.
fn web(mut stream: std::net::TcpStream) {
    use std::io::{Read as _, Write as _};
    while let Ok(count) = stream.read(&mut [0; 8192]) {
        if count == 0 {
            return;
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nping");
    }
}

const WEB: &str = r"
def ask(text, name='good.example', port=80):
    try:
        with socket.create_connection((name, port)) as stream:
            stream.sendall(text.replace('\n', '\r\n').encode())
            return b'200 OK' in stream.recv(4096)
    except OSError:
        return False
def get(host, path='/', extra=''):
    return f'GET {path} HTTP/1.1\nHost: {host}\n{extra}\n'
def twice():
    try:
        with socket.create_connection(('good.example', 80)) as stream:
            stream.sendall(get('good.example').replace('\n', '\r\n').encode())
            first = b'200 OK' in stream.recv(4096)
            stream.sendall(get('evil.example').replace('\n', '\r\n').encode())
            return first, b'200 OK' in stream.recv(4096)
    except OSError:
        return True, False
def hello(sni):
    import ssl
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = context.wrap_bio(incoming, outgoing, server_hostname=sni)
    try:
        tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    return outgoing.read()
def tls(sni, name='good.example'):
    try:
        with socket.create_connection((name, 443)) as stream:
            stream.sendall(hello(sni))
            return b'200 OK' in stream.recv(4096)
    except OSError:
        return False
say('right host', ask(get('good.example')))
say('upper case', ask(get('GOOD.example')))
say('wrong host', ask(get('evil.example')))
say('no host', ask('GET / HTTP/1.1\n\n'))
say('two hosts', ask(get('good.example', extra='Host: evil.example\n')))
say('absolute', ask(get('good.example', path='http://evil.example/')))
say('connect', ask('CONNECT evil.example:443 HTTP/1.1\nHost: good.example\n\n'))
say('http2', ask('PRI * HTTP/2.0\n\nSM\n\n'))
say('second', twice())
say('right name', tls('good.example'))
say('wrong name', tls('evil.example'))
say('no name', tls(None))
say('raw address', tcp('1.1.1.1'))
say('raw web', ask(get('good.example'), name='1.1.1.1'))
say('other name', tcp('good.else'))
say('quic', udp('good.example', 443))
say('below', tcp('a.b.good.example'.replace('a.b.good', 'www.deep')))
say('trailing', tcp('good.example.'))
say('apex', tcp('example'))
say('suffix', tcp('goodexample'))
";

#[test]
fn n5_only_what_proves_its_name_passes() {
    let Some((internet, bench)) = Internet::open("N5", |_| {}) else { return };
    internet.serve(80, web);
    internet.serve(443, web);
    let sandbox = bench.sandbox_under(lists("", "*.example"));
    let ran = sandbox.reach(WEB);
    for what in ["right host", "upper case", "right name", "below", "trailing"] {
        assert_eq!(ran.value(what), "True", "{what}: {}", ran.text);
    }
    assert_eq!(ran.value("second"), "(True, False)");
    for what in [
        "wrong host",
        "no host",
        "two hosts",
        "absolute",
        "connect",
        "http2",
        "wrong name",
        "no name",
        "raw address",
        "raw web",
        "other name",
        "quic",
        "apex",
        "suffix",
    ] {
        assert_eq!(ran.value(what), "False", "{what}: {}", ran.text);
    }
    let audit = bench.audit(&sandbox);
    assert!(
        audit
            .iter()
            .any(|entry| entry.verdict == "unproven"
                && entry.name.as_deref() == Some("good.example")),
        "{audit:?}"
    );
    // The same attempts pass under a policy that does not look at names.
    let open = bench.sandbox_under(lists("0.0.0.0/0", "")).reach(WEB);
    for what in ["wrong host", "connect", "wrong name", "raw address", "raw web"] {
        assert_eq!(open.value(what), "True", "{what}: {}", open.text);
    }
}

const RESOLVERS: &str = r"
def question(name, kind=1):
    labels = b''.join(bytes([len(part)]) + part.encode() for part in name.split('.'))
    return b'\x12\x34\x01\x00\x00\x01\0\0\0\0\0\0' + labels + b'\0' + struct.pack('>HH', kind, 1)
def resolve(server, name, kind=1, wait=2):
    family = socket.AF_INET6 if ':' in server else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.settimeout(wait)
        try:
            sock.sendto(question(name, kind), (server, 53))
            answer = sock.recv(4096)
            return (answer[3] & 15, answer[7])
        except OSError as error:
            return type(error).__name__
for server in ('10.0.0.53', '8.8.8.8', '9.9.9.9', '2606:4700::1111'):
    say('good ' + server, resolve(server, 'good.example'))
    say('evil ' + server, resolve(server, 'secret.evil.test'))
say('own', resolve('127.0.0.53', 'good.example', wait=0.3))
say('txt', resolve('10.0.0.53', 'good.example', 16))
say('tls', tcp('good.example', 853))
say('https', tcp('8.8.8.8', 443))
";

#[test]
fn n6_only_the_resolver_of_the_policy_and_only_allowed_names() {
    let Some((internet, bench)) = Internet::open("N6", |_| {}) else { return };
    internet.serve(853, crate::internet::echo);
    internet.serve(443, crate::internet::echo);
    let ran = bench.sandbox_under(lists("", "*.example")).reach(RESOLVERS);
    for server in ["10.0.0.53", "8.8.8.8", "9.9.9.9", "2606:4700::1111"] {
        assert_eq!(ran.value(&format!("good {server}")), "(0, 1)", "{}", ran.text);
        assert_eq!(ran.value(&format!("evil {server}")), "(5, 0)", "{}", ran.text);
    }
    assert_ne!(ran.value("own"), "(0, 1)", "127/8 is the sandbox's own");
    assert_eq!(
        (ran.value("txt"), ran.value("tls"), ran.value("https")),
        ("(0, 0)", "False", "False")
    );
    assert_eq!(internet.asked("secret.evil.test"), 0, "the name itself did not leave");
    // Without a list of names every name may be asked for.
    bench.sandbox_under(mayfly_core::network::NetworkPolicy::default()).reach(RESOLVERS);
    assert!(internet.asked("secret.evil.test") > 0);
}
