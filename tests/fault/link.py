#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 1500
"""A link that drops, delays, cuts, stalls and corrupts, between farstep and its worker: no false success,
no byte missing or doubled, no step twice, no hang, events in order and once.

Environment: RUNS=N random links (default 8; make soak: 300), SEED=N to repeat one sequence."""
import os
import random
import re
import subprocess
import threading
import time

from lib_fault import BUILD, FARSTEP, HANG, RUNS, SEED, OwnWorker, steps, what_is_wrong
from lib_run import done, ok, pipeline, wait_for

rng = random.Random(SEED)
print("# SEED=%d" % SEED)
HARMLESS = ("success", 0)


class Case:
    """One run over one link; what came of it."""

    def __init__(self, name, path, *rules, seed=1, tcp=False, lines=None):
        self.name, self.rules = name, rules
        w = OwnWorker(name, *rules, seed=seed, tcp=tcp)
        begun = time.monotonic()
        self.r = w.run(path)
        self.took = time.monotonic() - begun
        self.wrong = what_is_wrong(self.r, *([lines] if lines else []))
        try:
            wait_for("the session to be gone", lambda: not w.left(), 20)
        except SystemExit:
            self.wrong += w.left()
        if w.stop() != 0:
            self.wrong.append("the worker ended with %d" % w.p.returncode)
        self.said, self.log = w.said(), w.log()
        self.did = sum(bool(re.search(r" conn \d+ (up |down )?(cut|stall|blackhole|truncate|corrupt)", l)) for l in self.said)
        self.names = [e["event"] for e in self.r.events()]

    def detail(self):
        return (self.rules, self.wrong, self.r.rc, self.r.step, self.r.err[-600:], self.said[-6:])

    def holds(self):
        """All came home over this link, whatever happened to it."""
        return not self.wrong and self.r.rc == 0
