# SPDX-License-Identifier: Apache-2.0
"""A raw WebSocket client and a worker started by hand: to say what a good client never says."""
import base64
import hashlib
import json
import os
import socket
import struct
import subprocess
import time

BUILD = os.environ["BUILD"]
WORKER = os.path.join(BUILD, "farstep-worker")
TOKEN = "t" * 64
KEY = "a" * 64


class Worker:
    def __init__(self, name="w", *args, before=()):
        """before: a command that it is started by."""
        self.dir = os.path.abspath(name)
        os.makedirs(self.dir, exist_ok=True)
        self.path = self.dir + "/s"
        self.log = open(self.dir + "/log", "wb")
        self.p = subprocess.Popen([*before, WORKER, "--listen", "unix:" + self.path, "--token-sha256", hashlib.sha256(TOKEN.encode()).hexdigest(),
                                   "--root", self.dir + "/root", "--sandbox-id", "box", *args], stderr=self.log, stdin=subprocess.DEVNULL)
        end = time.monotonic() + 10
        while not self.listens() and time.monotonic() < end:
            time.sleep(0.002)

    def listens(self):
        """Bound is not enough: it must take connections."""
        with socket.socket(socket.AF_UNIX) as s:
            return s.connect_ex(self.path) == 0

    def stop(self):
        self.p.terminate()
        return self.p.wait(20)


class Closed(Exception):
    pass


class WS:
    def __init__(self, path, token=TOKEN, protocol="farstep.v1", url="/farstep", extra="", upgrade=True):
        self.s = socket.socket(socket.AF_UNIX)
        self.s.connect(path)
        self.s.settimeout(15)
        self.buf = b""
        head = "GET %s HTTP/1.1\r\nHost: x\r\n" % url
        if upgrade:
            head += "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: %s\r\n" % base64.b64encode(os.urandom(16)).decode()
        if protocol:
            head += "Sec-WebSocket-Protocol: %s\r\n" % protocol
        if token:
            head += "Authorization: Bearer %s\r\n" % token
        self.s.sendall((head + extra + "\r\n").encode())
        self.head = b""
        try:
            while b"\r\n\r\n" not in self.head:
                d = self.s.recv(1)
                if not d:
                    break
                self.head += d
        except OSError:
            pass
        part = self.head.split()
        self.status = int(part[1]) if len(part) > 1 else 0
        self.next_id = 0

    def frame(self, payload, op=1, fin=True):
        mask = os.urandom(4)
        n = len(payload)
        h = bytes([(0x80 if fin else 0) | op])
        h += bytes([0x80 | n]) if n < 126 else bytes([0x80 | 126]) + struct.pack(">H", n) if n < 65536 else bytes([0x80 | 127]) + struct.pack(">Q", n)
        key = (mask * (n // 4 + 1))[:n]
        body = (int.from_bytes(payload, "big") ^ int.from_bytes(key, "big")).to_bytes(n, "big") if n else b""
        try:
            self.s.sendall(h + mask + body)
        except BrokenPipeError:     # it hung up before it had read all: what it said is still to be read
            pass

    def text(self, t):
        self.frame(t.encode() if isinstance(t, str) else t)

    def rx(self, n):
        while len(self.buf) < n:
            d = self.s.recv(65536)
            if not d:
                raise Closed(1006)
            self.buf += d
        b, self.buf = self.buf[:n], self.buf[n:]
        return b

    def recv(self):
        """(opcode, payload) of the next message; Closed(code) when the peer closes."""
        while True:
            h = self.rx(2)
            n = h[1] & 127
            if n == 126:
                n = struct.unpack(">H", self.rx(2))[0]
            elif n == 127:
                n = struct.unpack(">Q", self.rx(8))[0]
            op, body = h[0] & 15, self.rx(n)
            if op == 8:
                raise Closed(struct.unpack(">H", body[:2])[0] if len(body) >= 2 else 1005, body[2:])
            if op == 9:
                self.frame(body, 10)
            elif op in (1, 2):
                return op, body

    def message(self, want=lambda m: True):
        """The next JSON message that fits; others and binary frames are passed over. A beat is answered with a beat."""
        while True:
            op, body = self.recv()
            if op == 1:
                m = json.loads(body)
                if isinstance(m, dict) and m.get("method") == "heartbeat":
                    self.text('{"jsonrpc":"2.0","method":"heartbeat","params":{}}')
                if want(m):
                    return m

    def send(self, method, params, id=None):
        if id is None:
            self.next_id += 1
            id = self.next_id
        self.text(json.dumps({"jsonrpc": "2.0", "id": id, "method": method, "params": params}))
        return id

    def call(self, method, params):
        id = self.send(method, params)
        return self.message(lambda m: isinstance(m, dict) and m.get("id") == id)

    def open(self, session="s1", **more):
        return self.call("session.open", dict({"session": session, "run": session, "key": KEY,
                                               "client": {"name": "t", "version": "1", "protocol": {"min": 1, "max": 1}}}, **more))

    def resume(self, session="s1", key=KEY, method="session.resume", **more):
        return self.call(method, dict({"session": session, "key": key, "events_have": 0,
                                       "client": {"name": "t", "version": "1", "protocol": {"min": 1, "max": 1}}}, **more))

    def close_code(self):
        try:
            while True:
                self.recv()
        except Closed as c:
            return c.args[0]
        except OSError as e:
            return e


channels = iter(range(1000, 10**6))


def stream():
    return {"channel": next(channels), "offset": "0", "window": "100000"}


def step(id, script, attempt=1, **more):
    return dict({"step": id, "attempt": attempt, "driver": "shell", "config": {"script": script}, "stdout": stream(), "stderr": stream()}, **more)
