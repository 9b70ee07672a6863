#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A keeper whose step left nothing takes the next one, and nothing of the one is in the other."""
import json
import os

from lib_run import descendants, done, lives, ok, role, wait_for
from lib_ws import WS, Worker, step

w = Worker("w")
c = WS(w.path)
c.open("s")


def call(id, script, **more):
    got = c.call("step.execute", dict({"step": id, "attempt": 1, "driver": "shell", "config": {"script": script}}, **more))["result"]
    c.call("step.release", {"step": id, "attempt": 1})
    return got


def keeper_of(id, script="true", **more):
    """The keeper that the step had: its process is the parent of the step's."""
    call(id, "echo $PPID > $HOME/keeper; " + script, **more)
    with open(w.dir + "/root/sessions/s/home/keeper") as f:
        return int(f.read())


def descriptors(pid):
    return sorted(os.readlink("/proc/%d/fd/%s" % (pid, f)).split(":")[0] for f in os.listdir("/proc/%d/fd" % pid))


first = keeper_of("first")
# Both ends of three pipes are made for the next step, and its lifeline is a fourth.
before = wait_for("it to be ready", lambda: (lambda d: d.count("pipe") == 7 and d)(descriptors(first)))
same = [keeper_of("n%d" % i, "echo out; echo err >&2; echo '{\"type\":\"metric\",\"name\":\"rows\",\"value\":1}' >&3; echo x > $FARSTEP_ARTIFACTS_DIR/x; exit %d" % (i % 3))
        for i in range(60)]
ok(set(same) == {first}, "steps one after the other have one keeper, also those that fail", same)
wait_for("it to be as before", lambda: descriptors(first) == before)
ok(True, "which has no descriptor more after 60 of them")

big = json.loads(call("big", "head -c 200000000 /dev/zero | tail -c 100000000 | wc -c; i=0; while [ $i -lt 20000 ]; do i=$((i+1)); done")["receipt"])
small = json.loads(call("small", "true")["receipt"])
ok(keeper_of("who") == first and small["usage"]["max_rss_kb"] < big["usage"]["max_rss_kb"] / 4 and small["usage"]["user_ms"] < big["usage"]["user_ms"],
   "what a step used is counted for it alone", (big["usage"], small["usage"]))
ok(small["stdout"]["bytes"] == "0" and small["artifacts"]["count"] == 0 and "rows" not in small, "and so is what it printed, left and said", small)
said = call("said", "printf '{\"type\":\"complete\",\"success\":false,\"error\":\"no luck\"}\\n' >&3")
after = call("after", "exit 4")
ok(said["error"] == "no luck" and after["error"] == "exit code 4", "a reason that one step gave is no reason of the next", (said, after))
env = call("env", "test -z \"$ONLY\" && test -z \"$FARSTEP_INPUT_X\"")
ok(call("with", "test \"$ONLY\" = here", env={"ONLY": "here"})["status"] == "success" and call("without", "test -z \"$ONLY\"")["status"] == "success",
   "variables are those of the step alone", env)

# ---- who left something, or had to be ended, has had its keeper to itself ----
for name, script, more in (("a step that left a process", "sleep 1000 & true", {"linger_ms": 10, "grace_ms": 100}),
                           ("one that ran too long", "sleep 1000", {"timeout_ms": 100, "grace_ms": 100}),
                           ("one with a backtrace", "true", {"backtrace": True})):
    k = keeper_of(name.replace(" ", "-"), script, **more)
    wait_for("its keeper's end", lambda: not lives(k))
    ok(True, "the keeper of %s ends with it" % name)
call("last", "true")
idle = [p for p in descendants(w.p.pid) if role(p) == "keeper"]
ok(idle and c.call("session.close", {})["result"]["leftovers"] == 0, "a session is closed while keepers wait", idle)
wait_for("their end", lambda: not any(lives(p) for p in idle))
ok(True, "and none waits without a session")
ok(w.stop() == 0, "the worker ends as always")
done()
