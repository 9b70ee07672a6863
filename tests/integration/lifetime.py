#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
"""Sandboxes that outlive their run, by wish (--keep, --sandbox) or by a crash (farstep sandboxes)."""
import json
import os
import signal
import subprocess
import time

from lib_cloud import MOCK, Cloud
from lib_run import FARSTEP, call, done, ok, pipeline, run, shell, wait_for

RUNTIME = os.path.abspath("rt")
os.mkdir(RUNTIME, 0o700)
os.environ["XDG_RUNTIME_DIR"] = RUNTIME
MARKS = RUNTIME + "/farstep"

# What a step sees: its directories, its environment, the processes (of this whole machine, in native), the places where a program may write.
PLACES = '. "$HOME" "$TMPDIR" "$FARSTEP_OUTPUT_DIR" "$FARSTEP_ARTIFACTS_DIR"'
SHARED = "/tmp /var/tmp /dev/shm /dev /run /run/farstep /home /root /var /farstep /farstep/root"
LOOK = """{ env; for p in /proc/[0-9]*; do tr '\\000' ' ' < $p/cmdline; echo; done 2>/dev/null | cut -c 1-120 | grep '[c]anary' || true; } > $FARSTEP_ARTIFACTS_DIR/seen
ls -AR %s >> $FARSTEP_ARTIFACTS_DIR/seen 2>/dev/null || true"""


def leave(places):
    return "for d in %s; do echo secret > \"$d/canary-file\" || exit 9; done; " % places + \
           "cp /bin/sleep \"$TMPDIR/canary-process\"; setsid \"$TMPDIR/canary-process\" 1000 > /dev/null 2>&1 3>&1 & : \n"


def sandboxes(*args, rc=0, **kw):
    p = call("sandboxes", *args, "--json", "--run-dir", "runs", **kw)
    return json.loads(p.stdout) if p.returncode == rc else p


def listed(*args, **kw):
    got = sandboxes("list", *args, **kw)
    return {s["id"]: s for s in got["sandboxes"]} if isinstance(got, dict) else {"failed": got}


def workers(id):
    """Processes of that sandbox, however they are called in it."""
    found = []
    for p in os.listdir("/proc"):
        try:
            with open("/proc/%s/cmdline" % p, "rb") as f:
                if p.isdigit() and id.encode() in f.read().split(b"\0"):
                    found.append(int(p))
        except OSError:
            pass
    return found


def remains():
    """Of runs, in the runtime directory and in run directories."""
    left = [MARKS + "/" + n for n in os.listdir(MARKS)]
    return left + ["runs/%s/sandbox" % n for n in os.listdir("runs") if os.path.exists("runs/%s/sandbox" % n)]


def kept(target):
    local = target == "local"
    places, look = (PLACES + " " + SHARED, LOOK % (PLACES + " " + SHARED)) if local else (PLACES, LOOK % PLACES)
    one = run(pipeline("one", [shell("s", leave(places) + look)]), "--keep", "--env", "CANARY=canary-value", target=target)
    seen = one.artifacts()["s/seen"].decode(errors="replace")
    ok(one.rc == 0 and all(w in seen for w in ("canary-value", "canary-process", "canary-file")), target + ": the first run leaves what could be seen", (one.err, seen))
    id = one.status["sandbox_id"]
    ok(one.status["kept"] == {"idle_ms": 300000, "end": "farstep sandboxes kill " + id} and id in one.err and "stays for 300 s" in one.err,
       target + ": the result of --keep says which sandbox stays, how long, and how to end it", (one.status, one.err))
    it = listed().get(id, {})
    ok((it.get("state"), it.get("ours"), it.get("run"), it.get("target"), it.get("kept"), it.get("living_proxy")) == ("kept", True, one.id, target, True, False),
       target + ": it is listed as kept", it)
    ok(call("verify", one.dir).returncode == 0, target + ": the first run is proved")
    two = run(pipeline("two", [shell("s", look)]), "--sandbox", id, target=target)
    seen = two.artifacts().get("s/seen", b"").decode(errors="replace")
    names = [e["event"] for e in two.events()]
    ok(two.rc == 0 and two.status["sandbox_id"] == id and "sandbox_reused" in names and "sandbox_created" not in names,
       target + ": the second run skips the creation and says so [R53]", (two.err, names))
    ok("canary" not in seen and (not local or one.id not in seen.replace(id, "")), target + ": it sees no file, variable or process of the first [R53]", seen)
    ok(call("verify", two.dir).returncode == 0, target + ": and is proved with its own key")
    p = call("exec", "--sandbox", id, "--", "sh", "-c", "cat; exit 3", stdin=None, input=b"in")
    ok((p.returncode, p.stdout, p.stderr) == (3, b"in", b""), target + ": exec uses it too, without a word of its own", p)
    both = [subprocess.Popen([FARSTEP, "exec", "--sandbox", id, "--", "sh", "-c", "read x; echo $x"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) for _ in "ab"]
    outs = [q.communicate(b"%d\n" % i, timeout=30)[0] for i, q in enumerate(both)]
    ok(outs == [b"0\n", b"1\n"] and bool(workers(id)), target + ": two at once get along in it", outs)
    return id


def refused(target, id):
    p = call("run", "--sandbox", id, "--key-file", other_key(), "--run-dir", "runs", "two.yaml")
    ok(p.returncode == 8 and b"another user key" in p.stderr, target + ": another user key does not open it", p)
    ok(id not in listed("--key-file", other_key()) and id in listed("--key-file", other_key(), "--all"), target + ": nor lists it, but with --all")
    got = sandboxes("gc", "--key-file", other_key())
    ok(bool(workers(id)) and {"id": id, "why": "made with another user key (--all)"} in got["left"], target + ": nor ends it by gc", got)
    if target == "local":
        p = call("run", "--sandbox", id, "--network", "on", "--run-dir", "runs", "two.yaml")
        ok(p.returncode == 10 and b"--network off" in p.stderr, "a network that the sandbox has not is refused by name", p)


def other_key():
    if not os.path.exists("other"):
        with open(os.open("other", os.O_CREAT | os.O_WRONLY, 0o600), "w") as f:
            f.write("ab" * 32 + "\n")
    return "other"


def idle(target, id):
    """--timeout bounds the idle time as well."""
    r = run("two.yaml", "--sandbox", id, "--timeout", "5", target=target)
    ended = time.monotonic()
    ok(r.rc == 0 and r.status["kept"]["idle_ms"] == 5000 and bool(workers(id)), target + ": --timeout bounds how long it stays", r.status)
    wait_for("the idle sandbox to end", lambda: not workers(id), 20)
    took = time.monotonic() - ended
    ok(4 < took < 12, target + ": a sandbox that nobody uses ends by itself [R53]", took)
    p = call("run", "--sandbox", id, "--run-dir", "runs", "two.yaml")
    ok(p.returncode == 3 and b"is not there" in p.stderr and id.encode() in p.stderr, target + ": one that is gone is an error with exit 3", p)
    it = listed().get(id, {})
    ok(it.get("state") == "remains", target + ": what is left of it is listed", it)
    ok(id in sandboxes("gc")["ended"] and not remains(), target + ": and gc clears it away", remains())


def killed(target):
    r = run("two.yaml", "--keep", target=target)
    id = r.status["sandbox_id"]
    first, second = sandboxes("kill", id), sandboxes("kill", id)
    ok(first["ended"] == [id] and second["already_gone"] == [id] and not second["failed"] and not workers(id),
       target + ": kill ends it, and once more is success", (first, second))
    ok(not remains(), target + ": without a trace", remains())
    p = call("sandboxes", "kill", id, "x/y")
    ok(p.returncode == 2 and p.stdout.decode() == "already gone: %s\n" % id, target + ": what is no id is refused", p)
    q = subprocess.Popen([FARSTEP, "run", "--keep", "--target", target, "--run-dir", "runs", pipeline("long", [shell("s", "echo up; sleep 600")])],
                         stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wait_for("the step", lambda: any(s["state"] == "in use" and started(s["run"]) for s in listed().values()))
    q.send_signal(signal.SIGINT)
    ok(q.wait(30) == 130 and not remains(), target + ": interrupted, a run ends its sandbox even with --keep", remains())


def started(run_id):
    path = "runs/%s/events.jsonl" % run_id
    return os.path.exists(path) and '"step_start"' in open(path).read()


def crash(target):
    """A proxy that is killed, beside one that lives."""
    long = pipeline("long", [shell("s", "echo up; sleep 600")])
    args = [FARSTEP, "run", "-q", "--target", target, "--run-dir", "runs"]
    dies = subprocess.Popen([*args, long], stdin=subprocess.DEVNULL)
    lives = subprocess.Popen([*args, long], stdin=subprocess.DEVNULL)
    wait_for("both steps", lambda: sum(started(s["run"]) for s in listed().values()) == 2)
    alone = subprocess.Popen([FARSTEP, "exec", "--target", target, "--", "sleep", "600"], stdin=subprocess.DEVNULL)
    wait_for("exec's sandbox", lambda: len(listed()) == 3)
    ok(all(s["state"] == "in use" and s["living_proxy"] for s in listed().values()), target + ": what living proxies use is listed so", listed())
    for p in (dies, alone):
        p.kill()
        p.wait()
    got = listed()
    orphans = {i: s for i, s in got.items() if s["state"] == "orphan"}
    mine = [i for i, s in orphans.items() if s["run_dir"]]
    used = [i for i in got if i not in orphans]
    ok(len(mine) == 1 and len(orphans) == 2 and len(used) == 1, target + ": after kill -9 the list shows two orphans and one in use [R87]", got)
    id, run_id = mine[0], orphans[mine[0]]["run"]
    ok(orphans[id]["attachable"] == [run_id] and 0 <= orphans[id]["age_s"] < 120 and orphans[id]["host"] == os.uname().nodename,
       target + ": with age, host, and the run that could be attached [R87]", orphans[id])
    dry = sandboxes("gc", "--dry-run")
    ok(sorted(dry["ended"]) == sorted(orphans) and dry["lost_runs"] == [run_id] and {"id": used[0], "why": "a farstep works with it"} in dry["left"] and bool(workers(id)),
       target + ": gc --dry-run says what it would end, and ends nothing [R87]", dry)
    young = sandboxes("gc", "--older-than", "1h")
    ok(not young["ended"] and bool(workers(id)), target + ": --older-than leaves what is younger [R87]", young)
    ok(id not in listed("--older-than", "1h") and id in listed("--older-than", "0s"), target + ": list heeds it too")
    p = call("sandboxes", "gc", "--run-dir", "runs")
    said = p.stdout.decode().splitlines()
    ok(p.returncode == 0 and sorted(l for l in said if "ended" in l) == sorted("ended " + i for i in orphans) and "run %s cannot be attached any more" % run_id in said,
       target + ": gc ends them and names the run that is lost by it [R87]", p)
    ok(not workers(id) and list(listed()) == used and bool(workers(used[0])), target + ": nothing of them is left, and the living run is untouched [R87]", listed())
    p = call("attach", "--run-dir", "runs", run_id)
    ok(p.returncode == 6, target + ": to attach that run is a clear failure", p)
    lives.send_signal(signal.SIGTERM)
    ok(lives.wait(30) == 143 and not remains(), target + ": in the end there is no trace of any", remains())


def hard(target):
    """Proxy and sandbox both killed: only files are left."""
    q = subprocess.Popen([FARSTEP, "run", "-q", "--target", target, "--run-dir", "runs", "long.yaml"], stdin=subprocess.DEVNULL)
    wait_for("the step", lambda: any(started(s["run"]) for s in listed().values()))
    id = [i for i, s in listed().items() if s["state"] == "in use"][0]
    q.kill()
    q.wait()
    for pid in workers(id):
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
    wait_for("the sandbox to be gone", lambda: listed()[id]["state"] != "orphan")
    journal, mark = "runs/%s/journal/run.json" % listed()[id]["run"], MARKS + "/" + listed()[id]["run"]
    with open(journal) as f:
        said = f.read()
    with open(journal, "w") as f:
        f.write(said.replace('"host":"%s"' % os.uname().nodename, '"host":"elsewhere"'))
    os.rename(mark, "mark")
    ok(not sandboxes("gc")["ended"] and remains(), target + ": a run directory of another machine's is left alone", listed())
    os.rename("mark", mark)
    with open(journal, "w") as f:
        f.write(said)
    ok(listed()[id]["state"] == "remains" and remains(), target + ": of a killed sandbox the files are listed", listed())
    got = sandboxes("gc")
    ok(got["ended"] == [id] and not remains() and not listed(), target + ": and cleared away by gc", (got, remains()))


def taken_up(target):
    """The proxy of a run that uses a kept sandbox is killed, and another goes on."""
    slow = pipeline("slow", [shell("s", "echo one; sleep 2; echo two")])
    first = subprocess.Popen([FARSTEP, "run", "-q", "--keep", "--target", target, "--run-dir", "runs", slow], stdin=subprocess.DEVNULL)
    wait_for("the step", lambda: any(started(s["run"]) for s in listed().values()))
    first.kill()
    first.wait()
    (id, it), = listed().items()
    ok(it["state"] == "kept" and it["attachable"] == [it["run"]], target + ": a killed run's sandbox tells which run could go on", it)
    p = call("attach", "--run-dir", "runs", it["run"])
    ok(p.returncode == 0 and listed()[id]["state"] == "kept" and not listed()[id]["attachable"], target + ": attach goes on, and leaves the sandbox as --keep said", (p, listed()))
    second = subprocess.Popen([FARSTEP, "run", "-q", "--sandbox", id, "--run-dir", "runs", slow], stdin=subprocess.DEVNULL)
    other = wait_for("the step", lambda: [n for n in os.listdir("runs") if n > it["run"] and started(n)])[0]
    ok(listed()[id]["state"] == "in use" and {"id": id, "why": "a farstep works with it"} in sandboxes("gc")["left"], target + ": a kept sandbox in use is left by gc", listed())
    second.kill()
    second.wait()
    ok(listed()[id]["attachable"] == [other], target + ": after kill -9 the second run is the one that could go on", listed())
    p = call("attach", "--run-dir", "runs", other)
    with open("runs/%s/logs/s.stdout" % other) as f:
        out = f.read()
    ok(p.returncode == 0 and out == "one\ntwo\n" and call("verify", "--run-dir", "runs", other).returncode == 0, target + ": and does, with the token of the first", (p, out))
    ok(bool(workers(id)) and sandboxes("kill", id)["ended"] == [id] and not remains(), target + ": the sandbox outlives that, too, until it is ended", remains())


def unknown(target):
    """No mark and no run directory: a process is all there is."""
    r = run("two.yaml", "--keep", target=target, runs="away")
    id, mark = r.status["sandbox_id"], MARKS + "/" + r.id
    os.rename(mark, "mark")
    os.rename("away", "hidden")
    it = listed().get(id, {})
    ok((it.get("state"), it.get("ours"), it.get("living_proxy"), it.get("run")) == ("running", True, None, r.id), target + ": a worker that only the processes show is listed", it)
    got, dry = sandboxes("gc"), sandboxes("gc", "--all", "--dry-run")
    ok(id not in got["ended"] and bool(workers(id)) and id in dry["ended"], target + ": gc leaves it, but with --all", (got, dry))
    os.rename("hidden", "away")
    os.rename("mark", mark)
    ok(sandboxes("kill", id)["ended"] == [id] and not remains(), target + ": kill ends it", remains())


def created(c):
    return len([r for r in c.asked("POST") if r["path"].split("?")[0].rstrip("/").endswith("sandboxes")])


def e2b_kept(c):
    places = PLACES + " /tmp /var/tmp"
    one = run(pipeline("one", [shell("s", leave(places) + LOOK % places)]), "--keep", "--env", "CANARY=canary-value", target="e2b")
    id = one.status["sandbox_id"]
    seen = one.artifacts().get("s/seen", b"").decode()
    ok(one.rc == 0 and "canary-file" in seen and "canary-process" in seen and [s["sandboxID"] for s in c.running()] == [id], "e2b: --keep leaves the sandbox", (one.err, seen, c.running()))
    it = listed().get(id, {})
    ok((it.get("state"), it.get("ours"), it.get("run"), it.get("target"), it.get("living_proxy"), it.get("host")) == ("kept", True, one.id, "e2b", False, os.uname().nodename),
       "e2b: it is listed by its labels, as kept", it)
    two = run(pipeline("two", [shell("s", LOOK % places)]), "--sandbox", id, target="e2b")
    seen = two.artifacts().get("s/seen", b"").decode()
    ok(two.rc == 0 and created(c) == 1 and len(c.asked("POST", "/files")) == 1 and two.status["sandbox_id"] == id, "e2b: the second run makes none, and uploads nothing to start with [R53]", (two.err, c.asked("POST")))
    ok(two.rc == 0 and "FARSTEP_STEP_ID" in seen and "canary" not in seen, "e2b: it sees no file, variable or process of the first [R53]", seen)
    p = call("run", "--sandbox", id, "--key-file", other_key(), "--run-dir", "runs", "two.yaml")
    ok(p.returncode == 8 and b"another user key" in p.stderr, "e2b: another user key does not open it", p)
    ok(id not in listed("--key-file", other_key()) and id in listed("--key-file", other_key(), "--all"), "e2b: nor lists it, but with --all")
    last = run("two.yaml", "--sandbox", id, "--timeout", "8", target="e2b")
    ok(last.rc == 0 and last.status["kept"]["idle_ms"] == 8000, "e2b: --timeout bounds how long it stays", last.status)
    ended = time.monotonic()
    wait_for("the cloud to end it", lambda: not c.running(), 30)
    took = time.monotonic() - ended
    ok(5 < took < 15, "e2b: a sandbox that nobody uses is ended by its time-out [R53]", took)
    p = call("run", "--sandbox", id, "--run-dir", "runs", "two.yaml")
    ok(p.returncode == 3 and b"is not there" in p.stderr, "e2b: one that is gone is an error with exit 3", p)
    ok(sandboxes("gc")["ended"] == [id] and not remains(), "e2b: gc clears away what is left of it here", remains())


def e2b_crash(c):
    args = [FARSTEP, "run", "-q", "--e2b", "--run-dir", "runs"]
    dies, lives = (subprocess.Popen([*args, "long.yaml"], stdin=subprocess.DEVNULL) for _ in "ab")
    alone = subprocess.Popen([FARSTEP, "exec", "--e2b", "--", "sleep", "600"], stdin=subprocess.DEVNULL)
    wait_for("both steps", lambda: sum(started(s["run"]) for s in listed().values()) == 2 and len(c.running()) == 3, 60)
    for p in (dies, alone):
        p.kill()
        p.wait()
    got = listed()
    orphans = {i: s for i, s in got.items() if s["state"] == "orphan"}
    used = [i for i, s in got.items() if s["state"] == "in use"]
    lost = [s["run"] for s in orphans.values() if s["attachable"]]
    ok(len(orphans) == 2 and len(used) == 1 and len(lost) == 1, "e2b: after kill -9 the list shows two orphans and one in use [R87]", got)
    dry = sandboxes("gc", "--dry-run")
    ok(sorted(dry["ended"]) == sorted(orphans) and dry["lost_runs"] == lost and len(c.running()) == 3, "e2b: gc --dry-run says what it would end, and ends nothing [R87]", dry)
    young = sandboxes("gc", "--older-than", "1h")
    ok(not young["ended"] and len(c.running()) == 3, "e2b: --older-than leaves what is younger [R87]", young)
    done_ = sandboxes("gc")
    ok(sorted(done_["ended"]) == sorted(orphans) and [s["sandboxID"] for s in c.running()] == used, "e2b: gc ends the orphans and no other [R87]", (done_, c.running()))
    again = sandboxes("kill", *orphans)
    ok(sorted(again["already_gone"]) == sorted(orphans), "e2b: to kill what is gone is success", again)
    lives.send_signal(signal.SIGTERM)
    ok(lives.wait(60) == 143 and not c.running() and not remains(), "e2b: in the end there is no trace of any", (c.running(), remains()))


def e2b_away():
    """The cloud does not answer."""
    r = run("two.yaml", "--keep", target="native")
    id = r.status["sandbox_id"]
    p = call("sandboxes", "list", "--run-dir", "runs", timeout=100)
    ok(p.returncode != 0 and id.encode() in p.stdout and p.stderr.startswith(b"farstep: "), "without E2B what is here is listed, and the exit code tells", p)
    os.environ.pop("E2B_API_KEY")
    p = call("sandboxes", "kill", id, "itisnotknown")
    ok(p.returncode == 8 and p.stdout.decode() == "ended %s\n" % id and b"E2B_API_KEY" in p.stderr and not remains(), "nobody says of a sandbox at E2B that it is gone without asking there", p)


def usage():
    for args, word in ((["list", "--dry-run"], b"--dry-run"), (["kill"], b"ID"), (["kill", "--all", "local-a-b"], b"--all"), (["gc", "x"], b"takes no x"), (["purge"], b"list, kill or gc")):
        p = call("sandboxes", *args)
        ok(p.returncode == 2 and word in p.stderr, "sandboxes %s is refused by name" % " ".join(args), p)
    p = call("sandboxes", "--help")
    ok(p.returncode == 0 and b"examples:\n  farstep sandboxes list" in p.stdout and b"--older-than DURATION" in p.stdout, "sandboxes --help has options and examples", p)
    p = call("run", "--keep", "--target", "unix:/nowhere", "two.yaml")
    ok(p.returncode == 10 and b"--keep" in p.stderr, "a worker of one's own cannot be kept", p)
    p = call("run", "--dry-run", "--sandbox", "native-20261102t101112-3f9a1c07-0badcafe", "two.yaml")
    ok(p.returncode == 0 and json.loads(p.stdout)["sandbox"] == {"reuse": "native-20261102t101112-3f9a1c07-0badcafe"}, "--dry-run says that a sandbox would be used again", p)
    with open("farstep.yaml", "w") as f:
        f.write("e2b: {template: mine, cpu: 2, memory: 4}\n")
    p = call("run", "--dry-run", "--sandbox", "ikxm3p9a1c07", "two.yaml")
    os.remove("farstep.yaml")
    ok(p.returncode == 0 and json.loads(p.stdout)["sandbox"] == {"reuse": "ikxm3p9a1c07"}, "what farstep.yaml says of new sandboxes is nothing to one that is there", p)


for target in ("local", "native"):
    id = kept(target)
    refused(target, id)
    idle(target, id)
    killed(target)
    crash(target)
    hard(target)
    taken_up(target)
    unknown(target)
usage()
if os.path.exists(MOCK):
    for name in list(os.environ):
        if name.lower().endswith("_proxy"):
            del os.environ[name]
    with Cloud() as c:
        os.environ.update({k: v for k, v in c.env.items() if k.startswith("E2B_")})
        e2b_kept(c)
        e2b_crash(c)
    e2b_away()
else:
    print("ok - lifetimes at E2B # SKIP no mock cloud in this build")
done()
