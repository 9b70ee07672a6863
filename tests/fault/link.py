#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 3000
"""A link that drops, delays, cuts, stalls and corrupts, between farstep and its worker: no false success,
no byte missing or doubled, no step twice, no hang, events in order and once.

Environment: RUNS=N random links (default 8; make soak: 500), SEED=N to repeat one sequence."""
import os
import random
import re
import shutil
import subprocess
import time

from lib_fault import FARSTEP, HANG, SEED, OwnWorker, in_parallel, steps, what_is_wrong
from lib_run import done, ok, pipeline, wait_for

rng = random.Random(SEED)
print("# SEED=%d" % SEED)
RUNS = int(os.environ.get("RUNS", "8"))
SHORT = 600     # lines of noise where every byte is a write of its own


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


def scripted(path, short, fast):
    """Named faults. Each is a thread of its own: most of their time is waiting."""
    todo = {
        "cuts": (path, ["up:cut down:cut"], "a link cut at random bytes, again and again"),
        "every300": (path, ["cut-every 300"], "a link cut every 300 ms"),
        "onebyte": (short, ["one-byte"], "a link that writes one byte at a time"),
        "delay": (path, ["delay 40±30"], "a link with 40±30 ms of delay"),
        "stall": (path, ["stall 1000@2000"], "a link that stalls for a second"),
        "truncup": (path, ["up:truncate@2600x1"], "a link half closed by the client's side"),
        "truncdown": (path, ["down:truncate@100kx1"], "a link half closed by the worker's side"),
        "corruptdown": (path, ["down:corrupt@200kx1 down:corrupt@900x1"], "a link that flips bits on the way down"),
        "corruptup": (path, ["up:corrupt@1700x1 up:corrupt@900x1"], "a link that flips bits on the way up"),
        "rate": (short, ["rate 400"], "a slow link"),
    }
    cases = {}

    def one(name):
        p, rules, _ = todo[name]
        cases[name] = Case(name, p, *rules, tcp=name in fast, lines=SHORT if p == short else None)

    in_parallel(one, todo)
    for name, (_, rules, what) in todo.items():
        c = cases.get(name)
        ok(c and c.holds(), what + ": every byte, event and artifact once, no step twice", c and c.detail())
    c = cases["cuts"]
    ok(c.did > 20 and c.names.count("reattached") > 20, "more than 20 cuts are needed to bring 2.4 MB home in pieces", (c.did, c.names.count("reattached")))
    ok(cases["every300"].did >= 2, "the link was cut while the steps ran", cases["every300"].said)
    ok("heartbeat_lost" not in cases["stall"].names and cases["stall"].took >= 1, "a second of silence is not visible in the run", cases["stall"].names)
    for name in ("corruptdown", "corruptup"):
        c = cases[name]
        ok("heartbeat_lost" in c.names and ("4007" in c.r.err or "4007" in c.log),
           "a flipped bit closes the connection with 4007, and the run is resumed (%s)" % name, (c.names, c.r.err[-500:], c.log[-500:]))


def slow(path):
    """What takes its time: silence beyond the bound, and a cut every 7 s of a long run."""
    cases = {}

    def one(name):
        cases[name] = Case(name, *todo[name])

    long = pipeline("long", steps(4, 1))
    silent = pipeline("silent", [s if s["id"] != "quiet" else dict(s, config={"script": "sleep 31; " + s["config"]["script"]}) for s in steps()])
    todo = {"every7": (long, "cut-every 7000"), "hole": (path, "up:blackhole@2000x1 down:blackhole@150kx1"), "beat": (silent,)}
    in_parallel(one, todo)
    c = cases["beat"]
    ok(c.holds() and "heartbeat_lost" not in c.names, "31 s without a word from a step: the beats of both sides keep the link", c.detail())
    c = cases["every7"]
    ok(c.holds() and c.did >= 2, "a link cut every 7 s: every byte, event and artifact once", c.detail())
    c = cases["hole"]
    ok(c.holds(), "a link that swallows everything is replaced, and the run goes on to its end", c.detail())
    at = [float(l.split()[0]) for l in c.said if "blackhole" in l and " conn " in l]
    again = [float(l.split()[0]) for l in c.said if l.endswith("conn 2 open")]
    ok(at and again and again[0] - max(at) <= 30, "three beats missed: farstep notices within 30 s that the worker is not heard any more [R8]", (at, again))
    ok("heartbeat_lost" in c.names, "and says so in an event", c.names)
    end = re.findall(r"^(\S+)Z .*connection of session \S+ closed: (\d+)", c.log, re.M)
    ok(end and end[0][1] in ("4005", "1006", "4001"), "the worker lets that connection go", end)


def deaf(path):
    """Only farstep is not heard, and hears the worker all the time: the worker must find out by itself."""
    w = OwnWorker("deaf", "up:blackhole@2000x1")
    begun = time.monotonic()
    p, d = w.start(path)
    closed = None
    while p.poll() is None and time.monotonic() - begun < HANG:
        if closed is None and re.search(r"closed: (4005|1006)", w.log()):
            closed = time.monotonic() - begun
        time.sleep(0.05)
    if closed is None and re.search(r"closed: (4005|1006)", w.log()):   # and with it the run ended
        closed = time.monotonic() - begun
    ok(p.returncode == 0 and closed and closed <= 31, "a worker that hears nothing gives the connection up within 30 s", (p.returncode, closed, w.log()[-800:]))
    w.stop()


def stdin_over(rules, name, n):
    blob = random.Random(SEED).randbytes(n)
    w = OwnWorker(name, *rules)
    p = subprocess.run([FARSTEP, "exec", "--target", w.target, "--", "cat"], input=blob, capture_output=True, env=w.env, timeout=HANG)
    w.stop()
    return p.returncode == 0 and p.stdout == blob, (p.returncode, len(p.stdout), p.stderr[-500:], w.said()[-5:])


def commands():
    """exec: standard input goes up while standard output comes down."""
    for name, rules, what in (("x1", ["cut"], "is cut at random bytes"), ("x2", ["up:corrupt@70000x1 down:corrupt@90000x1"], "flips bits"),
                              ("x3", ["stall 300", "delay 5±5"], "stalls and delays")):
        good, detail = stdin_over(rules, name, 1_500_000)
        ok(good, "exec cat over a link that %s gives back what went in" % what, detail)


def random_rules(g):
    kinds = [lambda: "cut", lambda: "up:cut@%dx%d" % (g.randrange(1, 4000), g.randrange(1, 9)), lambda: "down:cut@%d" % g.randrange(1, 2_000_000),
             lambda: "cut-every %d±%d" % (g.randrange(60, 900), g.randrange(0, 60)), lambda: "delay %d±%d" % (g.randrange(15, 40), g.randrange(0, 15)),
             lambda: "stall %d" % g.randrange(10, 600), lambda: "down:truncate@%dx%d" % (g.randrange(1, 500_000), g.randrange(1, 4)), lambda: "up:truncate@%dx1" % g.randrange(600, 4000),
             lambda: "down:corrupt@%dx%d" % (g.randrange(600, 300_000), g.randrange(1, 4)), lambda: "up:corrupt@%dx%d" % (g.randrange(600, 4000), g.randrange(1, 4)),
             lambda: "rate %d" % g.randrange(1500, 20000)]
    return [k() for k in g.sample(kinds, g.choice([1, 1, 2, 3]))]


def randomly(path):
    """As survive.py does with processes: whatever the link does, no promise is broken. Exit 7 is an honest
    end, and so is 8 for a token that was changed on its way; but over these links none is needed."""
    plans = [(i, random_rules(rng), rng.randrange(1, 10**6), rng.random() < 0.3) for i in range(RUNS)]
    results = {}

    def one(plan):
        i, rules, seed, tcp = plan
        results[i] = Case("r%d" % i, path, *rules, seed=seed, tcp=tcp)

    in_parallel(one, plans)
    hits, broken = 0, 0
    for i, rules, seed, tcp in plans:
        c = results.get(i)
        hits += c is not None and c.did > 0
        if not c or not c.holds():
            broken += 1
            ok(False, "link %d of SEED=%d" % (i, SEED), c and c.detail())
        shutil.rmtree("r%d" % i, ignore_errors=True)
    ok(hits >= RUNS // 5 and not broken, "%d random links, %d of them hurt: every promise held" % (RUNS, hits), broken)


path = pipeline("fault", steps())
short = pipeline("short", steps(0.02, 0.1, SHORT))
in_parallel(lambda f: f(), [lambda: scripted(path, short, ("cuts", "delay", "corruptup")), lambda: slow(path), lambda: deaf(path), commands])
randomly(path)
done()
