# SPDX-License-Identifier: Apache-2.0
"""farstep-mock-e2b for tests, spoken to in plain HTTP: what a client library would hide."""
import base64
import http.client
import json
import os
import signal
import struct
import subprocess

from lib_run import BUILD

MOCK = os.path.join(BUILD, "farstep-mock-e2b")
KEY = "e2b_" + "0" * 40
ENVD = 49983


def usable():
    """Why sandboxes cannot be made on this machine; None if they can."""
    p = subprocess.run(["unshare", "-Ur", "true"], capture_output=True)
    return None if p.returncode == 0 else "no user namespaces here: " + p.stderr.decode().strip()


class Answer:
    def __init__(self, r, body):
        self.status, self.headers, self.body = r.status, r.headers, body

    @property
    def json(self):
        return json.loads(self.body)

    def __repr__(self):
        return "%d %r" % (self.status, self.body[:400])


class Mock:
    def __init__(self, *args, prefix=(), env=None):
        self.log = os.path.abspath("mock-%d.log" % len(os.listdir(".")))
        self.err = open(self.log + ".err", "w+b")
        self.p = subprocess.Popen([*prefix, MOCK, "--log", self.log, *args], stdin=subprocess.PIPE,
                                  stdout=subprocess.PIPE, stderr=self.err, env=env)
        line = self.p.stdout.readline().decode().split()
        if line[:1] != ["ready"]:
            self.err.seek(0)
            raise SystemExit("%s did not start: %s" % (args, self.err.read().decode()))
        self.url = line[1]
        self.port = int(self.url.rsplit(":", 1)[1])

    def stop(self, how=signal.SIGTERM):
        if self.p.poll() is None:
            self.p.send_signal(how)
        self.p.stdin.close()
        rc = self.p.wait(20)
        self.p.stdout.close()
        return rc

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def requests(self):
        with open(self.log) as f:
            return [json.loads(line) for line in f]

    def connect(self, timeout=20):
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=timeout)

    def ask(self, method, path, body=None, headers=None, conn=None, timeout=20):
        c = conn or self.connect(timeout)
        try:
            c.request(method, path, body=body, headers=headers or {})
            r = c.getresponse()
            return Answer(r, r.read())
        finally:
            if conn is None:
                c.close()

    def api(self, method, path, doc=None, key=KEY, **kw):
        headers = {"X-API-Key": key} if key else {}
        body = None
        if doc is not None:
            body = doc if isinstance(doc, (bytes, str)) else json.dumps(doc)
            headers["Content-Type"] = "application/json"
        headers.update(kw.pop("headers", {}))
        return self.ask(method, path, body, headers, **kw)

    def create(self, version="/v2", **doc):
        doc.setdefault("templateID", "base")
        a = self.api("POST", version + "/sandboxes", doc)
        if a.status != 201:
            raise SystemExit("create: %r" % a)
        return Box(self, a.json)


class Box:
    """A sandbox: its envd and its ports, through the edge."""

    def __init__(self, mock, doc):
        self.mock, self.doc = mock, doc
        self.id, self.token = doc["sandboxID"], doc.get("envdAccessToken")

    def headers(self, port=ENVD, more=None):
        h = {"E2b-Sandbox-Id": self.id, "E2b-Sandbox-Port": str(port)}
        if port == ENVD and self.token:
            h["X-Access-Token"] = self.token
        h.update(more or {})
        return h

    def ask(self, method, path, body=None, port=ENVD, headers=None, **kw):
        return self.mock.ask(method, path, body, self.headers(port, headers), **kw)

    def api(self, method, what, doc=None, version="", **kw):
        return self.mock.api(method, "%s/sandboxes/%s%s" % (version, self.id, what), doc, **kw)

    def info(self):
        return self.api("GET", "").json

    def start(self, command, user="user", conn=None):
        """Start of envd, as the SDK calls it; the connection and its response, still streaming."""
        doc = json.dumps({"process": {"cmd": "/bin/bash", "args": ["-c", command]}, "stdin": False}).encode()
        c = conn or self.mock.connect()
        c.request("POST", "/process.Process/Start", b"\0" + struct.pack(">I", len(doc)) + doc,
                  self.headers(more={"Content-Type": "application/connect+json", "Connect-Protocol-Version": "1",
                                     "Authorization": "Basic " + base64.b64encode(user.encode() + b":").decode()}))
        return c, c.getresponse()

    def run(self, command, user="user"):
        """(exit code, stdout, stderr) of a command."""
        c, r = self.start(command, user)
        code, out, err = None, b"", b""
        if r.status != 200:
            raise SystemExit("start: %d %r" % (r.status, r.read()))
        for flags, doc in envelopes(r):
            event = doc.get("event", {})
            out += base64.b64decode(event.get("data", {}).get("stdout", ""))
            err += base64.b64decode(event.get("data", {}).get("stderr", ""))
            if "end" in event:
                code = event["end"].get("exitCode", 0)
        c.close()
        return code, out, err

    def serve(self, script, port):
        """A Python program in the sandbox that listens on port; returns when it does."""
        self.put("/tmp/serve-%d.py" % port, script.encode())
        self.run("cd /tmp; setsid python3 /tmp/serve-%d.py >/tmp/serve-%d.log 2>&1 </dev/null &" % (port, port))
        code, _, err = self.run("for i in $(seq 500); do : </dev/tcp/127.0.0.1/%d && exit 0; sleep 0.02; done 2>/dev/null; cat /tmp/serve-%d.log >&2; exit 1" % (port, port))
        if code != 0:
            raise SystemExit("no server on %d: %s" % (port, err))

    def put(self, path, data):
        a = self.ask("POST", "/files?path=" + path, data, headers={"Content-Type": "application/octet-stream"})
        if a.status != 200:
            raise SystemExit("put: %r" % a)

    def get(self, path):
        a = self.ask("GET", "/files?path=" + path)
        return a.body if a.status == 200 else None

    def processes(self):
        """Those of its pid namespace, as this machine sees them."""
        found = {}
        for p in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open("/proc/%s/cmdline" % p, "rb") as f:
                    found.setdefault(os.readlink("/proc/%s/ns/pid" % p), []).append((int(p), f.read()))
            except OSError:
                continue
        for those in found.values():
            if any(b"door" in cmd and self.id.encode() in cmd for _, cmd in those):
                return [p for p, _ in those]
        return []


def envelopes(r):
    """(flags, document) of each envelope of a streamed answer; stops where the stream breaks."""
    buf = b""
    while True:
        while len(buf) < 5 or len(buf) < 5 + struct.unpack(">I", buf[1:5])[0]:
            try:
                d = r.read1(65536)
            except (http.client.IncompleteRead, ConnectionError, ValueError):
                return
            if not d:
                return
            buf += d
        n = struct.unpack(">I", buf[1:5])[0]
        yield buf[0], json.loads(buf[5:5 + n] or b"{}")
        buf = buf[5 + n:]
