#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A worker in a root that holds nothing but its own program: no /proc, no /dev, no shell, no libc."""
import hashlib
import json
import os
import shutil
import subprocess
import sys

from lib_run import BUILD, FARSTEP, done, ok, wait_for
from lib_ws import TOKEN, WORKER, WS

if "/san" in BUILD or "/clang" in BUILD:
    print("only the static worker runs without libc")
    sys.exit(77)
os.makedirs("root")
root = os.path.abspath("root")
shutil.copy(WORKER, root + "/farstep-worker")
ARGS = ["--listen", "unix:/s", "--token-sha256", hashlib.sha256(TOKEN.encode()).hexdigest(), "--root", "/r", "--sandbox-id", "empty"]


def enter():
    os.chroot(root)
    os.chdir("/")


if os.getuid() == 0:
    w = subprocess.Popen(["/farstep-worker", *ARGS], preexec_fn=enter, stdin=subprocess.DEVNULL, stderr=open("log", "wb"))
elif shutil.which("bwrap"):
    w = subprocess.Popen(["bwrap", "--bind", root, "/", "--die-with-parent", "/farstep-worker", *ARGS], stdin=subprocess.DEVNULL, stderr=open("log", "wb"))
else:
    print("neither root nor bubblewrap: no root of one's own can be made")
    sys.exit(77)

log = lambda: open("log").read()
try:
    wait_for("the worker", lambda: os.path.exists(root + "/s") or w.poll() is not None)
    hello = WS(root + "/s").message()
    ok(hello["method"] == "hello" and hello["params"]["capabilities"]["proc"] is False, "it starts and says hello, and that it sees no /proc [R122]", (hello, log()))
    env = dict(os.environ, FARSTEP_TOKEN=TOKEN)
    at = "unix:" + root + "/s"
    p = subprocess.run([FARSTEP, "exec", "--target", at, "--status-file", "st.json", "--", "/farstep-worker", "--version"],
                       env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    want = subprocess.run([WORKER, "--version"], capture_output=True).stdout
    ok(p.returncode == 0 and p.stdout == want, "a static program runs there as a step, without a shell [R122]", (p, log()))
    with open("st.json") as f:
        status = json.load(f)
    ok(status["verified"] and json.loads(status["receipt"])["stdout"]["bytes"] == str(len(want)), "its receipt proves it [R122]", status)
    p = subprocess.run([FARSTEP, "exec", "--target", at, "--", "sh", "-c", "true"], env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    ok(p.returncode == 127, "a program that is not there is 127, as in a shell", (p, log()))
    p = subprocess.run([FARSTEP, "exec", "--target", at, "--timeout", "1", "--", "/farstep-worker", *ARGS[:1], "unix:/s2", *ARGS[2:]],
                       env=env, stdin=subprocess.DEVNULL, capture_output=True, timeout=60)
    ok(p.returncode == 124, "a step is ended at its deadline there, too", (p, log()))
finally:
    w.terminate()
    rc = w.wait(20)
ok(rc == 0, "it ends cleanly", (rc, log()))
left = [n for n in os.listdir(root) if n not in ("farstep-worker", "r", "s2")]
ok(not left, "and leaves nothing", left)
inside = subprocess.run(["find", "/proc", "-maxdepth", "2", "-name", "root", "-lname", root], capture_output=True, text=True).stdout.split()
ok(not inside, "no process stays in that root", inside)
done()
