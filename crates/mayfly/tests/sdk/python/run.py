"""Commands and programs."""

from daytona import CodeRunParams

from kit import Within, client, close, now, params, raises, same

TIMEOUT = "DaytonaProcessExecutionTimeoutError|DaytonaError"


async def scenario():
    daytona = client()
    sandbox = await now(daytona.create(params(env_vars={"FROM": "sandbox", "BOTH": "sandbox"})))
    await commands(sandbox)
    # Older versions have no call for it.
    if hasattr(sandbox, "update_env"):
        await environment(sandbox)
    await time_limits(sandbox)
    await python(sandbox)
    for language in ("javascript", "typescript"):
        other = await now(daytona.create(params(language=language)))
        await (javascript if language == "javascript" else typescript)(other)
        await now(other.delete())
    await now(sandbox.delete())
    await close(daytona)


async def commands(sandbox):
    run = sandbox.process.exec
    done = await now(run("echo out; echo err >&2; printf end"))
    same((done.exit_code, done.result, done.artifacts.stdout), (0, "out\nerr\nend", "out\nerr\nend"))
    same((await now(run("exit 7"))).exit_code, 7)
    same((await now(run("kill -9 $$"))).exit_code, 137)
    missing = await now(run("no-such-program"))
    same(missing.exit_code, 127)
    assert "no-such-program" in missing.result, missing.result
    same((await now(run("pwd", cwd="/usr/lib"))).result, "/usr/lib\n")
    seen = await now(run("printf '%s|' \"$FROM\" \"$BOTH\" \"$CALL\"", env={"BOTH": "call", "CALL": "a 'b' ü\n"}))
    same(seen.result, "sandbox|call|a 'b' ü\n|")
    same((await now(run("printf '\\303\\274 \\377'"))).result, "ü \ufffd")
    for size in range(200_000, 300_000, 10_000):
        long = await now(run(f"head -c {size} /dev/zero | tr '\\0' x"))
        same((long.exit_code, long.result == "x" * size), (0, True))
    same((await now(run("cat"))).result, "")
    same((await now(run("cd /tmp && a=1; echo \"$a $PWD\""))).result, "1 /tmp\n")
    await raises("DaytonaBadRequestError|DaytonaValidationError", lambda: run("pwd", cwd="/no/such"), "/no/such")


async def environment(sandbox):
    odd = "a=b \"c\" $(id)\n'ü"
    await now(sandbox.update_env({"LATER": odd, "BOTH": "later", "GONE": "x"}))
    await now(sandbox.update_env({"MORE": ""}, unset=["GONE", "NEVER"]))
    show = "printf '%s|' \"$FROM\" \"$BOTH\" \"$LATER\" \"${GONE-none}\" \"${MORE-none}\""
    same((await now(sandbox.process.exec(show))).result, f"sandbox|later|{odd}|none||")
    seen = await now(sandbox.process.exec(show, env={"BOTH": "call"}))
    same(seen.result, f"sandbox|call|{odd}|none||")
    await now(sandbox.update_env({}, unset=["LATER", "BOTH", "MORE"]))
    same((await now(sandbox.process.exec(show))).result, "sandbox|sandbox||none|none|")
    await raises("DaytonaBadRequestError|DaytonaValidationError", lambda: sandbox.update_env({"A=B": "x"}), "set")


async def time_limits(sandbox):
    with Within(3):
        error = await raises(TIMEOUT, lambda: sandbox.process.exec("sleep 61 & sleep 62", timeout=1), "timeout")
    same(error.status_code, 408)
    left = await now(sandbox.process.exec("ps -e -o args | grep -c '^sleep 6[12]'"))
    same(left.result, "0\n")
    with Within(3):
        try:
            await now(sandbox.process.code_run("import time; time.sleep(63)", timeout=1))
        except Exception as error:
            # `code_run` lets the error of the generated client through, in every version.
            same(error.status, 408)
            assert "PROCESS_EXECUTION_TIMEOUT" in str(error), error
        else:
            raise AssertionError("the program ran on")


async def python(sandbox):
    code_run = sandbox.process.code_run
    done = await now(code_run("import sys\nprint('ü', 1 + 1)\nprint('oops', file=sys.stderr)"))
    same((done.exit_code, done.result), (0, "ü 2\noops\n"))
    same(done.artifacts.charts, [])
    failed = await now(code_run("raise ValueError('boom')"))
    same(failed.exit_code, 1)
    assert "ValueError: boom" in failed.result, failed.result
    same((await now(code_run("raise SystemExit(5)"))).exit_code, 5)
    program = "import os, sys\nif __name__ == '__main__':\n    print(sys.argv[1:], os.environ['X'])"
    done = await now(code_run(program, CodeRunParams(argv=["a b", "-c"], env={"X": "y z"})))
    same(done.result, "['a b', '-c'] y z\n")


async def javascript(sandbox):
    code_run = sandbox.process.code_run
    program = "const os = require('os'); console.log(process.argv.slice(2), process.env.X, typeof os.cpus)"
    done = await now(code_run(program, CodeRunParams(argv=["a b"], env={"X": "y"})))
    same((done.exit_code, done.result), (0, "[ 'a b' ] y function\n"))
    failed = await now(code_run("throw new Error('boom')"))
    same(failed.exit_code, 1)
    assert "Error: boom" in failed.result, failed.result


async def typescript(sandbox):
    program = """
interface Point { x: number; y: number }
const sum = (points: Point[]): number => points.reduce((all, { x, y }) => all + x * y, 0);
console.log(sum([{ x: 2, y: 3 }, { x: 4, y: 5 }] as Point[]), process.argv.slice(2));
"""
    done = await now(sandbox.process.code_run(program, CodeRunParams(argv=["a b"])))
    same((done.exit_code, done.result), (0, "26 [ 'a b' ]\n"))
    same((await now(sandbox.process.code_run("process.exit(4 as number)"))).exit_code, 4)
