#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
"""Every sample pipeline gives at E2B what it gives on this machine: local, native and e2b have the same artifacts,
logs, step statuses, events and metrics. At the mock cloud; with E2B_API_KEY and FARSTEP_E2B_LIVE=1 the same again at
E2B itself, which costs money."""
import glob
import os
import re
import shutil
import sys

from lib_cloud import MOCK, Cloud, Live, why_not_live
from lib_run import call, done, ok, pipeline, run, shell

DATA = "/usr/share/iso-codes/json"
TARGETS = ("native", "local", "e2b")
# What differs from run to run on one target, too.
MOODS = {"ts", "session", "seq", "wseq", "pid", "duration_ms"}

if not os.path.exists(MOCK):
    print("no mock cloud in this build")
    sys.exit(77)
for name in list(os.environ):
    if name.lower().endswith("_proxy"):
        del os.environ[name]


def of_steps(r):
    """The events of each step in their order, and its metrics, but for what is never twice the same."""
    found = {s: [] for s in r.step}
    for e in r.events() + r.metrics():
        if e.get("step_id"):
            found[e["step_id"]].append({k: v for k, v in e.items() if k not in MOODS})
    return found


def seen(r):
    return {"exit code": r.rc, "artifacts": r.artifacts(), "step statuses": r.step, "step events": of_steps(r),
            "logs": {n: r.read("logs/" + n, True) for n in sorted(os.listdir(r.dir + "/logs"))},
            "artifacts of status.json": r.status["artifacts"], "attempts": {s["id"]: (s["attempts"], s.get("exit")) for s in r.status["steps"]}}


def parity(path, env, rc=0):
    name = os.path.basename(path)
    runs = {t: run(path, "-q", target=t, env=env, timeout=120) for t in TARGETS}
    for t, r in runs.items():
        if not ok(r.rc == rc and all(s in ("success", "error", "timeout", "skipped") for s in r.step.values()), "%s runs on %s" % (name, t), (r.rc, r.step, r.err[-800:])):
            return
    here = seen(runs["native"])
    ok(all(len(e) > 1 or runs["native"].step[s] == "skipped" for s, e in here["step events"].items()), "%s: there is something to compare" % name, here["step events"])
    for t in ("local", "e2b"):
        there = seen(runs[t])
        differ = {k: (here[k], there[k]) for k in here if here[k] != there[k]}
        ok(not differ, "%s: artifacts, logs, statuses, events and metrics on %s are those of native [R88]" % (name, t), str(differ)[:3000])


def samples(env):
    found = sorted(glob.glob(os.environ["TOP"] + "/templates/pipelines/*.yaml"))
    ok(found, "there are sample pipelines")
    for path in found:
        here = os.path.basename(path)
        shutil.copy(path, here)
        with open(path) as f:
            wanted = re.findall(r"data/([\w.-]+\.json)", f.read())
        os.makedirs("data", exist_ok=True)
        for n in set(wanted):
            shutil.copy(DATA + "/" + n, "data/" + n)
        parity(here, env)


def odd_ones(env):
    """What no sample does: many kinds of an end, events of its own, large and odd files."""
    os.makedirs("in", exist_ok=True)
    with open("in/ä b.bin", "wb") as f:
        f.write(bytes(range(256)) * 5000)
    parity(pipeline("odd", [
        shell("copy", 'cp "in/ä b.bin" "$FARSTEP_ARTIFACTS_DIR/"; cp "in/ä b.bin" "$FARSTEP_OUTPUT_DIR/x"; ln -s x "$FARSTEP_OUTPUT_DIR/link"; '
              'printf \'{"type":"event","name":"copied","data":{"n":1}}\\n{"type":"metric","name":"m","value":2}\\n{"type":"progress","current":1,"total":2}\\n\' >&3'),
        shell("sum", 'sha256sum < "$FARSTEP_INPUT_COPY/x"; cat "$FARSTEP_INPUT_COPY/link" | wc -c >&2; mkdir "$FARSTEP_ARTIFACTS_DIR/d"; : > "$FARSTEP_ARTIFACTS_DIR/d/empty"', ["copy"]),
        shell("bad", "echo before; exit 7"),
        shell("never", "echo no", ["bad"]),
        shell("late", "sleep 30", timeout=1, grace=1),
        shell("env", 'env | cut -d= -f1 | grep -v "^_$" | sort; echo "$GIVEN"; id -u > /dev/null; pwd | wc -l', env={"GIVEN": "x y"}),
    ], files=["in/*"]), env, rc=1)


def streams(env):
    p = call("exec", "--e2b", "--", "sh", "-c", "cat; echo err >&2; exit 3", stdin=None, input=b"in", env=env, timeout=120)
    ok((p.returncode, p.stdout, p.stderr) == (3, b"in", b"err\n"), "exec passes streams and exit code through", p)
    blob = os.urandom(3_000_000)
    p = call("exec", "--e2b", "--", "cat", stdin=None, input=blob, env=env, timeout=120)
    ok(p.returncode == 0 and p.stdout == blob, "3 MB there and back are whole", (p.returncode, len(p.stdout), p.stderr[-500:]))


def suite(cloud, where):
    print("# at " + where, flush=True)
    with cloud as c:
        samples(c.env)
        odd_ones(c.env)
        streams(c.env)
        ok(not c.running(), "no sandbox stays at %s" % where, c.running())


suite(Cloud(), "the mock cloud")
if why_not_live():
    print("ok - the same at E2B itself [R69] # SKIP " + why_not_live())
else:
    suite(Live("runs"), "E2B itself")
done()
