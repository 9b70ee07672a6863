# SPDX-License-Identifier: Apache-2.0
"""What the end-to-end tests share: run a pipeline, look at what it left."""
import json
import os
import subprocess
import sys
import time

BUILD = os.environ["BUILD"]
FARSTEP = os.path.join(BUILD, "farstep")
failed = 0


def ok(cond, sentence, detail=""):
    global failed
    print(("ok - " if cond else "not ok - ") + sentence, flush=True)
    if not cond:
        failed += 1
        print("# " + str(detail).replace("\n", "\n# "), flush=True)
    return bool(cond)


def done():
    sys.exit(1 if failed else 0)


def call(*args, timeout=60, **kw):
    kw.setdefault("stdin", subprocess.DEVNULL)
    return subprocess.run([FARSTEP, *args], capture_output=True, timeout=timeout, **kw)


def pipeline(name, steps, files=None):
    """Writes NAME.yaml (JSON is YAML) and returns its path."""
    doc = {"name": name, "steps": steps}
    if files:
        doc["files"] = files
    with open(name + ".yaml", "w") as f:
        json.dump(doc, f, indent=1)
    return name + ".yaml"


def shell(id, script, needs=(), **more):
    return dict({"id": id, "driver": "shell", "needs": list(needs), "config": {"script": script}}, **more)


class Run:
    """A run that has ended: rc, status, events, files."""

    def __init__(self, rc, out, err, run_dir):
        self.rc, self.out, self.err, self.dir = rc, out, err, run_dir
        self.id = os.path.basename(run_dir)
        with open(run_dir + "/status.json") as f:
            self.status = json.load(f)
        self.step = {s["id"]: s["status"] for s in self.status["steps"]}

    def read(self, path, binary=False):
        with open(os.path.join(self.dir, path), "rb") as f:
            b = f.read()
        return b if binary else b.decode()

    def events(self, step=None):
        ev = [json.loads(l) for l in self.read("events.jsonl").splitlines()]
        return [e for e in ev if step is None or e.get("step_id") == step]

    def metrics(self):
        return [json.loads(l) for l in self.read("metrics.jsonl").splitlines()]

    def artifacts(self):
        base, found = self.dir + "/artifacts", {}
        for d, _, names in os.walk(base):
            for n in names:
                p = os.path.join(d, n)
                with open(p, "rb") as f:
                    found[os.path.relpath(p, base)] = f.read()
        return found


def new_run_dir(runs, before):
    new = set(os.listdir(runs)) - before - {".gitignore"}
    return os.path.join(runs, max(new)) if new else None


def run(path, *args, target="local", timeout=60, runs="runs", **kw):
    os.makedirs(runs, exist_ok=True)
    before = set(os.listdir(runs))
    where = ["--target", target] if target else []
    p = call("run", *where, "--run-dir", runs, *args, path, timeout=timeout, **kw)
    d = new_run_dir(runs, before)
    if d is None:
        raise SystemExit("no run directory: " + p.stderr.decode())
    return Run(p.returncode, p.stdout.decode(), p.stderr.decode(), d)


def wait_for(what, predicate, timeout=20):
    end = time.monotonic() + timeout
    while time.monotonic() < end:
        got = predicate()
        if got:
            return got
        time.sleep(0.005)
    raise SystemExit("waited %d s in vain for %s" % (timeout, what))


def stat_of(pid):
    """(state, ppid) of a process, None when it is gone."""
    try:
        with open("/proc/%d/stat" % pid) as f:
            s = f.read()
    except OSError:
        return None
    part = s[s.rindex(")") + 2:].split()
    return part[0], int(part[1])


def descendants(pid):
    children = {}
    for p in os.listdir("/proc"):
        st = stat_of(int(p)) if p.isdigit() else None
        if st:
            children.setdefault(st[1], []).append(int(p))
    found, todo = [], [pid]
    while todo:
        for c in children.get(todo.pop(), []):
            found.append(c)
            todo.append(c)
    return found


def lives(pid):
    st = stat_of(pid)
    return st is not None and st[0] != "Z"


def role(pid):
    """supervisor, worker or keeper, of a process of ours; None for others."""
    try:
        with open("/proc/%d/cmdline" % pid) as f:
            argv = f.read().split("\0")
    except OSError:
        return None
    if not argv[0].endswith("farstep-worker"):
        return None
    return argv[argv.index("--role") + 1] if "--role" in argv else "supervisor"
