"""Volumes: made by name, shared by sandboxes, mounted in part, deleted when nobody mounts them (case 20)."""

import uuid

from daytona import VolumeMount

from kit import client, close, now, params, raises, same

GONE = "DaytonaNotFoundError|DaytonaError"
CONFLICT = "DaytonaConflictError|DaytonaError"
INVALID = "DaytonaBadRequestError|DaytonaValidationError|DaytonaError"


async def scenario():
    daytona = client()
    name = f"data-{uuid.uuid4().hex[:8]}"
    await raises(GONE, lambda: daytona.volume.get(name), name)
    volume = await now(daytona.volume.get(name, create=True))
    same((volume.name, volume.state), (name, "ready"))
    same((await now(daytona.volume.get(name))).id, volume.id)
    same([one.name for one in await now(daytona.volume.list())], [name])
    await raises(CONFLICT, lambda: daytona.volume.create(name), name)
    await refused(daytona, volume)
    await shared(daytona, volume)
    await now(daytona.volume.delete(volume))
    await raises(GONE, lambda: daytona.volume.get(name), name)
    same(await now(daytona.volume.list()), [])
    await close(daytona)


async def refused(daytona, volume):
    def wish(**mount):
        return lambda: daytona.create(params(volumes=[VolumeMount(**{"volume_id": volume.id, **mount})]))

    await raises(GONE, wish(volume_id="none", mount_path="/data"), "none")
    await raises(INVALID, wish(mount_path="data"), "mountPath")
    await raises(INVALID, wish(mount_path="/data", subpath="../up"), "subpath")


async def shared(daytona, volume):
    whole = await now(daytona.create(params(volumes=[VolumeMount(volume_id=volume.id, mount_path="/data")])))
    same([(one.volume_id, one.mount_path) for one in whole.volumes], [(volume.id, "/data")])
    await now(whole.fs.upload_file(b"from the whole", "/data/users/ann/file"))
    mount = VolumeMount(volume_id=volume.id, mount_path="/home/ann/mine", subpath="users/ann")
    part = await now(daytona.create(params(volumes=[mount])))
    same((await now(part.process.exec("cat /home/ann/mine/file"))).result, "from the whole")
    same((await now(part.process.exec("ls /home/ann/mine"))).result, "file\n")
    await now(part.process.exec("echo back > /home/ann/mine/answer"))
    same(await now(whole.fs.download_file("/data/users/ann/answer")), b"back\n")
    await raises(CONFLICT, lambda: daytona.volume.delete(volume), "in use")
    await now(whole.delete())
    await now(part.stop())
    await raises(CONFLICT, lambda: daytona.volume.delete(volume), "in use")
    await now(part.archive())
    await now(part.start())
    same((await now(part.process.exec("cat /home/ann/mine/file"))).result, "from the whole")
    await now(part.delete())
