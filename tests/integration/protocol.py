#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""A worker driven by a client that knows nothing but the specification: what protocol/README.md
says of drivers, statuses, receipts, packages, heartbeats and paths holds over a real socket."""
import hashlib
import hmac
import io
import json
import os
import re
import shutil
import signal
import struct
import subprocess
import tarfile
import time

from lib_run import BUILD, call, descendants, done, lives, ok, pipeline, role, shell, wait_for
from lib_ws import KEY, WS, Closed, Worker, step

w = Worker("w")
names = iter("s%d" % i for i in range(1, 10**6))


def new_session(worker=None):
    c = WS((worker or w).path)
    c.name = next(names)
    got = c.open(c.name)
    assert "result" in got, got
    return c


def data(channel, offset, payload, end=False):
    return struct.pack(">BBHIQ", 1, 1 if end else 0, 0, channel, offset) + payload


# ---- driver.list, step.execute, statuses ----

def drivers():
    c = WS(w.path)
    got = c.call("driver.list", {})["result"]["drivers"]
    ok(sorted(d["name"] for d in got) == ["exec", "shell"], "driver.list names the built-in drivers, without a session [R99]", got)
    ok(all(set(d) == {"name", "version", "category", "modes", "parameters", "description"} for d in got) and
       all(d["version"] and d["modes"] and d["parameters"] and d["description"] for d in got),
       "each with name, version, category, modes, parameters [R99]", got)
    for category, n in (("process", 2), ("none", 0)):
        got = c.call("driver.list", {"category": category})["result"]["drivers"]
        ok(len(got) == n and all(d["category"] == category for d in got), "category %s gives %d [R99]" % (category, n), got)
    ok(c.call("driver.list", {"category": 1})["error"]["code"] == -32602, "a category that is no string is refused [R99]")


def receipt_of(c, id, result, attempt=1):
    """The receipt, checked as the specification says; None when its signature is wrong."""
    key = hmac.new(KEY.encode(), ("farstep step 1\n%s\n%d" % (id, attempt)).encode(), hashlib.sha256).digest()
    if hmac.new(key, result["receipt"].encode(), hashlib.sha256).hexdigest() != result["hmac"]:
        return None
    return json.loads(result["receipt"])


def run_step(c, id, script, **more):
    """(result, stdout) of a step with a window large enough for all of it."""
    p = step(id, script, **more)
    rid = c.send("step.execute", p)
    out, result, ended = b"", None, False
    while result is None or not ended:
        op, body = c.recv()
        if op == 2:
            kind, flags, _, channel, offset = struct.unpack(">BBHIQ", body[:16])
            if kind == 1 and channel == p["stdout"]["channel"]:
                assert offset == len(out)
                out += body[16:]
                ended = ended or bool(flags & 1)
        else:
            m = json.loads(body)
            if m.get("id") == rid:
                if "error" in m:
                    return m, out
                result = m["result"]
    return result, out


def built_in():
    c = new_session()
    got, out = run_step(c, "shell", "echo out; echo err >&2; echo '{\"type\":\"metric\",\"name\":\"rows\",\"value\":7}' >&3")
    r = receipt_of(c, "shell", got)
    ok(got["status"] == "success" and out == b"out\n" and got["rows"] == 7, "a built-in driver runs by step.execute [R94]", got)
    ok(r and r["status"] == "success" and r["stdout"] == {"bytes": "4", "sha256": hashlib.sha256(b"out\n").hexdigest()} and
       r["stderr"]["bytes"] == "4" and (r["run"], r["session"], r["step"], r["attempt"], r["sandbox"]) == (c.name, c.name, "shell", 1, "box"),
       "and its receipt, checked by a second implementation, holds ids, counts and digests [R94]", r)
    got, out = run_step(c, "exec", "", driver="exec", config={"argv": ["printf", "%s|", "a b", "", "-x"]})
    ok(got["status"] == "success" and out == b"a b||-x|", "so does exec, with its arguments as they are [R94]", (got, out))
    got, out = run_step(c, "binary", "", driver="exec", config={"argv": ["head", "-c", "70000", "/dev/zero"]})
    ok(out == bytes(70000), "bytes come in DATA frames, JSON in text frames, of one connection [R95]", len(out))
    ids = [c.send("step.execute", step("many%d" % i, "sleep 0.0%d; exit %d" % (9 - i, i))) for i in range(5)]
    seen = {}
    while len(seen) < 5:
        m = c.message(lambda m: m.get("id") in ids)
        seen[m["id"]] = receipt_of(c, "many%d" % ids.index(m["id"]), m["result"])["exit"]["code"]
    ok([seen[i] for i in ids] == [0, 1, 2, 3, 4], "several requests are under way at once, each answered by its id [R95]", seen)


def statuses():
    c = new_session()
    cases = {"success": ("true", {}), "error": ("exit 3", {}), "timeout": ("sleep 100", {"timeout_ms": 100, "grace_ms": 50}),
             "resource_limit": ("ulimit -f 1; exec head -c 100000 /dev/zero >big", {}), "security_violation": ("kill -SYS $$", {})}
    for want, (script, more) in cases.items():
        got, _ = run_step(c, want, script, **more)
        r = receipt_of(c, want, got)
        ok(got["status"] == want and r["status"] == want, "status %s is reached, and signed [R100]" % want, got)
    rid = c.send("step.execute", step("cancelled", "echo up; sleep 100"))
    c.message(lambda m: m.get("method") == "event" and m["params"]["event"] == "step_start" and m["params"]["step_id"] == "cancelled")
    c.send("step.cancel", {"step": "cancelled", "grace_ms": 50}, id="cancel")
    both = {}
    while len(both) < 2:
        m = c.message(lambda m: m.get("id") in ("cancel", rid))
        both[m["id"]] = m["result"]
    ok(both[rid]["status"] == "cancelled" and both["cancel"]["cancelled"] is True and
       receipt_of(c, "cancelled", both[rid])["exit"]["by"] == "cancel", "status cancelled is reached, and signed [R100]", both)
    rid = c.send("step.execute", step("lost", "sleep 100"))
    c.message(lambda m: m.get("method") == "event" and m["params"]["event"] == "step_start" and m["params"]["step_id"] == "lost")
    for p in descendants(w.p.pid):
        if role(p) == "keeper" and descendants(p):      # the other one waits for the next step
            os.kill(p, signal.SIGKILL)
    got = c.message(lambda m: m.get("id") == rid)["result"]
    ok(got["status"] == "lost" and got["receipt"] is None and got["error"], "without its keeper a step is lost, and there is no receipt", got)


def events():
    """Every event that the worker writes has the fields of its row, no more and no fewer."""
    with open(os.path.join(os.environ["TOP"], "protocol/events.def")) as f:
        rows = {name: fields.split() for name, who, fields in re.findall(r'EVENT\(\w+, "(\w+)", (\w+), "([^"]*)"\)', f.read()) if who == "E_WORKER"}
    c = new_session()
    heard = {}

    def note(m):
        if m.get("method") == "event":
            p = m["params"]
            heard.setdefault(p["event"], set(p["data"]) | ({"step_id", "attempt"} & set(p)))
        return False
    for id, more in (("a", {}), ("b", {"inputs": {"from_a": {"step": "a"}}})):
        rid = c.send("step.execute", step(id, 'echo \'{"type":"metric","name":"rows","value":7}\' >&3', **more))
        c.message(lambda m: note(m) or m.get("id") == rid)
    for p in descendants(w.p.pid):
        if role(p) == "worker":
            os.kill(p, signal.SIGKILL)
    wait_for("the next worker", w.listens)
    name, c = c.name, WS(w.path)
    c.send("session.resume", {"session": name, "key": KEY, "events_have": 0, "client": {"name": "t", "version": "1", "protocol": {"min": 1, "max": 1}}})
    c.message(lambda m: note(m) or "worker_restarted" in heard)
    ok(set(rows) <= set(heard), "every event of the worker is heard", set(rows) - set(heard))
    for event, fields in rows.items():
        must, may = {x for x in fields if not x.endswith("?")}, {x.rstrip("?") for x in fields}
        ok(must <= heard[event] <= may, "%s has the fields of its row" % event, (heard[event], fields))


def shutdown():
    for grace, patient in ((100, False), (5000, True)):
        other = Worker("shutdown%d" % grace)
        c = new_session(other)
        said = os.path.abspath("said%d" % grace)
        c.send("step.execute", step("s", "trap 'sleep 1.5; echo >%s; exit' TERM; while :; do sleep 0.05; done" % said))
        c.message(lambda m: m.get("method") == "event" and m["params"]["event"] == "step_start")
        time.sleep(0.3)
        ok(c.call("worker.shutdown", {"grace_ms": grace})["result"] == {} and c.close_code() in (4006, 1001), "worker.shutdown is answered, then the connection ends")
        ok(other.p.wait(20) == 0 and os.path.exists(said) == patient, "a step has the grace of %d ms that was given, and the worker ends with 0" % grace)


# ---- ready, heartbeat, the only door ----

def handshake():
    hello = WS(w.path).message()["params"]
    ok(hello["version"] and hello["build"] and hello["capabilities"]["cpus"] >= 1 and isinstance(hello["capabilities"]["proc"], bool),
       "the hello carries version and capabilities [R42]", hello)
    ok(role(hello["pid"]) == "worker" and hello["pid"] in descendants(w.p.pid), "and the worker's pid [R42]", hello["pid"])
    p = pipeline("start", [shell("a", "true")])
    for what, script, rc in (("dies", "echo one >&2; echo 'boom: no can do' >&2; exit 111", 3), ("never listens", "echo 'boom: no can do' >&2; exec sleep 4712", 5)):
        with open("fake-worker", "w") as f:
            f.write("#!/bin/sh\n" + script + "\n")
        os.chmod("fake-worker", 0o755)
        env = dict(os.environ, FARSTEP_WORKER=os.path.abspath("fake-worker"))
        got = call("run", "--target", "native", "--run-dir", "runs", "--timeout", "1", "--json", p, env=env)
        st = json.loads(got.stdout)
        ok(got.returncode == rc and "never got ready" in st["error"]["message"] and "boom: no can do" in st["error"]["message"],
           "a worker that %s is an error (%d) with its last words [R42]" % (what, rc), (got.returncode, st["error"]))
        ok(not subprocess.run(["pgrep", "-fx", "sleep 4712"], capture_output=True).stdout, "and nothing of it is left")


def heartbeat():
    hb = Worker("hb", "--heartbeat", "1000")
    c = WS(hb.path)
    hello = c.message()["params"]
    ok(hello["heartbeat_ms"] == 1000, "the hello says how often: --heartbeat 1000 [R30]", hello["heartbeat_ms"])
    c.open("h")
    c.send("step.execute", step("runs", "sleep 100"))
    c.message(lambda m: m.get("method") == "event" and m["params"]["event"] == "step_start")
    beat = '{"jsonrpc":"2.0","method":"heartbeat","params":{}}'
    beats = []
    while len(beats) < 4:
        beats.append((c.message(lambda m: m.get("method") == "heartbeat")["params"], time.monotonic()))
        c.text(beat)
    b = [x for x, _ in beats]
    ok(all(x["rss_kb"] > 0 and x["wseq"] >= 2 and x["running"] == [{"step": "runs", "attempt": 1, "state": "running"}] for x in b),
       "a heartbeat carries rss, running steps, the last event [R30]", b)
    gaps = [b[i + 1]["uptime_ms"] - b[i]["uptime_ms"] for i in range(3)]
    ok(all(900 < g < 2500 for g in gaps), "and uptime, one interval apart [R30]", gaps)
    silent = WS(hb.path)
    silent.message()
    at, pings = time.monotonic(), 0
    try:
        while True:
            h = silent.rx(2)
            c.text(beat)
            silent.rx(h[1] & 127 if h[1] & 127 < 126 else struct.unpack(">H", silent.rx(2))[0])
            pings += h[0] & 15 == 9
            if h[0] & 15 == 8:
                break
    except Closed:
        h = b""
    took = time.monotonic() - at
    ok(h and 2.2 < took < 5, "who says nothing for 2.5 intervals is closed, not cut", (h, took))
    ok(pings >= 1, "and was pinged before [R30]", pings)
    ok(c.call("step.status", {"step": "runs"})["result"]["state"] == "running", "who beats stays, and its step runs on")
    p = pipeline("beats", [shell("a", "sleep 3.5")])
    env = dict(os.environ, FARSTEP_TOKEN="t" * 64)
    got = call("run", "--target", "unix:" + hb.path, "--run-dir", "runs", p, env=env)
    ok(got.returncode == 0 and b"down" not in got.stderr, "the proxy keeps to the worker's interval [R30]", got)
    for bad in ("999", "60001", "x"):
        got = subprocess.run([BUILD + "/farstep-worker", "--listen", "unix:x", "--token-sha256", "0" * 64, "--heartbeat", bad], capture_output=True)
        ok(got.returncode == 100 and b"--heartbeat" in got.stderr, "--heartbeat %s is refused" % bad, got)
    hb.stop()


def listening(inodes):
    """The addresses on which any of these sockets listens, or takes datagrams."""
    found = []
    for proto, listens in (("tcp", "0A"), ("tcp6", "0A"), ("udp", "07"), ("udp6", "07"), ("raw", "07"), ("raw6", "07")):
        try:
            rows = open("/proc/net/" + proto).read().splitlines()[1:]
        except OSError:
            continue
        for r in map(str.split, rows):
            if r[9] in inodes and r[3] == listens:
                found.append(proto + " " + r[1])
    for r in map(str.split, open("/proc/net/unix").read().splitlines()[1:]):
        if r[6] in inodes and int(r[3], 16) & 0x10000:
            found.append("unix " + " ".join(r[7:]))
    return found


def only_door():
    c = new_session()
    c.send("step.execute", step("sleeps", "sleep 100"))
    c.message(lambda m: m.get("method") == "event" and m["params"]["event"] == "step_start")
    processes = [w.p.pid] + descendants(w.p.pid)
    inodes = set()
    for p in processes:
        for fd in os.listdir("/proc/%d/fd" % p):
            try:
                to = os.readlink("/proc/%d/fd/%s" % (p, fd))
            except OSError:
                continue
            if to.startswith("socket:["):
                inodes.add(to[8:-1])
    roles = sorted(str(role(p)) for p in processes)
    ok(os.getpid() not in processes and {"keeper", "supervisor", "worker"} <= set(roles), "the worker is processes of its own [R178]", roles)
    ok(len(inodes) > 2 and listening(inodes) == ["unix " + w.path], "of all its sockets one listens: the one that was asked for [R178]", listening(inodes))
    if shutil.which("ss"):
        out = subprocess.run(["ss", "-Hlxtuwp"], capture_output=True, text=True).stdout
        mine = [l for l in out.splitlines() if any("pid=%d," % p in l for p in processes)]
        ok(mine and all(w.path in l for l in mine), "ss says the same [R178]", mine)
    else:
        print("ok - ss says the same [R178] # SKIP no ss here")
    ok(os.stat(w.path).st_mode & 0o777 == 0o700 or os.stat(w.path).st_mode & 0o077 == 0, "and only its user may connect [R178]", oct(os.stat(w.path).st_mode))
    ok(WS(w.path, token="x" * 64).status == 401, "with the token [R178]")


# ---- packages ----

def archive(files, index=None):
    """A package as the specification has it: the index, then its files; index: what it claims."""
    listed = index if index is not None else [{"path": n, "size": str(len(b)), "mode": 0o644, "sha256": hashlib.sha256(b).hexdigest()} for n, b in sorted(files.items())]
    head = json.dumps({"v": 1, "files": listed}).encode()
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w", format=tarfile.PAX_FORMAT) as t:
        for n, b in [(".farstep/index.json", head)] + sorted(files.items()):
            info = tarfile.TarInfo(n)
            info.size, info.mode = len(b), 0o644
            t.addfile(info, io.BytesIO(b))
    return subprocess.run(["zstd", "-q", "-c"], input=raw.getvalue(), capture_output=True, check=True).stdout


def load(c, packed, sha256=None):
    rid = c.send("package.load", {"sha256": sha256 or hashlib.sha256(packed).hexdigest(), "size": str(len(packed)), "channel": 7})
    c.frame(data(7, 0, packed, True), 2)
    return c.message(lambda m: m.get("id") == rid)


def tree(c):
    """What a session's package left: {path: (mode, bytes)}."""
    top, found = w.dir + "/root/sessions/%s/work" % c.name, {}
    for d, _, names in os.walk(top):
        for n in names:
            p = os.path.join(d, n)
            found[os.path.relpath(p, top)] = (os.stat(p).st_mode, open(p, "rb").read())
    return found


def load_file(c, path, packed):
    return c.call("package.load", {"sha256": hashlib.sha256(packed).hexdigest(), "size": str(len(packed)), "path": path})


def by_path(good):
    """A package that lies in the sandbox already."""
    path = w.dir + "/brought"
    a, b = new_session(), new_session()
    with open(path, "wb") as f:
        f.write(good)
    got = load_file(a, path, good)
    ok(got.get("result") == {"files": 2, "bytes": "20008"} == load(b, good).get("result") and tree(a) == tree(b) and len(tree(a)) == 2 and not os.path.exists(path),
       "a package that was brought as a file gives the same tree as one that came in frames [R19]", (got, tree(a), tree(b)))
    ok(load_file(a, path, good)["result"] == got["result"], "asked again it is there")
    c = new_session()
    for what, content, cls in (("missing", None, "not_found"), ("cut", good[:-1], "integrity"), ("longer", good + b"x", "integrity"),
                               ("changed", good[:40] + bytes([good[40] ^ 1]) + good[41:], "integrity")):
        if content is not None:
            with open(path, "wb") as f:
                f.write(content)
        got = load_file(c, path, good).get("error", {})
        ok(got.get("data", {}).get("class") == cls and "package" in got["message"] and not tree(c), "one that is %s is refused, and nothing is unpacked [R34]" % what, got)
    ok(load(c, good).get("result") == {"files": 2, "bytes": "20008"} and tree(c) == tree(b), "then it can come in frames still")
    os.mkdir(path + ".d")
    os.symlink("/etc/passwd", path + ".l")
    for p in ("relative", path + ".d", path + ".l"):
        ok("error" in load_file(new_session(), p, good), "%s is no package" % p)


def package():
    files = {"data/in.csv": b"a,b\n" * 5000, "main.sh": b"echo hi\n"}
    good = archive(files)
    c = new_session()
    got = load(c, good)
    ok(got.get("result") == {"files": 2, "bytes": "20008"}, "a package that a second implementation made is taken", got)
    ok(run_step(c, "r", "cat data/in.csv | wc -l; sh main.sh")[1].split() == [b"5000", b"hi"], "and its files are in the step's directory")
    bad = 0
    for i in range(0, len(good), max(1, len(good) // 16)):
        broken = good[:i] + bytes([good[i] ^ 0x10]) + good[i + 1:]
        c = new_session()
        got = load(c, broken, hashlib.sha256(good).hexdigest()).get("error", {})
        bad += got.get("data", {}).get("class") != "integrity" or "SHA-256" not in got["message"] or os.listdir(w.dir + "/root/sessions/%s/work" % c.name) != []
        c.call("session.close", {})
    ok(bad == 0, "a byte that was changed on the way is refused as integrity, and says so [R39]", bad)
    bad = []
    for i in range(0, len(good), max(1, len(good) // 16)):
        broken = good[:i] + bytes([good[i] ^ 0x10]) + good[i + 1:]
        c = new_session()
        got = load(c, broken)
        # A bit of the frame's header may mean nothing; then the files must be whole.
        e = got.get("error", {})
        whole = "result" in got and got["result"] == {"files": 2, "bytes": "20008"}
        if not whole and (e.get("data", {}).get("class") != "integrity" or not e["message"].startswith("package: ")):
            bad.append((i, got))
        c.call("session.close", {})
    ok(not bad, "a byte that was changed before the digest was taken is refused too, by what is wrong [R39]", bad)
    by_path(good)
    os.makedirs("pk/data", exist_ok=True)
    with open("pk/data/in.csv", "w") as f:
        f.write("a,b,c\n" * 20000)
    with open("pk/p.json", "w") as f:
        json.dump({"name": "ratio", "files": ["data/in.csv"], "steps": [shell("a", "wc -c <data/in.csv")]}, f)
    got = call("run", "--target", "native", "--run-dir", "runs", "pk/p.json")
    line = [l for l in got.stderr.decode().splitlines() if l.startswith("package: ")]
    run_id = max(d for d in os.listdir("runs") if d[0].isdigit())
    ev = [json.loads(l) for l in open("runs/%s/events.jsonl" % run_id) if '"package_uploaded"' in l]
    ok(len(line) == 1 and "1 files, 120000 bytes packed to %d " % ev[0]["bytes"] in line[0] and "to 1)" in line[0], "the ratio is printed [R39]", got.stderr)
    ok(ev[0]["raw_bytes"] == 120000 and abs(ev[0]["ratio"] - 120000 / ev[0]["bytes"]) < 0.01 and ev[0]["ratio"] > 10, "and in the event [R39]", ev)


# ---- paths ----

def paths():
    a, b = new_session(), new_session()
    root = w.dir + "/root/sessions/"
    for c, text in ((a, "of a"), (b, "of b")):
        got, out = run_step(c, "writes", "mkdir -p sub; printf '%s' '" + text + "' >sub/here; pwd")
        ok(out.decode().strip() == root + c.name + "/work", "a step works in its session's directory [R23]", out)
    ok(open(root + a.name + "/work/sub/here").read() == "of a" and open(root + b.name + "/work/sub/here").read() == "of b",
       "relative paths stay inside, sessions have one each [R23]")
    ok(run_step(a, "sub", "cat here", config={"script": "cat here", "cwd": "sub"})[1] == b"of a", "a step may ask for a directory below [R23]")
    ok(os.stat(root + a.name).st_mode & 0o777 == 0o700, "a session's directory is its user's alone [R23]")
    bad = ("..", "/", "../x", "/etc/passwd", "a/../../x", "a/..", "", ".")
    for what, params in [("cwd", lambda p: dict(config={"script": "true", "cwd": p})), ("collect", lambda p: dict(collect=[p]))]:
        for p in bad[:-1]:
            got = a.call("step.execute", step("bad", "true", **params(p))).get("error", {})
            ok(got.get("code") == -32602 and "params." in got["message"] and what in got["message"] and got["data"]["admitted"] == "no",
               "%s '%s' is refused by name, nothing was admitted [R23]" % (what, p), got)
    for p in bad:
        got = a.call("step.execute", step(p, "true")).get("error", {})
        ok(got.get("code") == -32602 and "params.step" in got["message"], "step id '%s' is refused [R23]" % p, got)
        got = a.call("step.execute", step("bad", "true", inputs={"i": {"step": p}})).get("error", {})
        ok(got.get("code") == -32602, "an input from step '%s' is refused [R23]" % p, got)
        c = WS(w.path)
        got = c.open(p).get("error", {})
        ok(got.get("code") == -32602 and "params.session" in got["message"], "session id '%s' is refused [R23]" % p, got)
    for p in bad[:-2] + ("./x", "a//b", ".farstep/index.json", "a\nb"):
        c = new_session()
        got = load(c, archive({p or "x": b"x"}, [{"path": p, "size": "1", "mode": 0o644, "sha256": hashlib.sha256(b"x").hexdigest()}])).get("error", {})
        ok(got.get("data", {}).get("class") == "integrity" and got["message"].startswith("package: ") and "version" not in got["message"],
           "a package with the path %r is refused [R23]" % p, got)
        ok(os.listdir(root + c.name + "/work") == [], "and nothing of it is left", os.listdir(root + c.name + "/work"))
    for name, to in (("link", "/etc/passwd"), ("up", "../../x")):
        raw = io.BytesIO()
        with tarfile.open(fileobj=raw, mode="w") as t:
            head = json.dumps({"v": 1, "files": [{"path": name, "size": "0", "mode": 0o644, "sha256": hashlib.sha256(b"").hexdigest()}]}).encode()
            info = tarfile.TarInfo(".farstep/index.json")
            info.size, info.mode = len(head), 0o644
            t.addfile(info, io.BytesIO(head))
            info = tarfile.TarInfo(name)
            info.type, info.linkname = tarfile.SYMTYPE, to
            t.addfile(info)
        got = load(new_session(), subprocess.run(["zstd", "-q", "-c"], input=raw.getvalue(), capture_output=True, check=True).stdout).get("error", {})
        ok(got.get("data", {}).get("class") == "integrity", "a package with a link to %s is refused [R23]" % to, got)
    with open("outside.txt", "w") as f:
        f.write("x")
    os.makedirs("pipe", exist_ok=True)
    for what, doc in (("files: ../outside.txt", {"files": ["../outside.txt"]}), ("files: an absolute path", {"files": [os.path.abspath("outside.txt")]}),
                      ("artifacts: ../*", {"steps": [shell("a", "true", artifacts=["../*"])]}), ("artifacts: an absolute glob", {"steps": [shell("a", "true", artifacts=["/etc/*"])]}),
                      ("step id ../a", {"steps": [shell("../a", "true")]})):
        with open("pipe/p.json", "w") as f:
            json.dump(dict({"name": "escapes", "steps": [shell("a", "true")]}, **doc), f)
        got = call("run", "--target", "native", "--run-dir", "runs", "pipe/p.json")
        ok(got.returncode == 2, "a pipeline with %s is refused before anything starts [R23]" % what, (got.returncode, got.stderr))
    got = a.call("session.close", {})
    ok("result" in got and a.close_code() == 4006 and not os.path.exists(root + a.name) and os.path.exists(root + b.name),
       "closing a session removes its directory and no other [R23]", got)


drivers()
built_in()
statuses()
events()
shutdown()
handshake()
only_door()
package()
paths()
heartbeat()
ok(w.stop() == 0 and not os.path.exists(w.dir + "/root"), "the worker ends and leaves nothing")
wait_for("its processes to end", lambda: not any(lives(p) for p in descendants(w.p.pid)))
done()
