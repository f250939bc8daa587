//! What takes room, and what is left over: of a server itself, and of killed servers whose folder is gone.

use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::house::{House, alive, network_processes, signal, wait_until};

#[test]
fn df_tells_what_takes_room_with_a_server_and_what_is_not_known_without_one() {
    let house = House::new();
    house.ok(&["sandbox", "create", "--name", "box"]);
    let write =
        ["sandbox", "exec", "box", "--", "dd", "if=/dev/urandom", "of=/big", "bs=1M", "count=20"];
    house.ok(&write);
    house.ok(&["sandbox", "exec", "box", "--", "sync"]);
    house.ok(&["sandbox", "create", "--name", "old"]);
    house.ok(&["sandbox", "stop", "old"]);
    let shown = house.json(&["df"]);
    let part = |shown: &Value, name: &str| {
        let parts = shown["parts"].as_array().unwrap();
        parts.iter().find(|part| part["name"] == name).cloned().unwrap_or_default()
    };
    assert_eq!(shown["dataDir"], house.data().to_str().unwrap());
    for (name, count) in [("sandboxes", 2), ("archives", 0), ("captures", 0)] {
        assert_eq!(part(&shown, name)["count"], count, "{name}: {shown}");
    }
    let bytes = |name: &str| part(&shown, name)["bytes"].as_u64().unwrap();
    assert!((20 << 20..40 << 20).contains(&bytes("sandboxes")), "{shown}");
    assert!(bytes("database") > 0 && bytes("layers") > 0 && bytes("logs") > 0, "{shown}");
    assert!(bytes("pool file") >= bytes("sandboxes"), "{shown}");
    for room in ["disk", "pool", "memory"] {
        let (all, free) = (shown[room]["bytes"].as_u64(), shown[room]["free"].as_u64());
        assert!(all > free && free > Some(0), "{room}: {shown}");
    }
    assert_eq!(shown["reserve"], 2_147_483_648_u64);
    assert!(shown["sandboxMemory"].as_u64().unwrap() > 0);
    let text = house.ok(&["df"]);
    for word in ["sandboxes", "pool file", "MiB", "memory", "2.0 GiB are always left free"] {
        assert!(text.contains(word), "{word}: {text}");
    }

    let server = house.server().unwrap();
    signal(server, "TERM");
    wait_until(|| !alive(server));
    let shown = house.json(&["df"]);
    assert!(part(&shown, "database")["bytes"].as_u64().unwrap() > 0);
    assert_eq!(part(&shown, "sandboxes"), Value::Null);
    assert!(shown["unknown"].as_array().unwrap().contains(&"sandboxes".into()));
    assert!(house.ok(&["df"]).contains("no server runs"));
    assert_eq!(house.server(), None, "none was started for it");
}

#[test]
fn a_server_takes_away_its_own_leftovers_and_tells_before() {
    let house = House::new();
    house.ok(&["sandbox", "create", "--name", "box"]);
    let old = house.data().join("layers").join(format!("host-{}", "0".repeat(64)));
    let unfinished = house.data().join("layers/.host-1-0");
    for folder in [&old, &unfinished] {
        std::fs::create_dir_all(folder.join("skeleton")).unwrap();
    }
    let kinds = |shown: &Value| -> Vec<String> {
        let found = shown["found"].as_array().unwrap().iter();
        let own = found.filter(|one| one["dataDir"].is_null());
        own.map(|one| one["kind"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(kinds(&house.json(&["gc", "--dry-run"])), ["layer", "layer"]);
    assert!(old.exists() && unfinished.exists(), "only told");
    let text = house.ok(&["gc"]);
    assert!(text.contains("taken away") && text.contains("host-000"), "{text}");
    assert!(!old.exists() && !unfinished.exists());
    assert_eq!(kinds(&house.json(&["gc"])), [""; 0]);
    assert_eq!(house.ok(&["sandbox", "exec", "box", "--", "echo", "well"]), "well\n");

    // A sandbox of an earlier server may stand on any of them.
    let server = house.server().unwrap();
    signal(server, "KILL");
    wait_until(|| !alive(server));
    std::fs::create_dir_all(old.join("skeleton")).unwrap();
    let (code, _) = house.fails(&["gc"]);
    assert_eq!(code, 4);
    assert!(old.exists());
    house.ok(&["sandbox", "stop", "box"]);
    house.ok(&["gc"]);
    assert!(!old.exists());
}

#[test]
fn what_a_gone_server_left_is_taken_away_and_its_neighbours_are_not_touched() {
    if !rustix::process::geteuid().is_root() {
        println!("SKIP gc-gone: control groups and loop devices are root's");
        return;
    }
    let (gone, living, waiting) = (House::new(), House::new(), House::new());
    let houses = [&gone, &living, &waiting];
    for house in houses {
        house.ok(&["sandbox", "create", "--name", "box"]);
        let command = "nohup sleep 1000 > /dev/null 2>&1 & echo $! > /pid";
        house.ok(&["sandbox", "exec", "box", "--", "sh", "-c", command]);
    }
    let left = Left::of(&gone.data());
    assert!(left.groups() > 0 && left.device() && !left.network().is_empty());
    for house in [&gone, &waiting] {
        let server = house.server().unwrap();
        signal(server, "KILL");
        wait_until(|| !alive(server));
    }
    std::fs::remove_dir_all(gone.data()).unwrap();
    let caller = House::new();
    let about = |shown: &Value, house: &House| -> Vec<String> {
        let data = house.data();
        let found = shown["found"].as_array().unwrap().iter();
        let about = found.filter(|one| one["dataDir"] == data.to_str().unwrap());
        about.map(|one| one["kind"].as_str().unwrap().to_owned()).collect()
    };
    let told = caller.json(&["gc", "--dry-run"]);
    for kind in ["server", "process", "sandbox", "group", "device"] {
        assert!(about(&told, &gone).contains(&kind.to_owned()), "{kind}: {told}");
    }
    assert!(left.groups() > 0 && left.device() && !left.network().is_empty(), "only told");
    let done = caller.json(&["gc"]);
    assert_eq!(about(&done, &gone), about(&told, &gone));
    assert!(left.groups() == 0 && !left.device(), "{done}");
    wait_until(|| left.network().is_empty());
    for house in [&living, &waiting] {
        assert!(about(&told, house).is_empty() && about(&done, house).is_empty(), "{done}");
        let look =
            ["sandbox", "exec", "box", "--", "sh", "-c", "kill -0 $(cat /pid) && echo lives"];
        assert_eq!(house.ok(&look), "lives\n");
    }
    assert!(about(&caller.json(&["gc"]), &gone).is_empty(), "its entry is gone");
    assert!(!caller.data().exists(), "nothing was made for the caller");
}

/// What the server of a data directory has on the host.
struct Left {
    data: PathBuf,
    name: String,
}

impl Left {
    fn of(data: &Path) -> Self {
        let whole = std::fs::canonicalize(data).unwrap();
        let entries = std::fs::read_dir("/run/mayfly").unwrap().flatten();
        let entry = entries
            .filter(|entry| {
                std::fs::read(entry.path())
                    .unwrap_or_default()
                    .ends_with(whole.as_os_str().as_encoded_bytes())
            })
            .map(|entry| entry.file_name().into_string().unwrap())
            .next();
        Self { data: whole, name: entry.expect("the server has entered itself") }
    }

    /// Control groups with its name in all hierarchies.
    fn groups(&self) -> usize {
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let points = mounts.lines().filter(|line| line.contains(" - cgroup"));
        points
            .filter_map(|line| line.split(' ').nth(4))
            .filter(|point| Path::new(point).join(&self.name).exists())
            .count()
    }

    fn device(&self) -> bool {
        let file = self.data.join("pool.btrfs");
        let file = file.to_str().unwrap();
        std::fs::read_dir("/sys/block").unwrap().flatten().any(|device| {
            std::fs::read_to_string(device.path().join("loop/backing_file"))
                .is_ok_and(|backing| backing.starts_with(file))
        })
    }

    fn network(&self) -> Vec<i32> {
        network_processes(&self.data)
    }
}
