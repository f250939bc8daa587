"""Every call on files."""

import os
import tempfile

from daytona import FileDownloadRequest, FileUpload

from kit import NEWER, client, close, every, now, params, raises, same

MISSING = "DaytonaFileNotFoundError|DaytonaNotFoundError"
NAMES = ["plain.txt", "two words.txt", "it's \"quoted\".txt", "käse-ü-日本.txt", "back\\slash; $(id) #?&%41.txt"]


async def scenario():
    daytona = client()
    sandbox = await now(daytona.create(params()))
    with tempfile.TemporaryDirectory() as folder:
        await up_and_down(sandbox, folder)
        await many(sandbox, folder)
        await streams(sandbox)
    await names(sandbox)
    await folders(sandbox)
    await contents(sandbox)
    await refusals(sandbox)
    await now(sandbox.delete())
    await close(daytona)


async def up_and_down(sandbox, folder):
    fs = sandbox.fs
    everything = bytes(range(256)) * 1000
    await now(fs.upload_file(everything, "all.bin"))
    same(await now(fs.download_file("all.bin")), everything)
    same(await now(fs.download_file("/root/all.bin")), everything)
    await now(fs.upload_file(b"shorter", "all.bin"))
    same(await now(fs.download_file("all.bin")), b"shorter")

    local, back = os.path.join(folder, "local"), os.path.join(folder, "back")
    content = os.urandom(3_000_000)
    with open(local, "wb") as file:
        file.write(content)
    await now(fs.upload_file(local, "new/parents/are/made.bin"))
    await now(fs.download_file("new/parents/are/made.bin", back))
    with open(back, "rb") as file:
        same(file.read() == content, True)
    await now(fs.upload_file(b"", "empty"))
    same((await now(fs.get_file_info("empty"))).size, 0)


async def many(sandbox, folder):
    local = os.path.join(folder, "many")
    with open(local, "wb") as file:
        file.write(b"from a file")
    uploads = [FileUpload(b"number %d" % n, f"many/{n}.txt") for n in range(20)]
    await now(sandbox.fs.upload_files([*uploads, FileUpload(local, "many/local.txt")]))
    back = os.path.join(folder, "many-back")
    asked = [FileDownloadRequest(f"many/{n}.txt") for n in range(20)]
    asked += [FileDownloadRequest("many/none.txt"), FileDownloadRequest("many/local.txt", back)]
    *numbers, missing, stored = await now(sandbox.fs.download_files(asked))
    same([one.result for one in numbers], [b"number %d" % n for n in range(20)])
    same([one.error for one in numbers], [None] * 20)
    same((missing.source, missing.result), ("many/none.txt", None))
    assert "many/none.txt" in missing.error, missing.error
    same(missing.error_details.status_code, 404)
    code = getattr(missing.error_details, "code", None) or missing.error_details.error_code
    same(code, "FILE_NOT_FOUND")
    same(stored.result, back)
    with open(back, "rb") as file:
        same(file.read(), b"from a file")


async def streams(sandbox):
    content = os.urandom(2_000_000)
    sent, received = [], []
    await now(sandbox.fs.upload_file_stream(content, "stream.bin", on_progress=lambda p: sent.append(p.bytes_sent)))
    same(sent[-1], len(content))
    chunks = await now(
        sandbox.fs.download_file_stream("stream.bin", on_progress=lambda p: received.append(p.total_bytes))
    )
    same(b"".join(await every(chunks)) == content, True)
    same(received[-1], len(content))
    if hasattr(sandbox, "download_url"):
        await signed(sandbox)


async def signed(sandbox):
    import httpx

    upload = await now(sandbox.upload_url("/root/signed ü.txt", 60))
    same(httpx.post(upload, content=b"by url").status_code, 200)
    download = await now(sandbox.download_url("/root/signed ü.txt", 60))
    same(httpx.get(download).content, b"by url")
    same(httpx.post(download, content=b"x").status_code, 401)
    await now(sandbox.rotate_signing_key())
    same(httpx.get(download).status_code, 401)


async def names(sandbox):
    await now(sandbox.fs.upload_files([FileUpload(name.encode(), f"names/{name}") for name in NAMES]))
    listed = await now(sandbox.fs.list_files("names"))
    same(sorted(one.name for one in listed), sorted(NAMES))
    results = await now(sandbox.fs.download_files([FileDownloadRequest(f"names/{name}") for name in NAMES]))
    same([(one.source, one.result) for one in results], [(f"names/{name}", name.encode()) for name in NAMES])
    for name in NAMES:
        same(await now(sandbox.fs.download_file(f"names/{name}")), name.encode())
        same((await now(sandbox.fs.get_file_info(f"names/{name}"))).name, name)
        await now(sandbox.fs.move_files(f"names/{name}", f"names/{name}2"))
        await now(sandbox.fs.delete_file(f"names/{name}2"))
    same(await now(sandbox.fs.list_files("names")), [])


async def folders(sandbox):
    fs = sandbox.fs
    await now(fs.create_folder("a/b/c", "750"))
    await now(fs.create_folder("a/b/c", "0755"))
    info = await now(fs.get_file_info("a/b/c"))
    same((info.name, info.is_dir, info.mode, info.permissions), ("c", True, "drwxr-x---", "0750"))
    same((info.owner, info.group), ("root", "root"))
    await now(fs.upload_file(b"12345", "a/b/five"))
    await now(fs.set_file_permissions("a/b/five", mode="640", owner="daemon", group="daemon"))
    info = await now(fs.get_file_info("a/b/five"))
    same((info.size, info.is_dir, info.mode, info.permissions), (5, False, "-rw-r-----", "0640"))
    same((info.owner, info.group), ("daemon", "daemon"))
    assert info.mod_time, info
    same([(one.name, one.is_dir) for one in sorted(await now(fs.list_files("a/b")), key=lambda one: one.name)],
         [("c", True), ("five", False)])
    if NEWER:
        deep = await now(fs.list_files("a", depth=2))
        same(sorted(one.path for one in deep), ["a/b", "a/b/c", "a/b/five"])
    await now(fs.move_files("a/b", "a/moved"))
    same(await now(fs.download_file("a/moved/five")), b"12345")
    await raises("DaytonaBadRequestError|DaytonaValidationError", lambda: fs.delete_file("a"), "recursive")
    await now(fs.delete_file("a", recursive=True))
    await raises(MISSING, lambda: fs.get_file_info("a"))


async def contents(sandbox):
    fs = sandbox.fs
    files = {"src/one.py": b"x = 1\n# .* here\ny = 2\n", "src/deep/two.py": b"# .* there", "src/b.bin": b"\0# .*"}
    await now(fs.upload_files([FileUpload(content, name) for name, content in files.items()]))
    found = await now(fs.find_files("src", "# .*"))
    same(sorted((one.file, one.line, one.content) for one in found),
         [("src/deep/two.py", 1, "# .* there"), ("src/one.py", 2, "# .* here")])
    globbed = await now(fs.search_files("/root/src", "*.py"))
    same(sorted(globbed.files), ["/root/src/deep/two.py", "/root/src/one.py"])
    results = await now(fs.replace_in_files(["src/one.py", "src/none.py"], "# .*", "// $1"))
    same([(one.file, one.success) for one in results], [("src/one.py", True), ("src/none.py", False)])
    assert results[1].error, results[1]
    same(await now(fs.download_file("src/one.py")), b"x = 1\n// $1 here\ny = 2\n")


async def refusals(sandbox):
    fs = sandbox.fs
    error = await raises(MISSING, lambda: fs.download_file("none.txt"), "none.txt")
    same(error.status_code, 404)
    await raises(MISSING, lambda: fs.list_files("/none"), "/none")
    await raises(MISSING, lambda: fs.delete_file("none.txt"), "none.txt")
    await raises(MISSING, lambda: fs.move_files("none.txt", "other.txt"), "none.txt")
    await now(fs.upload_files([FileUpload(b"1", "one"), FileUpload(b"2", "two")]))
    await raises("DaytonaConflictError", lambda: fs.move_files("one", "two"), "two")
    await raises("DaytonaBadRequestError|DaytonaValidationError", lambda: fs.create_folder("x", "9z9"), "mode")
