#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""No secret is where it does not belong, and the host's environment does not travel."""
import base64
import os
import subprocess
import time

from lib_run import FARSTEP, Run, call, descendants, done, new_run_dir, ok, pipeline, role, run, shell, wait_for

LONG = "correct-horse-%d-battery" % os.getpid()
PASSED = "passed-through-%d" % os.getpid()
SHORT = "pin42"
GIVEN = "given-on-the-line-%d" % os.getpid()
env = dict(os.environ, DB_PASSWORD=LONG, API_TOKEN=PASSED, PIN=SHORT, E2B_API_KEY="e2b_canary_key", AWS_SECRET="canary-of-the-host")
script = """
echo "long: $DB_PASSWORD"; echo "passed: $API_TOKEN" >&2; echo "pin: $PIN"; echo "given: $GIVEN"
i=0; while [ $i -lt 3000 ]; do printf '%s%s' "$DB_PASSWORD" "$i"; i=$((i+1)); done; echo
printf '{"type":"log","level":"info","message":"the token is %s"}\\n' "$API_TOKEN" >&3
printf '{"type":"event","name":"leak","data":{"v":"%s"}}\\n' "$DB_PASSWORD" >&3
env | grep -c canary || true
test -n "$DB_PASSWORD" && test "$PIN" = pin42 && touch $FARSTEP_ARTIFACTS_DIR/reached
sleep 1
"""


def everything(path):
    for d, _, names in os.walk(path):
        for n in names:
            try:
                with open(os.path.join(d, n), "rb") as f:
                    yield os.path.join(d, n), f.read()
            except FileNotFoundError:   # it has its own name by now
                pass


def find(path, values):
    return [(p, v) for p, body in everything(path) for v in values if v.encode() in body or base64.b64encode(v.encode())[:-4] in body]


p = pipeline("secrets", [shell("s", script)], ["secrets.yaml"])
os.makedirs("runs")
proc = subprocess.Popen([FARSTEP, "run", "--run-dir", "runs", "--env", "GIVEN=" + GIVEN, "--pass-env", "API_TOKEN", "--secret", "DB_PASSWORD",
                         "--secret", "PIN", "-v", "--log-level", "debug", p], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
run_dir = wait_for("the run", lambda: new_run_dir("runs", set()))


def keepers():
    return [q for q in descendants(proc.pid) + [int(x) for x in os.listdir("/proc") if x.isdigit()] if role(q) == "keeper" and descendants(q)]


wait_for("the step", keepers)
values = [LONG, PASSED, GIVEN]
seen = []
for q in [x for x in os.listdir("/proc") if x.isdigit()]:
    for f in ("cmdline",) + (("environ",) if role(int(q)) else ()):
        try:
            with open("/proc/%s/%s" % (q, f), "rb") as h:
                body = h.read()
        except OSError:
            continue
        seen += [(q, f, v) for v in values if v.encode() in body and int(q) != os.getpid()]
ok(not seen, "no secret is in any process's arguments, nor in the environment of farstep's own in the sandbox", seen)
live = [x for x in find(run_dir, values) if "/sandbox/" not in x[0]]
ok(not live, "none is in the run directory while the step runs", live)
out, err = proc.communicate(timeout=60)
r = Run(proc.returncode, out.decode(), err.decode(), run_dir)
ok(r.rc == 0 and "s/reached" in r.artifacts(), "the values reach the step [R164]", (r.rc, r.err))
ok(not find(run_dir, values), "no secret is anywhere in the run directory, raw or in base64", find(run_dir, values))
ok(not any(v in r.out + r.err for v in values), "nor in what farstep prints, with all logging on")
log = r.read("logs/s.stdout")
ok("long: ***MASKED***" in log and log.count("***MASKED***0***MASKED***1***") == 1 and "horse" not in log, "values are masked in logs, across pieces too")
ok("pin: ***MASKED***" in log and "given: ***MASKED***" in log, "a short value is masked when it is named by --secret")
ok("passed: ***MASKED***" in r.read("logs/s.stderr"), "in standard error as well")
ev = {e["event"]: e for e in r.events("s")}
ok(ev["log"]["message"] == "the token is ***MASKED***" and ev["leak"]["v"] == "***MASKED***", "and in events", ev)
ok(log.splitlines()[-1] == "0", "the host's environment does not travel")
q = pipeline("said", [shell("f", "printf '{\"type\":\"complete\",\"success\":false,\"error\":\"no %s\"}\\n' \"$API_TOKEN\" >&3")])
f = run(q, "--pass-env", "API_TOKEN", env=env)
ok(f.step["f"] == "error" and f.events("f")[-1]["error"].endswith("no ***MASKED***") and not find(f.dir, values) and PASSED not in f.err,
   "a step's reason for its failure is masked everywhere, and in the receipt only its digest", (f.step, f.events("f")[-1], find(f.dir, values)))
ok(call("verify", "--run-dir", "runs", f.id, env=env).returncode == 0, "that run verifies too")
ok(call("verify", "--run-dir", "runs", r.id, env=env).returncode == 0, "a run with masked logs verifies by its receipts")
done()
