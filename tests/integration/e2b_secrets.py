#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
"""What travels to E2B, and what does not: neither key nor secrets lie in the sandbox's files, in a request to the
provider, in the run directory or in a log; nothing of this machine's environment goes there; a worker that was cut or
changed on its way never starts; an artifact by the gigabyte comes home in little memory."""
import base64
import os
import socket
import subprocess
import sys
import threading

from lib_cloud import MOCK, Cloud
from lib_run import BUILD, FARSTEP, Run, call, descendants, done, new_run_dir, ok, pipeline, role, run, shell, wait_for
from lib_tls import Server, join

if not os.path.exists(MOCK):
    print("no mock cloud in this build")
    sys.exit(77)
for name in list(os.environ):
    if name.lower().endswith("_proxy"):
        del os.environ[name]
FULL = os.environ.get("FULL") == "1"
SIZE = 10**9 if FULL else 10**8
# MiB at most; measured with 100 MB and with 1 GB: 11.
PEAK = 24
KEY = "e2b_" + "c4" * 20
SECRETS = {"GIVEN": "given-on-the-line-4711", "API_TOKEN": "passed-through-4711", "DB_PASSWORD": "correct-horse-4711-battery"}
HOST = {"STRIPE_TOKEN": "canary-of-the-host-1", "AWS_SECRET_ACCESS_KEY": "canary-of-the-host-2", "LD_LIBRARY_PATH": "/canary-of-the-host-3"}


class Recorder(Server):
    """A relay to the cloud that keeps what each client said."""

    def __init__(self, port):
        super().__init__()
        self.to, self.said = port, []

    def handle(self, c):
        up = socket.create_connection(("127.0.0.1", self.to))
        self.said.append(bytearray())
        heard = self.said[-1]

        class Tap:
            def recv(self, n):
                d = c.recv(n)
                heard.extend(d)
                return d

            def sendall(self, d):
                c.sendall(d)

            def shutdown(self, how):
                c.shutdown(how)
        join(Tap(), up)


def forms(value):
    b = value.encode()
    return [b, base64.b64encode(b)[:-4], b.hex().encode()]


def within(body, values):
    return [v for v in values if any(f in body for f in forms(v))]


def everything(path):
    for d, _, names in os.walk(path):
        for n in names:
            p = os.path.join(d, n)
            if os.path.isfile(p) and not os.path.islink(p):
                try:
                    with open(p, "rb") as f:
                        yield p, f.read()
                except OSError:
                    pass    # gone meanwhile


def find(path, values):
    return [(p, v) for p, body in everything(path) for v in within(body, values)]


def environments(pids):
    for q in pids:
        try:
            with open("/proc/%d/environ" % q, "rb") as f:
                env = f.read()
            with open("/proc/%d/cmdline" % q, "rb") as f:
                yield q, env, f.read()
        except OSError:
            pass


SCRIPT = """
echo begun >&2; sleep 1.5
printf 'from %s %s %s\\n' "$GIVEN" "$API_TOKEN" "$DB_PASSWORD"; echo "$DB_PASSWORD" >&2
printf '{"type":"log","level":"info","message":"it is %s"}\\n' "$API_TOKEN" >&3
env | cut -d= -f1 | sort > $FARSTEP_ARTIFACTS_DIR/names
tr '\\000' '\\n' < /proc/1/environ > $FARSTEP_ARTIFACTS_DIR/one 2>/dev/null || true
"""


def travel(debug):
    on = " with traces" if debug else ""
    name = "runs-%d" % debug
    os.makedirs(name)
    root = os.path.abspath("root-%d" % debug)
    os.makedirs(root)
    with Cloud("--api-key", KEY, "--root", root) as c:
        port = int(c.env["E2B_API_URL"].rsplit(":", 1)[1])
        api, sandbox = Recorder(port), Recorder(port)
        env = dict(c.env, E2B_API_URL="http://127.0.0.1:%d" % api.port, E2B_SANDBOX_URL="http://127.0.0.1:%d" % sandbox.port,
                   **{k: v for k, v in SECRETS.items() if k != "GIVEN"}, **HOST)
        if debug:
            env.update(FARSTEP_HTTP_DEBUG="1", FARSTEP_RPC_DEBUG="1", FARSTEP_LOG_LEVEL="debug")
        p = pipeline("secrets%d" % debug, [shell("s", SCRIPT)], ["secrets%d.yaml" % debug])
        q = subprocess.Popen([FARSTEP, "run", "--e2b", "--run-dir", name, "--env", "GIVEN=" + SECRETS["GIVEN"], "--pass-env", "API_TOKEN", "--secret", "DB_PASSWORD",
                              "-v", p], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        d = wait_for("the run", lambda: new_run_dir(name, set()))
        said = {}

        def drain(which, f):
            said[which] = f.read()
        readers = [threading.Thread(target=drain, args=a) for a in (("out", q.stdout), ("err", q.stderr))]
        for t in readers:
            t.start()
        values = [KEY, *SECRETS.values()]
        wait_for("the step", lambda: os.path.exists(d + "/logs/s.stderr") and os.path.getsize(d + "/logs/s.stderr") or q.poll() is not None)
        inside = descendants(c.p.pid)
        live = find(root, [*values, *HOST.values()])
        ours = [(pid, v) for pid, e, argv in environments(inside) for v in within(e + argv, [KEY, *HOST.values()])]
        farsteps = [(pid, v) for pid, e, argv in environments(inside) if role(pid) or b"envd" in argv for v in within(e + argv, SECRETS.values())]
        alive = q.poll() is None and any(role(pid) == "worker" for pid in inside)
        rc = q.wait(60)
        for t in readers:
            t.join()
        log = open(c.log, "rb").read()
    r = Run(rc, "", said["err"].decode(), d)
    ok(rc == 0 and alive, "the run was looked into while its step ran" + on, (rc, r.err[-1500:]))
    ok(not live, "neither key nor secrets nor this machine's variables lie in the sandbox's files" + on, live)
    ok(not ours, "no process in the sandbox has the key or a variable of this machine [R9][R63]" + on, ours)
    ok(not farsteps, "no process of farstep's there has a secret among its arguments or variables" + on, farsteps)
    ok(not find(d, [*values, *HOST.values()]), "nor does the run directory" + on, find(d, values))
    printed = said["out"] + said["err"]
    ok(not within(printed + log, [*values, *HOST.values()]), "nor what farstep prints and the service logs" + on, within(printed + log, values))
    if debug:
        ok(b"http > POST /v2/sandboxes" in printed and b"X-API-Key: ***" in printed, "the traces are there")
    asked = b"".join(b for b in api.said)
    ok(asked.count(KEY.encode()) == asked.count(b"X-API-Key: ") > 0 and not within(asked, [*SECRETS.values(), *HOST.values()]),
       "the control API gets the key in its header alone, and no secret" + on, asked[:2000])
    plain = b"".join(b for b in sandbox.said if not b.startswith(b"GET /farstep"))
    ok(b"POST /files" in plain and b"process.Process/Start" in plain and not within(plain, [*values, *HOST.values()]),
       "requests to the sandbox hold neither key nor secrets" + on, within(plain, values))
    ok(not within(b"".join(b for b in sandbox.said), [KEY]), "the key never goes to a sandbox" + on)
    names = r.artifacts()["s/names"].decode().split()
    ok(set(SECRETS) <= set(names) and not set(HOST) & set(names) and not [n for n in names if n.startswith("E2B_API")], "the step has what was passed, and nothing else of here [R15][R63]" + on, names)
    ok("***MASKED***" in r.read("logs/s.stdout") and "***MASKED***" in r.read("logs/s.stderr"), "its logs are masked" + on)


def missing():
    with Cloud() as c:
        r = call("run", "--e2b", "--run-dir", "missing", "--pass-env", "NO_SUCH_VARIABLE", pipeline("m", [shell("a", "true")]), env=c.env)
        ok(b"NO_SUCH_VARIABLE" in r.stderr, "a variable that is to be passed and is not set is reported by name [R15]", r)


def damaged():
    for fault, rc, started in (("files:corrupt@10", 7, False), ("files:corrupt@300k", 7, False), ("files:cut@300k", 3, None)):
        with Cloud("--fault", fault) as c:
            r = run(pipeline("d", [shell("a", "true")]), target="e2b", env=c.env)
            connected = c.asked("GET", "/farstep")
            starts = c.asked("POST", "/process.Process/Start")
            names = {e["event"] for e in r.events()}
            ok(r.rc == rc and not connected and "worker_started" not in names and "step_start" not in names and not c.running(),
               "%s: noticed before anything runs: exit %d" % (fault, rc), (r.rc, r.err, names))
            ok(bool(starts) == (started is not None), "%s: %s" % (fault, "the check in the sandbox finds it" if starts else "nothing is started"), starts)
            if rc == 7:
                ok(("changed on its way" if "300k" in fault else "0 bytes in the sandbox") in r.status["error"]["message"] and r.status["error"]["class"] == "integrity", "and the error says so", r.status["error"])


def large():
    """One artifact, of bytes that do not repeat soon."""
    with Cloud() as c:
        p = pipeline("large", [shell("a", "yes farstep | head -c %d > $FARSTEP_ARTIFACTS_DIR/x; sha256sum < $FARSTEP_ARTIFACTS_DIR/x" % SIZE)])
        os.makedirs("large")
        q = subprocess.Popen([FARSTEP, "run", "-q", "--e2b", "--run-dir", "large", p], env=c.env, stdin=subprocess.DEVNULL)
        peak, pause = 0, threading.Event()
        while q.poll() is None:
            try:
                with open("/proc/%d/status" % q.pid) as f:
                    peak = max([peak] + [int(l.split()[1]) for l in f if l.startswith("VmHWM")])
            except OSError:
                pass
            pause.wait(0.02)
        d = new_run_dir("large", set())
        r = Run(q.returncode, "", "", d)
        a = r.status["artifacts"]
        ok(r.rc == 0 and os.path.getsize(d + "/artifacts/a/x") == SIZE and r.read("logs/a.stdout").split()[0] == a[0]["sha256"],
           "an artifact of %d MB comes home whole [R36]" % (SIZE // 10**6), (r.rc, a))
        print("# VmHWM %d KiB" % peak)
        ok(0 < peak <= PEAK * 1024 or "/san" in BUILD, "in %d MiB of memory at most" % PEAK, peak)
        ok(not c.running(), "and nothing stays")


travel(False)
travel(True)
missing()
damaged()
large()
done()
