"""What the pretend internet has on its shelf: an authority, and one tiny package for each kind of installer."""

import base64
import hashlib
import io
import json
import os
import random
import subprocess
import tarfile
import zipfile

NAMES = ["pypi.test", "npm.test", "deb.test", "git.test", "www.test"]
GIT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin",
    "HOME": "/nonexistent",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "safe.directory",
    "GIT_CONFIG_VALUE_0": "*",
} | {f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in (("NAME", "World"), ("EMAIL", "world@git.test"))}


def run(*command, **options):
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, **options)


def fill(folder):
    authority(folder)
    wheel(folder)
    npm(folder)
    deb(folder)
    git(folder)


def find(folder, host, path):
    """A file of a host, or the list of a folder as a page of links."""
    place = os.path.realpath(f"{folder}/{host}{path}")
    if not place.startswith(os.path.realpath(folder) + "/" + host):
        return None
    if os.path.isdir(place) and host == "pypi.test":
        return "".join(f'<a href="{name}">{name}</a>\n' for name in os.listdir(place)).encode()
    if os.path.isdir(place):
        place += "/index.json"
    if not os.path.isfile(place):
        return None
    with open(place, "rb") as file:
        return file.read()


def bytes_of(size):
    return random.Random(size).randbytes(size)


def put(path, content):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, "wb") as file:
        file.write(content)


def authority(folder):
    """An authority, and a certificate of every name, listed or not: what stops a client is never the certificate."""
    key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    run("openssl", "req", "-x509", *key, "-keyout", f"{folder}/ca.key", "-out", f"{folder}/ca.pem", "-subj", "/CN=World")
    names = ",".join(f"DNS:{name}" for name in [*NAMES, "evil.test", "rebind.test", "metadata.test", "private.test"])
    run("openssl", "req", "-x509", *key, "-CA", f"{folder}/ca.pem", "-CAkey", f"{folder}/ca.key", "-keyout", f"{folder}/server.key",
        "-out", f"{folder}/server.pem", "-subj", "/CN=server", "-addext", f"subjectAltName={names}", "-addext", "basicConstraints=critical,CA:FALSE")


def wheel(folder):
    name, info = "worldgreeting", "worldgreeting-1.0.dist-info"
    files = {
        f"{name}.py": "def greet():\n    return 'a wheel from the world'\n",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: world\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in [*files, f"{info}/RECORD"])
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)
    put(f"{folder}/pypi.test/simple/{name}/{name}-1.0-py3-none-any.whl", made.getvalue())


def npm(folder):
    name = "world-greeting"
    about = {"name": name, "version": "1.0.0", "main": "index.js"}
    files = {"package/package.json": json.dumps(about), "package/index.js": "module.exports = 'a module from the world';\n"}
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for path, text in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    ball = made.getvalue()
    integrity = "sha512-" + base64.b64encode(hashlib.sha512(ball).digest()).decode()
    about["dist"] = {"tarball": f"https://npm.test/{name}/-/{name}-1.0.0.tgz", "integrity": integrity, "shasum": hashlib.sha1(ball).hexdigest()}
    document = {"name": name, "dist-tags": {"latest": "1.0.0"}, "versions": {"1.0.0": about}}
    put(f"{folder}/npm.test/{name}/index.json", json.dumps(document).encode())
    put(f"{folder}/npm.test/{name}/-/{name}-1.0.0.tgz", ball)


def deb(folder):
    name, tree = "world-greeting", f"{folder}/tree"
    control = f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: World <world@deb.test>\nDescription: a greeting\n"
    put(f"{tree}/DEBIAN/control", control.encode())
    put(f"{tree}/DEBIAN/postinst", b"#!/bin/sh\necho configured > /var/lib/world-greeting\n")
    put(f"{tree}/srv/world-greeting.txt", b"a package from the world\n")
    os.chmod(f"{tree}/DEBIAN/postinst", 0o755)
    shelf = f"{folder}/deb.test"
    os.makedirs(shelf, exist_ok=True)
    run("dpkg-deb", "--root-owner-group", "-Zgzip", "--build", tree, f"{shelf}/{name}.deb")
    with open(f"{shelf}/{name}.deb", "rb") as file:
        whole = file.read()
    entry = f"{control}Filename: ./{name}.deb\nSize: {len(whole)}\nSHA256: {hashlib.sha256(whole).hexdigest()}\n".encode()
    put(f"{shelf}/Packages", entry)
    put(f"{shelf}/Release", f"Suite: world\nSHA256:\n {hashlib.sha256(entry).hexdigest()} {len(entry)} Packages\n".encode())


def git(folder):
    """A repository, and keys with which it is had over ssh."""
    seed = f"{folder}/seed"
    put(f"{seed}/greeting.txt", b"a commit from the world\n")
    run("git", "init", "-q", "-b", "main", seed, env=GIT)
    run("git", "-C", seed, "add", ".", env=GIT)
    run("git", "-C", seed, "commit", "-q", "-m", "Greet", env=GIT)
    run("git", "clone", "-q", "--bare", seed, f"{folder}/git/greeting.git", env=GIT)
    for key in ("host_key", "client_key"):
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", f"{folder}/{key}")
    put(f"{folder}/serve-git", f"#!/bin/sh\ncd {folder}/git && exec git-shell -c \"$SSH_ORIGINAL_COMMAND\"\n".encode())
    os.chmod(f"{folder}/serve-git", 0o755)
    put(f"{folder}/sshd_config", (
        f"HostKey {folder}/host_key\nAuthorizedKeysFile {folder}/client_key.pub\nForceCommand {folder}/serve-git\n"
        "PidFile none\nUsePAM no\nStrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        "SetEnv GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=safe.directory GIT_CONFIG_VALUE_0=*\n"
    ).encode())
