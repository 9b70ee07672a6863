#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A file that a step left in its working directory is named in a warning, never lost in silence."""
import hashlib
import json
import os
import signal
import socket
import subprocess

from lib_run import BUILD, FARSTEP, Run, call, done, new_run_dir, ok, pipeline, run, shell, wait_for
from lib_ws import KEY, WS, Worker, step


def warnings(r):
    return [e for e in r.events() if e["event"] == "warning" and ("files" in e or "is not known" in e["message"])]


def left(r):
    """{path: changed} of the one warning; None when there is none."""
    w = warnings(r)
    return {f["path"]: f["changed"] for f in w[0]["files"]} if len(w) == 1 else None if not w else w


os.makedirs("data", exist_ok=True)
for i in range(300):
    with open("data/%03d.csv" % i, "w") as f:
        f.write("%d\n" % i)


def named(target, *args, **kw):
    on = " (%s)" % target.split(":")[0]
    p = pipeline("left", [
        shell("takes", "echo home > a.out; mkdir -p sub; echo home > sub/b.out; echo o > $FARSTEP_OUTPUT_DIR/o; echo f > $FARSTEP_ARTIFACTS_DIR/f; "
              "mkdir -p sub/__pycache__; echo x > sub/__pycache__/m.pyc; ln -s a.out link; mkfifo pipe", artifacts=["**/*.out", "*.out"]),
        shell("leaves", "echo left > 'left file.txt'; mkdir -p sub/deep; echo x > sub/deep/x; : > sub/empty; touch -d 2001-01-01 sub/empty; cat data/007.csv", ["takes"]),
        shell("changes", "echo more >> a.out; sleep 0.05; echo more >> data/008.csv; cp -p data/009.csv data/copy.csv", ["leaves"]),
    ], ["data/*.csv"])
    r = run(p, *args, target=target, **kw)
    want = {"a.out": True, "data/008.csv": True, "data/copy.csv": False, "left file.txt": False, "sub/deep/x": False, "sub/empty": False}
    ok(r.rc == 0 and left(r) == want, "files that nothing brought home are named, and what was changed after it came home" + on, (left(r), r.err))
    w = warnings(r)
    ok(w and w[0]["left"] == 6 and "6 files" in w[0]["message"] and "'artifacts'" in w[0]["message"],
       "the warning counts them and says what brings files home" + on, w)
    names = [e["event"] for e in r.events()]
    ok(w and names.index("warning") > max(i for i, n in enumerate(names) if n == "step_complete"), "it comes when all steps have ended" + on, names)
    ok("warning: 6 files" in r.err and "left file.txt" in r.err, "people read it too" + on, r.err)
    r = run(pipeline("clean", [shell("a", "cat data/*.csv > $FARSTEP_OUTPUT_DIR/all; echo x > a.out; rm data/010.csv", artifacts=["*.out"])], ["data/*.csv"]), *args, target=target, **kw)
    ok(r.rc == 0 and not warnings(r), "files of the package, artifacts and outputs are not named" + on, warnings(r))


def many():
    r = run(pipeline("many", [shell("a", "i=100; while [ $i -lt 140 ]; do echo $i > f$i; i=$((i+1)); done; rm f139")]), target="native")
    w = warnings(r)
    ok(len(w) == 1 and w[0]["left"] == 39 and [f["path"] for f in w[0]["files"]] == ["f%d" % i for i in range(100, 120)]
       and "and 19 more" in w[0]["message"], "the first twenty are named, the others counted", w)
    r = run(pipeline("fails", [shell("a", "echo x > junk; exit 1"), shell("b", "true", ["a"])]), target="native")
    ok(r.rc == 1 and left(r) == {"junk": False}, "a run that fails names them as well", (r.rc, warnings(r)))
    r = run(pipeline("aside", [shell("a", "echo x > \"$HOME/h\"; echo x > \"$TMPDIR/t\"; echo x > $FARSTEP_CHECKPOINT_DIR/c")]), target="native")
    ok(r.rc == 0 and not warnings(r), "HOME, TMPDIR and checkpoints are no working directory", warnings(r))
    r = run(pipeline("quiet", [shell("a", "printf 'x' > \"$(printf 'odd\\nname')\"")]), "-q", target="native")
    ok(left(r) == {"odd\nname": False} and r.err == "", "-q keeps the event and no line", (warnings(r), r.err))


def attached(target):
    os.makedirs("runs", exist_ok=True)
    before = set(os.listdir("runs"))
    p = pipeline("attach", [shell("before", "echo x > early"), shell("waits", "echo running; sleep 0.7; echo x > late", ["before"])])
    proxy = subprocess.Popen([FARSTEP, "run", "-q", "--target", target, "--run-dir", "runs", p], stdin=subprocess.DEVNULL)
    d = wait_for("the run", lambda: new_run_dir("runs", before))
    wait_for("its second step", lambda: os.path.exists(d + "/logs/waits.stdout") and open(d + "/logs/waits.stdout").read())
    proxy.send_signal(signal.SIGKILL)
    proxy.wait()
    rc = call("attach", "--run-dir", "runs", os.path.basename(d)).returncode
    r = Run(rc, "", "", d)
    ok(rc == 0 and left(r) == {"early": False, "late": False}, "who attaches hears of all of them (%s)" % target, (rc, warnings(r)))


def all_at_home():
    """A proxy that ended between the last step and the question: nobody knows any more."""
    r = run(pipeline("home", [shell("a", "echo x > $FARSTEP_ARTIFACTS_DIR/x")]), target="native")
    p = call("attach", "--run-dir", "runs", r.id)
    ok(p.returncode == 0 and not warnings(r), "attaching to a run that was asked says nothing", (p, warnings(r)))
    os.remove(r.dir + "/journal/left")
    p = call("attach", "--run-dir", "runs", r.id)
    w = warnings(r)
    ok(p.returncode == 0 and len(w) == 1 and "is not known" in w[0]["message"], "attaching to one that was not says that it is not known", (p, w))


def own_worker():
    token = "my-own-token"
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    at = "127.0.0.1:%d" % port
    w = subprocess.Popen([BUILD + "/farstep-worker", "--listen", at, "--token-sha256", hashlib.sha256(token.encode()).hexdigest()], stderr=subprocess.DEVNULL)
    try:
        wait_for("the worker", lambda: subprocess.run([BUILD + "/farstep-worker", "--health", "--listen", at], capture_output=True).returncode == 0)
        named("ws://" + at, env=dict(os.environ, FARSTEP_TOKEN=token))
    finally:
        w.terminate()
        w.wait(20)


def bounds():
    w = Worker("bounds")
    try:
        c = WS(w.path)
        c.open()
        got = c.call("session.left", {})["result"]
        ok(got == {"files": [], "count": 0, "bytes": "0", "complete": True}, "a session without a file has nothing left", got)
        c.call("step.execute", step("deep", "i=0; while [ $i -lt 70 ]; do mkdir d; cd d; i=$((i+1)); done; echo x > bottom"))
        got = c.call("session.left", {})["result"]
        ok(got["count"] == 0 and got["complete"] is False, "what is too deep to look at makes the answer incomplete", got)
        c.call("step.execute", step("wide", "mkdir w; cd w; seq 1 5000 | xargs touch"))
        got = c.call("session.left", {})["result"]
        ok(got["count"] == 5000 and len(got["files"]) == 20 and got["files"][0]["path"] == "w/1", "five thousand files are counted", got["count"])
        c.send("session.left", {}, id="a")
        c.send("session.left", {}, id="b")
        answers = {m["id"]: m for m in (c.message(lambda m: m.get("id") in ("a", "b")) for _ in range(2))}
        ok(answers["b"]["result"]["count"] == 5000 and answers["a"]["error"]["data"]["class"] == "replaced", "a second question takes the place of the first", json.dumps(answers)[:300])
    finally:
        w.stop()


for t in ("local", "native"):
    named(t)
    attached(t)
own_worker()
all_at_home()
many()
bounds()
done()
