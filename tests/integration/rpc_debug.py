#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""FARSTEP_RPC_DEBUG: every frame, no secret, and good enough to be played again."""
import base64
import json
import os
import signal
import struct
import subprocess

from lib_run import FARSTEP, call, done, new_run_dir, ok, pipeline, run, shell, wait_for
from lib_ws import KEY, TOKEN, WS, Worker

KINDS = {"data": 1, "window": 2, "gap": 3, "resize": 4, "command": 5}
SECRET, GIVEN = "a-secret-of-%d" % os.getpid(), "given-to-%d" % os.getpid()


def lines(path):
    with open(path) as f:
        return [json.loads(x) for x in f]


def play(path, frames):
    """What the worker answers to the frames that went out: {id: result}, {channel: bytes}."""
    c, answers, streams, windows = WS(path), {}, {}, {}
    wanted = {str(f["id"]) for f in frames if f["dir"] == "in" and "id" in f}
    for f in frames:
        if f["dir"] != "out":
            continue
        if "message" in f:
            m = f["message"]
            if f.get("method") == "session.open":
                m["params"]["key"] = KEY
            if f.get("method") == "session.close":
                while wanted - set(answers) - {str(f["id"])}:
                    take(c, answers, streams, windows)
            c.text(json.dumps(m))
        else:
            while f["kind"] == "data" and windows.get(f["channel"], 0) < int(f["offset"]) + f["bytes"]:
                take(c, answers, streams, windows)
            while f["kind"] == "window" and len(streams.get(f["channel"], b"")) < int(f["offset"]):
                take(c, answers, streams, windows)
            c.frame(struct.pack(">BBHIQ", KINDS[f["kind"]], f["flags"], 0, f["channel"], int(f["offset"])) + base64.b64decode(f["payload"]), 2)
    while wanted - set(answers):
        take(c, answers, streams, windows)
    return answers, streams


def take(c, answers, streams, windows):
    op, body = c.recv()
    if op == 1:
        m = json.loads(body)
        if "id" in m:
            answers[str(m["id"])] = m.get("result", m.get("error"))
        return
    channel = struct.unpack(">I", body[4:8])[0]
    if body[0] == KINDS["window"]:
        windows[channel] = struct.unpack(">Q", body[16:24])[0]
    else:
        streams[channel] = streams.get(channel, b"") + body[16:]


first, second = Worker("first"), Worker("second")
env = dict(os.environ, FARSTEP_TOKEN=TOKEN, FARSTEP_RPC_DEBUG="./exec.jsonl")
p = subprocess.run([FARSTEP, "exec", "--target", "unix:" + first.path, "--", "sh", "-c", "tr a-z A-Z; echo end >&2; exit 3"],
                   input=b"some input", stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=env)
ok(p.returncode == 3 and p.stdout == b"SOME INPUT" and p.stderr == b"end\n", "a traced exec is an exec as any other", p)
frames = lines("exec.jsonl")
ok({f["dir"] for f in frames} == {"in", "out"} and all(f["size"] > 0 and f["conn"] == 1 for f in frames), "each frame has its direction, size and connection", frames)
asked = [f["id"] for f in frames if f["dir"] == "out" and "id" in f]
ok(asked and sorted(asked) == sorted(f["id"] for f in frames if f["dir"] == "in" and "id" in f), "every request's id is there, and its answer's", frames)
ok(os.stat("exec.jsonl").st_mode & 0o777 == 0o600, "the file is its owner's alone")
answers, streams = play(second.path, frames)
step = next(f["id"] for f in frames if f.get("method") == "step.execute")
ok(answers[str(step)]["status"] == "error" and json.loads(answers[str(step)]["receipt"])["exit"]["code"] == 3 and sorted(s for s in streams.values() if s) == [b"SOME INPUT", b"end\n"],
   "what was recorded can be played to another worker, with the same result [R82]", (answers, streams))
first.stop()
second.stop()

pipe = pipeline("t", [shell("s", 'echo "$PW $GIVEN"; printf \'{"type":"log","level":"info","message":"%s"}\\n\' "$PW" >&3; test -f go || sleep 1000')])
os.makedirs("runs")
env = dict(os.environ, PW=SECRET, FARSTEP_RPC_DEBUG="./run.jsonl")
q = subprocess.Popen([FARSTEP, "run", "--run-dir", "runs", "--secret", "PW", "--env", "GIVEN=" + GIVEN, pipe], env=env,
                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
dir = wait_for("the run", lambda: new_run_dir("runs", set()))
wait_for("its output", lambda: os.path.exists("run.jsonl") and '"kind":"data"' in open("run.jsonl").read())
q.send_signal(signal.SIGKILL)
q.wait()
a = subprocess.Popen([FARSTEP, "attach", "--run-dir", "runs", os.path.basename(dir)], env=dict(env, FARSTEP_RPC_DEBUG="./attach.jsonl"),
                     stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
wait_for("attach", lambda: os.path.exists("attach.jsonl") and '"session.resume"' in open("attach.jsonl").read() and '"result"' in open("attach.jsonl").read())
a.send_signal(signal.SIGTERM)
ok(a.wait(30) == 143, "a traced run can be taken over and ended", a.returncode)
for name in ("run.jsonl", "attach.jsonl"):
    text = open(name).read()
    frames = lines(name)
    ok(not any(v in text or base64.b64encode(v.encode()).decode()[:-4] in text for v in (SECRET, GIVEN)), "%s holds no secret and no variable" % name)
    ok(all(f["payload"] is None for f in frames if f.get("kind") == "data") and (name[0] == "a" or any(f.get("kind") == "data" for f in frames)), "nor a payload, which might hold a part of one")
opened = next(f["message"]["params"] for f in lines("run.jsonl") if f.get("method") == "session.open")
ok(opened["key"] == "***MASKED***" and opened["secrets"] == {"PW": "***MASKED***"} and opened["env"] == {"GIVEN": "***MASKED***"},
   "names stay, values and the session's key do not", opened)
ok(any(f["message"]["result"].get("secrets") == {"PW": "***MASKED***"} for f in lines("attach.jsonl") if f["dir"] == "in" and "result" in f.get("message", {})),
   "what a worker tells who attaches is masked before it is known")

r = run(pipeline("plain", [shell("s", "echo hello")]), "-v", env=dict(os.environ, FARSTEP_RPC_DEBUG="1"))
traced = [json.loads(x.split(" rpc ", 1)[1] if " rpc " in x else x.split("rpc ", 1)[1]) for x in r.err.splitlines() if "rpc {" in x]
ok(traced and not any("payload" in f for f in traced) and any(f.get("method") == "step.execute" for f in traced), "without a file the lines go to standard error, without payloads", r.err[:2000])
ok(r.status["bytes"]["up"] <= sum(f["size"] for f in traced if f["dir"] == "out"), "no frame is missing in it", (r.status["bytes"], traced))
p = call("exec", "--", "true", env=dict(os.environ, FARSTEP_RPC_DEBUG="/nonexistent/x"))
ok(p.returncode == 125 and b"FARSTEP_RPC_DEBUG=/nonexistent/x" in p.stderr, "a file that cannot be written is told by name", (p.returncode, p.stderr))
done()
