"""Refusals arrive as the SDK's own classes; what the server lacks says so and leaves nothing behind."""

import daytona
from daytona import CreateSandboxFromImageParams, ListSandboxesQuery, Resources, VolumeMount

from kit import Within, client, close, every, now, params, raises, same

INVALID = "DaytonaBadRequestError|DaytonaValidationError"


async def scenario():
    house = client()
    await absent(house)
    await keys()
    await creation(house)
    await states(house)
    await unsupported(house)
    same(await every(house.list()), [])
    await close(house)
    await nobody_there()


async def absent(house):
    unknown = "00000000-0000-4000-8000-000000000000"
    error = await raises("DaytonaNotFoundError", lambda: house.get(unknown), unknown)
    same(error.status_code, 404)
    same(getattr(error, "code", None) or error.error_code, "NOT_FOUND")
    await raises("DaytonaNotFoundError", lambda: house.get("no-such-name"), "no-such-name")
    gone = await now(house.create(params()))
    await now(gone.delete())
    with Within(3):
        await raises("DaytonaNotFoundError", lambda: gone.process.exec("true"), gone.id)
        await raises("DaytonaNotFoundError", lambda: gone.fs.list_files("/"), gone.id)


async def keys():
    stranger = client(api_key="mf_key_of_nobody")
    error = await raises("DaytonaAuthenticationError", lambda: stranger.create(params()))
    same(error.status_code, 401)
    await raises("DaytonaAuthenticationError", lambda: stranger.get("any"))
    await raises("DaytonaAuthenticationError", lambda: every(stranger.list()))
    await close(stranger)


async def creation(house):
    first = await now(house.create(params()))
    error = await raises("DaytonaConflictError", lambda: house.create(params(name=first.name)), first.name)
    same(error.status_code, 409)
    for settings, kind, says in [
        ({"snapshot": "no-such-snapshot"}, "DaytonaNotFoundError", "no-such-snapshot"),
        ({"name": "../etc"}, INVALID, "name"),
        ({"os_user": "nobody-here"}, INVALID, "nobody-here"),
        ({"env_vars": {"A=B": "x"}}, INVALID, "A=B"),
    ]:
        await raises(kind, lambda: house.create(params(**settings)), says)
    await now(first.delete())


async def states(house):
    sandbox = await now(house.create(params()))
    await raises("DaytonaConflictError", lambda: sandbox.archive(), "started")
    await raises(INVALID, lambda: sandbox.resize(Resources(disk=1)), "disk")
    await raises(INVALID, lambda: sandbox.resize(Resources(cpu=100_000)), "cpu")
    await now(sandbox.stop())
    error = await raises("DaytonaConflictError", lambda: sandbox.process.exec("true"), "stopped")
    same(error.status_code, 409)
    await now(sandbox.delete())


async def unsupported(house):
    sandbox = await now(house.create(params()))
    fork = getattr(sandbox, "fork", None) or sandbox._experimental_fork
    snapshot = getattr(sandbox, "create_snapshot", None) or sandbox._experimental_create_snapshot
    for feature, call in {
        "fork": lambda: fork(),
        "snapshot": lambda: snapshot("copy"),
        "volumes": lambda: house.volume.create("data"),
        "preview": lambda: sandbox.get_preview_link(3000),
        "ssh": lambda: sandbox.create_ssh_access(),
        "sessions": lambda: sandbox.process.create_session("one"),
        "git": lambda: sandbox.git.clone("http://127.0.0.1:1/none.git", "none"),
        "builds": lambda: house.create(CreateSandboxFromImageParams(image="alpine:3", resources=Resources(cpu=1))),
        "volume": lambda: house.create(params(volumes=[VolumeMount(volume_id="v", mount_path="/v")])),
        "linkedSandbox": lambda: house.create(params(linked_sandbox=sandbox.id)),
        "allow": lambda: house.create(params(network_allow_list="10.0.0.0/8")),
    }.items():
        with Within(3):
            error = await raises("DaytonaError", call, feature)
        same((feature, error.status_code), (feature, 501))
    with Within(3):
        try:
            await now(pty(sandbox))
        except daytona.DaytonaError as error:
            assert "501" in str(error) or "not supported" in str(error), error
        else:
            raise AssertionError("a terminal without a server for it")
    await now(sandbox.delete())


def pty(sandbox):
    size = daytona.PtySize(cols=80, rows=24)
    if hasattr(sandbox.process.create_pty_session, "__wrapped__") and "on_data" in str(
        __import__("inspect").signature(sandbox.process.create_pty_session)
    ):
        return sandbox.process.create_pty_session("one", on_data=print, pty_size=size)
    return sandbox.process.create_pty_session("one", pty_size=size)


async def nobody_there():
    lost = client(api_url="http://127.0.0.1:1/api")
    await raises("DaytonaConnectionError|DaytonaError", lambda: lost.get("any"))
    await close(lost)
