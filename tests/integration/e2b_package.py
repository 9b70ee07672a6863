#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
"""A run's package on its way to a sandbox at E2B: with the worker, beside it, and what happens when it does not arrive as it was."""
import hashlib
import json
import os
import sys

from lib_cloud import MOCK, Cloud
from lib_run import call, done, ok, pipeline, run, shell

if not os.path.exists(MOCK):
    print("no mock cloud in this build")
    sys.exit(77)
os.mkdir("data")
WORKER = os.path.getsize(os.environ["BUILD"] + "/farstep-worker")
SIZES = {"small": WORKER + 500000, "large": 40 * 1000 * 1000}
ONLY_PACKAGES = WORKER + 200000     # a byte that the worker does not have
digests = {}
for name, size in SIZES.items():
    blob = os.urandom(size)
    digests[name] = hashlib.sha256(blob).hexdigest()
    with open("data/" + name, "wb") as f:
        f.write(blob)


def pipe(name):
    return pipeline(name, [shell("look", "sha256sum data/%s | cut -c-64 > $FARSTEP_ARTIFACTS_DIR/sum; find . | sort" % name)], files=["data/" + name])


def go(name, cloud, *args):
    """The run, what POST /files was asked, how package.load was asked, and the bytes of DATA frames that went out."""
    trace = os.path.abspath("trace-%s-%d.jsonl" % (name, len(os.listdir("."))))
    before = len(cloud.asked("POST", "/files"))
    r = run(pipe(name), *args, target="e2b", env=dict(cloud.env, FARSTEP_RPC_DEBUG=trace), timeout=120)
    with open(trace) as f:
        frames = [json.loads(x) for x in f]
    loads = [f["message"]["params"] for f in frames if f.get("method") == "package.load"]
    sent = sum(f["bytes"] for f in frames if f["dir"] == "out" and f.get("kind") == "data")
    return r, cloud.asked("POST", "/files")[before:], loads, sent


def right(r, name):
    return r.rc == 0 and r.artifacts() == {"look/sum": (digests[name] + "\n").encode()}


with Cloud() as c:
    r, uploads, loads, sent = go("small", c)
    ok(right(r, "small") and len(uploads) == 1 and uploads[0]["bytes_in"] > SIZES["small"] + WORKER, "a package goes in one request with the worker [R34]", (r.err, uploads))
    ok(["path" in l for l in loads] == [True] and sent == 0, "and none of it over the session", (loads, sent))
    here = run(pipe("small"), target="native")
    ok(here.artifacts() == r.artifacts() and here.read("logs/look.stdout") == r.read("logs/look.stdout"),
       "both ways give the same tree: here it goes over the session [R19]", (here.read("logs/look.stdout"), r.read("logs/look.stdout")))
    uploaded = [e for e in r.events() if e["event"] == "package_uploaded"]
    ok(len(uploaded) == 1 and uploaded[0]["files"] == 1 and uploaded[0]["bytes"] >= SIZES["small"], "its event comes once", uploaded)
    r, uploads, loads, sent = go("large", c)
    ok(right(r, "large") and len(uploads) >= 4 and max(u["bytes_in"] for u in uploads) < 17 << 20 and ["path" in l for l in loads] == [True] and sent == 0,
       "a large one goes in parts beside it", (r.err, uploads, loads, sent))
    ok(call("template", "build", "farstep-base", env=dict(c.env, FARSTEP_TEMPLATES=os.environ["TOP"] + "/templates")).returncode == 0, "a template of ours is there")
    r, uploads, loads, sent = go("small", c, "--template", "farstep-base")
    ok(right(r, "small") and ["path" in l for l in loads] == [True] and sent == 0, "where the template may have the worker the package has a request of its own", (r.err, uploads, loads))
    ok(not c.running(), "no sandbox stays")
for name in SIZES:
    with Cloud("--fault", "files:corrupt@%d" % ONLY_PACKAGES) as c:
        r, uploads, loads, sent = go(name, c)
        ok(right(r, name) and ["path" in l for l in loads] == [True, False] and sent >= SIZES[name] and "another SHA-256" in r.err,
           "a %s package that was changed on its way is noticed, and sent again over the session" % name, (r.err, loads, sent))
with Cloud("--fault", "files:cut@%d" % ONLY_PACKAGES) as c:
    r, uploads, loads, sent = go("large", c)
    ok(right(r, "large"), "one whose parts break off each time, too", (r.rc, r.err, loads, sent))
    ok(not c.running(), "no sandbox stays of them")
# ---- a worker for another processor ----
wrong = os.path.abspath("wrong-worker")
with open(os.environ["BUILD"] + "/farstep-worker", "rb") as f:
    body = bytearray(f.read())
other = "aarch64" if os.uname().machine != "aarch64" else "x86_64"
body[18:20] = {"aarch64": b"\xb7\0", "x86_64": b"\x3e\0"}[other]
with open(wrong, "wb") as f:
    f.write(body)
os.chmod(wrong, 0o755)
with Cloud() as c:
    for target in ("e2b", "local", "native"):
        r = run(pipe("small"), target=target, env=dict(c.env, FARSTEP_WORKER=wrong))
        ok(r.rc == 10 and other in r.err and os.uname().machine in r.err, "%s: a worker for another processor is told, and nothing starts [R41]" % target, (r.rc, r.err))
    ok(not c.running(), "no sandbox stays of it")
done()
