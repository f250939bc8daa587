"""A git host for tests, run inside a sandbox: repositories below /srv/git over http and ssh, on loopback.

`serve.py setup` makes the repositories, keys and accounts; `serve.py http` and `serve.py ssh` serve; `serve.py
wait` waits until they do. Over http everything needs `user` and `s3cret pass%word`, but what lies below `open/`.
A second port stands for another host: `/away/` redirects there, and it writes down what it is told.
"""

import base64
import os
import socket
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

ROOT = "/srv/git"
HTTP, OTHER, SSH = 8418, 8419, 8422
LOGIN = "user:s3cret pass%word"
OVERHEARD = "/srv/overheard"


def run(*arguments, **options):
    return subprocess.run(arguments, check=True, stdout=subprocess.DEVNULL, **options)


def setup():
    os.makedirs(ROOT + "/open")
    env = {"HOME": "/srv", "PATH": os.environ["PATH"]}
    for role in ("AUTHOR", "COMMITTER"):
        env |= {f"GIT_{role}_NAME": "Mirror", f"GIT_{role}_EMAIL": "m@example.org"}
        env |= {f"GIT_{role}_DATE": "2026-01-02T03:04:05+02:00"}
    seed = "/srv/seed"
    run("git", "init", "-q", "-b", "main", seed, env=env)
    for number, text in enumerate(["one", "two"], 1):
        with open(f"{seed}/file.txt", "a") as file:
            file.write(text + "\n")
        run("git", "-C", seed, "add", ".", env=env)
        run("git", "-C", seed, "commit", "-q", "-m", f"Commit {number}\n\nwith a body", env=env)
    run("git", "-C", seed, "branch", "side", "HEAD~1", env=env)
    for name in ("repo", "over-ssh", "strict", "open/repo"):
        run("git", "clone", "-q", "--bare", seed, f"{ROOT}/{name}.git", env=env)
        run("git", "-C", f"{ROOT}/{name}.git", "config", "http.receivepack", "true", env=env)
        run("git", "-C", f"{ROOT}/{name}.git", "config", "uploadpack.allowAnySHA1InWant", "true", env=env)
    with open(f"{ROOT}/strict.git/hooks/pre-receive", "w") as hook:
        hook.write("#!/bin/sh\necho 'no pushes here' >&2\nexit 1\n")
    os.chmod(f"{ROOT}/strict.git/hooks/pre-receive", 0o755)
    keys()


def keys():
    home = os.path.expanduser("~/.ssh")
    os.makedirs(home, mode=0o700, exist_ok=True)
    os.makedirs("/run/sshd", mode=0o755, exist_ok=True)
    with open("/etc/passwd", "r+") as accounts:
        if "\nsshd:" not in accounts.read():
            accounts.write("sshd:x:100:65534::/run/sshd:/usr/sbin/nologin\n")
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/srv/host_key")
    run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", home + "/id_ed25519")
    with open(home + "/id_ed25519.pub") as key, open(home + "/authorized_keys", "w") as known:
        known.write(key.read())
    with open("/srv/sshd_config", "w") as config:
        config.write(
            f"Port {SSH}\nListenAddress 127.0.0.1\nHostKey /srv/host_key\nPidFile none\nUsePAM no\n"
            "StrictModes no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\nPermitRootLogin yes\n"
        )


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path.startswith("/away/"):
            return self.plain(302, ("Location", f"http://127.0.0.1:{OTHER}{self.path[5:]}"))
        given = self.headers.get("Authorization", "")
        expected = "Basic " + base64.b64encode(LOGIN.encode()).decode()
        if self.server.server_port == OTHER:
            with open(OVERHEARD, "a") as notes:
                notes.write(f"{self.path} {given}\n")
            return self.plain(401, ("WWW-Authenticate", 'Basic realm="other"'))
        if given != expected and not path.startswith("/open/"):
            return self.plain(401, ("WWW-Authenticate", 'Basic realm="mirror"'))
        self.backend(path, query)

    do_POST = do_GET

    def plain(self, status, header):
        self.body()
        self.send_response(status)
        self.send_header(*header)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def body(self):
        if self.headers.get("Transfer-Encoding", "").lower() != "chunked":
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))
        whole = b""
        while size := int(self.rfile.readline(), 16):
            whole += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return whole

    def backend(self, path, query):
        body = self.body()
        look()
        env = {
            "PATH": os.environ["PATH"],
            "GIT_PROJECT_ROOT": ROOT,
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "safe.directory",
            "GIT_CONFIG_VALUE_0": "*",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "REMOTE_USER": "user",
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }
        done = subprocess.run(["git", "http-backend"], input=body, stdout=subprocess.PIPE, env=env)
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(headers.pop("Status", "200").split(" ")[0]))
        for pair in headers.items():
            self.send_header(*pair)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


def look():
    """Whether some process that runs now shows the password among its arguments."""
    for name in os.listdir("/proc"):
        try:
            with open(f"/proc/{name}/cmdline", "rb") as file:
                arguments = file.read()
        except OSError:
            continue
        if b"s3cret" in arguments:
            with open(OVERHEARD, "ab") as notes:
                notes.write(b"arguments " + arguments)


def http():
    other = ThreadingHTTPServer(("127.0.0.1", OTHER), Handler)
    threading.Thread(target=other.serve_forever, daemon=True).start()
    ThreadingHTTPServer(("127.0.0.1", HTTP), Handler).serve_forever()


def wait():
    for port in (HTTP, OTHER, SSH):
        for _ in range(500):
            try:
                socket.create_connection(("127.0.0.1", port)).close()
                break
            except OSError:
                time.sleep(0.02)
        else:
            sys.exit(f"nothing listens on port {port}")


if __name__ == "__main__":
    if sys.argv[1] == "wait":
        wait()
    elif sys.argv[1] == "setup":
        setup()
    elif sys.argv[1] == "http":
        http()
    else:
        os.execv("/usr/sbin/sshd", ["/usr/sbin/sshd", "-D", "-e", "-f", "/srv/sshd_config"])
