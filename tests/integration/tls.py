#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""wss:// addresses: TLS, proxies and certificates as libcurl does them, under libwebsockets."""
import hashlib
import os
import socket
import subprocess
import threading
import time

from lib_run import BUILD, FARSTEP, call, done, ok, pipeline, run, shell, wait_for
from lib_tls import ConnectProxy, TlsRelay, certificate

TOKEN = "a-token-of-this-test"
for name in list(os.environ):
    if name.lower().endswith("_proxy") or name in ("CURL_CA_BUNDLE", "SSL_CERT_DIR"):
        del os.environ[name]
cert, key = certificate("good", "DNS:localhost,DNS:49999-i0123.localhost,IP:127.0.0.1")
other, _ = certificate("other")
strange, strange_key = certificate("strange", "DNS:elsewhere.example")
with socket.socket() as s:
    s.bind(("127.0.0.1", 0))
    port = s.getsockname()[1]
worker = subprocess.Popen([BUILD + "/farstep-worker", "--listen", "127.0.0.1:%d" % port, "--token-sha256", hashlib.sha256(TOKEN.encode()).hexdigest()],
                          stderr=subprocess.DEVNULL)
wait_for("the worker", lambda: subprocess.run([BUILD + "/farstep-worker", "--health", "--listen", "127.0.0.1:%d" % port], capture_output=True).returncode == 0)
relay = TlsRelay(port, cert, key)
at = "wss://localhost:%d" % relay.port
env = dict(os.environ, FARSTEP_TOKEN=TOKEN, SSL_CERT_FILE=cert)
blob = os.urandom(10 * 10**6)


def works():
    p = call("exec", "--target", at, "--", "sh", "-c", "cat; exit 3", stdin=None, input=blob, env=env)
    ok(p.returncode == 3 and p.stdout == blob, "10 MB go through TLS there and back", (p.returncode, len(p.stdout), p.stderr))
    ok(relay.alpn[-1] == "http/1.1" and relay.names[-1] == "localhost", "the upgrade asks for HTTP/1.1 and names its host", (relay.alpn, relay.names))
    p = call("exec", "--target", "wss://49999-i0123.localhost:%d/farstep#X-One=1&X-Two=2" % relay.port, "--", "echo", "there", env=env)
    ok(p.stdout == b"there\n" and relay.names[-1] == "49999-i0123.localhost", "names below localhost need no resolver, and headers may be given", p)
    p = call("exec", "--target", "ws://localhost:%d" % port, "--", "echo", "plain", env=env)
    ok(p.stdout == b"plain\n", "ws:// takes names, too", p)
    r = run(pipeline("tls", [shell("a", "echo a")]), target=at, env=env)
    ok(r.rc == 0 and r.read("logs/a.stdout") == "a\n", "pipelines run over TLS", r.err)
    p = call("exec", "--target", at, "--", "true", env=dict(env, FARSTEP_TOKEN="wrong"))
    ok(p.returncode == 125 and b"denied" in p.stderr, "a wrong token is refused over TLS as well", p)


def certificates():
    p = call("exec", "--target", at, "--timeout", "3", "--", "echo", "in", env=dict(env, SSL_CERT_FILE=other))
    ok(p.returncode == 124 and not p.stdout, "a certificate that nobody vouches for is refused", p)
    wrong = TlsRelay(port, strange, strange_key)
    p = call("exec", "--target", "wss://localhost:%d" % wrong.port, "--timeout", "3", "--", "echo", "in", env=dict(env, SSL_CERT_FILE=strange))
    ok(p.returncode == 124 and not p.stdout and wrong.count, "and one of another host [R161]", (p, wrong.count))


def proxies():
    proxy = ConnectProxy()
    via = dict(env, HTTPS_PROXY="http://user:pass@127.0.0.1:%d" % proxy.port)
    p = call("exec", "--target", at, "--", "echo", "via", env=via)
    ok(p.stdout == b"via\n" and proxy.targets == ["localhost:%d" % relay.port], "HTTPS_PROXY is used, and connects by name", (p, proxy.targets))
    ok(proxy.auth == ["Basic dXNlcjpwYXNz"], "with the user it names", proxy.auth)
    n = proxy.count
    p = call("exec", "--target", at, "--", "echo", "direct", env=dict(via, NO_PROXY="localhost"))
    ok(p.stdout == b"direct\n" and proxy.count == n, "NO_PROXY takes a host out", p)


def survives():
    q = subprocess.Popen([FARSTEP, "exec", "--target", at, "--", "sh", "-c", "for i in 1 2 3 4 5 6; do echo $i; sleep 0.3; done"],
                         stdout=subprocess.PIPE, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=env)
    first = q.stdout.readline()
    relay.cut()
    rest = q.stdout.read()
    ok(q.wait(30) == 0 and first + rest == b"1\n2\n3\n4\n5\n6\n", "a TLS connection that is cut is made again, and no byte is lost", (first, rest))


def full():
    slow = TlsRelay(port, cert, key)
    slow.hold(1000000)
    with open("big", "wb") as f:
        f.write(os.urandom(12 * 10**6))   # more than the kernel's buffers take
    got = []
    t = threading.Thread(target=lambda: got.append(run(pipeline("full", [shell("a", "sha256sum <big")], files=["big"]),
                                                       target="wss://localhost:%d" % slow.port, env=env)))
    t.start()
    ok(slow.held.wait(20), "a part of 12 MB has come through TLS when no more is read")
    time.sleep(1)   # for whatever is in between to be full
    slow.go.set()
    t.join()
    with open("big", "rb") as f:
        want = hashlib.sha256(f.read()).hexdigest() + "  -\n"
    r = got[0]
    ok(r.rc == 0 and r.read("logs/a.stdout") == want and slow.count == 1, "a TLS connection that was full goes on, and is the same one",
       (slow.count, r.err))


def fast():
    size = 300 * 10**6
    figures = {}
    for how, target in (("plain", "ws://127.0.0.1:%d" % port), ("through a tunnel", "ws://localhost:%d" % port)):
        t = time.monotonic()
        p = subprocess.run([FARSTEP, "exec", "--target", target, "--", "head", "-c", str(size), "/dev/zero"], stdout=subprocess.DEVNULL, env=env)
        figures[how] = size / 1e6 / (time.monotonic() - t)
        ok(p.returncode == 0, "300 MB come, " + how, p)
    print("# " + ", ".join("%s: %.0f MB/s" % f for f in figures.items()))
    ok(figures["through a tunnel"] > 50, "the tunnel is no bottleneck for a network", figures)


try:
    works()
    certificates()
    proxies()
    survives()
    full()
    fast()
finally:
    worker.terminate()
    worker.wait(20)
done()
