//! Use of a sandbox without control groups: added up over process 1 and all that descends from it.

use std::fs;
use std::io::Read;

use super::cgroup::GroupUsage;

/// Most processes that are looked at; more than a sandbox may have.
const MOST: usize = 65_536;
/// Longest list of children or line of numbers that is read, bytes.
const LINE: u64 = 1 << 20;

/// Use now. Processes that come and go meanwhile count or do not.
pub(super) fn usage(first: i32) -> GroupUsage {
    let mut usage = GroupUsage::default();
    let mut waiting = vec![first];
    let mut seen = 0;
    while let Some(pid) = waiting.pop() {
        seen += 1;
        if seen > MOST {
            break;
        }
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { continue };
        for thread in threads.flatten() {
            usage.pids += 1;
            let children = read(&format!("{}/children", thread.path().display()));
            waiting.extend(children.split_whitespace().filter_map(|pid| pid.parse::<i32>().ok()));
        }
        usage.cpu_nanos += processor_time(&read(&format!("/proc/{pid}/stat")));
        let pages = read(&format!("/proc/{pid}/statm"));
        let resident = pages.split(' ').nth(1).and_then(|number| number.parse::<u64>().ok());
        usage.memory_bytes += resident.unwrap_or(0) * rustix::param::page_size() as u64;
    }
    usage
}

fn read(path: &str) -> String {
    let mut text = String::new();
    if let Ok(file) = fs::File::open(path) {
        let _ = file.take(LINE).read_to_string(&mut text);
    }
    text
}

/// Nanoseconds of a process's `stat`, and of its children that ended and were reaped.
fn processor_time(stat: &str) -> u64 {
    // The name in parentheses may hold anything; what follows are numbers from the third field on.
    let rest = stat.rsplit_once(") ").map_or("", |(_, rest)| rest);
    let ticks: u64 =
        rest.split(' ').skip(11).take(4).filter_map(|field| field.parse::<u64>().ok()).sum();
    ticks * (1_000_000_000 / rustix::param::clock_ticks_per_second().max(1))
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_family_is_counted_with_its_children() {
        let mut shell =
            Command::new("sh").args(["-c", "sleep 20 & sleep 20 & wait"]).spawn().unwrap();
        let pid = i32::try_from(shell.id()).unwrap();
        let counted = || usage(pid).pids == 3;
        let all = (0..200).any(|_| {
            std::thread::sleep(std::time::Duration::from_millis(5));
            counted()
        });
        let used = usage(pid);
        for child in read(&format!("/proc/{pid}/task/{pid}/children")).split_whitespace() {
            let child = rustix::process::Pid::from_raw(child.parse().unwrap()).unwrap();
            let _ = rustix::process::kill_process(child, rustix::process::Signal::KILL);
        }
        shell.wait().unwrap();
        assert!(all && used.memory_bytes > 0, "{used:?}");
        assert_eq!(usage(pid), GroupUsage::default(), "a family that is gone uses nothing");
    }

    #[test]
    fn processor_time_is_read_behind_any_name() {
        let fields: Vec<String> = (3..30).map(|number| number.to_string()).collect();
        let stat = format!("7 (a) b) c) S {}", fields[1..].join(" "));
        let tick = 1_000_000_000 / rustix::param::clock_ticks_per_second();
        // Fields 14 to 17 of proc(5).
        assert_eq!(processor_time(&stat), (14 + 15 + 16 + 17) * tick);
        assert_eq!(processor_time(""), 0);
    }
}
