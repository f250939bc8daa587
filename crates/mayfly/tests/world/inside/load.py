"""Load inside a sandbox, until /tmp/stop is there.

`load.py lines` prints numbered lines, every tenth of them also on standard error, and at the end how many.
`load.py traffic` downloads, connects and tries what is forbidden, over and over, and at the end prints how often
what happened. Connections may break at any time here; what a connection brings whole must be right.
"""

import hashlib
import json
import os
import random
import socket
import sys
import threading
import time

FORBIDDEN = ["evil.test", "93.184.66.6", "93.184.10.1", "10.0.0.9", "169.254.169.254", "2606:4700:66::6", "fd00:ec2::254"]
SIZE = 300_000
WHOLE = hashlib.sha256(random.Random(SIZE).randbytes(SIZE)).digest()
seen = {"answers": 0, "downloads": 0, "broken": 0, "refused": 0, "wrong": [], "breaches": []}


def running():
    return not os.path.exists("/tmp/stop")


def lines():
    number = 0
    while running():
        number += 1
        print(f"line {number}", flush=True)
        if number % 10 == 0:
            print(f"tenth {number}", file=sys.stderr, flush=True)
        time.sleep(0.003)
    print(f"end {number}", flush=True)


def fetch(host, port, path):
    with socket.create_connection((host, port), timeout=10) as connection:
        connection.sendall(f"GET {path} HTTP/1.0\r\nHost: {host}\r\n\r\n".encode())
        whole = b""
        while part := connection.recv(65536):
            whole += part
        return whole.partition(b"\r\n\r\n")[2]


def answers():
    answer = fetch("www.test", 80, "/")
    if answer == b"you reached www.test\n":
        seen["answers"] += 1
    elif answer:
        seen["wrong"].append(answer.decode(errors="replace")[:100])
    time.sleep(0.01)


def downloads():
    body = fetch("www.test", 80, f"/stream?{SIZE},200")
    if len(body) < SIZE:
        seen["broken"] += 1
    elif hashlib.sha256(body).digest() == WHOLE:
        seen["downloads"] += 1
    else:
        seen["wrong"].append("download")


def attempts():
    for host in FORBIDDEN:
        for port in (80, 8080):
            try:
                if body := fetch(host, port, "/"):
                    seen["breaches"].append(f"{host} {port} {body[:50]}")
            except OSError:
                seen["refused"] += 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
        try:
            datagrams.sendto(b"out", ("93.184.66.6", 443))
        except OSError:
            seen["refused"] += 1
    time.sleep(0.005)


def often(work):
    while running():
        try:
            work()
        except OSError:
            seen["broken"] += 1
            time.sleep(0.01)


if sys.argv[1] == "lines":
    lines()
else:
    threads = [threading.Thread(target=often, args=(work,)) for work in (answers, downloads, attempts)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(seen))
