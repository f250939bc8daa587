//! `kill -9` of the server and of the network process under load: sandboxes go on, their output is complete, new
//! connections work, nothing forbidden is reached in between.
//!
//! `MAYFLY_TEST_SEED` repeats the moments, `MAYFLY_TEST_SCALE=full` kills 60 times instead of 4.

use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::server::{Sandbox, Server, processes_of};
use super::world::{FORBIDDEN, World, eventually, source};

/// The only address that may be reached.
const LISTED: &str = "93.184.10.5";
/// Longest time after a kill until new connections work.
const RECOVERY: Duration = Duration::from_secs(2);
/// Reachable and public, but not listed.
const NOT_LISTED: &str = "93.184.10.1";

/// Random moments that a seed repeats (xorshift).
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }

    /// Lets the load go on for a random while.
    fn moment(&mut self) {
        for _ in 0..self.below(40) {
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

/// Two sandboxes at work.
struct Load {
    world: World,
    server: Server,
    boxes: Vec<String>,
    dice: Dice,
}

impl Load {
    fn start() -> Self {
        let seed = std::env::var("MAYFLY_TEST_SEED").ok().and_then(|seed| seed.parse().ok());
        let seed = seed.unwrap_or_else(|| u64::from(std::process::id()));
        println!("MAYFLY_TEST_SEED={seed}");
        let (world, server) = (World::enter(), Server::start());
        let boxes = (0..2).map(|_| {
            let sandbox = server.sandbox(&json!({ "domainAllowList": "www.test" }));
            sandbox.put("/tmp/load.py", &std::fs::read(source("inside/load.py")).unwrap());
            for kind in ["lines", "traffic"] {
                sandbox.toolbox("POST", "process/session", &json!({ "sessionId": kind }));
                sandbox.toolbox(
                    "POST",
                    &format!("process/session/{kind}/exec"),
                    &json!({ "command": "MINE=kept" }),
                );
                let work =
                    json!({ "command": format!("python3 /tmp/load.py {kind}"), "runAsync": true });
                sandbox.toolbox("POST", &format!("process/session/{kind}/exec"), &work);
            }
            sandbox.id
        });
        let boxes = boxes.collect();
        let load = Self { world, server, boxes, dice: Dice(seed | 1) };
        load.goes_on("at first");
        load
    }

    fn sandboxes(&self) -> impl Iterator<Item = Sandbox<'_>> {
        self.boxes.iter().map(|id| Sandbox::of(&self.server, id))
    }

    /// Connections of the load go on arriving.
    fn goes_on(&self, when: &str) {
        let before = self.world.arrivals(&[LISTED]).len();
        eventually(&format!("connections arrive {when}"), || {
            self.world.arrivals(&[LISTED]).len() > before + 4
        });
    }

    /// How long it takes until every sandbox makes a new connection.
    fn new_connections(&self) -> Duration {
        let each = self.sandboxes().map(|sandbox| {
            eventually("new connections work", || {
                // A question asked while no network process ran is lost: the next one counts.
                sandbox.run("curl -sf -m 0.5 http://www.test/").1 == "you reached www.test\n"
            })
        });
        each.max().unwrap_or_default()
    }

    /// Ends the load and judges it.
    fn end(self) {
        for sandbox in self.sandboxes() {
            sandbox.ok("touch /tmp/stop");
            let output = finished(&sandbox, "lines");
            let count = lines_without_a_gap(&output);
            assert!(count > 100, "it ran all the time: {count} lines");
            let traffic = finished(&sandbox, "traffic");
            let seen: Value = serde_json::from_str(traffic["stdout"].as_str().unwrap()).unwrap();
            println!("{seen}");
            assert_eq!((&seen["wrong"], &seen["breaches"]), (&json!([]), &json!([])), "{seen}");
            for kind in ["answers", "downloads", "refused"] {
                assert!(seen[kind].as_u64().unwrap() > 0, "{kind}: {seen}");
            }
        }
        assert_eq!(self.world.arrivals(FORBIDDEN), [""; 0]);
        assert_eq!(self.world.arrivals(&[NOT_LISTED]), [""; 0]);
        // The same attempts arrive once the policy is switched off, so they would have been seen.
        let sandbox = Sandbox::of(&self.server, &self.boxes[0]);
        sandbox.set_network(&json!({ "domainAllowList": "" }));
        sandbox.ok("rm /tmp/stop; (sleep 1; touch /tmp/stop) & python3 /tmp/load.py traffic");
        let arrived = self.world.arrivals(&["93.184.66.6", NOT_LISTED]);
        for attempt in [
            "http 93.184.66.6 80",
            "http 93.184.10.1 80",
            "tcp 93.184.66.6 8080",
            "udp 93.184.66.6 443",
        ] {
            assert!(arrived.iter().any(|line| line == attempt), "{attempt}");
        }
    }
}

/// The logs of the second command of a session, once it ended by itself; its shell must be the one of before.
fn finished(sandbox: &Sandbox<'_>, session: &str) -> Value {
    let base = format!("process/session/{session}");
    let commands = sandbox.toolbox("GET", &base, &Value::Null);
    let id = commands["commands"][1]["id"].as_str().unwrap().to_owned();
    let path = format!("{base}/command/{id}");
    eventually("the command ends", || {
        sandbox.toolbox("GET", &path, &Value::Null)["exitCode"].is_number()
    });
    assert_eq!(sandbox.toolbox("GET", &path, &Value::Null)["exitCode"], 0, "{session}");
    let shell =
        sandbox.toolbox("POST", &format!("{base}/exec"), &json!({ "command": "echo $MINE" }));
    assert_eq!(shell["stdout"], "kept\n");
    sandbox.toolbox("GET", &format!("{path}/logs"), &Value::Null)
}

/// How many lines it printed; both streams hold every one, in order, and the end.
fn lines_without_a_gap(logs: &Value) -> usize {
    let lines = |stream: &str| logs[stream].as_str().unwrap().lines().map(str::to_owned).collect();
    let (out, errors): (Vec<String>, Vec<String>) = (lines("stdout"), lines("stderr"));
    let count = out.len() - 1;
    for (at, line) in out[..count].iter().enumerate() {
        assert_eq!(*line, format!("line {}", at + 1), "a gap in standard output");
    }
    assert_eq!(out[count], format!("end {count}"));
    for (at, line) in errors.iter().enumerate() {
        assert_eq!(*line, format!("tenth {}0", at + 1), "a gap in standard error");
    }
    assert_eq!(errors.len(), count / 10);
    count
}

fn strikes() -> usize {
    let full = std::env::var("MAYFLY_TEST_SCALE").is_ok_and(|scale| scale == "full");
    if full { 60 } else { 4 }
}

#[test]
fn kills_of_the_server_leave_sandboxes_their_work_their_output_and_their_policy() {
    let mut load = Load::start();
    let mut slowest = Duration::ZERO;
    for _ in 0..strikes() {
        load.dice.moment();
        load.server.kill();
        load.goes_on("while no server runs");
        load.dice.moment();
        load.server.restart();
        slowest = slowest.max(load.new_connections());
    }
    assert!(slowest < RECOVERY, "new connections work only after {slowest:?}");
    load.end();
}

#[test]
fn kills_of_the_network_process_stop_traffic_until_it_is_started_again() {
    let mut load = Load::start();
    let mut slowest = Duration::ZERO;
    for _ in 0..strikes() {
        load.dice.moment();
        let pid = network_process(&load.server);
        assert!(Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap().success());
        slowest = slowest.max(load.new_connections());
        eventually("another network process runs", || network_process(&load.server) != pid);
    }
    assert!(slowest < RECOVERY, "new connections work only after {slowest:?}");
    let events = restarts(&load.server);
    assert_eq!(events, strikes(), "every end of it is an event");
    load.end();
}

/// Both at once: the server cannot start the network process again before it is started itself.
#[test]
fn kills_of_both_leave_no_moment_without_the_policy() {
    let mut load = Load::start();
    for _ in 0..strikes() {
        load.dice.moment();
        let pid = network_process(&load.server).to_string();
        let network = || Command::new("kill").args(["-KILL", &pid]).status().unwrap();
        if load.dice.below(2) == 0 {
            load.server.kill();
            network();
        } else {
            network();
            load.server.kill();
        }
        load.dice.moment();
        load.server.restart();
        load.new_connections();
    }
    load.end();
}

/// The one that works for this server, whoever started it.
fn network_process(server: &Server) -> u32 {
    let audit = server.data().join("audit");
    processes_of(&audit).first().map_or(0, |(pid, _)| *pid)
}

/// Events that tell of an ended network process, as the database has them.
fn restarts(server: &Server) -> usize {
    let program = "import sqlite3, sys\n\
                   rows = sqlite3.connect(sys.argv[1]).execute(\
                   \"SELECT count(*) FROM events WHERE second LIKE 'network process % ended%'\")\n\
                   print(rows.fetchone()[0])";
    let database = server.data().join("state.db");
    let output = Command::new("/usr/bin/python3").args(["-c", program]).arg(database).output();
    String::from_utf8(output.unwrap().stdout).unwrap().trim().parse().unwrap()
}
