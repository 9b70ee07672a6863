#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""What the supervisor keeps of steps, it keeps for as long as they and their session are there: a worker
that is used again and again does not fill up with descriptors."""
import os
import signal

from lib_run import descendants, done, lives, ok, role, wait_for
from lib_ws import WS, Worker, step

w = Worker("w")


def started(c, id, script, **more):
    rid = c.send("step.execute", step(id, script, **more))
    c.message(lambda m: m.get("method") == "event" and m["params"]["event"] == "step_start")
    return rid, [p for p in descendants(w.p.pid) if role(p) == "keeper" and descendants(p)]


def sockets():
    """Of the supervisor: descriptors that it holds."""
    at = "/proc/%d/fd" % w.p.pid
    links = []
    for f in os.listdir(at):
        try:
            links.append(os.readlink(os.path.join(at, f)))
        except FileNotFoundError:   # closed meanwhile
            pass
    return len([x for x in links if x.startswith("socket:")])


def worker():
    return [p for p in descendants(w.p.pid) if role(p) == "worker"]


first = WS(w.path)
first.open("first")
first.call("step.execute", step("a", "true"))
ok(sockets() == 3, "of a keeper that waits for another step the socket stays, beside the door and the worker's", sockets())
for i in range(200):
    first.call("step.execute", step("a%d" % i, "true"))
    first.call("step.release", {"step": "a%d" % i, "attempt": 1})
ok(sockets() == 3, "and of 200 steps after it none is added", sockets())
first.call("step.execute", step("killed", "kill -9 $PPID; sleep 1000"))
wait_for("its socket to go with a keeper that dies", lambda: sockets() == 2)

# ---- a session is closed while a keeper does not answer ----
c = WS(w.path)
c.open("stuck")
rid, (keeper,) = started(c, "s", "exec sleep 1000")
ok(sockets() == 3, "the socket of a step's keeper is kept", sockets())
os.kill(keeper, signal.SIGSTOP)
ok(c.call("session.close", {})["result"]["leftovers"] == 1, "a session ends though a keeper of it is stuck")
wait_for("the stuck keeper's end", lambda: not lives(keeper))
ok(sockets() == 2, "and neither the keeper nor its socket stays", sockets())

# ---- a worker dies while a step ends ----
c = WS(w.path)
c.open("ends")
rid, (keeper,) = started(c, "e", "sleep 0.3")
(old,) = worker()
os.kill(old, signal.SIGSTOP)
record = w.dir + "/root/sessions/ends/steps/e.1/claim"
wait_for("the step's record", lambda: open(record).read().count("\n") == 2)
os.kill(old, signal.SIGKILL)
wait_for("the next worker", lambda: worker() and worker() != [old])
wait_for("its door", w.listens)
c = WS(w.path)
ok("result" in c.resume("ends"), "the session goes on in another worker")
ok(c.call("step.status", {"step": "e"})["result"]["state"] == "finished", "which finds the step's record")
wait_for("no socket of a keeper that nobody took over", lambda: sockets() == 2)
wait_for("its end", lambda: not lives(keeper))
ok(w.stop() == 0, "the worker ends as always")
done()
