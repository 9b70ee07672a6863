#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 3000
"""Runs at E2B, here the mock cloud, that does what a service does on a bad day, and links to it that cut, stall and
change bytes: each ends with the exit code of its fault, says success only when all is proved and whole, and leaves
neither a sandbox nor a process nor a file.

Environment: RUNS=N random runs (default 8; make soak: 500), SEED=N to repeat one sequence."""
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error

from lib_fault import BUILD, FARSTEP, HANG, SEED, in_parallel, steps, what_is_wrong
from lib_run import Run, call, descendants, done, lives, new_run_dir, ok, pipeline, role, wait_for
from lib_cloud import MOCK, Cloud

if not os.path.exists(MOCK):
    print("no mock cloud in this build")
    sys.exit(77)
for name in list(os.environ):
    if name.lower().endswith("_proxy"):
        del os.environ[name]
RUNS = int(os.environ.get("RUNS", "8"))
AT_ONCE = 3
rng = random.Random(SEED)
print("# SEED=%d RUNS=%d" % (SEED, RUNS), flush=True)
STEPS = ("noisy", "quiet", "last")


class Link:
    """farstep-chaos before one side of the cloud."""

    def __init__(self, dir, to, rules, seed):
        self.path = dir + "/chaos-%s.log" % seed
        with open(self.path, "w") as said:
            self.p = subprocess.Popen([BUILD + "/farstep-chaos", "--listen", "127.0.0.1:0", "--to", to, "--seed", str(seed), "--with-parent", "--rule", *rules],
                                      stdin=subprocess.PIPE, stdout=said)
        self.url = "http://" + wait_for("farstep-chaos", lambda: [l for l in self.said() if l.startswith("ready ")])[0].split()[1]

    def said(self):
        with open(self.path) as f:
            return f.read().splitlines()

    def stop(self):
        self.p.terminate()
        self.p.wait(20)
        self.p.stdin.close()


class Case:
    """One run in a cloud of its own; what came of it."""

    def __init__(self, name, path, faults=(), api=(), sandbox=(), seed=1, args=(), stop=None, mock=()):
        self.name, self.faults, self.api, self.sandbox = name, faults, api, sandbox
        self.dir = os.path.abspath(name)
        for d in ("runs", "tmp", "run", "root"):
            os.makedirs(self.dir + "/" + d)
        os.chmod(self.dir + "/run", 0o700)
        os.chmod(self.dir + "/root", 0o755)
        self.links, self.wrong, self.hit = [], [], True
        self.cloud = Cloud("--root", self.dir + "/root", *mock, *[a for f in faults for a in ("--fault", f)])
        try:
            self.idle = set(descendants(self.cloud.p.pid))
            self.env = dict(self.cloud.env, TMPDIR=self.dir + "/tmp", XDG_RUNTIME_DIR=self.socket_dir())
            for variable, rules, n in (("E2B_API_URL", api, 0), ("E2B_SANDBOX_URL", sandbox, 1)):
                if rules:
                    self.links.append(Link(self.dir, self.cloud.env["E2B_API_URL"].split("//")[1], rules, 2 * seed + n))
                    self.env[variable] = self.links[-1].url
            begun = time.monotonic()
            self.go(path, args, stop)
            self.took = time.monotonic() - begun
            self.look()
        finally:
            for l in self.links:
                l.stop()
            self.cloud.__exit__()
            shutil.rmtree(self.sockets)

    def socket_dir(self):
        """Names of sockets are short."""
        self.sockets = tempfile.mkdtemp(prefix="fe.", dir="/tmp")
        return self.sockets

    def go(self, path, args, stop):
        self.err_path = self.dir + "/err"
        self.p = subprocess.Popen([FARSTEP, "run", "-q", "-j3", "--e2b", "--run-dir", self.dir + "/runs", *args, path], env=self.env,
                                  stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(self.err_path, "wb"))
        self.run_dir = wait_for("the run directory", lambda: new_run_dir(self.dir + "/runs", set()))
        self.hit = stop(self) if stop else True
        try:
            rc = self.p.wait(HANG)
        except subprocess.TimeoutExpired:
            self.p.kill()
            self.p.wait()
            rc = "hang"
        if rc == -signal.SIGKILL:
            rc = self.attach()
        self.rc = rc
        # Killed before there was a sandbox: attach ends what was asked for, and says so.
        self.unborn = rc == 6 and "had no sandbox yet" in self.err()
        # A signal may come before anything begins, and do what it does to any program.
        self.unborn |= rc in (-signal.SIGINT, -signal.SIGTERM) and not self.cloud.asked("POST")
        if not os.path.exists(self.run_dir + "/status.json"):
            if not self.unborn:
                self.wrong.append("no status.json")
            with open(self.run_dir + "/status.json", "w") as f:
                json.dump({"steps": [{"id": s, "status": "none"} for s in STEPS]}, f)
        self.r = Run(rc, "", self.err(), self.run_dir)

    def attach(self):
        p = call("attach", "--run-dir", self.dir + "/runs", os.path.basename(self.run_dir), env=self.env, timeout=HANG)
        with open(self.err_path, "ab") as f:
            f.write(b"--- attach\n" + p.stderr)
        return p.returncode

    def err(self):
        with open(self.err_path, errors="replace") as f:
            return f.read()

    def workers(self):
        return [p for p in descendants(self.cloud.p.pid) if role(p) == "worker"]

    def wait_for_step(self):
        def runs():
            try:
                with open(self.run_dir + "/events.jsonl") as f:
                    return "step_start" in f.read() or self.p.poll() is not None
            except OSError:
                return False
        wait_for("a step", runs, 60)

    def look(self):
        """Every promise that the run broke."""
        r = self.r
        self.wrong += [] if self.unborn else what_is_wrong(r)
        if self.links and any(l.p.poll() is not None for l in self.links):
            self.wrong.append("farstep-chaos ended")
        for what, left in (("sandboxes", self.sandboxes),
                           ("processes", lambda: [p for p in set(descendants(self.cloud.p.pid)) - self.idle if lives(p)]),
                           ("files of the cloud", lambda: self.files(self.dir + "/root")), ("files of farstep", lambda: self.files(self.dir + "/tmp")),
                           ("sockets of farstep", lambda: self.files(self.sockets))):
            try:
                wait_for(what, lambda: not left(), 8)
            except SystemExit:
                self.wrong.append("%s left: %s" % (what, str(left())[:400]))

    def sandboxes(self):
        try:
            return self.cloud.running()
        except urllib.error.HTTPError as e:     # a fault of lists that the run did not meet
            return [str(e)]

    @staticmethod
    def files(path):
        """All but what tells clouds of each other."""
        return [os.path.join(d, n) for d, _, names in os.walk(path) for n in names if os.path.join(d, n) != path + "/lock"]

    def detail(self):
        return (self.faults, self.api, self.sandbox, self.wrong, self.rc, self.r.step, self.r.err[-900:], [l.said()[-4:] for l in self.links],
                [(q["method"], q["path"][:60], q["status"], q.get("fault")) for q in self.cloud.asked()][-14:])


# What the cloud does wrong, and the exit codes that a run may have then; with x1 it does so once.
ALWAYS = {
    "create:429:quota": {4}, "create:429:rate": {4}, "create:429:lb": {4}, "create:503": {3}, "create:504": {3}, "create:500": {3},
    "create:hang": {5}, "files:cut@1000": {3}, "files:cut@400k": {3}, "files:corrupt@300k": {7}, "files:507": {10}, "files:hang": {5},
    "process:start-503": {3}, "sandbox:vanish@2": {6}, "edge:502@1": {3}, "edge:502@2": {3},
}
HARMLESS = ["create:ambiguous", "create:cut", "process:drop@0", "process:drop@30", "process:drop@4k", "process:truncate", "process:no-keepalive", "timeout:503", "edge:502@4"]
ONCE = {"create:429:quotax1": {4}, "files:corrupt@200kx1": {7},
        **{f + "x1": {0} for f in ("create:429:rate", "create:429:lb", "create:503", "create:504", "create:500", "create:ambiguous", "create:cut", "files:cut@1000",
                                   "files:cut@400k", "process:drop@0", "process:drop@40", "list:503", "delete:503")}}


def allowed(faults):
    """Exit codes of a run that meets all of them."""
    codes, bad = set(), set()
    for f in faults:
        c = ALWAYS.get(f) or ONCE.get(f) or {0}
        bad |= c - {0}
        codes |= c
    return bad or codes or {0}


def table(path, slow):
    """Each fault alone [R64][R65][R66]."""
    wanted = {**ALWAYS, **{f: {0} for f in HARMLESS}, **ONCE}
    rows = list(wanted) if os.environ.get("FULL") == "1" or RUNS > 50 else TABLE_SHORT

    def one(fault):
        args = ("--timeout", "4" if wanted[fault] == {5} else "40")
        c = Case("t-" + fault.replace(":", "-").replace("@", "-"), slow if "vanish" in fault else path, [fault], args=args)
        ok(c.rc in wanted[fault] and not c.wrong, "%s: exit %s, and nothing stays" % (fault, "/".join(map(str, sorted(wanted[fault])))), c.detail())

    in_parallel(one, rows, AT_ONCE)


TABLE_SHORT = ["create:429:quota", "create:503x1", "create:hang", "files:cut@400kx1", "files:corrupt@300k", "sandbox:vanish@2", "process:drop@30", "delete:503x1"]


# --- somebody is stopped, at a moment ---

def after(delay):
    """Waits, unless the run ends before."""
    def wait(c):
        try:
            c.p.wait(delay)
            return False
        except subprocess.TimeoutExpired:
            return True
    return wait


def signalled(sig, delay):
    """The proxy gets it so long after its first step began; None: after the start."""
    def stop(c):
        if delay is None:
            c.wait_for_step()
        if not after(delay or 0.2)(c):
            return False
        c.p.send_signal(sig)
        return True
    return stop


def kill_worker(c):
    c.wait_for_step()
    there = c.workers()
    if not after(0.1)(c) or not there:
        return False
    os.kill(there[0], signal.SIGKILL)
    return True


def stopped(path):
    todo = {
        "kill": (signalled(signal.SIGKILL, None), 0, "kill -9 of farstep, then attach: the run goes on to its end"),
        "worker": (kill_worker, 0, "kill -9 of the worker in the sandbox: another one adopts its steps"),
        "early": (signalled(signal.SIGKILL, 0.3), 6, "kill -9 of farstep while its sandbox is made, then attach: what was asked for is ended"),
        "int": (signalled(signal.SIGINT, None), 130, "SIGINT: exit 130"),
        "term": (signalled(signal.SIGTERM, None), 143, "SIGTERM: exit 143"),
        "whole": (None, 0, "a whole run: exit 0"),
    }
    late = {"vanished": ("sandbox:vanish@2", (), 6), "deadline": ("timeout:503", ("--timeout", "2"), 5)}
    cases = {}

    def one(name):
        if name in todo:
            cases[name] = Case("k-" + name, path, stop=todo[name][0], mock=("--create-delay", "1500") if name == "early" else ())
        else:
            cases[name] = Case("k-" + name, path, [late[name][0]], args=late[name][1])

    in_parallel(one, [*todo, *late], AT_ONCE)
    for name, (_, code, what) in todo.items():
        c = cases[name]
        ok(c.hit and c.rc == code and not c.wrong, what + ", nothing missing, doubled or left", c.detail())
        ok(len(c.cloud.asked("DELETE")) == 1, "exactly one DELETE (%s) [R4]" % name, c.cloud.asked())
    for name, (fault, _, code) in late.items():
        ok(cases[name].rc == code and not cases[name].wrong and len(cases[name].cloud.asked("DELETE")) <= 1, "%s: exit %d" % (name, code), cases[name].detail())
    c = cases["whole"]
    for left in ("journal/run.json", "status.json"):
        os.unlink(c.run_dir + "/" + left)
    p = call("attach", "--run-dir", c.dir + "/runs", os.path.basename(c.run_dir), env=dict(os.environ, XDG_RUNTIME_DIR=c.dir))
    ok(p.returncode == 6 and b"had no sandbox yet" in p.stderr, "killed before it wrote down anything: attach says that there is nothing to go on with", p)
    again = [e for e in cases["worker"].r.events() if e["event"] == "worker_restarted"]
    ok(len(again) == 1 and again[0]["adopted"] == 2, "the new worker says what it adopted", again)


# --- at random ---

def random_link(g, upload):
    """Rules that a run can outlive, mostly; what hurts for good acts a few times only."""
    kinds = [lambda: "cut@%dx%d" % (g.randrange(1, 600_000 if upload else 3000), g.randrange(1, 4)), lambda: "cut-every %d±%dx%d" % (g.randrange(60, 900), g.randrange(0, 60), g.randrange(1, 5)),
             lambda: "delay %d±%d" % (g.randrange(15, 40), g.randrange(0, 15)), lambda: "stall %d" % g.randrange(10, 600)]
    if upload:
        kinds += [lambda: "down:corrupt@%dx1" % g.randrange(0, 300_000), lambda: "up:corrupt@%dx1" % g.randrange(0, 510_000),
                  lambda: "%s:blackhole@%dx1" % (g.choice(["up", "down"]), g.randrange(0, 500_000)), lambda: "down:truncate@%dx1" % g.randrange(1, 300_000)]
    return [g.choice(kinds)()]


def random_plan(i, g):
    faults, api, sandbox, stop = [], [], [], None
    kind = g.choice(["fault", "faults", "api", "sandbox", "sandbox", "both", "stop", "stop"])
    if kind in ("fault", "faults"):
        pool = [f for f in [*ALWAYS, *HARMLESS, *ONCE] if f not in ("create:429:rate", "create:429:lb", "create:503", "create:504", "create:500")]
        faults = g.sample(pool, 1 if kind == "fault" else 2)
        if g.random() < 0.5:
            faults = [f if f not in ("files:cut@400k", "files:corrupt@300k") else "%s@%d" % (f.split("@")[0], g.randrange(0, 490_000)) for f in faults]
    if kind in ("api", "both"):
        api = random_link(g, False)
    if kind in ("sandbox", "both"):
        sandbox = random_link(g, True)
    if kind == "stop":
        stop = g.choice([kill_worker, signalled(g.choice([signal.SIGKILL, signal.SIGINT, signal.SIGTERM]), g.uniform(0.01, 1.2)), signalled(g.choice([signal.SIGINT, signal.SIGKILL]), None)])
    return i, faults, api, sandbox, stop, g.randrange(1, 10**6)


def allowed_at_random(faults, api, sandbox, stop):
    """Whatever the link changes, an honest end: 0, or what its class says."""
    codes = set(allowed([f if f in ALWAYS or f in ONCE else f.split("@")[0] + ("@400k" if "cut" in f else "@300k") if "files" in f else f for f in faults]))
    if len(faults) > 1 or "sandbox:vanish@2" in faults:
        codes |= {0}
    if len(faults) > 1:
        codes |= {3, 5, 6}  # the second may come before the first is over, or hide why the worker ended
    if api:
        codes |= {0, 3, 5, 6}
    if sandbox:
        codes |= {0, 3, 5, 6, 7, 8, 10}
    return codes | ({0, 6, 130, 143} if stop else set())


def randomly(path):
    plans = [random_plan(i, random.Random(rng.randrange(10**9))) for i in range(RUNS)]
    counts, broken, slowest = {}, [], 0

    def one(plan):
        nonlocal slowest
        i, faults, api, sandbox, stop, seed = plan
        c = Case("r%d" % i, path, faults, api, sandbox, seed, ("--timeout", "12" if "blackhole" in str(sandbox) else "25"), stop)
        codes = allowed_at_random(faults, api, sandbox, stop)
        if c.rc not in codes and not c.unborn:
            c.wrong.append("exit %s, not of %s" % (c.rc, sorted(codes)))
        counts[c.rc] = counts.get(c.rc, 0) + 1
        slowest = max(slowest, c.took)
        if c.wrong:
            broken.append(i)
            ok(False, "run %d of SEED=%d" % (i, SEED), c.detail())
        shutil.rmtree("r%d" % i, ignore_errors=True)

    in_parallel(one, plans, AT_ONCE)
    print("# exit codes: %s, slowest %.1f s" % (sorted(counts.items()), slowest))
    ok(not broken and sum(counts.values()) == RUNS, "%d random runs at a bad cloud over bad links: each ended as its fault says and left nothing [R45]" % RUNS, broken)


def main():
    path = pipeline("fault", steps())
    slow = pipeline("slow", steps(0.6, 2.4))
    table(path, slow)
    stopped(slow)
    randomly(path)


if __name__ == "__main__":
    main()
    done()
