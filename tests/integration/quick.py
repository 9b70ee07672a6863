#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The functional twins of two rows of the benchmark. A machine may be busy with other things, so the best of many
tries counts here; the figures themselves are those of make bench."""
import time

from lib_run import BUILD, done, ok
from lib_ws import WORKER, WS, Worker

LATE = 20 if "/san" in BUILD else 1     # a sanitizer's build is slow
starts, steps = [], []
for i in range(20):
    begun = time.perf_counter()
    w = Worker("w%d" % i)
    hello = WS(w.path).message()
    starts.append((time.perf_counter() - begun) * 1e3)
    if hello["method"] != "hello" or w.stop() != 0:
        ok(False, "a worker starts, says hello and ends", hello)
ok(min(starts) < LATE * 150, "a worker is ready within 150 ms of its start [R49]", starts)

w = Worker("steps")
c = WS(w.path)
c.open()
good = 0
for i in range(100):
    begun = time.perf_counter()
    r = c.call("step.execute", {"step": "s%d" % i, "attempt": 1, "driver": "exec", "config": {"argv": [WORKER, "--version"]}})
    steps.append((time.perf_counter() - begun) * 1e3)
    good += r["result"]["status"] == "success"
    c.call("step.release", {"step": "s%d" % i, "attempt": 1})
ok(good == 100 and min(steps) < LATE * 10, "an empty step is asked for, run and proved within 10 ms [R50]", (good, sorted(steps)[:5]))
w.stop()
done()
