//! Figures with many sandboxes alive: at rest, under mixed load, and found again after a kill.

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::measure::{Limit, Times, print, print_times, samples};
use crate::{Client, Server, multipart};

/// Clients of the mixed load.
const CLIENTS: usize = 16;
/// How long the machine is watched at rest.
const REST: Duration = Duration::from_secs(5);

/// 500 sandboxes that 16 clients use at once: commands, files, reads of state, and others that come and go.
pub(crate) fn mixed(server: &mut Server) {
    let (alive, count) = (samples(500), samples(4000));
    let ids: Vec<String> = (0..alive).map(|_| server.client.create()).collect();
    let mut idle = Times::default();
    for id in ids.iter().cycle().take(samples(200)) {
        let began = Instant::now();
        server.client.echo(id);
        idle.add(began.elapsed());
    }
    let (next, under_load) = (AtomicUsize::new(0), Mutex::new(Times::default()));
    let began = Instant::now();
    std::thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut client = Client::connect(&server.address);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= count {
                        return;
                    }
                    if let Some(time) = one(&mut client, number, &ids) {
                        under_load.lock().expect("no client panics in it").add(time);
                    }
                }
            });
        }
    });
    #[expect(clippy::cast_precision_loss, reason = "a few thousand")]
    let rate = count as f64 / began.elapsed().as_secs_f64();
    let under_load = under_load.into_inner().expect("no client panics in it");
    print("mixed load on 500 sandboxes", "1/s", count, (rate, rate), None, Limit::None);
    let idle = idle.percentile(0.5);
    print_times("exec under it", &under_load, Some(idle), Limit::None);
    let worst = under_load.percentile(0.99);
    let name = "exec under it, p99 by the idle p50";
    print(name, "us", under_load.count(), (worst, worst), Some(idle), Limit::Ratio(20.0));
    for id in &ids {
        server.client.delete(id);
    }
}

/// One call of the mix; the time of a command. Whatever is not answered well ends the benchmark.
fn one(client: &mut Client, number: usize, ids: &[String]) -> Option<Duration> {
    // Consecutive numbers lead to sandboxes far from each other.
    let id = &ids[number * 7919 % ids.len()];
    match number % 20 {
        0..8 => {
            let began = Instant::now();
            client.echo(id);
            return Some(began.elapsed());
        }
        8..13 => {
            let body = multipart("/tmp/file", &[7; 4096]);
            let path = format!("/toolbox/{id}/files/bulk-upload");
            let (status, _) = client.raw("POST", &path, "multipart/form-data; boundary=B", &body);
            assert_eq!(status, 200);
        }
        13..15 => drop(client.call("GET", &format!("/toolbox/{id}/files?path=/tmp"), None)),
        15..17 => drop(client.call("GET", &format!("/api/sandbox/{id}"), None)),
        17 => drop(client.call("GET", "/api/sandbox?limit=50", None)),
        18 => {
            let labels = json!({ "labels": { "number": number.to_string() } });
            client.call("PUT", &format!("/api/sandbox/{id}/labels"), Some(&labels));
        }
        _ => {
            let id = client.create();
            client.echo(&id);
            client.delete(&id);
        }
    }
    None
}

/// A thousand sandboxes at rest; then the server is killed, and the next one finds them.
pub(crate) fn adoption(mut server: Server, folder: &Path) {
    let n = samples(1000);
    let ids: Vec<String> = (0..n).map(|_| server.client.create()).collect();
    std::thread::sleep(Duration::from_secs(2));
    let before = processor_time();
    std::thread::sleep(REST);
    let used = (processor_time() - before) / REST.as_secs_f64() * 100.0;
    let name = "idle, 1,000 sandboxes, of a core";
    print(name, "%", n, (used, used), None, Limit::AtMost(2.0));
    let _ = server.child.kill();
    let _ = server.child.wait();
    std::mem::forget(server);
    let mut next = Server::start(folder, 0);
    let ready = next.ready.as_secs_f64() * 1e3;
    print("re-adoption of 1,000 sandboxes", "ms", n, (ready, ready), None, Limit::AtMost(2000.0));
    next.client.echo(&ids[0]);
    next.client.echo(&ids[n - 1]);
    for id in &ids {
        next.client.delete(id);
    }
}

/// Seconds that all processes of ours have run so far: servers, process 1 of each sandbox, network processes.
fn processor_time() -> f64 {
    let ours = |entry: &std::fs::DirEntry| {
        let name = std::fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        name.starts_with("mayfly")
    };
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten().filter(ours);
    let threads = processes.flat_map(|entry| {
        std::fs::read_dir(entry.path().join("task")).into_iter().flatten().flatten()
    });
    let nanoseconds = threads.filter_map(|thread| {
        let text = std::fs::read_to_string(thread.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    nanoseconds.sum::<f64>() / 1e9
}
