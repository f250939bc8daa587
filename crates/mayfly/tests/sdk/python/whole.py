"""The whole flow in the words that every version of the client knows: from creation over all that is done with a
sandbox to its deletion."""

from daytona import SessionExecuteRequest

from kit import VERSION, client, close, every, now, params, same
from processes import terminals

ALL = bytes(range(256)) * 4000


async def scenario():
    daytona = client()
    sandbox = await now(daytona.create(params(labels={"whole": VERSION}, env_vars={"FROM": "sandbox"})))
    same(sandbox.state, "started")
    await commands(sandbox)
    await files(sandbox)
    await sessions(sandbox.process)
    await terminals(sandbox.process)
    await listed(daytona, sandbox)
    await now(sandbox.stop())
    await now(sandbox.start())
    same(await now(sandbox.fs.download_file("folder/all.bin")), ALL)
    await now(sandbox.delete())
    await close(daytona)


async def commands(sandbox):
    done = await now(sandbox.process.exec("echo $FROM; exit 3"))
    same((done.exit_code, done.result.strip()), (3, "sandbox"))
    done = await now(sandbox.process.code_run("print(sum(range(10)))"))
    same((done.exit_code, done.result.strip()), (0, "45"))


async def files(sandbox):
    fs = sandbox.fs
    await now(fs.create_folder("folder", "755"))
    await now(fs.upload_file(ALL, "folder/all.bin"))
    same(await now(fs.download_file("folder/all.bin")), ALL)
    same([file.name for file in await now(fs.list_files("folder"))], ["all.bin"])
    same((await now(fs.get_file_info("folder/all.bin"))).size, len(ALL))


async def sessions(process):
    await now(process.create_session("whole"))
    request = SessionExecuteRequest(command="echo out; echo err >&2; (exit 4)")
    done = await now(process.execute_session_command("whole", request))
    same((done.exit_code, done.stdout, done.stderr), (4, "out\n", "err\n"))
    await now(process.delete_session("whole"))


async def listed(daytona, sandbox):
    """Versions answer with a list, with a page, or with something to go through."""
    found = daytona.list()
    found = found if hasattr(found, "__aiter__") else await now(found)
    ids = [one.id for one in await every(getattr(found, "items", found))]
    assert sandbox.id in ids, ids
