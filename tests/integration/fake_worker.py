#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""farstep against workers that do what no good worker does: it ends soon, with the right class, and claims nothing."""
import base64
import hashlib
import json
import os
import socket
import struct
import subprocess
import threading
import time

from lib_run import FARSTEP, done, ok

HELLO = {"jsonrpc": "2.0", "method": "hello", "params": {
    "protocol": {"min": 1, "max": 1}, "version": "0", "build": "fake", "sandbox": "fake", "worker": "w", "generation": 1, "boot_ns": "1", "pid": 1,
    "features": [], "compressions": ["none"], "heartbeat_ms": 10000, "limits": {"text": 262144, "data": 65536, "steps": 64}, "capabilities": {"cpus": 1}}}


class FakeWorker:
    """Speaks farstep.v1 without seals; answer(request) gives the JSON texts to send for it."""

    def __init__(self, name, answer, hello=json.dumps(HELLO)):
        self.path, self.answer, self.hello, self.offered = os.path.abspath(name), answer, hello, ""
        self.s = socket.socket(socket.AF_UNIX)
        self.s.bind(self.path)
        self.s.listen(8)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            c, _ = self.s.accept()
            threading.Thread(target=self.serve, args=(c,), daemon=True).start()

    def serve(self, c):
        try:
            self.talk(c)
        except (OSError, ValueError):   # gone, or it said what is no JSON: what this leads to is seen there
            pass
        c.close()

    def talk(self, c):
        head = b""
        while b"\r\n\r\n" not in head:
            piece = c.recv(4096)
            if not piece:
                return
            head += piece
        fields = dict(l.split(": ", 1) for l in head.decode().split("\r\n")[1:] if ": " in l)
        fields = {k.lower(): v for k, v in fields.items()}
        self.offered = fields["sec-websocket-protocol"]
        key = base64.b64encode(hashlib.sha1((fields["sec-websocket-key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest()).decode()
        c.sendall(("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n"
                   "Sec-WebSocket-Protocol: farstep.v1\r\n\r\n" % key).encode())
        self.send(c, self.hello)
        while True:
            op, body = self.frame(c)
            if op == 8 or op is None:
                return
            if op == 1:
                m = json.loads(body)
                for text in self.answer(m) if "id" in m else []:
                    self.send(c, text)

    def send(self, c, text):
        b = text.encode()
        c.sendall(struct.pack(">BBH", 0x81, 126, len(b)) + b)

    def exactly(self, c, n):
        b = b""
        while len(b) < n:
            piece = c.recv(n - len(b))
            if not piece:
                raise OSError("hung up")
            b += piece
        return b

    def frame(self, c):
        a, b = self.exactly(c, 2)
        n = b & 127
        if n == 126:
            n = struct.unpack(">H", self.exactly(c, 2))[0]
        elif n == 127:
            n = struct.unpack(">Q", self.exactly(c, 8))[0]
        mask = self.exactly(c, 4)
        return a & 15, bytes(x ^ mask[i % 4] for i, x in enumerate(self.exactly(c, n)))


def result(m, value):
    return json.dumps({"jsonrpc": "2.0", "id": m["id"], "result": value})


def opened(m):
    return result(m, {"session": m["params"]["session"], "sandbox": "fake", "worker": "w", "generation": 1, "protocol": 1, "compression": "none",
                      "lease_ms": 300000})


def steps_answered(*texts):
    """Opens sessions as it should, and answers step.execute with these, @ID standing for the request's id."""
    def answer(m):
        if m["method"] == "session.open":
            return [opened(m)]
        if m["method"] == "step.execute":
            return [t.replace("@ID", json.dumps(m["id"])) for t in texts]
        return [result(m, {})]
    return answer


NOT_READ = '{"jsonrpc":"2.0","id":null,"error":{"code":-32700,"message":"no JSON"}}'
RECEIPT = json.dumps({"status": "success", "receipt": json.dumps({"v": 1, "status": "success"}), "hmac": "0" * 64, "events_last": 0})
cases = {
    "cannot read a request": (steps_answered(NOT_READ), "protocol"),
    "cannot read the first request": (lambda m: [NOT_READ], "protocol"),
    "signs with another key": (steps_answered('{"jsonrpc":"2.0","id":@ID,"result":%s}' % RECEIPT), "integrity"),
    "gives no receipt": (steps_answered('{"jsonrpc":"2.0","id":@ID,"result":{"status":"success"}}'), "lost"),
    "talks nonsense": (steps_answered("nonsense"), "protocol"),
    "numbers its events from 0": (steps_answered('{"jsonrpc":"2.0","method":"event","params":{"wseq":0,"ts":"x","event":"log"}}'), "protocol"),
    "knows no such method": (steps_answered('{"jsonrpc":"2.0","id":@ID,"error":{"code":-32601,"message":"what"}}'), "method_not_found"),
}
for i, (name, (answer, word)) in enumerate(cases.items()):
    w = FakeWorker("f%d" % i, answer)
    begun = time.monotonic()
    try:
        p = subprocess.run([FARSTEP, "exec", "--target", "unix:" + w.path, "--", "true"], stdin=subprocess.DEVNULL, capture_output=True, timeout=40,
                           env=dict(os.environ, FARSTEP_TOKEN="t"))
        ok(p.returncode == 125 and p.stderr.decode().split("farstep: ")[-1].startswith(word + ":"), "a worker that %s: exec ends with 125, class %s" % (name, word), p)
    except subprocess.TimeoutExpired as e:
        ok(False, "a worker that %s: exec ends" % name, e)
ok("farstep.v1.crc32c" in w.offered and "farstep.v1" in w.offered.replace("farstep.v1.crc32c", ""),
   "seals are offered, and a worker that does not know them is driven without", w.offered)
done()
