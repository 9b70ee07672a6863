#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A run whose proxy is gone or does not answer, seen from elsewhere."""
import json
import os
import signal
import socket
import subprocess

from lib_run import FARSTEP, Run, call, done, new_run_dir, ok, pipeline, shell, wait_for


def started(path, *args, **kw):
    os.makedirs("runs", exist_ok=True)
    before = set(os.listdir("runs"))
    proxy = subprocess.Popen([FARSTEP, "run", "-q", "--target", "native", "--run-dir", "runs", *args, path], stdin=subprocess.DEVNULL, **kw)
    d = wait_for("the run", lambda: new_run_dir("runs", before))
    wait_for("its first step", lambda: os.path.exists(d + "/logs/a.stdout") and open(d + "/logs/a.stdout").read())
    return proxy, d


def from_elsewhere():
    """Directory, -j and --timeout are those of the run, wherever and however attach is called."""
    os.makedirs("sub")
    steps = [shell("a", "echo up; while [ ! -e %s ]; do sleep 0.01; done" % os.path.abspath("go"))] + [shell("s%d" % i, "true") for i in range(6)]
    os.rename(pipeline("p", steps), "sub/p.yaml")
    proxy, d = started("sub/p.yaml", "-j1", "--timeout", "3000")
    proxy.kill()
    proxy.wait()
    os.rename("sub", "moved")
    second = subprocess.Popen([FARSTEP, "attach", "--run-dir", os.path.abspath("runs"), os.path.basename(d)], cwd="/",
                              stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_for("the second proxy", lambda: second.poll() is not None or "reattached" in open(d + "/events.jsonl").read())
    with open(d + "/journal/run.json") as f:
        journal = json.load(f)
    open("go", "w").close()
    err = second.communicate(timeout=60)[1]
    r = Run(second.returncode, "", err.decode(), d)
    ok(r.rc == 0 and r.status["steps_completed"] == 7, "attach needs neither the directory nor the file of the run", r.err)
    ok(journal["jobs"] == 1 and int(journal["deadline_us"]) - int(journal["started_us"]) == 3000 * 10**6, "and remembers -j and --timeout", journal)
    running = most = 0
    for e in r.events():
        running += {"step_start": 1, "step_complete": -1}.get(e["event"], 0)
        most = max(most, running)
    ok(most == 1, "steps still run one at a time", most)


def deaf():
    """A proxy that is stopped takes no connection: who asks is told, and waits no longer than 5 s."""
    proxy, d = started(pipeline("deaf", [shell("a", "echo up; sleep 4711")]), "--run-dir", "runs")
    proxy.send_signal(signal.SIGSTOP)
    with open(d + "/journal/run.json") as f:
        at = json.load(f)["control"] + ".s"
    waiting = []
    try:
        while True:
            s = socket.socket(socket.AF_UNIX)
            s.setblocking(False)
            waiting.append(s)
            s.connect(at)
    except BlockingIOError:
        pass
    p = call("cancel", "--run-dir", "runs", os.path.basename(d), timeout=30)
    ok(p.returncode == 5 and b"does not answer" in p.stderr, "a proxy that is stopped is told, not waited for", (p, len(waiting)))
    for s in waiting:
        s.close()
    proxy.send_signal(signal.SIGCONT)
    proxy.send_signal(signal.SIGINT)
    ok(proxy.wait(30) == 130, "and goes on as before when it is let")


from_elsewhere()
deaf()
done()
