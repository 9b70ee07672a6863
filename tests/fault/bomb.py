#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
# alone
"""Steps that fork without end, behind a fence of FENCE processes so that the machine stays whole: they end at
their deadline, nothing of them is left, and farstep answers all the while."""
import os
import resource
import subprocess
import sys
import time

from lib_fault import FARSTEP
from lib_run import Run, call, done, new_run_dir, ok, pipeline, shell, stat_of, wait_for

FENCE = 300
GROUPS = "/sys/fs/cgroup/pids", "/sys/fs/cgroup"
BOMBS = {
    # The leader stays, so that the deadline has to end it.
    "stays": "sleep 0.5; f() { f | f & }; f; exec sleep 1000",
    # Every one in a session of its own, deaf to TERM.
    "hides": "sleep 0.5; trap '' TERM; B='setsid sh -c \"$B\" & setsid sh -c \"$B\" & wait'; export B; sh -c \"$B\"; sleep 1000",
    # One that starts others, as fast as it can, one after the other.
    "loops": "sleep 0.5; { while :; do (sleep 1000 &); done; } & exec sleep 1000",
}


class Fence:
    """At most FENCE processes for who enters, and all that come from it."""

    def __init__(self):
        self.dir = None
        if os.getuid():
            return
        for base in GROUPS:
            d = "%s/farstep-test-%d" % (base, os.getpid())
            try:
                os.mkdir(d)
                with open(d + "/pids.max", "w") as f:
                    f.write(str(FENCE))
                self.dir = d
                return
            except OSError:
                if os.path.isdir(d):
                    os.rmdir(d)
        print("no cgroup with a bound of processes can be made here, and root has no other bound")
        sys.exit(77)

    def enter(self):
        os.nice(5)
        if self.dir:
            with open(self.dir + "/cgroup.procs", "w") as f:
                f.write(str(os.getpid()))
        else:
            mine = sum(1 for p in os.listdir("/proc") if p.isdigit() and os.stat("/proc/" + p).st_uid == os.getuid())
            resource.setrlimit(resource.RLIMIT_NPROC, (mine + FENCE, mine + FENCE))

    def inside(self):
        if not self.dir:
            return []
        with open(self.dir + "/cgroup.procs") as f:
            return [int(l) for l in f]

    def hit(self):
        """How often the fence has refused a process."""
        try:
            with open(self.dir + "/pids.events") as f:
                return int(f.read().split()[1])
        except (OSError, TypeError):
            return 0

    def remove(self):
        if self.dir:
            wait_for("the fence to be empty", lambda: not self.inside())
            os.rmdir(self.dir)


def bomb(fence, name, target):
    runs = "runs-%s-%s" % (name, target)
    os.makedirs(runs)
    p = pipeline(name, [shell("bomb", BOMBS[name], timeout=2, grace=1), {"id": "other", "driver": "exec", "needs": [], "config": {"argv": ["sleep", "3"]}}])
    q = subprocess.Popen([FARSTEP, "run", "-j2", "--target", target, "--run-dir", runs, p], stdin=subprocess.DEVNULL,
                         stdout=subprocess.DEVNULL, stderr=open(runs + ".err", "wb"), preexec_fn=fence.enter)
    begun, before = time.monotonic(), fence.hit()
    d = wait_for("the run directory", lambda: new_run_dir(runs, set()))
    wait_for("its journal", lambda: os.path.exists(d + "/journal/run.json"))
    slowest, most, refused = 0, 0, []
    while q.poll() is None and time.monotonic() - begun < 60:
        most = max(most, len(fence.inside()))
        asked = time.monotonic()
        answer = call("status", "--run-dir", runs, os.path.basename(d))
        if q.poll() is None:
            slowest = max(slowest, time.monotonic() - asked)
            if answer.returncode:
                refused.append(answer.stderr)
        time.sleep(0.1)
    took = time.monotonic() - begun
    rc = q.poll()
    on = " (%s, %s)" % (name, target)
    if rc is None:
        for pid in fence.inside():
            os.kill(pid, 9)
        q.kill()
        ok(False, "a fork bomb ends" + on)
        return
    r = Run(rc, "", open(runs + ".err").read(), d)
    refused_forks = fence.hit() - before
    # On a busy machine it may not reach its fence within the two seconds.
    ok(not fence.dir or refused_forks or most > 100, "the bomb went off" + on, most)
    ok(rc == 1 and r.step["bomb"] == "timeout" and r.step["other"] == "success", "a fork bomb ends as a timeout, and its neighbour succeeds" + on,
       (rc, r.step, r.err[-800:]))
    ok(took < 20, "soon after its deadline of 2 s" + on, took)
    ok(slowest < 5 and not refused, "and farstep answers all the while" + on, (slowest, refused))
    left = fence.inside()
    ok(not left, "nothing of it is left [R193]" + on, [(p, stat_of(p)) for p in left])
    print("# %s: %.1f s, %d processes, slowest answer %.2f s" % (on, took, most, slowest))


fence = Fence()
try:
    for target in ("native", "local"):
        for name in BOMBS:
            bomb(fence, name, target)
finally:
    for pid in fence.inside():
        os.kill(pid, 9)
    fence.remove()
done()
