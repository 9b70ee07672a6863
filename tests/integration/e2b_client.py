#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
"""farstep --e2b against the mock cloud: what is asked, what is survived, what is given back."""
import os
import signal
import subprocess
import sys
import time

from lib_cloud import MOCK, Cloud
from lib_run import FARSTEP, call, done, ok, pipeline, run, shell, wait_for

if not os.path.exists(MOCK):
    print("no mock cloud in this build")
    sys.exit(77)
for name in list(os.environ):
    if name.lower().endswith("_proxy"):
        del os.environ[name]


def whole():
    with Cloud() as c:
        p = call("exec", "--e2b", "--", "sh", "-c", "cat; echo err >&2; exit 3", stdin=None, input=b"in", env=c.env)
        ok((p.returncode, p.stdout, p.stderr) == (3, b"in", b"err\n"), "exec at E2B passes streams and code through, in a cloud that runs on this machine [R68]", p)
        rows = [(r["method"], r["path"].split("?")[0].replace(r["sandbox"] or "?", "ID")) for r in c.asked()]
        ok(rows == [("POST", "/v2/sandboxes"), ("POST", "/files"), ("POST", "/process.Process/Start"), ("GET", "/farstep"), ("DELETE", "/sandboxes/ID")],
           "a run costs four requests to bring up, and one to end", rows)
        ok(not c.running(), "and leaves no sandbox")
        phases = []
        for _ in range(5):
            phases.append(run(pipeline("quick", [shell("a", "echo a")]), target="e2b", env=c.env).status["phases"])
        ok(min(p["ready_ms"] for p in phases) < 95, "the edge is asked for the worker's port when it is open: its wait of 100 ms is met no more", phases)
        ok(min(p["collect_ms"] for p in phases) < 35 and min(p["run_ms"] for p in phases) < 35, "no answer of the worker waits for an acknowledgement (40 ms)", phases)
        ok(all(p[name] > 0 for p in phases for name in p), "every phase has its time: the worker's upload, too [R47]", phases)
        os.makedirs("data", exist_ok=True)
        with open("data/orders.csv", "w") as f:
            f.write("b,2\na,1\n")
        p = pipeline("totals", [shell("sort", 'sort data/orders.csv > "$FARSTEP_OUTPUT_DIR/sorted.csv"; echo "$SECRET" | wc -c'),
                                shell("total", 'awk -F, \'{ n += $2 } END { print n }\' "$FARSTEP_INPUT_SORT/sorted.csv" > "$FARSTEP_ARTIFACTS_DIR/total.txt"',
                                      needs=["sort"])], files=["data/*.csv"])
        r = run(p, "--env", "SECRET=in-no-request-4711", target="e2b", env=c.env)
        here = run(p, "--env", "SECRET=in-no-request-4711", target="native", env=c.env)
        ok(r.rc == 0 and r.artifacts() == here.artifacts() == {"total/total.txt": b"3\n"}, "a pipeline gives at E2B what it gives here [R1]", (r.err, r.artifacts()))
        ok(r.read("logs/sort.stdout") == "19\n", "steps get the environment that was passed")
        ok(r.status["sandbox_id"].startswith("i") and not c.running(), "the sandbox is named and gone", r.status)
        made = [e for e in r.events() if e["event"] == "sandbox_created"]
        ok(len(made) == 1 and made[0]["sandbox_id"] == r.status["sandbox_id"] and made[0]["template"] and made[0]["duration_ms"] > 0,
           "sandbox_created comes once, with its real duration [R78]", made)
        other = run(p, "--e2b", target=None, env=c.env)
        plain = run(p, target=None, env=c.env)
        ok((other.status["target"], plain.status["target"]) == ("e2b", "local"), "--e2b chooses the cloud, and without it a run is local [R70]",
           (other.status["target"], plain.status["target"]))


def failures():
    for fault, exit_code, word in (("create:429:quota", 4, "quota"), ("create:429:rate", 4, "rate limit"), ("create:503", 3, "no capacity"),
                                   ("create:500", 3, "server"), ("files:507", 10, "disk full")):
        with Cloud("--fault", fault) as c:
            r = run(pipeline("f", [shell("a", "true")]), target="e2b", env=c.env)
            ok(r.rc == exit_code and word in r.status["error"]["message"] and not c.running(), "%s is exit %d, and nothing stays" % (fault, exit_code), (r.rc, r.err))
    with Cloud() as c:
        env = dict(c.env, E2B_API_KEY="e2b_" + "f" * 40)
        r = run(pipeline("k", [shell("a", "true")]), target="e2b", env=env)
        ok(r.rc == 8 and "Invalid API key" in r.status["error"]["message"], "a wrong key is exit 8, with the service's words", (r.rc, r.err))
        r = run(pipeline("k", [shell("a", "true")]), target="e2b", env={k: v for k, v in c.env.items() if k != "E2B_API_KEY"})
        ok(r.rc == 8 and "E2B_API_KEY is not set" in r.status["error"]["message"] and len(c.asked()) == 1, "no key is exit 8 before anything is asked", (r.rc, r.err))
        r = run(pipeline("t", [shell("a", "true")]), "--template", "no-such-template", target="e2b", env=c.env)
        ok(r.rc == 3 and "no-such-template" in r.status["error"]["message"], "an unknown template is exit 3, by name", (r.rc, r.err))
    r = run(pipeline("u", [shell("a", "true")]), "--timeout", "2", target="e2b", env=dict(c.env))
    ok(r.rc == 5, "a cloud that is not there ends at the deadline", (r.rc, r.err))


def survived():
    for faults in (["create:cutx1"], ["create:ambiguousx1"], ["create:503x1"], ["create:429:ratex1"], ["files:cut@100kx1"], ["process:drop@10x1"],
                   ["create:cutx1", "files:cut@1x1", "process:drop@40x1"]):
        with Cloud(*[a for f in faults for a in ("--fault", f)]) as c:
            p = call("exec", "--e2b", "--", "echo", "through", env=c.env, timeout=90)
            made = len([r for r in c.asked("POST", "/v2/sandboxes") if r["status"] == 201 or r.get("fault") in ("create:cut", "create:ambiguous")])
            ok(p.returncode == 0 and p.stdout == b"through\n" and not c.running(), "survived: " + " ".join(faults), p)
            ok(made == 1, "with one sandbox: " + " ".join(faults), c.asked("POST", "/v2/sandboxes"))


def given_back():
    with Cloud("--create-delay", "1500") as c:
        q = subprocess.Popen([FARSTEP, "exec", "--e2b", "--", "true"], env=c.env, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("the request", lambda: os.path.exists(c.log))
        time.sleep(0.4)
        q.send_signal(signal.SIGINT)
        ok(q.wait(30) == 130, "SIGINT while the sandbox is made: 130")
        time.sleep(1.6)
        ok(not c.running(), "and what came of the request is ended", c.running())
    with Cloud() as c:
        q = subprocess.Popen([FARSTEP, "run", "--run-dir", "mine", "--e2b", pipeline("long", [shell("a", "echo one; sleep 3; echo two")])], env=c.env,
                             stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        def events():
            names = [d for d in os.listdir("mine") if d[0] == "2"] if os.path.isdir("mine") else []
            path = "mine/%s/events.jsonl" % max(names) if names else ""
            return open(path).read() if os.path.exists(path) else ""
        wait_for("the step", lambda: "step_start" in events())
        q.kill()
        q.wait()
        p = call("attach", "--run-dir", "mine", "last", env=c.env, timeout=60)
        last = "mine/" + max(d for d in os.listdir("mine") if d[0] == "2")
        ok(p.returncode == 0 and open(last + "/logs/a.stdout").read() == "one\ntwo\n", "kill -9 and attach: nothing is lost at E2B either", p)
        ok(not c.running(), "attach ends the sandbox that another farstep made", c.running())
    with Cloud("--fault", "sandbox:vanish@2") as c:
        t = time.monotonic()
        r = run(pipeline("gone", [shell("a", "sleep 60")]), target="e2b", env=c.env, timeout=90)
        ok(r.rc == 6 and time.monotonic() - t < 40, "a sandbox that vanishes is lost, soon and with exit 6", (r.rc, r.err, time.monotonic() - t))


def at_once():
    os.makedirs("big", exist_ok=True)
    with open("big/noise", "wb") as f:
        for _ in range(60):
            f.write(os.urandom(1 << 20))
    p = pipeline("big", [shell("a", "wc -c <big/noise")], files=["big/*"])
    with Cloud() as c:
        alone = run(p, target="e2b", env=c.env)
    delay = int(alone.status["phases"]["create_ms"] + 1000)
    with Cloud("--create-delay", str(delay)) as c:
        r = run(p, target="e2b", env=c.env)
        made = [e for e in r.events() if e["event"] == "sandbox_created"][0]
        loaded = [e for e in r.events() if e["event"] == "package_uploaded"][0]
    ok(r.rc == 0 and r.read("logs/a.stdout").strip() == str(60 << 20), "60 MiB travel to E2B", r.err)
    ok(os.path.getsize("big/noise") == loaded["raw_bytes"] and loaded["duration_ms"] > made["duration_ms"] - 500,
       "the package is compressed while the sandbox is made", (made, loaded))


def traced():
    with Cloud() as c:
        p = call("exec", "--e2b", "--", "true", env=dict(c.env, FARSTEP_HTTP_DEBUG="1"))
        err = p.stderr.decode()
        ok("http > POST /v2/sandboxes HTTP/1.1" in err and "http < HTTP/1.1 201" in err, "FARSTEP_HTTP_DEBUG shows the requests [R81]", err[:2000])
        ok(c.env["E2B_API_KEY"] not in err and "X-API-Key: ***" in err and "X-Access-Token: ***" in err, "and no key or token")


whole()
failures()
survived()
given_back()
at_once()
traced()
done()
