#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 150
"""What a worker refuses, and how: before the upgrade, as a close code, or as an error."""
import json
import os
import socket
import subprocess
import time

from lib_run import done, ok
from lib_ws import KEY, WORKER, WS, Worker, step

w = Worker()
good = WS(w.path)
hello = good.message()
ok(good.status == 101 and hello["method"] == "hello" and "id" not in hello and hello["params"]["limits"]["text"] == 262144,
   "a good token is answered with a hello: versions, features, limits, both ids [R27]", hello)
ok(good.open()["result"]["generation"] == 1, "a session opens")


def before_the_upgrade():
    for what, status, kw in (("no token", 401, {"token": None}), ("a wrong token", 401, {"token": "x" * 64}),
                             ("a token that is a prefix", 401, {"token": "t" * 63}), ("no subprotocol", 400, {"protocol": None}),
                             ("a wrong subprotocol", 400, {"protocol": "chat"}), ("another path", 404, {"url": "/x"}),
                             ("plain HTTP", 426, {"upgrade": False, "protocol": None}),
                             ("plain HTTP for health", 200, {"upgrade": False, "protocol": None, "url": "/healthz", "token": None})):
        ok(WS(w.path, **kw).status == status, "%s is answered %d before any upgrade [R162]" % (what, status))
    ok(WS(w.path, extra="X: " + "y" * 20000 + "\r\n").status != 101, "a header block that is too large gets no connection")


def frames():
    for what, code, data, op in (("an oversized text frame", 1009, b"[" * 300000, 1), ("an oversized binary frame", 1009, b"\1" * 70000, 2),
                                 ("a short binary frame", 4002, b"\1\0", 2), ("an unknown kind of frame", 4002, b"\x77" + b"\0" * 6 + b"\1" + b"\0" * 8, 2),
                                 ("channel 0", 4002, b"\1" + b"\0" * 15, 2)):
        c = WS(w.path)
        c.frame(data, op)
        got = c.close_code()
        ok(got == code, "%s ends the connection with %d [R165]" % (what, code), got)
    c = WS(w.path)
    c.frame(b'{"jsonrpc":"2.0","id":1,', 1, False)
    c.frame(b'"method":"status.get"}', 0, True)
    ok("result" in c.message(lambda m: m.get("id") == 1), "a message in fragments is one message")


def json_rpc():
    c = WS(w.path)
    c.message()
    for what, text, code in (("no JSON", "{", -32700), ("a duplicate key", '{"jsonrpc":"2.0","jsonrpc":"2.0","id":1}', -32700),
                             ("JSON that is too deep", "[" * 40 + "]" * 40, None), ("invalid UTF-8", b'{"a":"\xff"}', -32700),
                             ("an escaped NUL", '{"jsonrpc":"2.0","id":1,"method":"a\\u0000b"}', -32700),
                             ("no version", '{"id":1,"method":"status.get"}', -32600), ("an id that is an object", '{"jsonrpc":"2.0","id":{},"method":"x"}', -32600),
                             ("an empty batch", "[]", -32600), ("an unknown method", '{"jsonrpc":"2.0","id":1,"method":"no.such"}', -32601)):
        c.text(text)
        got = c.message()["error"]
        ok((got["code"] == code if code else got["code"] < 0) and got["data"]["admitted"] == "no" and got["data"]["retry"],
           "%s is answered %s, and the connection lives on [R17]" % (what, code or "with an error"), got)
    for raw in ("7", '"a\\"b"', "1e3", "1.0", "-3", '""'):
        c.text('{"jsonrpc":"2.0","id":%s,"method":"driver.list","params":{"category":"none"}}' % raw)
        op, body = c.recv()
        ok(b'"id":%s' % raw.encode() in body, "the id %s comes back as it was sent [R24]" % raw, body)
    c.text('[{"jsonrpc":"2.0","id":1,"method":"driver.list"},{"jsonrpc":"2.0","method":"heartbeat","params":{}},{"jsonrpc":"2.0","id":2,"method":"no"},5]')
    got = c.message(lambda m: isinstance(m, list))
    ok([a["id"] for a in got] == [1, 2, None], "a batch is answered as one array, notifications with nothing [R169]", got)
    got = c.call("step.execute", {"step": "x"})["error"]
    ok(got["data"]["class"] == "state", "a method that needs a session says so", got)


def params():
    for missing in ("step", "attempt", "driver", "config"):
        p = step("p", "echo")
        del p[missing]
        got = good.call("step.execute", p)["error"]
        ok(got["code"] == -32602 and "params." + missing in got["message"], "a missing %s is named [R25]" % missing, got)
    for what, p in (("a bad id", step("../x", "echo")), ("attempt 0", step("p", "echo", 0)), ("a cwd that leaves", step("p", "", config={"script": "", "cwd": "../.."})),
                    ("an unknown driver", dict(step("p", ""), driver="no")), ("an input that is not there", step("p", "", inputs={"a": {"step": "zz"}})),
                    ("a channel twice", dict(step("p2", ""), stdout={"channel": 9, "offset": "0"}, stderr={"channel": 9, "offset": "0"}))):
        got = good.call("step.execute", p)
        ok("error" in got and got["error"]["data"]["admitted"] == "no", "%s is refused, nothing was admitted" % what, got)
    r = good.call("step.execute", dict(step("extra", "true"), unknown=1))
    ok(r["result"]["status"] == "success", "unknown members of params are ignored", r)


def steps():
    slow = good.send("step.execute", step("slow", "sleep 0.5"))
    good.text(json.dumps({"jsonrpc": "2.0", "id": slow, "method": "status.get"}))
    dup = good.message(lambda m: m.get("id") == slow)
    ok(dup.get("error", {}).get("code") == -32600, "an id that is in flight is refused [R24]", dup)
    quick = good.call("step.execute", step("quick", "true"))
    ok(quick["result"]["status"] == "success", "a later request is answered first [R28]")
    ok(good.call("step.status", {"step": "slow"})["result"]["state"] == "running", "step.status: running [R187]")
    ok(good.message(lambda m: m.get("id") == slow)["result"]["status"] == "success", "and the earlier one when it is done")
    ok(good.call("step.status", {"step": "slow"})["result"]["state"] == "finished", "step.status: finished [R187]")
    ok(good.call("step.status", {"step": "never"})["result"]["state"] == "unknown", "step.status: unknown [R187]")
    ok(good.call("step.execute", step("slow", "sleep 0.5"))["result"]["status"] == "success", "the same request again attaches")
    got = good.call("step.execute", step("slow", "sleep 9"))["error"]
    ok(got["data"]["class"] == "conflict" and got["data"]["admitted"] == "yes", "another body conflicts", got)
    ok(good.call("step.cancel", {"step": "slow"})["result"]["cancelled"] is False, "a step that has ended cannot be cancelled")
    st = good.call("status.get", {})["result"]
    ok(st["steps"]["running"] == 0 and st["sessions"] == 1 and st["requests"]["by_method"]["step.execute"] >= 10, "status.get agrees with what was done [R98]", st)
    d = good.call("driver.list", {})["result"]["drivers"]
    ok({x["name"] for x in d} == {"exec", "shell"} and all(x["version"] and x["parameters"] for x in d), "driver.list names the drivers [R99]", d)
    ok(good.call("driver.list", {"category": "none"})["result"]["drivers"] == [], "and filters by category [R99]")


def sessions():
    c = WS(w.path)
    ok(c.open()["error"]["data"]["class"] == "exists", "a session that exists cannot be opened again")
    ok(c.resume(key="b" * 64)["error"]["data"]["class"] == "denied", "a wrong key does not resume it")
    ok(c.resume(sandbox="other")["error"]["data"]["class"] == "fenced", "a handle of another sandbox is fenced")
    ok(c.resume("nope")["error"]["data"]["class"] == "not_found", "a session that is not there is not found")
    r = c.call("session.open", {"session": "v", "run": "v", "key": KEY, "client": {"name": "t", "version": "1", "protocol": {"min": 2, "max": 3}}})
    ok(r["error"]["data"]["class"] == "version", "no common version is an error [R128]", r)
    r = c.call("session.open", {"session": "v", "run": "v", "key": KEY, "client": {"name": "t", "version": "1", "protocol": {"min": 1, "max": 1}, "compressions": ["lz9"]}})
    ok(r["error"]["data"]["class"] == "version", "no common compression is an error [R128]", r)
    o = WS(w.path)
    ok(o.resume(method="session.observe")["result"]["session"] == "s1", "an observer sees the session")
    ok(o.message(lambda m: m.get("method") == "event")["params"]["wseq"] == 1, "and its events from the first")
    ok(o.call("step.execute", step("obs", "true"))["error"]["data"]["class"] == "denied", "but cannot drive it")
    ok(c.resume()["result"]["session"] == "s1", "the right key resumes it")
    ok(good.close_code() == 4001, "and evicts who held it with 4001")
    ok(c.call("step.execute", step("again", "true"))["result"]["status"] == "success", "the new connection drives it")
    return c


def patience():
    """Each silent connection has its own 2 s."""
    def silent():
        s = socket.socket(socket.AF_UNIX)
        s.connect(w.path)
        return s, time.monotonic()
    open_ones = [silent() for _ in range(8)]
    time.sleep(1.4)
    open_ones += [silent() for _ in range(8)]
    waited = []
    for s, since in open_ones:
        s.settimeout(10)
        ok_end = s.recv(1) == b""
        waited.append(time.monotonic() - since if ok_end else -1)
        s.close()
    ok(all(1.9 < t < 3 for t in waited), "who shows no token is dropped after 2 s of its own", waited)


def crowds(c):
    silent = []
    for _ in range(1000):
        s = socket.socket(socket.AF_UNIX)
        s.connect(w.path)
        s.settimeout(10)
        silent.append(s)
    ok(c.call("step.execute", step("beside", "echo fine"))["result"]["status"] == "success", "a session goes on beside 1,000 silent connections")
    ok(WS(w.path).status == 101, "and a good client gets in")
    gone = 0
    for s in silent:
        try:
            gone += s.recv(1) == b""
        except OSError:
            gone += 1
        s.close()
    ok(gone == 1000, "all silent connections were dropped", gone)
    flood = WS(w.path)
    flood.message()
    for i in range(5000):
        flood.text('{"jsonrpc":"2.0","id":%d,"method":"driver.list","params":{"category":"none"}}' % i)
        if i % 100 == 99:
            for _ in range(100):
                flood.recv()
    ok(c.call("status.get", {})["result"]["state"] == "healthy", "a flood of requests disturbs nobody")
    batch = "[" + ",".join(['{"jsonrpc":"2.0","method":"event.ack","params":{"wseq":0}}'] * 64) + "]"
    fast, n = WS(w.path), 60000
    fast.message()
    begun = time.monotonic()
    for i in range(n // 64):
        fast.text(batch)
    fast.call("driver.list", {"category": "none"})
    took = time.monotonic() - begun
    ok(took > (n - 20000) / 10000 * 0.9, "of requests beyond 20,000 a connection has 10,000 a second read, and loses none [R174]", took)
    ok(c.call("status.get", {})["result"]["state"] == "healthy", "another connection does not wait for that")
    never = WS(w.path)
    never.message()
    try:
        for i in range(200000):
            never.text('{"jsonrpc":"2.0","id":%d,"method":"status.get"}' % i)
    except OSError:
        pass
    ok(c.call("status.get", {})["result"]["rss_kb"] < (32 if "/san" not in WORKER else 200) * 1024, "a client that never reads costs bounded memory")


def end(c):
    ok(subprocess.run([WORKER, "--health", "--listen", "unix:" + w.path], capture_output=True).returncode == 0, "--health: 0 when well")
    ok(c.call("session.close", {})["result"] == {"leftovers": 0}, "session.close ends the session")
    ok(c.close_code() == 4006, "and its connections with 4006")
    ok(not os.listdir(w.dir + "/root/sessions"), "and removes its files")
    running = WS(w.path)
    running.open("s2")
    running.send("step.execute", step("sleeps", "sleep 100"))
    running.message(lambda m: m.get("method") == "event" and m["params"]["event"] == "step_start")
    ok(w.stop() == 0, "SIGTERM: steps are cancelled, exit 0 [R109]")
    ok(running.close_code() in (4006, 1001), "the client is told")
    ok(not os.path.exists(w.path) and not os.path.exists(w.dir + "/root"), "socket and root are gone")
    ok(subprocess.run([WORKER, "--health", "--listen", "unix:" + w.path], capture_output=True).returncode == 1, "--health: 1 when nobody is there [R108]")


def options():
    for args in (["--bogus"], ["--listen", "x"], ["--listen", "unix:/tmp/x"], ["--listen", "unix:/tmp/x", "--token-sha256", "12"], ["--lease", "x"]):
        p = subprocess.run([WORKER, *args], capture_output=True, timeout=10)
        ok(p.returncode == 100 and p.stderr, "farstep-worker %s is a usage error: 100 [R120]" % " ".join(args), p)
    lease = Worker("lease", "--lease", "1000")
    ok(lease.p.wait(15) == 0 and not os.path.exists(lease.dir + "/root"), "a worker whose lease lapses ends itself and removes its root")


before_the_upgrade()
frames()
json_rpc()
params()
steps()
driver = sessions()
patience()
crowds(driver)
end(driver)
options()
done()
