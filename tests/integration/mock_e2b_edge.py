#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
#
# timeout: 300
"""The edge of farstep-mock-e2b: which port of which sandbox, its own answers, bodies of any size, upgrades."""
import base64
import hashlib
import json
import os
import socket
import struct
import threading
import time

from lib_e2b import ENVD, KEY, Mock, usable
from lib_run import done, ok, wait_for

why = usable()
if why:
    print(why)
    raise SystemExit(77)

# What listens in the sandbox: an HTTP server that echoes, and upgrades to a WebSocket that echoes.
SERVER = r'''
import base64, hashlib, http.server, os, sys, time
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def log_message(self, *a): pass
    def body(self):
        if self.headers.get("Transfer-Encoding"):
            b = b""
            while True:
                n = int(self.rfile.readline(), 16)
                b += self.rfile.read(n)
                self.rfile.readline()
                if n == 0: return b
        return self.rfile.read(int(self.headers.get("Content-Length", 0)))
    def reply(self, b, status=200, **headers):
        self.send_response(status)
        for k, v in headers.items(): self.send_header(k.replace("_", "-"), v)
        self.send_header("Content-Length", str(len(b)))
        self.end_headers()
        if self.command != "HEAD": self.wfile.write(b)
    def do_HEAD(self): self.reply(b"x" * 12345)
    def do_POST(self): self.reply(self.body(), 201, X_Echo="yes")
    do_PUT = do_POST
    def do_DELETE(self): self.send_response(204); self.end_headers()
    def do_GET(self):
        if self.headers.get("Upgrade") == "websocket": return self.websocket()
        if self.path.startswith("/size/"): return self.reply(b"y" * int(self.path[6:]))
        if self.path == "/chunks":
            self.send_response(200); self.send_header("Transfer-Encoding", "chunked"); self.end_headers()
            for i in range(5):
                self.wfile.write(b"6\r\nline %d\r\n" % i); self.wfile.flush(); time.sleep(0.1)
            return self.wfile.write(b"0\r\n\r\n")
        if self.path == "/to-the-end":
            self.send_response(200); self.end_headers(); self.close_connection = True
            return self.wfile.write(b"z" * 100000)
        if self.path == "/broken":
            self.send_response(200); self.send_header("Content-Length", "1000"); self.end_headers(); self.close_connection = True
            return self.wfile.write(b"half")
        if self.path == "/nothing": self.close_connection = True; return
        if self.path == "/garbage": self.close_connection = True; return self.wfile.write(b"SSH-2.0-x\r\n\r\n")
        if self.path == "/endless":
            self.send_response(200); self.end_headers(); self.close_connection = True
            while True: self.wfile.write(b"e" * 65536)
        self.reply(("%s\n%s" % (self.path, self.headers)).encode())
    def websocket(self):
        accept = base64.b64encode(hashlib.sha1(self.headers["Sec-WebSocket-Key"].encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
        self.wfile.write(b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept + b"\r\n\r\nearly")
        self.close_connection = True
        while True:
            d = self.connection.recv(65536)
            if not d: break
            self.connection.sendall(d)
        self.connection.sendall(b"bye")
    def handle_expect_100(self): raise SystemExit("Expect came through")
class S(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128
    def handle_error(self, *a): pass
S(("127.0.0.1", int(os.environ.get("PORT", 3000))), H).serve_forever()
'''
CLOSED = "The sandbox is running but port is not open"
GONE = "The sandbox was not found"


def routes(m, b):
    a = b.ask("GET", "/hello?q=%2F", port=3000)
    text = a.body.decode()
    ok(a.status == 200 and text.startswith("/hello?q=%2F\n") and "E2b-Sandbox-Id" in text, "by headers; the target goes through as it is", a)
    ok("Host: 127.0.0.1:%d" % m.port in text, "the host too", text)
    a = m.ask("GET", "/x", headers={"Host": "3000-%s.e2b.app" % b.id})
    ok(a.status == 200 and "Host: 3000-%s.e2b.app" % b.id in a.body.decode(), "by host name", a)
    a = m.ask("GET", "/x", headers={"Host": "3000-%s-6532622b.localhost:%d" % (b.id, m.port)})
    ok(a.status == 200, "by host name with a client id", a)
    a = m.ask("GET", "/x", headers={"Host": "sandbox.e2b.app", "E2b-Sandbox-Id": b.id, "E2b-Sandbox-Port": "3000"})
    ok(a.status == 200, "by headers at sandbox.DOMAIN", a)
    a = m.ask("GET", "/x", headers={"E2b-Sandbox-Id": b.id})
    ok((a.status, a.body) == (400, b"missing header"), "a header is missing", a)
    a = m.ask("GET", "/x", headers={"E2b-Sandbox-Id": "../x", "E2b-Sandbox-Port": "80"})
    ok((a.status, a.body) == (400, b"Invalid sandbox ID"), "an id that is none", a)
    a = m.ask("GET", "/x", headers={"E2b-Sandbox-Id": b.id, "E2b-Sandbox-Port": "http"})
    ok((a.status, a.body) == (500, b"Unexpected error when routing request: invalid sandbox port"), "a port that is none", a)
    for path in ("/init", "/freeze", "/unfreeze", "/collapse", "/fsfreeze", "/fsthaw"):
        a = b.ask("POST", path, "{}")
        ok(a.status == 404 and a.json == {"message": "This endpoint is reserved for the E2B control plane and is not reachable through the sandbox URL", "path": path, "code": 404}, "reserved: " + path, a)
    ok(b.ask("POST", "/init", "{}", port=3000).status == 201, "on other ports it is a path like any other")


def own_answers(m, b):
    began = time.monotonic()
    a = b.ask("GET", "/", port=4444)
    ok(a.status == 502 and a.json == {"sandboxId": b.id, "message": CLOSED, "port": 4444, "code": 502}, "a closed port", a)
    ok(a.headers["Content-Type"] == "application/json; charset=utf-8" and 0.9 < time.monotonic() - began < 8, "after five tries", a.headers)
    a = b.ask("GET", "/", port=4444, headers={"User-Agent": "Mozilla/5.0", "Accept": "text/html,*/*"})
    ok(a.status == 502 and a.headers["Content-Type"].startswith("text/html") and CLOSED.encode() in a.body, "for a browser a page", a)
    a = b.ask("GET", "/", port=4444, headers={"User-Agent": "Mozilla/5.0", "Accept": "application/json"})
    ok(a.status == 502 and a.json["port"] == 4444, "unless it asks for JSON", a)
    a = m.ask("GET", "/", headers={"E2b-Sandbox-Id": "i" + "0" * 20, "E2b-Sandbox-Port": "80"})
    ok(a.status == 502 and a.json == {"sandboxId": "i" + "0" * 20, "message": GONE, "code": 502}, "an unknown sandbox", a)
    late = threading.Timer(0.35, lambda: b.run("cd /tmp; PORT=4445 setsid python3 serve-3000.py >/dev/null 2>&1 </dev/null &"))
    late.start()
    a = b.ask("GET", "/late", port=4445)
    ok(a.status == 200, "a server that comes up meanwhile is found", a)
    late.join()
    s = m.create("", secure=True, network={"allowPublicTraffic": False, "maskRequestHost": "inner:${PORT}"}, timeout=60)
    token = s.doc["trafficAccessToken"]
    ok(token and len(token) == 64, "private traffic has its token", s.doc)
    s.serve(SERVER, 3000)
    a = s.ask("GET", "/", port=3000)
    ok(a.status == 403 and a.json == {"sandboxId": s.id, "code": 403, "message": "Sandbox is secured with traffic access token. Token header 'e2b-traffic-access-token' is missing"}, "without it", a)
    a = s.ask("GET", "/", port=3000, headers={"E2B-Traffic-Access-Token": "x" * 64})
    ok(a.status == 403 and "is invalid" in a.json["message"], "with a wrong one", a)
    a = s.ask("GET", "/", port=3000, headers={"E2B-Traffic-Access-Token": token})
    ok(a.status == 200 and "Host: inner:3000" in a.body.decode() and "X-Forwarded-Host: 127.0.0.1" in a.body.decode(), "with it; maskRequestHost shows inside", a)
    ok(upgrade(m, s, 3000)[1].startswith(b"HTTP/1.1 403"), "upgrades need it too")
    s.api("DELETE", "")


def bodies(m, b):
    big = os.urandom(1 << 20) * 24 + b"end"
    want = hashlib.sha256(big).hexdigest()
    a = b.ask("POST", "/e", big, port=3000, timeout=60)
    ok(a.status == 201 and a.headers["X-Echo"] == "yes" and hashlib.sha256(a.body).hexdigest() == want, "24 MB there and back", len(a.body))
    a = b.ask("POST", "/e", iter([big[i:i + 100000] for i in range(0, len(big), 100000)]), port=3000, timeout=60)
    ok(a.status == 201 and hashlib.sha256(a.body).hexdigest() == want, "chunked, too", len(a.body))
    a = b.ask("GET", "/to-the-end", port=3000)
    ok(a.body == b"z" * 100000, "a body that ends with its connection", len(a.body))
    a = b.ask("HEAD", "/", port=3000)
    ok(a.status == 200 and a.headers["Content-Length"] == "12345" and a.body == b"", "HEAD", a.headers)
    a = b.ask("DELETE", "/", port=3000)
    ok((a.status, a.body) == (204, b""), "204", a)
    a = b.ask("POST", "/e", b"", port=3000)
    ok((a.status, a.body) == (201, b""), "an empty body", a)
    c = m.connect()
    c.request("GET", "/chunks", headers=b.headers(3000))
    r = c.getresponse()
    first = r.read1(100)
    ok(first.startswith(b"line 0") and b"line 4" not in first and first + r.read() == b"line 0line 1line 2line 3line 4", "a stream arrives while it is made", first)
    c.close()
    for path in ("/nothing", "/garbage"):
        a = b.ask("GET", path, port=3000)
        ok(a.status == 502 and a.json["message"] == CLOSED, "a server that answers nothing of use: " + path, a)
    s = raw(m, "GET", "/broken", b, 3000)
    text = read_all(s)
    ok(b"Content-Length: 1000" in text and text.endswith(b"half"), "an answer that breaks off, breaks off", text)
    s = socket.create_connection(("127.0.0.1", m.port))
    s.sendall(b"POST /e HTTP/1.1\r\nHost: x\r\n".replace(b"x", b"localhost") + b"".join(b"%s: %s\r\n" % (k.encode(), v.encode()) for k, v in b.headers(3000).items()) +
              b"Content-Length: 4\r\nExpect: 100-continue\r\n\r\n")
    s.settimeout(5)
    text = s.recv(1000)
    s.sendall(b"body")
    while b"body" not in text:
        text += s.recv(1000)
    ok(text.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 201"), "Expect: 100-continue", text)
    s.close()


def keep_alive(m, b):
    c = m.connect()
    c.connect()
    port = c.sock.getsockname()[1]
    got = []
    for i in range(20):
        got.append(b.ask("GET", "/size/%d" % i, port=3000, conn=c).status)
        got.append(m.api("GET", "/sandboxes/" + b.id, conn=c).status)
        got.append(b.ask("GET", "/health", conn=c).status)
        got.append(b.ask("POST", "/x", b"abc", port=3000, conn=c).status)
    ok(got == [200, 200, 204, 201] * 20 and c.sock.getsockname()[1] == port, "one connection serves control API, envd and ports in turn", got)
    c.close()


def raw(m, method, path, b, port, more=""):
    s = socket.create_connection(("127.0.0.1", m.port))
    s.settimeout(20)
    h = dict(b.headers(port), Host="localhost")
    s.sendall(("%s %s HTTP/1.1\r\n%s%s\r\n" % (method, path, "".join("%s: %s\r\n" % x for x in h.items()), more)).encode())
    return s


def read_all(s):
    text = b""
    try:
        while True:
            d = s.recv(65536)
            if not d:
                return text
            text += d
    except OSError:
        return text


def upgrade(m, b, port):
    key = base64.b64encode(os.urandom(16)).decode()
    s = raw(m, "GET", "/ws", b, port, "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n" % key)
    head = b""
    while b"\r\n\r\n" not in head:
        d = s.recv(1)
        if not d:
            break
        head += d
    want = base64.b64encode(hashlib.sha1(key.encode() + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    return s, head, want


def exactly(s, n):
    got = b""
    while len(got) < n:
        d = s.recv(min(65536, n - len(got)))
        if not d:
            break
        got += d
    return got


def upgrades(m, b):
    s, head, want = upgrade(m, b, 3000)
    ok(head.startswith(b"HTTP/1.1 101") and want in head and b"pgrade: websocket" in head, "an upgrade goes through with its headers", head)
    ok(exactly(s, 5) == b"early", "what came right behind the 101 is not lost")
    data = os.urandom(1 << 20) * 8
    sender = threading.Thread(target=s.sendall, args=(data,))
    sender.start()
    ok(exactly(s, len(data)) == data, "8 MB through it, both ways at once")
    sender.join()
    s.shutdown(socket.SHUT_WR)
    ok(exactly(s, 3) == b"bye" and s.recv(1) == b"", "one side may end before the other")
    s.close()
    line = wait_for("its line", lambda: [r for r in m.requests() if r["path"] == "/ws" and r["status"] == 101])[0]
    ok(line["bytes_in"] == len(data) and line["bytes_out"] == len(data) + 8, "the log has what went through it", line)
    many = [upgrade(m, b, 3000)[0] for _ in range(60)]
    for i, s in enumerate(many):
        s.sendall(b"%8d" % i)
    ok(all(exactly(s, 13) == b"early%8d" % i for i, s in enumerate(many)), "60 of them at once")
    for s in many:
        s.close()


def memory(m):
    with open("/proc/%d/status" % m.p.pid) as f:
        return int([x for x in f if x.startswith("VmHWM")][0].split()[1])


def slow_readers(m, b):
    before = memory(m)
    socks = [raw(m, "GET", "/endless", b, 3000) for _ in range(10)]
    for s in socks:
        exactly(s, 100000)
    time.sleep(1)
    grown = memory(m) - before
    ok(grown < 20 * 1024, "ten clients that do not read cost less than 2 MB each", "%d KiB" % grown)
    for s in socks:
        s.close()
    wait_for("their end", lambda: len([r for r in m.requests() if r["path"] == "/endless"]) == 10)
    ok(b.ask("GET", "/still", port=3000).status == 200, "and the edge goes on")


def ends(m):
    b = m.create(timeout=60)
    b.serve(SERVER, 3000)
    stream = raw(m, "GET", "/endless", b, 3000)
    exactly(stream, 1000)
    ws = upgrade(m, b, 3000)[0]
    c, r = b.start("echo up; sleep 100")
    r.read1(5)
    b.api("POST", "/pause", {})
    ok(all(over(s) for s in (stream, ws, c.sock)), "a pause breaks what is open")
    b.api("POST", "/connect", {"timeout": 60})
    ws = upgrade(m, b, 3000)[0]
    stream = raw(m, "GET", "/endless", b, 3000)
    exactly(stream, 1000)
    b.api("DELETE", "")
    ok(over(ws) and over(stream), "so does a kill")
    a = b.ask("GET", "/", port=3000)
    ok(a.status == 502 and a.json["message"] == GONE and "port" not in a.json, "then it is gone, not closed", a)
    # A request that waits for its answer when the sandbox ends.
    b = m.create(timeout=60)
    b.serve("import socket\ns = socket.create_server(('127.0.0.1', 3000))\nwhile True:\n c = s.accept()[0]\n c.recv(1000)\n", 3000)
    s = raw(m, "GET", "/wait", b, 3000)
    time.sleep(0.2)
    b.api("DELETE", "")
    text = b""
    while GONE.encode() not in text and (more := s.recv(1000)):
        text += more
    ok(text.startswith(b"HTTP/1.1 502") and GONE.encode() in text, "who waits for an answer gets a 502", text)


def over(s):
    """Ends within 5 s, with an end or a reset."""
    s.settimeout(5)
    end = time.monotonic() + 5
    try:
        while time.monotonic() < end:
            if not s.recv(1 << 20):
                return True
    except (ConnectionError, ValueError):
        return True
    except OSError:
        return False
    return False


with Mock() as mock:
    box = mock.create(timeout=250)
    box.serve(SERVER, 3000)
    routes(mock, box)
    own_answers(mock, box)
    bodies(mock, box)
    keep_alive(mock, box)
    upgrades(mock, box)
    slow_readers(mock, box)
    ends(mock)
done()
