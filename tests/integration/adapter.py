#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""farstep as the execution adapter of an orchestrator: one target like another, one result, one stream of events."""
import hashlib
import hmac
import json
import os
import subprocess

from lib_run import FARSTEP, Run, call, done, new_run_dir, ok, pipeline, run, shell, wait_for
from lib_ws import TOKEN, WS, Closed, Worker

VALID = (b"local", b"native", b"unix:PATH", b"ws://HOST:PORT")


def targets():
    p = pipeline("targets", [shell("a", "echo here; echo x > $FARSTEP_ARTIFACTS_DIR/x")])
    w = Worker("own")
    env = dict(os.environ, FARSTEP_TOKEN=TOKEN)
    seen = {}
    for target in ("local", "native", "unix:" + w.path):
        r = run(p, target=target, env=env)
        seen[target] = (r.rc, r.status["target"], r.read("logs/a.stdout"), sorted(r.artifacts()), [e["event"] for e in r.events("a")])
        started = [e for e in r.events() if e["event"] == "worker_started"]
        ok(len(started) == 1 and started[0]["pid"] > 0 and started[0]["version"] and started[0]["duration_ms"] >= 0 and "python_version" not in started[0],
           "worker_started comes once, with what the worker itself said; no Python was started for it [R79]", started)
        ok(r.rc == 0 and r.status["target"] == target, "the target %s chooses its adapter [R3]" % target.split(":")[0], (seen[target], r.err))
    ok(r.status["sandbox_id"] == "box", "a worker of one's own is the sandbox that it says it is", r.status)
    same = {json.dumps(v[2:]) for v in seen.values()}
    ok(len(same) == 1, "logs, artifacts and a step's events are the same whatever the adapter [R155]", seen)
    w.stop()
    env = dict(os.environ, FARSTEP_TARGET="native")
    ok(json.loads(call("run", "--json", p, env=env).stdout)["target"] == "native", "FARSTEP_TARGET chooses it too")
    ok(json.loads(call("run", "--json", "--target", "local", p, env=env).stdout)["target"] == "local", "and --target counts more")
    for wrong in ("lcoal", "http://x", "vm"):
        got = call("run", "--target", wrong, p)
        ok(got.returncode == 2 and wrong.encode() in got.stderr and all(v in got.stderr for v in VALID), "the unknown target %s is told with the valid ones [R3]" % wrong, got)
    got = call("run", "--target", "lcoal", p)
    ok(b"did you mean 'local'" in got.stderr, "and with what was meant", got)


def results():
    p = pipeline("results", [
        shell("one", "printf abc > $FARSTEP_ARTIFACTS_DIR/a; : > $FARSTEP_ARTIFACTS_DIR/empty"),
        shell("two", "mkdir -p deep/er; head -c 100000 /dev/zero > deep/er/zeros; echo 1 > 'a b'", artifacts=["deep/**", "a b"]),
        shell("none", "true"),
        shell("bad", "echo half > $FARSTEP_ARTIFACTS_DIR/half; exit 3"),
    ])
    got = call("run", "--json", "--run-dir", "runs-json", p)
    result = json.loads(got.stdout)
    listed = {a["path"]: (int(a["size"]), a["sha256"]) for a in result["artifacts"]}
    base = os.path.join(result["run_dir"], "artifacts")
    here = {}
    for d, _, names in os.walk(base):
        for n in names:
            with open(os.path.join(d, n), "rb") as f:
                b = f.read()
            here[os.path.relpath(os.path.join(d, n), base)] = (len(b), hashlib.sha256(b).hexdigest())
    by_path = {k[len("artifacts/"):] if k.startswith("artifacts/") else k: v for k, v in listed.items()}
    ok(by_path == here and len(here) == 5, "--json lists every artifact with its size and SHA-256 [R46]", (listed, here))
    ok(got.returncode == 1 and result["ok"] is False and result["exit_code"] == 1 and {s["id"]: s["status"] for s in result["steps"]}["bad"] == "error",
       "and says how each step ended, a failed one too [R46]", result)
    ok(got.stdout.count(b"\n") == 1 and got.stdout.endswith(b"\n"), "it is one line on standard output and nothing else", got.stdout)
    status = json.load(open(os.path.join(result["run_dir"], "status.json")))
    ok({k: v for k, v in result.items() if k != "run_dir"} == status, "and the same as status.json", status)


def names():
    """What users call things is not always a word."""
    os.makedirs('dir "x"', exist_ok=True)
    p = pipeline("named", [shell("a", "true")])
    doc = json.load(open(p))
    doc["name"] = 'to "tals"\\ \u00e9 \U0001f600'
    with open(p, "w") as f:
        json.dump(doc, f)
    r = run(p, runs='dir "x"/runs')
    start = [e for e in r.events() if e["event"] == "run_start"]
    ok(r.rc == 0 and len(start) == 1 and start[0]["pipeline"] == doc["name"], "a pipeline's name may have quotes, and characters of any plane", (start, r.err))
    w = Worker("odd", "--sandbox-id", 'bo"x\\')
    r = run(p, target="unix:" + w.path, env=dict(os.environ, FARSTEP_TOKEN=TOKEN))
    by_name = {e["event"]: e for e in r.events()}
    ok(r.rc == 0 and r.status["sandbox_id"] == 'bo"x\\' and {"worker_started", "run_end"} <= set(by_name), "and so may a sandbox's id", (r.status, r.err))
    w.stop()


def secrets():
    """A step's own words about why it failed may hold a secret, even one that JSON escapes."""
    secret, port = 'pa"ss\\word-\u00e9-4711', "100"
    p = pipeline("told", [shell("s", "printf '{\"type\":\"complete\",\"success\":false,\"error\":%s}\\n' \"$WHY\" >&3")])
    env = dict(os.environ, SECRET=secret, PORT=port, WHY=json.dumps("the password is " + secret))
    for args in ((), ("--json",)):
        got = call("run", "--run-dir", "runs-told", "--secret", "SECRET", "--secret", "PORT", "--env", "WHY=" + env["WHY"], *args, p, env=env)
        run_dir = "runs-told/" + max(d for d in os.listdir("runs-told") if d[0] != ".")
        told = got.stdout + got.stderr + open(run_dir + "/status.json", "rb").read() + open(run_dir + "/events.jsonl", "rb").read()
        ok(got.returncode == 1 and b"***MASKED***" in told and not any(w in told for w in (b"ss\\\\word", b"ss\\word", b'pa\\"', b'pa"ss')),
           "no secret is in what a failed run prints and writes (%s)" % (args or "plain"), told)
        status = json.load(open(run_dir + "/status.json"))
        ok(status["steps"][0]["status"] == "error" and status["error"]["message"].count("***MASKED***") == 1, "and a secret of digits breaks no number", status)


def said_by_worker(key, path, run_id):
    """The events of a session as the worker tells them, to whoever observes it."""
    c = WS(path)
    session_key = hmac.new(key, b"farstep session 1\n" + run_id.encode(), hashlib.sha256).hexdigest()
    got = c.resume(run_id, session_key, "session.observe")
    return c, got


def events():
    key = bytes(range(32))
    with open("key", "w") as f:
        f.write(key.hex() + "\n")
    os.chmod("key", 0o600)
    go = os.path.abspath("go")
    fd3 = "; ".join("echo '%s' >&3" % json.dumps(m) for m in (
        {"type": "event", "name": "loaded", "data": {"table": "orders", "n": 3, "deep": {"a": [1, None, True]}}},
        {"type": "progress", "current": 3, "total": 10, "metrics": {"loss": 0.4}},
        {"type": "log", "level": "info", "message": "half way\n\"quoted\" \u00e9"},
        {"type": "metric", "name": "rows_read", "value": 100, "unit": "rows"}))
    p = pipeline("events", [shell("a", "while [ ! -e %s ]; do sleep 0.02; done; %s" % (go, fd3)), shell("b", "echo b", ["a"])])
    w = Worker("observed")
    q = subprocess.Popen([FARSTEP, "run", "-q", "--target", "unix:" + w.path, "--key-file", "key", "--run-dir", "runs-events", p],
                         env=dict(os.environ, FARSTEP_TOKEN=TOKEN), stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    run_dir = wait_for("the run", lambda: os.path.isdir("runs-events") and new_run_dir("runs-events", set()))
    run_id = os.path.basename(run_dir)
    wait_for("its step", lambda: os.path.exists(run_dir + "/events.jsonl") and '"step_start"' in open(run_dir + "/events.jsonl").read())
    c, got = said_by_worker(key, w.path, run_id)
    ok("result" in got, "an observer with the session's key joins", got)
    open(go, "w").close()
    said = []
    try:
        while True:
            m = c.message(lambda m: m.get("method") == "event")
            said.append(m["params"])
            c.text(json.dumps({"jsonrpc": "2.0", "method": "event.ack", "params": {"wseq": m["params"]["wseq"]}}))
    except (Closed, OSError):
        pass
    err = q.communicate(timeout=60)[1]
    w.stop()
    r = Run(q.returncode, "", err.decode(), run_dir)
    lines, metrics = r.events(), r.metrics()
    ok({e["session"] for e in lines + metrics} == {run_id}, "one session id is in the file [R43]", {e["session"] for e in lines})

    def line_of(e):
        flat = {k: v for k, v in e.items() if k not in ("data", "src")}
        return dict(flat, session=run_id, **e.get("data", {}))

    def metric_of(e):
        d = e["data"]
        return dict({"ts": e["ts"], "session": run_id, "wseq": e["wseq"], "metric": d["name"], "step_id": e["step_id"]}, **{k: d[k] for k in ("value", "unit", "tags") if k in d})

    want = [line_of(e) for e in said if e["event"] != "metric"]
    have = [{k: v for k, v in e.items() if k != "seq"} for e in lines if "wseq" in e]
    ok(q.returncode == 0 and len(want) >= 8 and have == want, "a line of events.jsonl is the worker's event and ts and session [R43]", (want, have, err))
    ok([metric_of(e) for e in said if e["event"] == "metric"] == metrics and len(metrics) == 1, "and so is a line of metrics.jsonl", metrics)
    ok({"loaded", "progress", "log", "step_start", "step_ended", "session_initialized"} <= {e["event"] for e in have}, "the steps' own events are among them", have)


targets()
results()
names()
secrets()
events()
done()
