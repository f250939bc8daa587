"""A small web site for a browser, run inside a sandbox on port 3000: pages, a script, a picture, data, an echo by
WebSocket.

What a page saw is a line each in its `seen` element. Its last picture is only answered once the page says that it
is done, so the browser's `load` event, after which it prints the document, waits for all of it.
"""

import base64
import hashlib
import itertools
import struct
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

numbers = itertools.count()
done = {}
PAGE = b"""<!doctype html><title>page</title><pre id=seen></pre><script src="script.js"></script><img src="last.png?%d">"""
# What every page does, and what the page of the toolbox does with the address behind its `#`.
SCRIPT = rb"""
const say = text => document.getElementById('seen').append(text + '\n');
const socket = (url, protocols, told) => new Promise(end => {
  let socket = new WebSocket(url, protocols);
  socket.binaryType = 'arraybuffer';
  socket.onopen = () => { say('open:' + socket.protocol); if (told) socket.send(told); };
  socket.onmessage = ({data}) => {
    let text = typeof data == 'string' ? data : new TextDecoder().decode(data);
    say('got:' + text.replaceAll('\r\n', '|'));
    if (!told || text.includes('answer-42') || text == told) socket.close();
  };
  socket.onclose = () => end();
  socket.onerror = () => say('refused');
});
const main = async () => {
  say('data:' + (await (await fetch('data.json')).json()).number);
  say('cookie:' + document.cookie);
  say('cookie inside:' + await (await fetch('cookies')).text());
  await socket(location.href.replace('http', 'ws').split(/[?#]/)[0] + 'echo', [], 'over a socket');
  let [url, protocol] = location.hash.slice(1).split('|');
  if (url) await socket(url, protocol ? [protocol] : [], 'echo answer-$((6*7))\n');
};
main().catch(error => say('failed:' + error)).finally(() => fetch('done?' + document.images[0].src.split('?')[1]));
"""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        path, _, query = self.path.partition("?")
        if path == "/":
            number = next(numbers)
            done[f"{number}"] = threading.Event()
            self.say(PAGE % number, "text/html", [("Set-Cookie", "flavour=plain; Path=/")])
        elif path == "/script.js":
            self.say(SCRIPT, "text/javascript")
        elif path == "/data.json":
            self.say(b'{"number": 42}', "application/json")
        elif path == "/cookies":
            self.say(self.headers.get("Cookie", "none").encode(), "text/plain")
        elif path == "/done":
            done[query].set()
            self.say(b"", "text/plain")
        elif path == "/last.png":
            done[query].wait(30)
            self.say(b"", "image/png")
        elif path == "/echo":
            self.echo()
        else:
            self.send_error(404)

    def say(self, body, kind, headers=()):
        self.send_response(200)
        for name, value in [("Content-Type", kind), ("Content-Length", str(len(body))), *headers]:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def echo(self):
        """Sends one masked text of less than 126 bytes back, and ends."""
        key = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
        self.send_response(101)
        self.send_header("Upgrade", "websocket")
        self.send_header("Connection", "Upgrade")
        self.send_header("Sec-WebSocket-Accept", base64.b64encode(hashlib.sha1(key.encode()).digest()).decode())
        self.end_headers()
        size = self.rfile.read(2)[1] & 127
        mask, text = self.rfile.read(4), self.rfile.read(size)
        text = bytes(byte ^ mask[at % 4] for at, byte in enumerate(text))
        self.wfile.write(b"\x81" + bytes([len(text)]) + text)
        self.wfile.write(b"\x88\x02" + struct.pack(">H", 1000))
        self.close_connection = True

    def log_message(self, *_):
        pass


ThreadingHTTPServer(("127.0.0.1", 3000), Handler).serve_forever()
