"""A pretend internet for tests, run in a network namespace of its own in which every address is local.

`serve.py FOLDER` makes what it serves (see shelf.py), says `here`, waits for a line, and says `ready` once all
listens: names (53), http (80), https (443), ssh (22), and any other port of PORTS as an echo of one line. Each
arrival is noted in FOLDER/arrivals, `<kind> <address> <port>`, by the address that was reached: what a policy
denies must not be there.
"""

import os
import socket
import ssl
import struct
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import shelf

FOLDER = sys.argv[1]
PORTS = [25, 5432, 8080]
RESOLVER = "9.9.9.9"
NAMES = {name: [f"93.184.10.{last}", f"2606:4700:10::{last}"] for last, name in enumerate(shelf.NAMES, 1)}
NAMES |= {
    "evil.test": ["93.184.66.6", "2606:4700:66::6"],
    "private.test": ["10.0.0.9", "fd00::9"],
    "metadata.test": ["169.254.169.254", "fd00:ec2::254"],
}
LINK = """link set lo up
addr add 203.0.113.2/24 dev i0
addr add 2a0f:1::2/64 dev i0 nodad
addr add 9.9.9.9/32 dev lo
link set i0 up
route add local default dev lo table main
route add local ::/0 dev lo table main
"""
asked = {}
notes = open(f"{FOLDER}/arrivals", "a", buffering=1)


def arrived(kind, connection):
    address, port = connection.getsockname()[:2]
    notes.write(f"{kind} {address.removeprefix('::ffff:')} {port}\n")


def addresses(name, kind):
    """What a name stands for; `rebind.test` moves to a forbidden place after the first question."""
    if name == "rebind.test":
        asked[name] = asked.get(name, 0) + (kind == 1)
        found = NAMES["www.test"] if asked[name] <= 1 else NAMES["metadata.test"]
    else:
        found = NAMES.get(name)
    if found is None:
        return None
    family = socket.AF_INET6 if kind == 28 else socket.AF_INET
    return [socket.inet_pton(family, address) for address in found if (":" in address) == (kind == 28)]


def answer(query):
    labels, at = [], 12
    while query[at]:
        labels.append(query[at + 1 : at + 1 + query[at]].decode().lower())
        at += 1 + query[at]
    kind = struct.unpack(">H", query[at + 1 : at + 3])[0]
    found = addresses(".".join(labels), kind) if kind in (1, 28) else []
    head = query[:2] + struct.pack(">HHHHH", 0x8183 if found is None else 0x8180, 1, len(found or []), 0, 0)
    records = [struct.pack(">HHHIH", 0xC00C, kind, 1, 9, len(data)) + data for data in found or []]
    return head + query[12 : at + 5] + b"".join(records)


def names():
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.bind((RESOLVER, 53))
    while True:
        query, peer = udp.recvfrom(512)
        udp.sendto(answer(query), peer)


def names_over_tcp(connection):
    with connection:
        size = struct.unpack(">H", connection.recv(2, socket.MSG_WAITALL))[0]
        reply = answer(connection.recv(size, socket.MSG_WAITALL))
        connection.sendall(struct.pack(">H", len(reply)) + reply)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        host = self.headers.get("Host", "").split(":")[0]
        path, _, query = self.path.partition("?")
        if path == "/stream":
            return self.stream(*map(int, query.split(",")))
        if host == "git.test" and not path.startswith("/plain/"):
            return self.git(path, query)
        found = shelf.find(FOLDER, host, path)
        if found is None:
            found = f"you reached {host}\n".encode() if path == "/" else None
        self.say(404 if found is None else 200, found or b"not here\n", "text/html" if path.endswith("/") else None)

    do_POST = do_GET
    do_HEAD = do_GET

    def say(self, status, body, kind=None):
        self.send_response(status)
        self.send_header("Content-Type", kind or "application/octet-stream")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def stream(self, size, milliseconds):
        """`size` bytes that the caller can check, over about that time."""
        self.send_response(200)
        self.send_header("Content-Length", str(size))
        self.end_headers()
        whole = shelf.bytes_of(size)
        steps = max(1, milliseconds // 20)
        for step in range(steps):
            self.wfile.write(whole[size * step // steps : size * (step + 1) // steps])
            time.sleep(0.02)

    def git(self, path, query):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        env = shelf.GIT | {
            "GIT_PROJECT_ROOT": f"{FOLDER}/git",
            "GIT_HTTP_EXPORT_ALL": "1",
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "REQUEST_METHOD": self.command,
            "PATH_INFO": path,
            "QUERY_STRING": query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }
        done = subprocess.run(["git", "http-backend"], input=body, stdout=subprocess.PIPE, env=env)
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        status = int(headers.get("Status", "200").split(" ")[0])
        self.say(status, body, headers.get("Content-Type"))

    def log_message(self, *_):
        pass


class Site(ThreadingHTTPServer):
    address_family = socket.AF_INET6
    request_queue_size = 256
    daemon_threads = True
    tls = None

    def process_request_thread(self, connection, peer):
        arrived("tls" if self.tls else "http", connection)
        try:
            if self.tls:
                connection = self.tls.wrap_socket(connection, server_side=True)
            super().process_request_thread(connection, peer)
        except OSError:
            connection.close()

    def handle_error(self, *_):
        pass


def site(port, tls=None):
    server = Site(("::", port), Handler)
    server.tls = tls
    threading.Thread(target=server.serve_forever, daemon=True).start()


def ssh(connection):
    sshd = ["/usr/sbin/sshd", "-i", "-f", f"{FOLDER}/sshd_config"]
    with connection:
        subprocess.run(sshd, stdin=connection, stdout=connection, stderr=subprocess.DEVNULL, env=shelf.GIT)


def echo(connection):
    with connection:
        connection.settimeout(10)
        connection.sendall(connection.recv(1024))


def listen(port, kind, serve):
    listener = socket.create_server(("::", port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=256)

    def take(connection):
        try:
            serve(connection)
        except (OSError, struct.error):
            pass

    def loop():
        while True:
            connection, _ = listener.accept()
            arrived(kind, connection)
            threading.Thread(target=take, args=(connection,), daemon=True).start()

    threading.Thread(target=loop, daemon=True).start()


def datagrams(port):
    """Notes datagrams to any address, by the address that they went to."""
    udp = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    udp.setsockopt(socket.IPPROTO_IP, 8, 1)  # IP_PKTINFO
    udp.bind(("0.0.0.0", port))
    while True:
        _, extra, _, _ = udp.recvmsg(2048, 64)
        for _, _, data in extra:
            notes.write(f"udp {socket.inet_ntoa(data[8:12])} {port}\n")


def main():
    shelf.fill(FOLDER)
    print("here", flush=True)
    sys.stdin.readline()
    shelf.run("ip", "-batch", "-", input=LINK.encode())
    # The SSH server wants a folder there, and this mount namespace is nobody else's.
    shelf.run("mount", "-t", "tmpfs", "tmpfs", "/run")
    os.mkdir("/run/sshd")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(f"{FOLDER}/server.pem", f"{FOLDER}/server.key")
    site(80)
    site(443, tls)
    listen(22, "ssh", ssh)
    listen(53, "dns", names_over_tcp)
    for port in PORTS:
        listen(port, "tcp", echo)
    for port in (123, 443):
        threading.Thread(target=datagrams, args=(port,), daemon=True).start()
    threading.Thread(target=names, daemon=True).start()
    print("ready", flush=True)
    # The test's end is the end of this line.
    sys.stdin.read()
    os._exit(0)


main()
