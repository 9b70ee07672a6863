# SPDX-License-Identifier: Apache-2.0
"""What the fault tests share: a pipeline that shows every fault, a worker of one's own behind
farstep-chaos, and the promises that hold whatever happens."""
import hashlib
import json
import os
import queue
import random
import subprocess
import sys
import threading
import traceback

sys.path.insert(0, os.path.join(os.environ["TOP"], "tests/integration"))
from lib_run import BUILD, FARSTEP, Run, call, descendants, lives, new_run_dir, ok, shell, wait_for

RUNS = int(os.environ.get("RUNS", "14"))
SEED = int(os.environ.get("SEED", str(random.SystemRandom().randrange(10**6))))
LINES = 60000
NOISE = ("".join("%d\n" % i for i in range(1, LINES + 1)) * 4).encode()
EVENTS = 40
TOKEN = "fault-token"
HANG = 90       # seconds: a run of two that takes longer hangs

_event = "{\\\"type\\\":\\\"progress\\\",\\\"current\\\":$n,\\\"total\\\":%d}" % EVENTS


def steps(pause=0.15, quiet=0.7, lines=LINES):
    """Three steps: noisy prints and tells, quiet makes a large artifact, last sees who was started."""
    return [
        shell("noisy", "echo $$ >> starts; n=0; for i in 1 2 3 4; do seq 1 %d; for j in 1 2 3 4 5 6 7 8 9 10; do n=$((n+1)); "
              "echo \"%s\" >&3; done; sleep %g; done; echo x > $FARSTEP_ARTIFACTS_DIR/a" % (lines, _event, pause)),
        shell("quiet", "echo $$ >> starts; sleep %g; echo quiet; head -c 1000000 /dev/zero | tr '\\000' z > $FARSTEP_ARTIFACTS_DIR/z" % quiet),
        shell("last", "echo $$ >> starts; cp starts $FARSTEP_ARTIFACTS_DIR/starts; echo end", ["noisy", "quiet"]),
    ]


def what_is_wrong(r, lines=LINES):
    """Every promise that the run broke, as text."""
    wrong = []
    if r.rc == "hang":
        wrong.append("hang")
    noise = NOISE if lines == LINES else ("".join("%d\n" % i for i in range(1, lines + 1)) * 4).encode()
    noisy = r.read("logs/noisy.stdout", True) if os.path.exists(r.dir + "/logs/noisy.stdout") else b""
    whole = r.step["noisy"] == "success"
    if not noise.startswith(noisy) and r.rc != 7:   # 7 says itself that the bytes are not the step's
        wrong.append("bytes missing or doubled in what was delivered")
    if whole and noisy != noise:
        wrong.append("a successful step's output is not whole")
    a = r.artifacts()
    if r.step["quiet"] == "success" and a.get("quiet/z") != b"z" * 1000000:
        wrong.append("a successful step's artifact is not whole")
    if (r.rc == 0) != (set(r.step.values()) == {"success"}):
        wrong.append("exit %s with steps %s" % (r.rc, r.step))
    if r.step["last"] == "success" and len(a["last/starts"].split()) != 3:
        wrong.append("a step started twice")
    if call("verify", "--run-dir", os.path.dirname(r.dir), r.id).returncode != 0:
        wrong.append("receipts do not verify")
    starts = [e["step_id"] for e in r.events() if e["event"] == "step_start"]
    if len(starts) != len(set(starts)):
        wrong.append("step_start twice: %s" % starts)
    seqs = [e["wseq"] for e in r.events() if "wseq" in e]
    if seqs != sorted(set(seqs)):
        wrong.append("events doubled or out of order")
    told = [e["current"] for e in r.events("noisy") if e["event"] == "progress"]
    if told != list(range(1, len(told) + 1)) or whole and len(told) != EVENTS:
        wrong.append("the step's own events are not all there, once and in order: %s" % told)
    return wrong


class OwnWorker:
    """A worker of one's own in directory `dir`; farstep reaches it over farstep-chaos."""

    def __init__(self, dir, *rules, seed=1, tcp=False, to=None):
        self.dir = os.path.abspath(dir)
        os.makedirs(self.dir + "/runs", exist_ok=True)
        self.log_path = self.dir + "/worker.log"
        with open(self.log_path, "w") as log:
            self.p = subprocess.Popen([BUILD + "/farstep-worker", "--listen", "unix:%s/w" % self.dir, "--token-sha256",
                                       hashlib.sha256(TOKEN.encode()).hexdigest(), "--root", self.dir + "/root"],
                                      stdin=subprocess.DEVNULL, stderr=log)
        self.chaos = None
        try:
            self.link(rules, seed, tcp, to)
        except BaseException:
            self.stop()
            raise

    def link(self, rules, seed, tcp, to):
        wait_for("the worker", lambda: os.path.exists(self.dir + "/w"))
        self.env = dict(os.environ, FARSTEP_TOKEN=TOKEN)
        self.said_path = self.dir + "/chaos.log"
        with open(self.said_path, "w") as said:
            command = [BUILD + "/farstep-chaos", "--listen", "127.0.0.1:0" if tcp else "unix:%s/c" % self.dir,
                       "--to", to or "unix:%s/w" % self.dir, "--seed", str(seed)]
            for rule in rules:
                command += ["--rule", rule]
            self.chaos = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=said)
        if not wait_for("farstep-chaos", lambda: self.said() or self.chaos.poll() is not None) or not self.said():
            raise SystemExit("farstep-chaos does not take %s" % (rules,))
        ready = wait_for("its address", lambda: [l for l in self.said() if l.startswith("ready ")])[0].split()[1]
        self.target = "ws://" + ready if tcp else ready

    def said(self):
        with open(self.said_path) as f:
            return f.read().splitlines()

    def log(self):
        with open(self.log_path) as f:
            return f.read()

    def start(self, path, *args):
        """A run under way: (process, its directory)."""
        before = set(os.listdir(self.dir + "/runs"))
        p = subprocess.Popen([FARSTEP, "run", "-j3", "--target", self.target, "--run-dir", self.dir + "/runs", *args, path],
                             env=self.env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=open(self.dir + "/err", "wb"))
        return p, wait_for("the run directory", lambda: new_run_dir(self.dir + "/runs", before))

    def run(self, path, *args):
        p, d = self.start(path, *args)
        try:
            rc = p.wait(HANG)
        except subprocess.TimeoutExpired:
            p.kill()
            p.wait()
            rc = "hang"
        with open(self.dir + "/err", errors="replace") as f:
            err = f.read()
        if not os.path.exists(d + "/status.json"):
            with open(d + "/status.json", "w") as f:
                json.dump({"steps": [{"id": s, "status": "none"} for s in ("noisy", "quiet", "last")]}, f)
        return Run(rc, "", err, d)

    def left(self):
        """What a run left behind here: processes other than supervisor and worker, files of sessions."""
        wrong = []
        more = [p for p in descendants(self.p.pid) if lives(p)]
        if len(more) > 1:
            wrong.append("processes left: %s" % more)
        sessions = self.dir + "/root/sessions"
        if os.path.isdir(sessions) and os.listdir(sessions):
            wrong.append("files left: %s" % os.listdir(sessions))
        return wrong

    def stop(self):
        for p in filter(None, (self.chaos, self.p)):
            p.terminate()
            try:
                p.wait(20)
            except subprocess.TimeoutExpired:
                p.kill()
                p.wait()
        return self.p.returncode


def in_parallel(what, items, at_once=4):
    """what(item) for each, at most at_once at a time; an exception is a failure of its own."""
    todo = queue.Queue()
    for i in items:
        todo.put(i)

    def work():
        while True:
            try:
                item = todo.get_nowait()
            except queue.Empty:
                return
            try:
                what(item)
            except (Exception, SystemExit) as e:
                ok(False, "%s" % (item,), "".join(traceback.format_exception(e)))

    threads = [threading.Thread(target=work) for _ in range(at_once)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
