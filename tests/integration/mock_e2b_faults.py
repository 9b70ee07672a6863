#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
#
# timeout: 300
"""farstep-mock-e2b as a program: its options, what it does wrong on demand, and that nothing of it stays behind."""
import http.client
import os
import re
import shutil
import signal
import subprocess
import tempfile
import time

from lib_e2b import KEY, MOCK, Mock, envelopes, usable
from lib_run import done, lives, ok, wait_for

why = usable()
if why:
    print(why)
    raise SystemExit(77)
BASE = {"templateID": "base"}


def refused(*args):
    p = subprocess.run([MOCK, *args], capture_output=True, stdin=subprocess.DEVNULL, timeout=20)
    return p.returncode, p.stderr.decode().strip()


def options():
    p = subprocess.run([MOCK, "--help"], capture_output=True, text=True, timeout=20)
    names = "--listen --root --api-key --latency --create-delay --max-sandboxes --envd-version --log --fault --print-env --with-parent".split()
    ok(p.returncode == 0 and all(n in p.stdout for n in names), "--help has every option", p.stdout)
    rules = "create:429:quota create:429:rate create:429:lb list:503 timeout:503 delete:503 create:500 create:503 create:504 create:hang create:ambiguous create:cut files:cut@ files:corrupt@ process:drop@ sandbox:vanish@ edge:502@ process:stall@ files:507".split()
    ok(all(r in p.stdout for r in rules), "and every fault rule", p.stdout)
    for args, text in ((["--listen", "0.0.0.0:80"], "only on loopback"), (["--listen", "x"], "want 127.0.0.1:PORT"), (["--fault", "create:418"], "fault 'create:418': unknown"), (["--fault", "files:cut"], "wants @ and a number"),
                       (["--max-sandboxes", "x"], "want a number"), (["--api-key", "k"], "want e2b_"), (["--envd-version", "new"], "want three numbers"), (["--root"], "wants a value"), (["--speed", "1"], "is no option"), (["--role", "king"], "is no role")):
        rc, err = refused(*args)
        ok(rc == 2 and text in err, "refused: %s" % " ".join(args), err)
    p = subprocess.Popen([MOCK, "--print-env", "--with-parent", "--api-key", "e2b_" + "a" * 40], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    url = p.stdout.readline().split()[1]
    env = dict(p.stdout.readline().strip().split("=", 1) for _ in range(4))
    port = url.rsplit(":", 1)[1]
    ok(env == {"E2B_API_KEY": "e2b_" + "a" * 40, "E2B_API_URL": url, "E2B_SANDBOX_URL": url, "E2B_DOMAIN": "localhost:" + port}, "--print-env points clients at it", env)
    p.stdin.close()
    ok(p.wait(20) == 0, "--with-parent: it ends when its standard input closes")
    p.stdout.close()
    with Mock("--envd-version", "0.4.9") as m:
        b = m.create()
        ok(b.doc["envdVersion"] == "0.4.9" and b.run("echo x")[1] == b"x\n", "--envd-version", b.doc)
        ok(m.api("GET", "/sandboxes", key="e2b_" + "a" * 40).status == 401, "its key is the only one")
    with Mock("--envd-version", "0.1.5") as m:
        a = m.api("POST", "/v2/sandboxes", BASE)
        ok(a.status == 400 and a.json["message"].startswith("Template is not compatible with secured access."), "an envd without tokens cannot be secured", a)
        ok(m.create("", secure=False).run("echo x")[1] == b"x\n", "but it can run open")
    with Mock("--latency", "150", "--create-delay", "700") as m:
        began = time.monotonic()
        ok(m.api("GET", "/sandboxes").status == 200 and 0.15 <= time.monotonic() - began < 5, "--latency", time.monotonic() - began)
        began = time.monotonic()
        b = m.create()
        ok(0.85 <= time.monotonic() - began < 10, "--create-delay", time.monotonic() - began)
        data = os.urandom(300000)
        b.put("/tmp/x", data)
        ok(b.get("/tmp/x") == data, "bodies come through the latency whole")
        try:
            m.api("POST", "/v2/sandboxes", BASE, timeout=0.5)
            ok(False, "a client gives up its create")
        except OSError:
            wait_for("the other", lambda: len(m.api("GET", "/v2/sandboxes").json) == 2)
            ok(True, "a create that its client gave up leaves a sandbox, as with E2B")


def create_faults():
    def answers(rule, status, text, code=None, after=None):
        with Mock("--fault", rule + "x2") as m:
            for _ in range(2):
                a = m.api("POST", "/v2/sandboxes", BASE)
                ok(a.status == status and a.json["code"] == status and text in a.json["message"] and a.json.get("error_code") == code and a.headers["Retry-After"] == after, rule, a)
            ok(m.api("GET", "/v2/sandboxes").json == [] and m.create().run("true")[0] == 0, rule + ": twice, as often as it says; nothing was created")
            lines = [r.get("fault") for r in m.requests() if r["path"] == "/v2/sandboxes" and r["method"] == "POST"]
            ok(lines == [rule, rule, None], rule + ": in the log", lines)

    answers("create:429:quota", 429, "you have reached the maximum number of concurrent E2B sandboxes (20)")
    answers("create:429:rate", 429, "Rate limit exceeded", after="1")
    answers("create:500", 500, "Failed to create sandbox", "sandbox_create_failed")
    answers("create:503", 503, "Failed to place sandbox: not enough capacity", "sandbox_capacity_unavailable")
    answers("create:504", 504, "Failed to place sandbox: placement timed out", "sandbox_placement_timeout")
    with Mock("--fault", "create:429:lbx1", "list:503x1", "timeout:503x1", "delete:503x1") as m:
        a = m.api("POST", "/v2/sandboxes", BASE)
        ok(a.status == 429 and a.headers["Content-Type"].startswith("text/html") and b"Too Many Requests" in a.body, "create:429:lb: a balancer's page, not JSON", a)
        b = m.create(timeout=60)
        end = b.info()["endAt"]
        got = [m.api("GET", "/v2/sandboxes").status, b.api("POST", "/timeout", {"timeout": 500}).status, b.api("DELETE", "").status]
        ok(got == [503] * 3 and b.info()["endAt"] == end, "list, timeout and delete: 503, and nothing was done", got)
        got = [m.api("GET", "/v2/sandboxes").status, b.api("POST", "/timeout", {"timeout": 500}).status, b.api("DELETE", "").status]
        ok(got == [200, 204, 204], "once only", got)
    with Mock("--fault", "create:hangx1") as m:
        try:
            a = m.api("POST", "/v2/sandboxes", BASE, timeout=1)
            ok(False, "create:hang", a)
        except OSError:
            ok(m.api("GET", "/v2/sandboxes").json == [], "create:hang: no answer, and nothing created")
        line = wait_for("the line", lambda: [r for r in m.requests() if r.get("fault")])[0]
        ok(line["fault"] == "create:hang" and line["status"] == 0 and line["ms"] > 900, "create:hang: in the log", line)
    with Mock("--fault", "create:ambiguousx1", "create:cutx1") as m:
        a = m.api("POST", "/v2/sandboxes", dict(BASE, metadata={"try": "1"}))
        ok(a.status == 500 and len(m.api("GET", "/v2/sandboxes?metadata=try%3D1").json) == 1, "create:ambiguous: 500, and yet it is there", a)
        try:
            a = m.api("POST", "/v2/sandboxes", dict(BASE, metadata={"try": "2"}))
            ok(False, "create:cut", a)
        except (http.client.HTTPException, OSError):
            ok(len(m.api("GET", "/v2/sandboxes?metadata=try%3D2").json) == 1, "create:cut: no answer, and yet it is there")
        ok(m.create().id, "then creates work")


def edge_faults():
    data = os.urandom(50000)
    with Mock("--fault", "files:cut@10000x2", "files:corrupt@30000x2") as m:
        b = m.create()
        try:
            b.put("/tmp/up", data)
            ok(False, "files:cut: an upload breaks")
        except (http.client.HTTPException, OSError):
            size = int(wait_for("the short file", lambda: b.run("stat -c %s /tmp/up")[1].strip() or None))
            ok(size <= 10000, "files:cut: an upload breaks, and leaves a short file, as envd does", size)
        b.run("head -c 50000 /dev/zero >/tmp/down")
        try:
            a = b.ask("GET", "/files?path=/tmp/down")
            ok(False, "files:cut: a download breaks", len(a.body))
        except http.client.IncompleteRead as e:
            ok(len(e.partial) == 10000, "files:cut: a download breaks after so many bytes", len(e.partial))
        ok(b.get("/tmp/down") == b"\0" * 30000 + b"\1" + b"\0" * 19999, "files:corrupt: one bit of a download is flipped")
        b.put("/tmp/up", data)
        want = data[:30000] + bytes([data[30000] ^ 1]) + data[30001:]
        ok(b.get("/tmp/up") == want, "files:corrupt: and of an upload")
        b.put("/tmp/up", data)
        ok(b.get("/tmp/up") == data, "then files are whole")
        got = [r["fault"] for r in m.requests() if r.get("fault")]
        ok(got == ["files:cut"] * 2 + ["files:corrupt"] * 2, "they are in the log", got)
    with Mock("--fault", "process:drop@200x1") as m:
        b = m.create()
        c, r = b.start("for i in $(seq 100); do echo $i; done; touch /tmp/done")
        seen = list(envelopes(r))
        ok(r.status == 200 and seen and not any(f & 2 for f, _ in seen), "process:drop: the stream breaks without its end", seen[-1:])
        c.close()
        ok(wait_for("the command", lambda: b.get("/tmp/done") is not None), "but the command goes on")
        ok(b.run("echo x") == (0, b"x\n", b""), "then streams are whole")
    with Mock("--fault", "sandbox:vanish@1x1") as m:
        a, b = m.create(), m.create()
        began = time.monotonic()
        wait_for("its end", lambda: a.ask("GET", "/health").status == 502)
        ok(time.monotonic() - began < 8 and a.api("GET", "").status == 404, "sandbox:vanish: it is gone, without a word")
        time.sleep(0.3)
        ok(b.run("true")[0] == 0, "only as often as it says")
    with Mock("--fault", "edge:502@3x2") as m:
        b = m.create()
        got = [b.ask("GET", "/health").status for _ in range(6)]
        ok(got == [204, 204, 502, 502, 204, 204], "edge:502: from the third request on, twice", got)
    with Mock("--fault", "process:start-503x1", "files:507x1") as m:
        b = m.create()
        c, r = b.start("true")
        ok(b"unavailable" in r.read(), "process:start-503 is handed to envd", r.status)
        c.close()
        a = b.ask("POST", "/files?path=/tmp/x", b"x", headers={"Content-Type": "application/octet-stream"})
        ok(a.status == 507 and b.run("true")[0] == 0, "so is files:507", a)


def log():
    with Mock() as m:
        b = m.create()
        b.put("/tmp/x", b"x" * 1234)
        b.ask("GET", "/files?path=/tmp/x&username=user")
        m.api("GET", "/sandboxes/" + b.id)
        lines = wait_for("four lines", lambda: len(m.requests()) >= 4 and m.requests())
        keys = ["t", "method", "path", "status", "sandbox", "bytes_in", "bytes_out", "ms"]
        ok(all(list(r) == keys for r in lines), "a line a request, with the keys of the contract", lines[0])
        ok([(r["method"], r["path"], r["status"]) for r in lines] == [("POST", "/v2/sandboxes", 201), ("POST", "/files", 200), ("GET", "/files", 200), ("GET", "/sandboxes/" + b.id, 200)], "in their order", lines)
        ok(all(r["sandbox"] == b.id for r in lines) and lines[1]["bytes_in"] == 1234 and lines[2]["bytes_out"] == 1234, "with sandbox and bytes", lines)
        ok(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", lines[0]["t"]) and lines[0]["ms"] > 0, "and times", lines[0])
        text = open(m.log).read()
        ok(KEY not in text and b.token not in text, "no key and no token")


def mounts():
    with open("/proc/self/mounts") as f:
        return f.read()


def nothing_stays():
    before = mounts()
    for how, what in ((signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "SIGINT"), (signal.SIGKILL, "kill -9")):
        m = Mock("--root", "r")
        boxes = [m.create(timeout=100) for _ in range(3)]
        for b in boxes:
            b.run("setsid sleep 4711 >/dev/null 2>&1 </dev/null & setsid nohup bash -c 'trap \"\" TERM INT HUP; while :; do sleep 1; done' >/dev/null 2>&1 </dev/null & mkdir -p a/b; ln -s / a/root; chmod 0 a/b; echo x >.h")
        boxes[1].api("POST", "/pause", {})
        pids = sum((b.processes() for b in boxes), [])
        ok(len(pids) >= 12, "three sandboxes run what they were told", pids)
        rc = m.stop(how)
        ok(rc == (-9 if how == signal.SIGKILL else 0), "%s ends it" % what, rc)
        gone = wait_for("their processes", lambda: not [p for p in pids if lives(p)])
        ok(gone and mounts() == before, "%s: no process and no mount stays" % what)
        if how != signal.SIGKILL:
            ok(os.listdir("r") == [], "%s: nor a file" % what, os.listdir("r"))
    ok(len(os.listdir("r")) == 4, "kill -9 leaves files", os.listdir("r"))
    m = Mock("--root", "r")
    ok(os.listdir("r") == ["lock"], "which the next one in the same root clears away", os.listdir("r"))
    rc, err = refused("--root", "r")
    ok(rc == 2 and "another farstep-mock-e2b has it" in err, "one root is for one mock", err)
    m.stop()
    os.mkdir("t")
    m = Mock(env=dict(os.environ, TMPDIR=os.path.abspath("t")))
    m.create()
    ok(len(os.listdir("t")) == 1, "without --root it is a temporary directory")
    m.stop()
    ok(os.listdir("t") == [], "which goes too")
    m = Mock("--root", "r")
    b = m.create()
    pids = b.processes()
    os.kill(min(pids), signal.SIGKILL)
    wait_for("its end", lambda: b.api("GET", "").status == 404)
    ok(os.listdir("r") == ["lock"] and not [p for p in pids if lives(p)], "a sandbox whose first process dies is gone")
    m.stop()


def as_somebody_else():
    """An ordinary user gets the same, but for root inside."""
    prefix = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    p = subprocess.run([*prefix, "unshare", "-Ur", "true"], capture_output=True, text=True)
    if p.returncode != 0:
        print("ok - an ordinary user # SKIP no user namespaces for him: " + p.stderr.strip())
        return
    # Where he may go: our own directory is root's alone.
    place = tempfile.mkdtemp(prefix="fm-", dir="/tmp")
    try:
        os.chmod(place, 0o777)
        shutil.copy(MOCK, place + "/mock")
        p = subprocess.Popen([*prefix, place + "/mock", "--root", place + "/r", "--log", place + "/log"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=place, text=True)
        m = Mock.__new__(Mock)
        m.p, m.url, m.log = p, p.stdout.readline().split()[1], place + "/log"
        m.port = int(m.url.rsplit(":", 1)[1])
        somebody_else(m, place)
        p.stdout.close()
    finally:
        shutil.rmtree(place)


def somebody_else(m, place):
    b = m.create(timeout=60)
    ok(b.run("id -un; id -u; touch f && stat -c %U f /home/user")[1].split() == [b"user", b"1000", b"user", b"user"], "an ordinary user: commands run as user")
    ok(b.run("touch /etc/x || touch /usr/x")[0] != 0 and b.run("cat /etc/passwd")[1].count(b":x:1000:1000:") == 1, "an ordinary user: /usr and /etc are read-only")
    b.run("setsid sleep 4712 >/dev/null 2>&1 </dev/null &")
    ok(b.api("POST", "/pause", {}).status == 204 and b.api("POST", "/connect", {"timeout": 60}).status == 201, "an ordinary user: pause and resume")
    b.serve("import http.server\nhttp.server.ThreadingHTTPServer(('', 8000), http.server.SimpleHTTPRequestHandler).serve_forever()", 8000)
    ok(b.ask("GET", "/", port=8000).status == 200, "an ordinary user: ports")
    pids = b.processes()
    m.p.terminate()
    m.p.stdin.close()
    ok(m.p.wait(20) == 0 and os.listdir(place + "/r") == [] and len(pids) > 3 and not [x for x in pids if lives(x)], "an ordinary user: nothing stays", (pids, os.listdir(place + "/r")))


options()
create_faults()
edge_faults()
log()
nothing_stays()
if os.geteuid() == 0:
    as_somebody_else()
done()
