//! L1 for what stays: processes, queues and output outlive the server; with their sandbox they end.

use mayfly_core::ports::runtime::Runtime as _;
use mayfly_core::process::Wiring;
use mayfly_core::{Code, Kind};

use crate::harness::Bench;
use crate::staying::{Staying, TERMINAL};

#[test]
fn l01_processes_go_on_without_a_server() {
    let Some(mut bench) = Bench::open("L1") else { return };
    let id = bench.sandbox().id();
    let staying = Staying { bench: &bench, id };
    let shell = staying.start(&[], Wiring::Shell);
    staying.queue(shell, "A=kept; cd /tmp");
    let running = staying.queue(shell, "echo one; read x; echo two $x; sleep 0.2; echo three");
    let queued = staying.queue(shell, "echo $A $PWD");
    let terminal = staying.start(&["sh"], TERMINAL);
    staying.until(running, "one\n");
    staying.write(running, "input\n").unwrap();
    staying.write(terminal, "echo fr''om\n").unwrap();
    let before = staying.list();
    bench.reopen();
    let staying = Staying { bench: &bench, id };
    let after = staying.list();
    assert_eq!(before.len(), after.len());
    for (before, after) in before.iter().zip(&after) {
        let same = (after.number, &after.note, after.started_at, after.wiring, after.shell);
        assert_eq!(
            same,
            (before.number, &before.note, before.started_at, before.wiring, before.shell)
        );
    }
    assert_eq!(staying.whole(running).text(), "one\ntwo input\nthree\n");
    assert_eq!(staying.whole(queued).text(), "kept /tmp\n", "the queue goes on");
    staying.until(terminal, "from\r\n");
    staying.write(terminal, "exit 4\n").unwrap();
    assert_eq!(staying.whole(terminal).code, Some(4));
    assert_eq!(staying.whole(staying.queue(shell, "echo $A again")).text(), "kept again\n");
}

#[test]
fn l01_what_stays_ends_with_its_sandbox_and_is_still_read() {
    let Some(mut bench) = Bench::open("L1") else { return };
    for way in ["stop", "kill", "kill without a server"] {
        let sandbox = bench.sandbox();
        let (id, pid) = (sandbox.id(), sandbox.pid());
        let spec = sandbox.spec.clone();
        let staying = Staying { bench: &bench, id };
        let shell = staying.start(&[], Wiring::Shell);
        let done = staying.queue(shell, "echo done; echo error >&2");
        let running = staying.queue(shell, "echo running; sleep 600");
        let waiting = staying.queue(shell, "echo never");
        staying.until(running, "running\n");
        let mut follower = staying.follow(running);
        let kill = || {
            let pid = rustix::process::Pid::from_raw(pid).unwrap();
            rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
        };
        match way {
            "stop" => bench.wait(bench.runtime().stop(id, std::time::Duration::ZERO)).unwrap(),
            "kill" => {
                kill();
                assert_eq!(bench.wait(bench.runtime().next_exit()).id, id);
            }
            _ => {
                drop(follower);
                bench.reopen_after(kill);
                follower = Staying { bench: &bench, id }.follow(running);
            }
        }
        let staying = Staying { bench: &bench, id };
        let mut said = crate::staying::Said::default();
        while said.code.is_none() {
            staying.read(&mut *follower, &mut said);
        }
        assert_eq!((said.text().as_str(), said.code), ("running\n", Some(137)), "{way}");
        let codes: Vec<_> = staying.list().iter().map(|process| process.exit_code).collect();
        assert_eq!(codes, [Some(137), Some(0), Some(137), Some(137)], "{way}");
        assert_eq!(staying.whole(done).total, 11);
        let error = staying.write(running, "x").unwrap_err();
        assert_eq!(error.code(), Some(Code::SandboxNotStarted), "{way}");
        staying.kill(running);
        let newest = staying.list().last().unwrap().number;
        bench.wait(staying.processes().forget(id, newest)).unwrap();
        assert_eq!((newest, staying.list().len()), (waiting, 3), "{way}");
        bench.wait(bench.runtime().start(&spec)).unwrap();
        let error = staying.try_queue(shell, "echo x").unwrap_err();
        assert_eq!((error.kind(), error.code()), (Kind::Gone, Some(Code::SessionEnded)), "{way}");
        let new = staying.start(&["true"], Wiring::Pipes);
        assert!(new > waiting, "numbers go on counting");
        assert_eq!(staying.whole(done).total, 11, "what was kept is still there");
        bench.wait(staying.processes().forget(id, done)).unwrap();
        let error = bench.wait(staying.processes().follow(id, done, 0)).unwrap_err();
        assert_eq!(error.code(), Some(Code::ProcessNotFound));
        bench.wait(bench.runtime().destroy(id)).unwrap();
    }
}
