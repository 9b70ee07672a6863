#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a worker is told, on its command line or otherwise, holds in the process that serves."""
import base64
import hashlib
import json
import os
import socket
import subprocess

from lib_run import done, ok, wait_for
from lib_ws import TOKEN, WORKER, WS, Worker


def sessions():
    w = Worker("few", "--max-sessions", "1")
    first, second = WS(w.path), WS(w.path)
    ok("result" in first.open("one"), "--max-sessions 1 has room for one session")
    got = second.open("two")
    ok(got.get("error", {}).get("data", {}).get("class") == "busy", "and answers busy to the second", got)
    w.stop()


def listens(path):
    """Its name is there before it listens."""
    with socket.socket(socket.AF_UNIX) as s:
        return s.connect_ex(path) == 0


def serves(what, config, args=(), variable=None, stdin=None, sandbox="boxed", wanted="[R217]"):
    """A worker that is told so serves a session as the configuration says."""
    env = dict(os.environ, **({"FARSTEP_WORKER_CONFIG": variable} if variable else {}))
    p = subprocess.Popen([WORKER, *args], env=env, stdin=subprocess.PIPE, stderr=subprocess.PIPE)
    p.stdin.write(stdin or b"")
    p.stdin.close()
    path = config["listen"][len("unix:"):]
    wait_for("the worker by " + what, lambda: listens(path) or p.poll() is not None)
    try:
        first, second = WS(path), WS(path)
        hello = first.message()["params"]
        opened, busy = first.open("one"), second.open("two")
        ok(hello["sandbox"] == sandbox and "result" in opened and busy.get("error", {}).get("data", {}).get("class") == "busy",
           "the worker takes its configuration by %s %s" % (what, wanted), (hello, opened, busy))
        health = subprocess.run([WORKER, "--health", "--config", "-"], input=json.dumps(config).encode(), capture_output=True)
        ok(health.returncode == 0, "--health finds it by the same configuration (%s)" % what, health)
    finally:
        p.terminate()
        err = p.stderr.read().decode()
    ok(p.wait(20) == 0 and not os.path.exists(path), "and it ends in order (%s)" % what, err)


def configuration():
    def config(name):
        return {"listen": "unix:" + os.path.abspath(name), "token-sha256": hashlib.sha256(TOKEN.encode()).hexdigest(),
                "root": os.path.abspath(name + ".root"), "sandbox-id": "boxed", "max-sessions": 1}

    c = config("flag")
    serves("flags", c, sum((["--" + k, str(v)] for k, v in c.items()), []))
    c = config("file")
    with open("config.json", "w") as f:
        json.dump(c, f)
    serves("a file", c, ["--config", "config.json"])
    c = config("stdin")
    serves("standard input", c, ["--config", "-"], stdin=json.dumps(c).encode())
    c = config("env")
    serves("the environment", c, variable=json.dumps(c))
    c = config("job")
    serves("--job-config", c, ["--job-config", base64.b64encode(json.dumps(c).encode()).decode()])
    c = config("both")
    serves("the environment, where a flag says otherwise,", c, ["--sandbox-id", "flagged"], sandbox="flagged",
           variable=base64.b64encode(json.dumps(c).encode()).decode(), wanted="and the flag counts")


def refusals():
    p = subprocess.run([WORKER], capture_output=True, stdin=subprocess.DEVNULL)
    ok(p.returncode == 100 and all(w in p.stderr for w in (b"--listen", b"--token-sha256", b"--config", b"--job-config", b"FARSTEP_WORKER_CONFIG")),
       "a worker that is told nothing exits 100 and says what to give [R217]", p)
    p = subprocess.run([WORKER, "--config", "-"], capture_output=True, input=b'{"listne":"unix:/x"}')
    ok(p.returncode == 100 and b"unknown key 'listne'" in p.stderr, "an unknown key is refused by name", p)
    p = subprocess.run([WORKER, "--config", "-"], capture_output=True, input=b"")
    ok(p.returncode == 100 and b"--config" in p.stderr, "nothing on standard input is no configuration", p)


sessions()
configuration()
refusals()
done()
