#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
"""farstep exec: one command's streams and exit code are passed through whole."""
import hashlib
import os
import signal
import socket
import subprocess

from lib_run import BUILD, FARSTEP, call, done, ok, pipeline, run, shell, wait_for

FULL = os.environ.get("FULL") == "1"
blob = os.urandom(20 * 10**6)


def streams():
    for target in ("local", "native"):
        on = " (%s)" % target
        p = call("exec", "--target", target, "--", "sh", "-c", "cat; echo err >&2; exit 3", stdin=None, input=b"in")
        ok((p.returncode, p.stdout, p.stderr) == (3, b"in", b"err\n"), "stdin, stdout, stderr and code pass through, apart [R35]" + on, p)
        p = call("exec", "--target", target, "--", "cat", stdin=None, input=blob)
        ok(p.returncode == 0 and p.stdout == blob, "20 MB through cat are equal" + on, len(p.stdout))
        for cmd, code in ((["sh", "-c", "kill -9 $$"], 137), (["no-such-program"], 127), (["/etc/passwd"], 126), (["sh", "-c", "exit 77"], 77)):
            p = call("exec", "--target", target, "--", *cmd)
            ok(p.returncode == code, "%s gives %d" % (" ".join(cmd), code) + on, p)
    p = call("exec", "--timeout", "1", "--", "sleep", "100")
    ok(p.returncode == 124 and b"deadline" in p.stderr, "a deadline is 124", p)
    q = subprocess.Popen([FARSTEP, "exec", "--target", "native", "--", "sh", "-c", "echo up; sleep 4711"], stdout=subprocess.PIPE, stdin=subprocess.DEVNULL)
    ok(q.stdout.readline() == b"up\n", "output comes while the command runs")
    q.send_signal(signal.SIGINT)
    ok(q.wait(20) == 130 and not subprocess.run(["pgrep", "-fx", "sleep 4711"], capture_output=True).stdout, "SIGINT: 130, and nothing is left")
    p = call("exec", "--status-file", "st.json", "--", "true")
    ok(p.returncode == 0 and '"verified":true' in open("st.json").read(), "--status-file has the receipt")


def nothing_lost():
    n = 1000 if FULL else 100
    want = hashlib.sha256(b"x" * 300000).hexdigest()
    p = pipeline("short", [shell("s%d" % i, "head -c 300000 /dev/zero | tr '\\000' x") for i in range(n)])
    r = run(p, "-q", "-j4", target="native", timeout=250)
    bad = [i for i in range(n) if hashlib.sha256(r.read("logs/s%d.stdout" % i, True)).hexdigest() != want]
    ok(r.rc == 0 and not bad, "of %d short commands that print 300 kB and exit none loses a byte" % n, (r.rc, bad))


def found(text, path, but=()):
    """The files below path that hold text."""
    files = (os.path.join(d, n) for d, _, names in os.walk(path) for n in names)
    return [f for f in files if os.path.relpath(f, path) not in but and text.encode() in open(f, "rb").read()]


def own_worker():
    token = "my-own-token"
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port = s.getsockname()[1]
    w = subprocess.Popen([BUILD + "/farstep-worker", "--listen", "127.0.0.1:%d" % port, "--token-sha256", hashlib.sha256(token.encode()).hexdigest()],
                         stderr=subprocess.DEVNULL)
    try:
        wait_for("the worker", lambda: subprocess.run([BUILD + "/farstep-worker", "--health", "--listen", "127.0.0.1:%d" % port], capture_output=True).returncode == 0)
        at = "ws://127.0.0.1:%d" % port
        env = dict(os.environ, FARSTEP_TOKEN=token)
        p = call("exec", "--target", at, "--", "echo", "there", env=env)
        ok(p.returncode == 0 and p.stdout == b"there\n", "a worker of one's own is driven over TCP [R149]", p)
        r = run(pipeline("own", [shell("a", "echo a")]), target=at, env=env)
        ok(r.rc == 0 and r.read("logs/a.stdout") == "a\n", "pipelines run there too", r.err)
        p = call("exec", "--target", at, "--", "true", env=dict(env, FARSTEP_TOKEN="wrong"))
        ok(p.returncode == 125 and b"denied" in p.stderr, "a wrong token is refused", p)
        r = run(pipeline("headers", [shell("a", "echo a")]), target=at + "#X-Key=hidden-in-a-header", env=env)
        ok(r.rc == 0 and r.status["target"] == at and not found("hidden-in-a-header", r.dir, ("journal/run.json",)),
           "a header of the address is told to nobody but who attaches", r.status)
        p = call("exec", "--target", "ws://127.0.0.1:nowhere#X-Key=hidden-in-a-header", "--", "true", env=env)
        ok(p.returncode == 125 and b"nowhere" in p.stderr and b"hidden" not in p.stderr, "nor by an error", p)
        crash = call("exec", "--target", at, "--", "sh", "-c", "kill -SEGV $$", env=env)
        after = call("exec", "--target", at, "--", "true", env=env)
        ok(crash.returncode == 139 and after.returncode == 0, "a step that crashes leaves the worker alive [R180]", (crash, after))
    finally:
        w.terminate()
        w.wait(20)


def program():
    out = subprocess.run(["readelf", "-lWd", BUILD + "/farstep-worker"], capture_output=True, text=True).stdout
    if "/san" in BUILD or "/clang" in BUILD:
        return
    ok("INTERP" not in out and "NEEDED" not in out, "the worker is static: no interpreter, no library [R16]")
    ok(os.path.getsize(BUILD + "/farstep-worker") <= 600 * 1024, "and at most 600 KiB")


streams()
nothing_lost()
own_worker()
program()
done()
