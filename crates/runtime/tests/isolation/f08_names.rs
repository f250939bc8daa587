//! F8: every name that the kernel takes makes the round trip, the rest is a clear error.

use crate::harness::Bench;

#[test]
fn f08_names_make_the_round_trip() {
    let Some(bench) = Bench::open("F8") else { return };
    let sandbox = bench.sandbox();
    let (id, files) = (sandbox.id(), sandbox.files());
    let longest = "l".repeat(255);
    let names = [
        "a\nb", " ", "-rf", "*", "A", "a", "\u{e9}", "e\u{301}", "\t", "'\"$(x)`", "...", &longest,
    ];
    for name in names {
        sandbox.put(&format!("/srv/names/{name}"), name.as_bytes());
    }
    for name in names {
        assert_eq!(sandbox.get(&format!("/srv/names/{name}")).unwrap(), name.as_bytes());
    }
    let listed = sandbox.wait(files.list(id, "/srv/names", 1)).unwrap();
    assert_eq!(listed.len(), names.len());
    // What commands inside see are the same bytes.
    let inside = sandbox.python("print(sorted(map(os.fsencode, os.listdir('/srv/names'))) == sorted(\
        open(os.path.join(b'/srv/names', name), 'rb').read() for name in map(os.fsencode, os.listdir('/srv/names'))))");
    assert!(inside.says("True"), "{}", inside.text);
    for bad in ["m".repeat(256), "x/".repeat(3000)] {
        let written = sandbox.wait(files.write(id, &format!("/srv/names/{bad}")));
        assert!(written.is_err(), "{}", bad.len());
    }
    // Names that are no text are listed and deleted with their folder.
    sandbox.python("open(b'/srv/names/\\xff\\xfe', 'w').close()");
    let listed = sandbox.wait(files.list(id, "/srv/names", 1)).unwrap();
    assert_eq!(listed.len(), names.len() + 1);
    // So is what is too deep for any path.
    let deep = sandbox.python(
        "
os.chdir('/srv/names')
for _ in range(300):
    os.mkdir('d' * 50)
    os.chdir('d' * 50)
print('deep')
",
    );
    assert!(deep.says("deep"), "{}", deep.text);
    sandbox.wait(files.delete(id, "/srv/names", true)).unwrap();
    assert!(sandbox.wait(files.info(id, "/srv/names")).is_err());
}
