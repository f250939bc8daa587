"""Sandboxes from creation to deletion."""

from daytona import ListSandboxesQuery, Resources, SandboxState

from kit import FORM, NEWER, Within, client, close, every, generated, now, params, same


async def scenario():
    daytona = client()
    await defaults(daytona)
    await everything_asked_for(daytona)
    await resources_at_create()
    await stop_and_start(daytona)
    await settings(daytona)
    await lists(daytona)
    await deletion(daytona)
    await close(daytona)


async def defaults(daytona):
    with Within(3):
        sandbox = await now(daytona.create())
    same(sandbox.state, "started")
    same((sandbox.cpu, sandbox.memory, sandbox.disk, sandbox.gpu), (1, 1, 3, 0))
    same(sandbox.target, "us")
    same(sandbox.snapshot, "host")
    same(sandbox.labels, {"code-toolbox-language": "python"})
    same((sandbox.auto_stop_interval, sandbox.auto_delete_interval), (15, -1))
    same((sandbox.public, sandbox.network_block_all), (False, False))
    same(await now(sandbox.get_user_home_dir()), "/root")
    same(await now(sandbox.get_work_dir()), "/root")
    with Within(3):
        await now(sandbox.delete())


async def everything_asked_for(daytona):
    asked = params(
        language="javascript",
        labels={"team": "blue", "häuser": "3 & 4"},
        env_vars={"COLOUR": "a b\n\"c\" $HOME ü"},
        public=True,
        auto_stop_interval=0,
        auto_archive_interval=60,
        auto_delete_interval=120,
        network_block_all=True,
    )
    sandbox = await now(daytona.create(asked))
    same(sandbox.name, asked.name)
    same(sandbox.labels, {"team": "blue", "häuser": "3 & 4", "code-toolbox-language": "javascript"})
    same(sandbox.env, {"COLOUR": "a b\n\"c\" $HOME ü"})
    same(sandbox.public, True)
    intervals = sandbox.auto_stop_interval, sandbox.auto_archive_interval, sandbox.auto_delete_interval
    same(intervals, (0, 60, 120))
    same((await now(sandbox.process.exec('printf %s "$COLOUR"'))).result, "a b\n\"c\" $HOME ü")
    same((await now(sandbox.process.code_run("console.log(6 * 7)"))).result, "42\n")
    found = await now(daytona.get(asked.name))
    same((found.id, found.labels, found.env), (sandbox.id, sandbox.labels, sandbox.env))
    await now(sandbox.delete())

    ephemeral = await now(daytona.create(params(ephemeral=True)))
    same(ephemeral.auto_delete_interval, 0)
    with Within(5):
        await now(ephemeral.stop())
    same(ephemeral.state, "destroyed")


async def resources_at_create():
    # The SDK sends resources only beside an image to build, so its generated client asks here.
    api, plain = await generated()
    made = await now(api.SandboxApi(plain).create_sandbox(api.CreateSandbox(cpu=2, memory=2, disk=4)))
    same((made.cpu, made.memory, made.disk), (2, 2, 4))
    await now(api.SandboxApi(plain).delete_sandbox(made.id))
    if FORM == "async":
        await plain.close()


async def stop_and_start(daytona):
    sandbox = await now(daytona.create(params()))
    await now(sandbox.fs.upload_file(b"kept", "kept.txt"))
    with Within(4):
        await now(sandbox.stop())
    same(sandbox.state, "stopped")
    with Within(4):
        await now(sandbox.resize(Resources(cpu=2, memory=2, disk=5)))
    same((sandbox.cpu, sandbox.memory, sandbox.disk, sandbox.state), (2, 2, 5, "stopped"))
    with Within(4):
        await now(sandbox.start())
    same(sandbox.state, "started")
    same((await now(sandbox.process.exec("cat kept.txt"))).result, "kept")
    await now(sandbox.resize(Resources(cpu=1)))
    same((sandbox.cpu, sandbox.memory, sandbox.state), (1, 2, "started"))
    with Within(4):
        await now(sandbox.stop(force=True))
    await now(sandbox.archive())
    assert sandbox.state in ("archiving", "archived"), sandbox.state
    with Within(6):
        await now(sandbox.start())
    same((await now(sandbox.process.exec("cat kept.txt"))).result, "kept")
    await now(daytona.stop(sandbox))
    await now(daytona.start(sandbox))
    same(sandbox.state, "started")
    await now(daytona.delete(sandbox))


async def settings(daytona):
    sandbox = await now(daytona.create(params()))
    same(await now(sandbox.set_labels({"a": "1"})), {"a": "1"})
    await now(sandbox.set_autostop_interval(7))
    await now(sandbox.set_auto_archive_interval(8))
    await now(sandbox.set_auto_delete_interval(9))
    if hasattr(sandbox, "set_ttl"):
        await now(sandbox.set_ttl(10))
    if hasattr(sandbox, "set_public"):
        await now(sandbox.set_public(True))
    await now(sandbox.refresh_activity())
    await now(sandbox.refresh_data())
    same(sandbox.labels, {"a": "1"})
    intervals = sandbox.auto_stop_interval, sandbox.auto_archive_interval, sandbox.auto_delete_interval
    same(intervals, (7, 8, 9))
    if hasattr(sandbox, "set_ttl"):
        assert sandbox.auto_destroy_at, "a ttl sets the time of destruction"
    if hasattr(sandbox, "set_public"):
        same(sandbox.public, True)
    if hasattr(sandbox, "get_metrics_latest"):
        metrics = await now(sandbox.get_metrics_latest())
        same((metrics.mem_total, metrics.disk_total > 0), (1 << 30, True))
    await now(sandbox.delete())


async def lists(daytona):
    mark = params().name
    made = [await now(daytona.create(params(name=f"{mark}-{n}", labels={"mark": mark}))) for n in range(5)]
    await now(made[0].stop())
    listed = await every(daytona.list(ListSandboxesQuery(labels={"mark": mark}, limit=2)))
    same(sorted(item.id for item in listed), sorted(item.id for item in made))
    same([item.id for item in listed], [item.id for item in reversed(made)])
    by_name = await every(daytona.list(ListSandboxesQuery(name=f"{mark}-3".upper())))
    same([item.name for item in by_name], [f"{mark}-3"])
    stopped = await every(daytona.list(ListSandboxesQuery(labels={"mark": mark}, states=[SandboxState.STOPPED])))
    same([item.id for item in stopped], [made[0].id])
    same((await now(listed[0].process.exec("echo listed"))).result, "listed\n")

    api, plain = await generated()
    if hasattr(api.SandboxApi, "list_sandboxes_paginated_deprecated"):
        pages = api.SandboxApi(plain).list_sandboxes_paginated_deprecated
        labels = f'{{"mark": "{mark}"}}'
        first = await now(pages(page=1, limit=3, labels=labels))
        second = await now(pages(page=2, limit=3, labels=labels))
        same((first.total, first.page, first.total_pages, len(first.items)), (5, 1, 2, 3))
        same({item.id for item in first.items + second.items}, {item.id for item in made})
    if FORM == "async":
        await plain.close()
    for sandbox in made:
        await now(sandbox.delete())
    same(await every(daytona.list(ListSandboxesQuery(labels={"mark": mark}))), [])


async def deletion(daytona):
    sandbox = await now(daytona.create(params()))
    name = sandbox.name
    with Within(4):
        await now(sandbox.delete())
    await now(sandbox.delete())
    again = await now(daytona.create(params(name=name)))
    assert again.id != sandbox.id, "a new sandbox under the free name"
    if NEWER:
        with Within(4):
            await now(again.delete(60, wait=True))
        same(again.state, "destroyed")
    else:
        await now(again.delete(60))
