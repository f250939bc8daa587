"""Processes that stay: sessions, terminals, interpreters."""

import asyncio
import time

from daytona import DaytonaError, SessionExecuteRequest
from daytona.common.pty import PtySize

from kit import FORM, VERSION, client, close, now, params, same

WHEN = tuple(map(int, VERSION.split(".")[:2]))
MARKED = WHEN < (0, 167)


async def scenario():
    daytona = client()
    sandbox = await now(daytona.create(params(env_vars={"FROM": "sandbox"})))
    process = sandbox.process
    await sessions(process)
    await streams(process)
    await terminals(process)
    await come_and_go(process)
    await interpreter(sandbox.code_interpreter)
    await now(sandbox.delete())
    await close(daytona)


async def run(process, session, command, **more):
    request = SessionExecuteRequest(command=command, **more)
    return await now(process.execute_session_command(session, request))


async def sessions(process):
    await now(process.create_session("one"))
    await now(process.create_session("two"))
    await run(process, "one", "export A=1; f() { echo f:$1; }; cd /tmp")
    done = await run(process, "one", "echo $A $FROM; f x; pwd; echo err >&2; (exit 5)")
    same((done.exit_code, done.stdout, done.stderr), (5, "1 sandbox\nf:x\n/tmp\n", "err\n"))
    done = await run(process, "two", "echo [$A]")
    same((done.exit_code, done.stdout, done.stderr or ""), (0, "[]\n", ""))
    try:
        await now(process.create_session("one"))
    except Exception as error:
        assert "409" in str(error) or "exists" in str(error), repr(error)
    else:
        raise AssertionError("a session of the same id")
    taken = await run(process, "one", "read x; echo got:$x", run_async=True)
    same(taken.exit_code, None)
    command = await now(process.get_session_command("one", taken.cmd_id))
    same((command.command, command.exit_code), ("read x; echo got:$x", None))
    await now(process.send_session_command_input("one", taken.cmd_id, "hello\n"))
    await ended(process, "one", taken.cmd_id)
    logs = await now(process.get_session_command_logs("one", taken.cmd_id))
    same((logs.stdout, logs.stderr or ""), ("got:hello\n", ""))
    shown = await now(process.get_session("one"))
    same([one.exit_code for one in shown.commands], [0, 5, 0])
    same(sorted(one.session_id for one in await now(process.list_sessions())), ["one", "two"])
    await now(process.delete_session("one"))
    same([one.session_id for one in await now(process.list_sessions())], ["two"])
    same((await run(process, "two", "exit 3")).exit_code, 3)
    try:
        await run(process, "two", "echo")
    except DaytonaError as error:
        assert "ended" in str(error), repr(error)
    else:
        raise AssertionError("a command after the end of its shell")
    await now(process.delete_session("two"))


async def ended(process, session, command):
    for _ in range(200):
        shown = await now(process.get_session_command(session, command))
        if shown.exit_code is not None:
            return shown.exit_code
        time.sleep(0.02)
    raise AssertionError(f"{command} does not end")


async def streams(process):
    await now(process.create_session("log"))
    script = "for i in 1 2 3 4 5; do echo out$i ü; echo err$i >&2; sleep 0.05; done; printf end"
    taken = await run(process, "log", script, run_async=True)
    for _ in ("while it runs", "after its end"):
        out, err = [], []
        follow = process.get_session_command_logs_async("log", taken.cmd_id, out.append, err.append)
        if FORM == "sync":
            asyncio.run(follow)
        else:
            await follow
        same("".join(out), "".join(f"out{i} ü\n" for i in range(1, 6)) + "end")
        same("".join(err), "".join(f"err{i}\n" for i in range(1, 6)))
    logs = await now(process.get_session_command_logs("log", taken.cmd_id))
    same((logs.stdout, logs.stderr), ("".join(out), "".join(err)))
    if not MARKED:
        assert "\x01" not in logs.output and "\x02" not in logs.output, logs.output
    await now(process.delete_session("log"))


def code(real):
    """The exit code that this version tells: versions of that time do not read the reason of a good close."""
    return 0 if WHEN < (0, 190) else real


class Screen:
    """What a terminal shows, for both forms of the client."""

    def __init__(self):
        self.seen = b""

    def __call__(self, data):
        self.seen += data

    def keywords(self):
        return {} if FORM == "sync" else {"on_data": self}

    async def wait(self, handle):
        if FORM == "sync":
            return handle.wait(on_data=self)
        return await handle.wait()

    async def until(self, handle, word):
        if FORM == "sync":
            for data in handle:
                self(data)
                if word in self.seen:
                    return
        for _ in range(500):
            if word in self.seen:
                return
            await asyncio.sleep(0.02)
        raise AssertionError(f"{word} is missing in {self.seen!r}")


async def terminals(process):
    screen = Screen()
    size = PtySize(cols=91, rows=21)
    handle = await now(
        process.create_pty_session(
            id="p1", cwd="/tmp", envs={"WORD": "of mouth"}, pty_size=size, **screen.keywords()
        )
    )
    await now(handle.wait_for_connection())
    await now(handle.send_input("echo [$WORD] $TERM; pwd; stty size; exit 3\n"))
    result = await screen.wait(handle)
    same((handle.exit_code, result.exit_code), (code(3), code(3)))
    for word in (b"[of mouth] xterm-256color", b"\n/tmp", b"21 91"):
        assert word in screen.seen, (word, screen.seen)
    await now(handle.disconnect())


async def come_and_go(process):
    screen = Screen()
    handle = await now(process.create_pty_session(id="p2", **screen.keywords()))
    await now(handle.wait_for_connection())
    await now(handle.send_input("echo be''fore\n"))
    await screen.until(handle, b"before\r\n")
    await now(handle.disconnect())
    (shown,) = [one for one in await now(process.list_pty_sessions()) if one.id == "p2"]
    same((shown.active, shown.cols, shown.rows), (True, 80, 24))
    again = Screen()
    handle = await now(process.connect_pty_session("p2", **again.keywords()))
    await now(handle.wait_for_connection())
    await again.until(handle, b"before\r\n")
    resized = await now(process.resize_pty_session("p2", PtySize(cols=100, rows=30)))
    same((resized.cols, resized.rows), (100, 30))
    await now(handle.send_input("stty size\n"))
    await again.until(handle, b"30 100")
    try:
        other = await now(process.create_pty_session(id="p2", **screen.keywords()))
    except Exception as error:
        assert "409" in str(error) or "exists" in str(error), repr(error)
    else:
        raise AssertionError(f"a living id was given twice: {other}")
    await now(process.kill_pty_session("p2"))
    same((await again.wait(handle)).exit_code, code(137))
    assert all(one.id != "p2" for one in await now(process.list_pty_sessions()))


async def interpreter(python):
    await now(python.run_code("import sys\nx = 41"))
    out, err = [], []
    done = await now(
        python.run_code(
            "print(x + 1)\nprint('oops', file=sys.stderr)",
            on_stdout=lambda message: out.append(message.output),
            on_stderr=lambda message: err.append(message.output),
        )
    )
    same((done.stdout, done.stderr, done.error), ("42\n", "oops\n", None))
    same(("".join(out), "".join(err)), ("42\n", "oops\n"))
    done = await now(python.run_code("def f():\n    raise ValueError('boom')\nf()"))
    same((done.error.name, done.error.value), ("ValueError", "boom"))
    assert "line 2, in f" in done.error.traceback, done.error.traceback
    assert "<string>" not in done.error.traceback, done.error.traceback
    context = await now(python.create_context(cwd="/tmp"))
    same((context.cwd, context.language, context.active), ("/tmp", "python", True))
    done = await now(python.run_code("import os; print(os.getcwd(), 'x' in globals())", context=context))
    same(done.stdout, "/tmp False\n")
    done = await now(python.run_code("import os; os.system('echo sub $A'); print(os.environ['A'])", envs={"A": "b"}))
    same(done.stdout, "sub b\nb\n")
    same([one.id for one in await now(python.list_contexts())], [context.id])
    try:
        await now(python.run_code("while True: pass", timeout=1))
    except Exception as error:
        assert "Timeout" in type(error).__name__, repr(error)
    else:
        raise AssertionError("a loop without end came to its end")
    same((await now(python.run_code("print(x)"))).stdout, "41\n")
    await now(python.delete_context(context))
    try:
        await now(python.run_code("1", context=context))
    except Exception as error:
        assert "not found" in str(error), repr(error)
    else:
        raise AssertionError("a context that is gone")
