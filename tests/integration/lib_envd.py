# SPDX-License-Identifier: Apache-2.0
"""Starts the mock cloud's role envd alone, in the directory at hand, and speaks to it with nothing
but http.client: what arrives is what was sent."""
import base64
import http.client
import json
import os
import signal
import struct
import subprocess
import time

BUILD = os.environ["BUILD"]
PROGRAM = os.path.join(BUILD, "farstep-mock-e2b")


def b64(b):
    return base64.b64encode(b if isinstance(b, bytes) else b.encode()).decode()


def envelope(message, flags=0):
    body = message if isinstance(message, bytes) else json.dumps(message).encode()
    return struct.pack(">BI", flags, len(body)) + body


class Stream:
    """An answer in envelopes; flags, message = s.next(); None at the end of the body."""

    def __init__(self, conn, response):
        self.conn, self.r, self.status = conn, response, response.status
        self.pings, self.buf = 0, bytearray()

    def read(self, n):
        while len(self.buf) < n:
            more = self.r.read1(1 << 16)
            if not more:
                return None
            self.buf += more
        b = bytes(self.buf[:n])
        del self.buf[:n]
        return b

    def next(self):
        head = self.read(5)
        if head is None:
            return None
        flags, n = struct.unpack(">BI", head)
        body = self.read(n) if n else b""
        return None if body is None else (flags, json.loads(body))

    def event(self):
        """The next event other than a keepalive; ("closed", error) for the last envelope."""
        while True:
            got = self.next()
            if got is None:
                return ("dropped", None)
            flags, m = got
            if flags & 2:
                return ("closed", m.get("error"))
            kind, value = next(iter(m.get("event", m).items()))
            if kind == "keepalive":
                self.pings += 1
                continue
            return (kind, value)

    def rest(self):
        """Everything to the end: stdout, stderr, pty as bytes, the end event, the error."""
        got = {"stdout": [], "stderr": [], "pty": []}
        out = {"end": None, "error": None, "closed": False, "sizes": []}
        while True:
            kind, value = self.event()
            if kind == "data":
                for k, v in value.items():
                    got[k].append(base64.b64decode(v))
                    out["sizes"].append(len(got[k][-1]))
            elif kind == "end":
                out["end"] = value
            elif kind in ("closed", "dropped"):
                out["closed"], out["error"] = kind == "closed", value
                out.update((k, b"".join(v)) for k, v in got.items())
                return out

    def close(self):
        self.conn.close()


class Envd:
    def __init__(self, *options, token="secret", passwd=None, **popen):
        with open("passwd", "w") as f:
            f.write(passwd or "root:x:0:0::%s:/bin/sh\nuser:x:%d:%d::%s:/bin/sh\n" % (
                os.getcwd() + "/root", os.getuid(), os.getgid(), os.getcwd() + "/home"))
        os.makedirs("home", exist_ok=True)
        os.makedirs("root", exist_ok=True)
        self.home, self.token = os.getcwd() + "/home", token
        if token:
            options += ("--token", token)
        self.p = subprocess.Popen([PROGRAM, "--role", "envd", "--listen", "127.0.0.1:0", "--passwd",
                                   os.path.abspath("passwd"), "--with-parent", *options],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, **popen)
        line = self.p.stdout.readline().decode().split()
        assert line and line[0] == "ready", line
        self.port = int(line[1].split(":")[1])

    def connect(self, timeout=20):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def headers(self, more, user="user"):
        h = {"X-Access-Token": self.token} if self.token else {}
        if user is not None:
            h["Authorization"] = "Basic " + b64(user + ":")
        h.update(more)
        return {k: v for k, v in h.items() if v is not None}

    def ask(self, method, path, body=None, user=None, conn=None, chunked=False, **headers):
        """One request; (status, headers, body)."""
        c = conn or self.connect()
        h = self.headers({k.replace("_", "-"): v for k, v in headers.items()}, user)
        c.request(method, path, body, h, encode_chunked=chunked)
        r = c.getresponse()
        b = r.read()
        if not conn:
            c.close()
        return r.status, dict((k.lower(), v) for k, v in r.getheaders()), b

    def rpc(self, method, message=None, user="user", **headers):
        """A unary call; (status, answer)."""
        headers.setdefault("Content_Type", "application/json")
        body = json.dumps(message if message is not None else {})
        status, _, b = self.ask("POST", "/" + method, body, user, **headers)
        return status, json.loads(b) if b else None

    def stream(self, method, message=None, user="user", body=None, **headers):
        headers.setdefault("Content_Type", "application/connect+json")
        headers.setdefault("Connect_Protocol_Version", "1")
        c = self.connect()
        c.request("POST", "/" + method, envelope(message or {}) if body is None else body,
                  self.headers({k.replace("_", "-"): v for k, v in headers.items()}, user))
        return Stream(c, c.getresponse())

    def start(self, script, more=None, process=None, **headers):
        """Starts a shell; the stream behind its start event, with .pid."""
        p = dict({"cmd": "/bin/sh", "args": ["-c", script]}, **(process or {}))
        s = self.stream("process.Process/Start", dict({"process": p, "stdin": False}, **(more or {})),
                        **headers)
        kind, value = s.event()
        assert kind == "start", (kind, value)
        s.pid = value["pid"]
        return s

    def run(self, script, more=None, process=None, **headers):
        return self.start(script, more, process, **headers).rest()

    def pids(self):
        return [p["pid"] for p in self.rpc("process.Process/List")[1].get("processes", [])]

    def stop(self):
        """Ends it; its exit code."""
        self.p.send_signal(signal.SIGTERM)
        return self.p.wait(10)


def eventually(what, predicate, timeout=10):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        got = predicate()
        if got:
            return got
        time.sleep(0.01)
    raise SystemExit("waited %d s in vain for %s" % (timeout, what))


def alive(pid):
    try:
        with open("/proc/%d/stat" % pid) as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
