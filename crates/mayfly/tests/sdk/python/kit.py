"""What the scenarios share: the published client in both its forms, and checks that say what differs.

A scenario is written once, as a coroutine. `now` waits for a result only where the client hands out
something to wait for, so the same lines drive the sync client, outside any event loop, and the async one.
"""

import asyncio
import importlib
import importlib.metadata
import inspect
import os
import sys
import time
import uuid

import daytona

FORM, GROUP = sys.argv[1:3]
VERSION = importlib.metadata.version("daytona")
# Some calls and arguments came with 0.200.
NEWER = tuple(map(int, VERSION.split(".")[:2])) >= (0, 200)


async def now(result):
    return await result if inspect.isawaitable(result) else result


async def every(items):
    return [item async for item in items] if hasattr(items, "__aiter__") else list(items)


async def raises(kinds, call, *says):
    """The call must fail with the first of these classes that this version of the SDK has."""
    kind = next(getattr(daytona, name) for name in kinds.split("|") if hasattr(daytona, name))
    try:
        result = await now(call())
    except Exception as error:
        assert type(error) is kind, f"expected {kind.__name__}, not {error!r}"
        for part in says:
            assert part in str(error), f"`{part}` is missing in: {error}"
        return error
    raise AssertionError(f"expected {kind.__name__}, not the result {result!r:.2000}")


def same(found, expected):
    assert found == expected, f"found {found!r:.2000}, expected {expected!r:.2000}"


def client(**settings):
    config = daytona.DaytonaConfig(**settings)
    return daytona.Daytona(config) if FORM == "sync" else daytona.AsyncDaytona(config)


async def close(client):
    if hasattr(client, "close"):
        await now(client.close())


def params(**settings):
    """A name of its own, because all tests of one SDK may share a server."""
    settings.setdefault("name", f"sdk-{uuid.uuid4().hex[:12]}")
    return daytona.CreateSandboxFromSnapshotParams(**settings)


async def generated():
    """The generated client under the SDK, for what the SDK's own classes do not pass on."""
    suffix = "" if FORM == "sync" else "_async"
    api = importlib.import_module(f"daytona_api_client{suffix}")
    configuration = api.Configuration(host=os.environ["DAYTONA_API_URL"])
    plain = api.ApiClient(configuration)
    plain.default_headers["Authorization"] = f"Bearer {os.environ['DAYTONA_API_KEY']}"
    return api, plain


class Within:
    """The block must end in time: an SDK that waits for events which never come takes seconds."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __enter__(self):
        self.start = time.monotonic()

    def __exit__(self, kind, *_):
        took = time.monotonic() - self.start
        assert kind or took <= self.seconds, f"took {took:.2f} s, expected at most {self.seconds} s"


async def scenario():
    await importlib.import_module(GROUP).scenario()


if __name__ == "__main__":
    # The modules import this one by name; it must be the same module then, not a second one.
    sys.modules["kit"] = sys.modules["__main__"]
    if FORM == "async":
        asyncio.run(scenario())
    else:
        try:
            scenario().send(None)
        except StopIteration:
            pass
        else:
            raise AssertionError("the sync client waited for an event loop")
    print(f"ok: daytona {VERSION} {FORM} {GROUP}")
