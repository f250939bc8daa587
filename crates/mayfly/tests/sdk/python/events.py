"""Changes of state reach the client by events at once; without them everything passes by polling."""

import asyncio
import json
import os
import statistics
import threading
import time
import urllib.request

import socketio

from kit import FORM, Within, client, close, now, params, same


async def scenario():
    daytona = client()
    await connected(daytona)
    await seen_at_once(daytona)
    await close(daytona)
    for kind in (socketio.Client, socketio.AsyncClient):
        kind.connect = blocked
    daytona = client()
    await without(daytona)
    same(daytona._event_dispatcher.is_connected, False)
    await close(daytona)


def blocked(*_, **__):
    raise socketio.exceptions.ConnectionError("blocked")


async def pause(seconds):
    if FORM == "async":
        await asyncio.sleep(seconds)
    else:
        time.sleep(seconds)


async def connected(daytona):
    for _ in range(100):
        if daytona._event_dispatcher.is_connected:
            return
        await pause(0.05)
    raise AssertionError("the client's own dispatcher did not connect")


async def seen_at_once(daytona):
    sandbox = await now(daytona.create(params()))
    late = []
    for _ in range(5):
        await now(sandbox.stop())
        changed = []

        def start():
            # Off the beat of the client's polling, which is once a second.
            time.sleep(0.3)
            call("POST", f"/sandbox/{sandbox.id}/start")
            changed.append(time.monotonic())

        other = threading.Thread(target=start)
        other.start()
        await now(sandbox.wait_for_sandbox_start(20))
        seen = time.monotonic()
        other.join()
        late.append(max(0, seen - changed[0]))
        same(sandbox.state, "started")
    # Polling alone would take 0.7 s each time.
    assert statistics.median(late) <= 0.5, f"start was seen after {late} s"
    print(f"start was seen {statistics.median(late) * 1000:.1f} ms after the server said so")
    await now(sandbox.delete())


async def without(daytona):
    with Within(30):
        sandbox = await now(daytona.create(params()))
        await now(sandbox.stop())
        same(sandbox.state, "stopped")
        await now(sandbox.start())
        same(sandbox.state, "started")
        same((await now(sandbox.process.exec("echo hi"))).result, "hi\n")
        await now(sandbox.delete())


def call(method, path):
    request = urllib.request.Request(os.environ["DAYTONA_API_URL"] + path, method=method)
    request.add_header("Authorization", f"Bearer {os.environ['DAYTONA_API_KEY']}")
    with urllib.request.urlopen(request) as answer:
        return json.load(answer)
