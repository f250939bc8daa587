"""git in a sandbox, against a git host on its own loopback: over http with a password, and over ssh with a key."""

import base64
import json
import os
import urllib.request

from kit import NEWER, client, close, now, params, raises, same

HTTP = "http://127.0.0.1:8418"
SSH = "ssh://root@127.0.0.1:8422/srv/git"
USER, PASSWORD = "user", "s3cret pass%word"
LOGIN = {"username": USER, "password": PASSWORD}
WHO = ("Ada Ü", "ada@example.org")
# Version 0.190 has few classes of errors.
OLD = "|DaytonaNotFoundError|DaytonaError"
CONFLICT = "|DaytonaConflictError|DaytonaError"
INVALID = "DaytonaBadRequestError|DaytonaValidationError|DaytonaError"
AUTH = "DaytonaGitAuthFailedError|DaytonaAuthenticationError|DaytonaError"


async def scenario():
    daytona = client()
    sandbox = await now(daytona.create(params()))
    await mirror(sandbox)
    await refusals(sandbox)
    await work(sandbox)
    await over(sandbox, "http", f"{HTTP}/repo.git", LOGIN)
    await over(sandbox, "ssh", f"{SSH}/over-ssh.git", {})
    await clones(sandbox)
    await injections(sandbox)
    if NEWER:
        await newer(sandbox)
    await secrets(sandbox)
    await now(sandbox.delete())
    await close(daytona)


async def sh(sandbox, command):
    done = await now(sandbox.process.exec(command))
    assert done.exit_code == 0, (command, done.exit_code, done.result)
    return done.result


async def mirror(sandbox):
    with open(os.path.join(os.path.dirname(__file__), "../mirror/serve.py"), "rb") as file:
        await now(sandbox.fs.upload_file(file.read(), "/srv/serve.py"))
    await sh(sandbox, "python3 /srv/serve.py setup")
    for verb in ("http", "ssh"):
        await sh(sandbox, f"setsid python3 /srv/serve.py {verb} >/srv/{verb}.log 2>&1 </dev/null &")
    await sh(sandbox, "python3 /srv/serve.py wait || { cat /srv/*.log; exit 1; }")


async def refusals(sandbox):
    git = sandbox.git
    missing = "DaytonaGitRepoNotFoundError" + OLD
    await sh(sandbox, "mkdir -p plain")
    for path in ("plain", "no-such-folder", "/"):
        error = await raises(missing, lambda: git.status(path))
        same(error.status_code, 404)
        await raises(missing, lambda: git.branches(path))
        await raises(missing, lambda: git.add(path, ["."]))
    await raises(missing, lambda: git.clone(f"{HTTP}/open/none.git", "none"))
    await raises(missing, lambda: git.clone(f"{SSH}/none.git", "none"))
    await raises(missing, lambda: git.clone("/srv/git/none.git", "none"))
    for login in ({}, {"username": USER, "password": "wrong"}):
        error = await raises(AUTH, lambda: git.clone(f"{HTTP}/repo.git", "none", **login))
        same(error.status_code, 401)
    await raises(AUTH, lambda: git.clone(f"ssh://nobody@127.0.0.1:8422/srv/git/repo.git", "none"))
    transport = "DaytonaGitTransportFailedError|DaytonaError"
    for url in ("http://127.0.0.1:1/r.git", "ssh://127.0.0.1:1/r.git", "http://no.such.host.invalid/r.git"):
        error = await raises(transport, lambda: git.clone(url, "none"))
        same(error.status_code, 502)
    branch = "DaytonaGitBranchNotFoundError" + OLD
    await raises(branch, lambda: git.clone("/srv/git/repo.git", "none", branch="nope"))
    await raises(branch, lambda: git.clone("/srv/git/repo.git", "none", commit_id="0123456789" * 4))
    same(await sh(sandbox, "ls"), "plain\n")


async def work(sandbox):
    git = sandbox.git
    await now(git.clone("/srv/git/repo.git", "work"))
    names = ['quo"te', "spa ce", "ümlaut", "new\nline", "-dash", "$(touch hacked)", "a;touch hacked", "*"]
    # Some forms of the client cannot upload all of these names.
    quoted = base64.b64encode("\0".join(names).encode()).decode()
    await sh(sandbox, f"cd work && echo {quoted} | base64 -d | xargs -0 touch --")
    status = await now(git.status("work"))
    same((status.current_branch, status.ahead, status.behind, status.branch_published), ("main", 0, 0, True))
    same({file.name: (file.staging.value, file.worktree.value) for file in status.file_status},
         {name: ("Untracked", "Untracked") for name in names})
    await now(git.add("work", [names[0], "*", "-dash"]))
    staged = {file.name for file in (await now(git.status("work"))).file_status if file.staging.value == "Added"}
    same(staged, {names[0], "*", "-dash"})
    await now(git.add("work", ["."]))
    first = await now(git.commit("work", "Ädd\n\n# all of them", *WHO))
    same(first.sha, (await sh(sandbox, "git -C work rev-parse HEAD")).strip())
    same(await sh(sandbox, "git -C work log -1 --format='%an|%ae|%cn|%B'"), "Ada Ü|ada@example.org|Ada Ü|Ädd\n\n# all of them\n\n")
    error = await raises("DaytonaConflictError|DaytonaError", lambda: git.commit("work", "again", *WHO), "staged")
    same(error.status_code, 409)
    empty = await now(git.commit("work", "empty", *WHO, allow_empty=True))
    assert empty.sha != first.sha
    await sh(sandbox, "cd work && git mv ümlaut 'other name' && rm -- -dash && echo y >> file.txt")
    status = await now(git.status("work"))
    found = {file.name: (file.staging.value, file.worktree.value, file.extra) for file in status.file_status}
    same(found, {"other name": ("Renamed", "Unmodified", "ümlaut"), "-dash": ("Unmodified", "Deleted", ""),
                 "file.txt": ("Unmodified", "Modified", "")})
    same(status.ahead, 2)
    await raises("DaytonaGitDirtyWorktreeError" + CONFLICT, lambda: git.checkout_branch("work", "side"))
    await sh(sandbox, "git -C work reset -q --hard")
    await now(git.create_branch("work", "feature/a"))
    await raises("DaytonaGitBranchExistsError" + CONFLICT, lambda: git.create_branch("work", "feature/a"))
    same((await now(git.branches("work"))).branches, ["feature/a", "main"])
    await now(git.checkout_branch("work", "side"))
    same((await now(git.branches("work"))).branches, ["feature/a", "main", "side"])
    same((await now(git.status("work"))).current_branch, "side")
    error = await raises("DaytonaConflictError|DaytonaError", lambda: git.delete_branch("work", "side"))
    same(error.status_code, 409)
    await now(git.delete_branch("work", "feature/a"))
    missing = "DaytonaGitBranchNotFoundError" + OLD
    await raises(missing, lambda: git.delete_branch("work", "feature/a"))
    await raises(missing, lambda: git.checkout_branch("work", "nope"))
    await now(git.checkout_branch("work", first.sha))
    same((await now(git.status("work"))).current_branch, "HEAD")
    await now(git.checkout_branch("work", "main"))
    same(await sh(sandbox, "find . -name hacked"), "")


async def over(sandbox, name, url, login):
    """Two clones of one remote: what one pushes the other pulls, until they contradict each other."""
    git = sandbox.git
    one, two = f"{name}-one", f"{name}-two"
    await now(git.clone(url, one, **login))
    await now(git.clone(url, two, branch="side", **login))
    same((await now(git.status(two))).current_branch, "side")
    same(await sh(sandbox, f"git -C {one} config remote.origin.url"), url + "\n")
    await now(git.checkout_branch(two, "main"))
    await change(sandbox, one, "file.txt", "from one")
    same((await now(git.status(one))).ahead, 1)
    await now(git.push(one, **login))
    same((await now(git.status(one))).ahead, 0)
    await now(git.pull(two, **login))
    same(await sh(sandbox, f"tail -n 1 {two}/file.txt"), "from one\n")
    # Both go on, on different files: rejected, merged, pushed.
    await change(sandbox, one, "a.txt", "a")
    await change(sandbox, two, "b.txt", "b")
    await now(git.push(one, **login))
    rejected = await raises("DaytonaGitPushRejectedError" + CONFLICT, lambda: git.push(two, **login))
    same(rejected.status_code, 409)
    await sh(sandbox, f"git -C {two} config user.name x && git -C {two} config user.email x@y")
    await now(git.pull(two, **login))
    same(await sh(sandbox, f"cat {two}/a.txt {two}/b.txt"), "a\nb\n")
    await now(git.push(two, **login))
    await now(git.pull(one, **login))
    # On the same line: the merge waits for us.
    await change(sandbox, one, "a.txt", "one's")
    await change(sandbox, two, "a.txt", "two's")
    await now(git.push(one, **login))
    await raises("DaytonaGitMergeConflictError" + CONFLICT, lambda: git.pull(two, **login))
    status = await now(git.status(two))
    same([(file.name, file.staging.value, file.worktree.value) for file in status.file_status],
         [("a.txt", "Updated but unmerged", "Updated but unmerged")])
    await raises("DaytonaGitMergeConflictError" + CONFLICT, lambda: git.commit(two, "too early", *WHO))
    await sh(sandbox, f"echo both > {two}/a.txt")
    await now(git.add(two, ["a.txt"]))
    await now(git.commit(two, "Merge", *WHO))
    await now(git.push(two, **login))
    # What is not committed is not overwritten.
    await sh(sandbox, f"echo dirty >> {one}/a.txt")
    await raises("DaytonaGitDirtyWorktreeError" + CONFLICT, lambda: git.pull(one, **login))
    await sh(sandbox, f"git -C {one} reset -q --hard")
    await now(git.create_branch(one, "topic"))
    await now(git.checkout_branch(one, "topic"))
    same((await now(git.status(one))).branch_published, False)
    await now(git.push(one, **login))
    same((await now(git.status(one))).branch_published, True)
    await now(git.checkout_branch(one, "main"))
    if login:
        for wrong in ({}, {"username": USER, "password": "no"}):
            await raises(AUTH, lambda: git.push(one, **wrong))
            await raises(AUTH, lambda: git.pull(one, **wrong))


async def change(sandbox, path, file, text):
    await sh(sandbox, f"""echo "{text}" >> {path}/{file}""")
    await now(sandbox.git.add(path, [file]))
    await now(sandbox.git.commit(path, f"Change {file}", *WHO))


async def clones(sandbox):
    git = sandbox.git
    first = (await sh(sandbox, "git -C /srv/seed rev-parse HEAD~1")).strip()
    for name, url, login in (("h", f"{HTTP}/repo.git", LOGIN), ("s", f"{SSH}/repo.git", {})):
        await now(git.clone(url, f"at-{name}", commit_id=first, **login))
        same(await sh(sandbox, f"git -C at-{name} rev-parse HEAD"), first + "\n")
        same(await sh(sandbox, f"cat at-{name}/file.txt"), "one\n")
    # A password in the URL works like one beside it, and does not stay there.
    await now(git.clone(f"http://user:s3cret%20pass%25word@127.0.0.1:8418/repo.git", "deep/er/in-url"))
    same(await sh(sandbox, "git -C deep/er/in-url config remote.origin.url"), f"{HTTP}/repo.git\n")
    error = await raises("DaytonaConflictError|DaytonaError", lambda: git.clone("/srv/git/repo.git", "work"))
    same(error.status_code, 409)
    # A host that sends us elsewhere does not send the password along.
    await raises(AUTH, lambda: git.clone(f"{HTTP}/away/repo.git", "none", **LOGIN))
    same((await sh(sandbox, "cut -d' ' -f2- /srv/overheard")).strip(), "")
    same(await sh(sandbox, "cut -d' ' -f1 /srv/overheard | head -n 1"), "/repo.git/info/refs?service=git-upload-pack\n")
    rejected = "DaytonaGitRemoteRejectedError|DaytonaError"
    for name, base, login in (("h", HTTP, LOGIN), ("s", SSH, {})):
        await now(git.clone(f"{base}/strict.git", f"strict-{name}", **login))
        await change(sandbox, f"strict-{name}", "a", "a")
        error = await raises(rejected, lambda: git.push(f"strict-{name}", **login))
        same(error.status_code, 422)


async def injections(sandbox):
    git = sandbox.git
    evil = ["--upload-pack=touch /tmp/hacked", "-c", "ext::sh -c 'touch /tmp/hacked'", "ssh://-oProxyCommand=touch$IFS/tmp/hacked/x"]
    for url in evil:
        await raises(INVALID, lambda: git.clone(url, "none"), "url")
    words = ["--upload-pack=touch /tmp/hacked", "-x", "a b", "x\ny", "$(touch /tmp/hacked);`touch /tmp/hacked`"]
    calls = [
        lambda word: git.clone("/srv/git/repo.git", "none", branch=word),
        lambda word: git.clone("/srv/git/repo.git", "none", commit_id=word),
        lambda word: git.create_branch("work", word),
        lambda word: git.delete_branch("work", word),
        lambda word: git.checkout_branch("work", word),
        lambda word: git.status(word),
        lambda word: git.add("work", [word]),
        lambda word: git.add(word, ["."]),
    ]
    if NEWER:
        calls += [
            lambda word: git.init("none-too", initial_branch=word),
            lambda word: git.push("work", branch=word),
            lambda word: git.push("work", remote=word),
            lambda word: git.pull("work", branch=word),
            lambda word: git.pull("work", remote=word),
            lambda word: git.reset("work", target=word),
            lambda word: git.reset("work", mode=word),
            lambda word: git.restore("work", [word]),
            lambda word: git.restore("work", ["file.txt"], source=word),
            lambda word: git.remote_add("work", word, "/srv/git/repo.git"),
            lambda word: git.set_config(word, "x"),
            lambda word: git.get_config(word),
            lambda word: git.set_config("a.b", "x", scope=word),
            lambda word: git.dangerously_authenticate("u", "p", host=word),
            lambda word: git.dangerously_authenticate("u", "p", protocol=word),
        ]
    for call in calls:
        for word in words:
            try:
                await now(call(word))
            except Exception as error:
                status = getattr(error, "status_code", None) or getattr(error, "status", None)
                assert status in (400, 404), repr(error)
    await now(git.commit("work", "$(touch /tmp/hacked)`touch /tmp/hacked`", "-a $(touch /tmp/hacked)", "--x", allow_empty=True))
    same(await sh(sandbox, "git -C work log -1 --format='%s|%an|%ae'"), "$(touch /tmp/hacked)`touch /tmp/hacked`|-a $(touch /tmp/hacked)|--x\n")
    same(await sh(sandbox, "ls /tmp | grep hacked; find . -name hacked; ls -d none 2>/dev/null; true"), "")


async def newer(sandbox):
    git = sandbox.git
    await now(git.init("made", initial_branch="trunk"))
    status = await now(git.status("made"))
    same((status.current_branch, status.detached, status.upstream), ("trunk", False, None))
    listed = await now(git.branches("made"))
    same((listed.branches, listed.current), ([], "trunk"))
    same(await now(git.remote_get("made", "origin")), None)
    for scheme, url, login in (("http", f"{HTTP}/repo.git", LOGIN), ("ssh", f"{SSH}/repo.git", {})):
        await now(git.remote_add("made", scheme, url))
        same(await now(git.remote_get("made", scheme)), url)
        await now(git.pull("made", remote=scheme, branch="side", **login))
        same(await sh(sandbox, "cat made/file.txt"), "one\n")
        await now(git.push("made", remote=scheme, branch="trunk", set_upstream=True, **login))
        same((await now(git.status("made"))).upstream, f"{scheme}/trunk")
        missing = "DaytonaGitBranchNotFoundError"
        await raises(missing, lambda: git.push("made", remote=scheme, branch="nope", **login))
        await raises(missing, lambda: git.pull("made", remote=scheme, branch="nope", **login))
        await now(git.clone(url, f"shallow-{scheme}", depth=1, **login))
        same(await sh(sandbox, f"git -C shallow-{scheme} rev-list --count HEAD"), "1\n")
    await raises("DaytonaConflictError", lambda: git.remote_add("made", "ssh", "/x"))
    await now(git.remote_add("made", "ssh", "/srv/git/repo.git", fetch=True, overwrite=True))
    same([(remote.name, remote.url) for remote in (await now(git.remotes("made"))).remotes],
         [("http", f"{HTTP}/repo.git"), ("ssh", "/srv/git/repo.git")])
    await raises("DaytonaGitTransportFailedError", lambda: git.remote_add("made", "gone", "http://127.0.0.1:1/x", fetch=True))
    same(await now(git.remote_get("made", "gone")), None)
    await raises("DaytonaBadRequestError|DaytonaValidationError", lambda: git.remote_add("made", "p", "http://u:pw@h/x"), "password")
    await now(git.init("bare.git", bare=True))
    same(await sh(sandbox, "git -C bare.git rev-parse --is-bare-repository"), "true\n")
    await resets(sandbox)
    await settings(sandbox)


async def resets(sandbox):
    git = sandbox.git
    await sh(sandbox, "cd made && echo changed >> file.txt && echo new > new.txt")
    await now(git.add("made", ["."]))
    await now(git.reset("made", files=["new.txt"]))
    words = lambda status: {file.name: (file.staging.value, file.worktree.value) for file in status.file_status}
    same(words(await now(git.status("made"))), {"file.txt": ("Modified", "Unmodified"), "new.txt": ("Untracked", "Untracked")})
    await now(git.restore("made", ["file.txt"], staged=True))
    same(words(await now(git.status("made")))["file.txt"], ("Unmodified", "Modified"))
    await now(git.restore("made", ["file.txt"]))
    same(list(words(await now(git.status("made")))), ["new.txt"])
    await now(git.add("made", ["new.txt"]))
    commit = await now(git.commit("made", "New", *WHO))
    await now(git.reset("made", mode="soft", target="HEAD~1"))
    same(words(await now(git.status("made"))), {"new.txt": ("Added", "Unmodified")})
    await now(git.reset("made", mode="hard", target=commit.sha))
    await sh(sandbox, "echo more >> made/new.txt")
    await now(git.restore("made", ["new.txt", "file.txt"], staged=True, worktree=True, source="HEAD~1"))
    same(words(await now(git.status("made"))), {"new.txt": ("Deleted", "Unmodified")})
    await now(git.reset("made", mode="hard"))
    await raises("DaytonaGitBranchNotFoundError", lambda: git.reset("made", target="nope"))
    for arguments in ({"mode": "odd"}, {"mode": "hard", "files": ["new.txt"]}):
        await raises("DaytonaBadRequestError|DaytonaValidationError", lambda: git.reset("made", **arguments), "mode")
    await raises("DaytonaBadRequestError|DaytonaValidationError", lambda: git.restore("made", ["nope"]), "nope")


async def settings(sandbox):
    git = sandbox.git
    same(await now(git.get_config("user.name")), None)
    await now(git.configure_user("Ada Ü", "ada@example.org"))
    same(await now(git.get_config("user.name")), "Ada Ü")
    await now(git.set_config("user.name", "-local\nname", scope="local", path="made"))
    same(await now(git.get_config("user.name", scope="local", path="made")), "-local\nname")
    await now(git.set_config("user.name", "second", scope="local", path="made"))
    same(await now(git.get_config("user.name", scope="local", path="made")), "second")
    same(await now(git.get_config("user.name")), "Ada Ü")
    await now(git.set_config("init.defaultBranch", "plain", scope="system"))
    same(await now(git.get_config("init.defaultBranch", scope="system")), "plain")
    wrong = "DaytonaBadRequestError|DaytonaValidationError"
    await raises(wrong, lambda: git.set_config("user.name", "x", scope="local"), "path")
    await raises(wrong, lambda: git.get_config("user.name", scope="odd"), "scope")
    await raises("DaytonaGitRepoNotFoundError", lambda: git.set_config("a.b", "x", scope="local", path="plain"))


async def logs(sandbox):
    """Titles and output of all commands, as the server keeps them."""
    base = f"{os.environ['DAYTONA_API_URL'].removesuffix('/api')}/toolbox/{sandbox.id}/process/logs"

    def get(url):
        key = {"Authorization": f"Bearer {os.environ['DAYTONA_API_KEY']}"}
        with urllib.request.urlopen(urllib.request.Request(url, headers=key)) as answer:
            return answer.read().decode(errors="replace")

    titles = get(base)
    return titles + "".join(get(f"{base}/{log['process']}") for log in json.loads(titles)["logs"])


async def secrets(sandbox):
    """No call left the password anywhere; only the one that is there to keep it does."""
    place = "/proc/[0-9]*/cmdline /proc/[0-9]*/environ /etc /root /home /var /tmp /srv/http.log /srv/ssh.log /srv/git"
    for text in ("s3cret", "czNjcmV0"):
        look = f"grep -r -l -a {text[:3]}'{text[3:]}' {place} 2>/dev/null; true"
        same(await sh(sandbox, look), "")
    same(await sh(sandbox, "cut -d' ' -f2- /srv/overheard | sort -u"), "\n")
    kept = await logs(sandbox)
    assert "git clone" in kept and "fatal:" in kept and "s3cret" not in kept, kept
    if not NEWER:
        return
    await now(sandbox.git.dangerously_authenticate(USER, PASSWORD, host="127.0.0.1:8418", protocol="http"))
    await now(sandbox.git.dangerously_authenticate(USER, PASSWORD, host="127.0.0.1:8418", protocol="http"))
    same(await sh(sandbox, "stat -c %a ~/.git-credentials; wc -l < ~/.git-credentials"), "600\n1\n")
    same(await sh(sandbox, "git config --global --get-all credential.helper"), "store\n")
    await now(sandbox.git.clone(f"{HTTP}/repo.git", "stored"))
    await now(sandbox.git.pull("http-one"))
    await raises(AUTH, lambda: sandbox.git.clone(f"{HTTP}/repo.git", "none", username=USER, password="wrong"))
    await now(sandbox.git.pull("http-one"))
