#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A worker is killed when steps have ended: the next one knows how, whether their client has everything or not."""
import os
import signal
import struct

from lib_run import descendants, done, ok, role, wait_for
from lib_ws import WS, Worker, step

N = 300
# Fewer descriptors than steps.
w = Worker("w", before=("prlimit", "--nofile=256:256"))


def worker():
    return [p for p in descendants(w.p.pid) if role(p) == "worker"]


def another():
    (old,) = worker()
    os.kill(old, signal.SIGKILL)
    wait_for("the next worker", lambda: worker() and worker() != [old])
    wait_for("its door", w.listens)
    c = WS(w.path)
    return c, c.resume("s")["result"]


def plain(id, script, **more):
    return dict({"step": id, "attempt": 1, "driver": "shell", "config": {"script": script}}, **more)


c = WS(w.path)
c.open("s")
c.call("step.execute", step("made", "echo said; echo x > $FARSTEP_OUTPUT_DIR/x"))
c.call("step.release", {"step": "made", "attempt": 1})
c.call("step.execute", plain("kept", "echo still here; echo and this >&2; exit 3"))
for i in range(N):
    c.call("step.execute", plain("n%d" % i, "echo %d" % i))
    if i % 2:
        c.call("step.release", {"step": "n%d" % i, "attempt": 1})
c, got = another()
states = {s["step"]: s["state"] for s in got["steps"]}
wrong = {k: v for k, v in states.items() if v != "finished"}
ok(len(states) == N + 2 and not wrong, "every step that had ended has ended, released or not, though there are more than descriptors", (len(states), wrong))
got = c.call("status.get", {})["result"]["steps"]
ok(got["lost"] == 0, "none counts as lost", got)
got = c.call("step.execute", plain("after", 'test "$(cat $FARSTEP_INPUT_MADE/x)" = x', inputs={"made": {"step": "made", "attempt": 1}}))
ok(got.get("result", {}).get("status") == "success", "a step that needs one of them starts", got)
body = plain("kept", "echo still here; echo and this >&2; exit 3", stdout={"channel": 5, "offset": "0", "window": "1000"}, stderr={"channel": 6, "offset": "4", "window": "1000"})
rid = c.send("step.execute", body)
streams, answer, ended = {5: b"", 6: b""}, None, set()
while answer is None or len(ended) < 2:
    op, frame = c.recv()
    if op == 2 and frame[0] == 1:
        channel = struct.unpack(">I", frame[4:8])[0]
        streams[channel] += frame[16:]
        if frame[1] & 1:
            ended.add(channel)
    elif op == 1 and b'"id":%d' % rid in frame:
        answer = frame
ok(streams == {5: b"still here\n", 6: b"this\n"} and b'"status":"error"' in answer, "what nobody has fetched yet is still to be had", (streams, answer))
ok("result" in c.call("step.release", {"step": "kept", "attempt": 1}) and not os.path.exists(w.dir + "/root/sessions/s/steps/kept.1/stdout"), "and goes when it was")
ok(len(os.listdir("/proc/%d/fd" % worker()[0])) < 60, "nothing that has ended holds a descriptor", os.listdir("/proc/%d/fd" % worker()[0]))
ok(c.call("session.close", {})["result"]["leftovers"] == 0 and w.stop() == 0, "the session and the worker end as always")
done()
