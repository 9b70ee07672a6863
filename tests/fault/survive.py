#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 3000
"""Whoever is killed, stopped or cut off in the middle: no false success, no byte missing or doubled, no
step twice, nothing left behind.

Environment: RUNS=N random runs (default 14; make soak: 500), SEED=N to repeat one sequence."""
import json
import os
import random
import shutil
import signal
import subprocess
import threading
import time

from lib_fault import FARSTEP, RUNS, SEED, OwnWorker, steps, what_is_wrong
from lib_run import Run, call, descendants, done, lives, new_run_dir, ok, pipeline, role, shell, stat_of, wait_for

rng = random.Random(SEED)
print("# SEED=%d" % SEED)


class Victim:
    """A run under way, and who is who in it."""

    def __init__(self, path, target):
        os.makedirs("runs", exist_ok=True)
        before = set(os.listdir("runs"))
        self.err = open("err", "w+")
        self.proxy = subprocess.Popen([FARSTEP, "run", "-j3", "--target", target, "--run-dir", "runs", path],
                                      stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=self.err)
        self.dir = wait_for("the run directory", lambda: new_run_dir("runs", before))
        self.id = os.path.basename(self.dir)
        self.known = set()

    def sandbox_pid(self):
        try:
            with open(self.dir + "/journal/run.json") as f:
                return json.load(f).get("sandbox", {}).get("pid", 0)
        except (OSError, ValueError):
            return 0

    def all(self, who):
        top = self.sandbox_pid()
        tree = [top] + descendants(top) if top else []
        self.known.update(tree)
        there = [p for p in tree if role(p) == who]
        # One keeper more waits for the next step.
        return [p for p in there if descendants(p)] if who == "keeper" else there

    def find(self, who):
        """A process of that role, None when there is none (yet, any more)."""
        if who == "proxy":
            return self.proxy.pid
        there = self.all(who)
        return rng.choice(there) if there else None

    def finish(self, timeout=60):
        self.find("worker")
        try:
            return self.proxy.wait(timeout)
        except subprocess.TimeoutExpired:
            self.proxy.kill()
            return "hang"

    def result(self, rc):
        return Run(rc, "", "", self.dir)


def wrong_here(v, r):
    wrong = what_is_wrong(r)
    left = [p for p in v.known if lives(p)]
    if left:
        wrong.append("processes left: %s" % left)
    if os.path.exists(r.dir + "/sandbox"):
        wrong.append("the sandbox's files are left")
    return wrong


def one(path, target, who, sig, delay, steps_run=False):
    """Returns (did the fault hit, what is wrong, the run). The delay is counted from the start, or from when
    both steps run."""
    v = Victim(path, target)
    if steps_run:
        wait_for("two keepers", lambda: len(v.all("keeper")) == 2)
    end = time.monotonic() + delay
    while time.monotonic() < end and v.proxy.poll() is None:
        time.sleep(0.002)
    pid = v.find(who)
    hit = pid is not None and v.proxy.poll() is None
    if hit:
        v.find("keeper")
        try:
            os.kill(pid, sig)
        except ProcessLookupError:
            hit = False
    if hit and sig == signal.SIGSTOP:
        time.sleep(0.3)
        os.kill(pid, signal.SIGCONT)
    rc = v.finish()
    if who == "proxy" and sig == signal.SIGKILL and hit:
        if not v.sandbox_pid():
            return hit, [], None    # it died before it had a sandbox: there is nothing to go on with
        rc = call("attach", "--run-dir", "runs", v.id, timeout=60).returncode
    r = v.result(rc)
    return hit, wrong_here(v, r), r


def cut_link(path, delay):
    """As one(), for the link: its first connection is cut so long after it was made."""
    w = OwnWorker("own", "cut-every %dx1" % (1 + delay * 1000), seed=rng.randrange(1, 10**6), tcp=rng.random() < 0.5)
    r = w.run(path)
    wrong = what_is_wrong(r)
    if r.rc != 0:
        wrong.append("a cut link ended the run: exit %s, %s" % (r.rc, r.err[-500:]))
    if wrong != ["hang"]:
        wrong += w.left()
    hit = any(" cut-every" in l and " conn " in l for l in w.said())
    if w.stop() != 0:
        wrong.append("the worker ended with %d" % w.p.returncode)
    shutil.rmtree("own")
    return hit, wrong, r


def named(path):
    for target in ("native", "local"):
        on = " (%s)" % target
        hit, wrong, r = one(path, target, "worker", signal.SIGKILL, 0.2, True)
        ok(hit and not wrong and r.rc == 0, "a killed worker is replaced; its steps are adopted and nothing is lost [R184]" + on, (wrong, r.err))
        ok(any(e["event"] == "worker_restarted" and e["adopted"] == 2 for e in r.events()), "the new generation says what it adopted" + on)
        hit, wrong, r = one(path, target, "proxy", signal.SIGKILL, 0.2, True)
        ok(hit and not wrong and r.rc == 0, "attach goes on after the proxy was killed" + on, wrong)
        hit, wrong, r = one(path, target, "keeper", signal.SIGKILL, 0, True)
        lost = [e for e in r.events() if e["event"] == "step_failed" and e["status"] == "lost"]
        ok(hit and not wrong and r.rc == 6 and len(lost) == 1 and "keeper" in lost[0]["error"],
           "a killed keeper makes its step lost, with evidence, and its processes end" + on, (wrong, r.rc, lost))
    hit, wrong, r = one(path, "native", "supervisor", signal.SIGKILL, 0.2, True)
    ok(hit and not wrong and r.rc == 6, "a killed supervisor ends the sandbox: exit 6, nothing left [R67]", (wrong, r.rc))
    for sig, code in ((signal.SIGINT, 130), (signal.SIGTERM, 143)):
        hit, wrong, r = one(path, "local", "proxy", sig, 0.2, True)
        ok(hit and not wrong and r.rc == code, "signal %d ends everything cleanly with exit %d" % (sig, code), (wrong, r.rc))


def spare():
    """The keeper that waits for the next step is killed, or stopped for a moment: no step notices."""
    p = pipeline("spare", [shell("first", "true", []), shell("a", "sleep 0.6; echo a", []), shell("b", "echo b", ["a"])])
    for sig, what in ((signal.SIGKILL, "killed"), (signal.SIGSTOP, "stopped")):
        v = Victim(p, "local")

        def idle():
            top = v.sandbox_pid()
            there = [q for q in ([top] + descendants(top) if top else []) if role(q) == "keeper"]
            busy = [q for q in there if descendants(q)]
            # The child of a keeper looks like one until it has become the step.
            return busy and next((q for q in there if q not in busy and (stat_of(q) or (0, q))[1] not in there), None)
        q = wait_for("a spare keeper", idle)
        os.kill(q, sig)
        if sig == signal.SIGSTOP:
            wait_for("step a to end", lambda: os.path.exists(v.dir + "/logs/a.stdout") and os.path.getsize(v.dir + "/logs/a.stdout"))
            try:
                os.kill(q, signal.SIGCONT)
            except ProcessLookupError:  # the run needed it no more, and is over
                pass
        r = v.result(v.finish())
        ok(r.rc == 0 and set(r.step.values()) == {"success"} and r.read("logs/b.stdout") == "b\n", "a spare keeper that is %s costs no step" % what,
           (r.rc, r.step))


def behind():
    """Steps behind the one in which the worker is killed need what steps before it have made."""
    p = pipeline("behind", [shell("made", "echo said; echo x > $FARSTEP_OUTPUT_DIR/x", []), shell("long", "sleep 0.8", ["made"]),
                            shell("uses", "cat $FARSTEP_INPUT_MADE/x", ["made", "long"])])
    for target in ("native", "local"):
        v = Victim(p, target)
        wait_for("the second step", lambda: os.path.exists(v.dir + "/logs/made.stdout") and os.path.getsize(v.dir + "/logs/made.stdout") and v.find("keeper"))
        os.kill(v.find("worker"), signal.SIGKILL)
        r = v.result(v.finish())
        ok(r.rc == 0 and r.read("logs/uses.stdout") == "x\n", "who needs a step that ended before the worker was killed finds it (%s)" % target, (r.rc, r.step, r.err))


def slow_keeper(path):
    """The supervisor is gone at once, a keeper takes its time: the run waits for it."""
    v = Victim(path, "native")
    keeper = wait_for("a keeper", lambda: v.find("keeper"))
    supervisor = v.find("supervisor")
    os.kill(keeper, signal.SIGSTOP)
    os.kill(supervisor, signal.SIGKILL)
    later = threading.Timer(1, os.kill, (keeper, signal.SIGCONT))
    later.start()
    rc = v.finish()
    left = [p for p in v.known if lives(p)]
    later.join()
    ok(rc == 6 and not left, "a run whose supervisor was killed ends when its last keeper has", (rc, left))


def take_over(path):
    v = Victim(path, "native")
    wait_for("a step", lambda: v.find("keeper"))
    ok(call("attach", "--run-dir", "runs", v.id).returncode != 0, "attach does not disturb a living proxy")
    p = call("attach", "--force", "--run-dir", "runs", v.id, timeout=60)
    r = v.result(p.returncode)
    ok(v.finish() == 6, "a proxy that was taken over exits 6")
    ok(p.returncode == 0 and not wrong_here(v, r), "who took over finishes the run", (p.stderr, wrong_here(v, r)))


def cancel(path):
    p = pipeline("cancelled", [shell("long", "sleep 100"), shell("short", "sleep 0.5")])
    v = Victim(p, "local")
    wait_for("a step", lambda: v.find("keeper"))
    st = json.loads(call("status", "--run-dir", "runs", v.id).stdout)
    ok(st["state"] == "running", "status asks the living proxy")
    ps = call("ps", "--run-dir", "runs").stdout.decode()
    ok(any(v.id in l and "running" in l for l in ps.splitlines()), "ps shows what runs", ps)
    wait_for("the step to run", lambda: any(s["id"] == "long" and s["status"] == "running" for s in
                                            json.loads(call("status", "--run-dir", "runs", v.id).stdout)["steps"]))
    begun = time.monotonic()
    ok(b"cancelled" in call("cancel", "--run-dir", "runs", v.id, "long").stdout, "cancel reaches the step")
    rc = v.finish()
    r = v.result(rc)
    ok(r.step["long"] == "cancelled" and r.step["short"] == "success" and rc == 1, "only that step is cancelled [R188]", r.step)
    ok(time.monotonic() - begun < 10, "and it ends at once")
    ok(call("cancel", "--run-dir", "runs", v.id).returncode != 0, "a run that has ended cannot be cancelled")


def randomly(path):
    hits, broken = {}, 0
    for i in range(RUNS):
        target = rng.choice(["native", "native", "local"])
        who = rng.choice(["proxy", "worker", "keeper", "supervisor" if target == "native" else "worker", "link"])
        sig = rng.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGSTOP])
        delay = rng.uniform(0.0, 0.7)
        hit, wrong, r = cut_link(path, delay) if who == "link" else one(path, target, who, sig, delay)
        hits[who] = hits.get(who, 0) + hit
        if wrong:
            broken += 1
            ok(False, "run %d of SEED=%d" % (i, SEED), (target, who, sig, delay, wrong, r.rc if r else "", r.step if r else ""))
        elif r:
            shutil.rmtree(r.dir, ignore_errors=True)
        if i % 50 == 49:
            print("# %d runs, faults that hit: %s" % (i + 1, hits), flush=True)
    ok(sum(hits.values()) >= RUNS // 5 and not broken, "%d random runs, each with a kill, a stop or a cut link: %s hit, every promise held" % (RUNS, hits), broken)


path = pipeline("fault", steps())
named(pipeline("longer", steps(0.4, 1.8)))
spare()
behind()
slow_keeper(path)
take_over(path)
cancel(path)
randomly(path)
done()
