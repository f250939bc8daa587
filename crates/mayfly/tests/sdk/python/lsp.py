"""Language servers in a sandbox: real ones for Python and TypeScript, none, and hostile ones."""

from daytona import LspCompletionPosition

from kit import FORM, NEWER, Within, client, close, now, params, raises, same

MISSING = "DaytonaLspServerNotInitializedError|DaytonaBadRequestError|DaytonaValidationError|DaytonaError"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

MODULE = b"""import os


class Animal:
    def speak(self) -> str:
        return "..."

    def sleep_well(self) -> None: ...


def make_animal() -> Animal:
    return Animal()


make_animal().
"""
SCRIPT = b"""export interface Point { across: number; down: number }
export function makePoint(): Point {
  return { across: 1, down: 2 }
}
const umlaut = '\xc3\xbc'
makePoint().
"""


async def scenario():
    daytona = client()
    sandbox = await now(daytona.create(params()))
    await refusals(sandbox)
    await python(sandbox, "a project", "a project/main ü.py")
    await typescript(sandbox)
    await now(sandbox.delete())
    if NEWER and FORM == "sync":
        await hostile(daytona)
    await close(daytona)


def server(sandbox, language, project):
    return sandbox.create_lsp_server(language, project)


async def refusals(sandbox):
    await now(sandbox.fs.upload_file(MODULE, "idle/a.py"))
    lsp = server(sandbox, "python", "idle")
    at = LspCompletionPosition(line=0, character=0)
    for call in (
        lambda: lsp.did_open("idle/a.py"),
        lambda: lsp.did_close("idle/a.py"),
        lambda: lsp.document_symbols("idle/a.py"),
        lambda: lsp.sandbox_symbols("x"),
        lambda: lsp.completions("idle/a.py", at),
        lambda: lsp.stop(),
    ):
        error = await raises(MISSING, call)
        same(error.status_code, 400)
    await raises("DaytonaBadRequestError|DaytonaValidationError|DaytonaError", lambda: server(sandbox, "cobol", "idle").start(), "languageId")


async def python(sandbox, project, path):
    await now(sandbox.fs.upload_file(MODULE, path))
    await now(sandbox.fs.upload_file(b"def other_function():\n    pass\n", f"{project}/other.py"))
    lsp = server(sandbox, "python", project)
    await now(lsp.start())
    await now(lsp.start())
    await now(lsp.did_open(path))
    found = await now(lsp.completions(path, LspCompletionPosition(line=14, character=14)))
    labels = {item.label for item in found.items}
    assert {"speak", "sleep_well"} <= labels, labels
    symbols = await now(lsp.document_symbols(path))
    names = [(symbol.name, symbol.kind) for symbol in symbols]
    same([name for name in names if name[0] in ("Animal", "speak", "make_animal")],
         [("Animal", 5), ("speak", 6), ("make_animal", 12)])
    first = next(symbol for symbol in symbols if symbol.name == "Animal")
    same((first.location.uri, first.location.range.start.line), (f"file://{path}", 3))
    # Without opening it, with a path within the project, and after a change.
    same([symbol.name for symbol in await now(lsp.document_symbols("other.py"))], ["other_function"])
    await now(sandbox.fs.upload_file(MODULE.replace(b"speak", b"shout"), path))
    names = {symbol.name for symbol in await now(lsp.document_symbols(path))}
    assert "shout" in names and "speak" not in names, names
    wide = await now(lsp.sandbox_symbols("other_func"))
    same([(symbol.name, symbol.kind, symbol.location.uri) for symbol in wide],
         [("other_function", 12, f"file://{project}/other.py")])
    await now(lsp.did_close(path))
    await now(lsp.did_close(path))
    await raises("DaytonaFileNotFoundError|DaytonaNotFoundError|DaytonaError", lambda: lsp.did_open("none.py"), "none.py")
    # What ends by itself is not there any more, and starts again.
    await now(sandbox.process.exec("pkill -9 -f [p]yright-langserver"))
    await raises(MISSING, lambda: lsp.sandbox_symbols("x"), "137")
    await now(lsp.start())
    same([symbol.name for symbol in await now(lsp.document_symbols("other.py"))], ["other_function"])
    await now(lsp.stop())
    await raises(MISSING, lambda: lsp.did_open(path))
    left = await now(sandbox.process.exec("pgrep -c -f [p]yright-langserver"))
    same(left.result, "0\n")


async def typescript(sandbox):
    path = "/srv/points/main.ts"
    await now(sandbox.fs.upload_file(SCRIPT, path))
    lsp = server(sandbox, "typescript", "/srv/points")
    await now(lsp.start())
    await now(lsp.did_open(path))
    found = await now(lsp.completions(path, LspCompletionPosition(line=5, character=12)))
    same(sorted(item.label for item in found.items), ["across", "down"])
    symbols = {symbol.name: symbol for symbol in await now(lsp.document_symbols(path))}
    assert {"Point", "makePoint", "umlaut"} <= set(symbols), symbols
    same((symbols["makePoint"].kind, symbols["makePoint"].location.uri), (12, f"file://{path}"))
    wide = await now(lsp.sandbox_symbols("makePoint"))
    same([(symbol.name, symbol.location.uri) for symbol in wide], [("makePoint", f"file://{path}")])
    script = server(sandbox, "javascript", "/srv/points")
    await now(script.start())
    await now(sandbox.fs.upload_file(b"function plainly() {}\n", "/srv/points/a.js"))
    same([symbol.name for symbol in await now(script.document_symbols("a.js"))], ["plainly"])
    await now(script.stop())
    await now(lsp.stop())


# Answers the handshake as a language server must; what comes then is up to it.
HANDSHAKE = """#!/usr/bin/python3
import json, sys, time
def read():
    size = 0
    while line := sys.stdin.buffer.readline().strip():
        size = int(line.split(b":")[1])
    return json.loads(sys.stdin.buffer.read(size))
def say(**message):
    body = json.dumps({"jsonrpc": "2.0", **message}).encode()
    sys.stdout.buffer.write(b"Content-Length: %d\\r\\n\\r\\n%s" % (len(body), body))
    sys.stdout.buffer.flush()
say(id=read()["id"], result={"capabilities": {}})
read(), read(), read()
"""
EVILS = {
    "endless header": "while True: sys.stdout.write('x' * 65536)",
    "huge message": "sys.stdout.write('Content-Length: 99999999999\\r\\n\\r\\n'); sys.stdout.flush(); time.sleep(99)",
    "no json": "sys.stdout.write('Content-Length: 3\\r\\n\\r\\n{{{'); sys.stdout.flush(); time.sleep(99)",
    "endless talk": "while True: say(method='x', params='y' * 100000)",
    "endless questions": "n = 0\nwhile True: n += 1; say(id=n, method='workspace/configuration', params={'items': [{}] * 1000})",
    "odd answer": "say(id=read()['id'], result={'items': 3}); time.sleep(99)",
    "end": "sys.exit(3)",
}


async def hostile(daytona):
    """Whatever it does, the call ends with an error in time, and the server serves on."""
    sandbox = await now(daytona.create(params(env_vars={"PATH": f"/root/bin:{PATH}"})))
    at = LspCompletionPosition(line=0, character=0)
    program = "/root/bin/basedpyright-langserver"
    await now(sandbox.fs.upload_file(b"x = 1\n", "p/a.py"))
    for name, evil in EVILS.items():
        await now(sandbox.fs.upload_file((HANDSHAKE + evil).encode(), program))
        await now(sandbox.process.exec(f"chmod +x {program}"))
        lsp = server(sandbox, "python", "p")
        await now(lsp.start())
        with Within(60):
            try:
                found = await now(lsp.completions("p/a.py", at))
            except Exception as error:
                status = getattr(error, "status_code", None)
                assert status in (400, 408, 503), (name, error)
            else:
                raise AssertionError(f"{name}: expected an error, not {found!r:.2000}")
        try:
            await now(lsp.stop())
        except Exception as error:
            same((name, error.status_code), (name, 400))
    # None at all.
    await now(sandbox.fs.upload_file(b"#!/bin/sh\nexit 127\n", program))
    error = await raises("DaytonaError", lambda: server(sandbox, "python", "p").start(), "basedpyright-langserver", "pylsp")
    same(error.status_code, 501)
    same((await now(sandbox.process.exec("echo on"))).result, "on\n")
    await now(sandbox.delete())
