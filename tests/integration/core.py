#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 600
"""Steps end as the contract says; what they print and make comes home whole."""
import hashlib
import os
import subprocess

from lib_run import FARSTEP, Run, call, done, ok, pipeline, run, shell

FULL = os.environ.get("FULL") == "1"
# A number that no other program on this machine sleeps for.
OURS = "%d" % os.getpid()


def by_hand():
    os.makedirs("hand", exist_ok=True)
    subprocess.run(["sh", "-e", "-c", "sort data/in.txt > hand/sorted.txt; sha256sum < hand/sorted.txt > hand/sum.txt"], check=True)
    return {n: open("hand/" + n, "rb").read() for n in os.listdir("hand")}


def parity():
    os.makedirs("data", exist_ok=True)
    with open("data/in.txt", "w") as f:
        f.writelines("%d\n" % (i * 7919 % 100003) for i in range(50000))
    p = pipeline("parity", [
        shell("sort", "sort data/in.txt > $FARSTEP_OUTPUT_DIR/sorted.txt; cp $FARSTEP_OUTPUT_DIR/sorted.txt $FARSTEP_ARTIFACTS_DIR; "
              "echo '{\"type\":\"progress\",\"current\":1,\"total\":2}' >&3; echo '{\"type\":\"metric\",\"name\":\"rows_written\",\"value\":50000}' >&3"),
        shell("sum", "sha256sum < $FARSTEP_INPUT_SORT/sorted.txt > $FARSTEP_ARTIFACTS_DIR/sum.txt", ["sort"]),
        shell("side", "echo side"),
    ], ["data/*.txt"])
    hand = by_hand()
    seen, orders = {}, {}
    for target in ("local", "native"):
        for _ in range(50 if FULL else 6):
            r = run(p, "-j3", target=target)
            if r.rc != 0:
                ok(False, "the parity pipeline succeeds on " + target, r.err)
                return
            got = {os.path.basename(k): v for k, v in r.artifacts().items()}
            seen.setdefault(target, []).append(got == hand)
            for s in ("sort", "sum", "side"):
                orders.setdefault(s, set()).add(tuple(e["event"] for e in r.events(s)))
    ok(all(seen["local"]), "artifacts of local runs equal those of the same commands by hand [R18]")
    ok(all(seen["native"]), "artifacts of native runs equal those of the same commands by hand [R148]")
    ok(all(len(o) == 1 for o in orders.values()), "the order of events of a step is the same in every run, local and native", orders)
    ok(orders["sort"] == {("step_start", "progress", "step_ended", "artifact_created", "step_complete")},
       "a step's events are start, its own, end, artifacts, verdict", orders["sort"])
    ok([m["value"] for m in r.metrics()] == [50000], "metrics are in metrics.jsonl")
    seqs = [e["seq"] for e in r.events()]
    ok(seqs == sorted(set(seqs)), "seq rises strictly through events.jsonl [R21]")
    wseqs = [e["wseq"] for e in r.events() if "wseq" in e]
    ok(wseqs == sorted(set(wseqs)), "the worker's own numbers rise too")
    have = set(os.listdir(r.dir))
    want = {"manifest.yaml", "cfg", "events.jsonl", "metrics.jsonl", "receipts.jsonl", "status.json", "farstep.log", "package.json", "logs", "artifacts"}
    ok(want <= have, "the run directory holds what the contract names", want - have)
    ok(os.stat(r.dir).st_mode & 0o777 == 0o700, "the run directory is its owner's alone")
    ok("sandbox" not in have, "the sandbox's directory is gone after the run")


def endings(target):
    p = pipeline("endings", [
        shell("good", "printf 'a\\000b'; printf 'x\\n' >&2"),
        shell("error", "exit 3"),
        shell("after", "echo never", ["error"]),
        shell("timeout", "sleep 100", timeout=1),
        shell("ignores", "trap '' TERM; while :; do sleep 0.1; done", timeout=1, grace=1),
        shell("cpu", "ulimit -S -t 1; while :; do :; done"),
        shell("sys", "kill -SYS $$"),
        shell("daemon", "setsid sleep 1000.%s & echo started" % OURS),
        shell("late", "(sleep 0.3; echo late) & echo first"),
        shell("closes", "exec 1>&-; sleep 0.1; echo err >&2"),
        shell("said", "echo '{\"type\":\"complete\",\"success\":false,\"error\":\"no rows\"}' >&3"),
        shell("lied", "echo '{\"type\":\"complete\",\"success\":true}' >&3; exit 5"),
        shell("fakes", "echo '{\"type\":\"event\",\"name\":\"step_complete\"}' >&3; printf '{\"type\":\"event\",' >&3; sleep 0.1; "
              "printf '\"name\":\"loaded\",\"data\":{\"t\":1}}\\n' >&3; echo garbage >&3"),
        shell("forks", "while :; do (sleep 30.%s &) ; done" % OURS, timeout=2),
        shell("line", "head -c %d /dev/zero | tr '\\000' x" % (10**9 if FULL else 200 * 10**6)),
    ])
    r = run(p, "-j15", target=target)
    on = " (%s)" % target
    want = {"good": "success", "error": "error", "after": "skipped", "timeout": "timeout", "ignores": "timeout",
            "cpu": "resource_limit", "sys": "security_violation", "daemon": "success", "late": "success", "closes": "success",
            "said": "error", "lied": "error", "fakes": "success", "forks": "timeout", "line": "success"}
    ok(r.rc == 1, "a run with failed steps exits 1" + on, r.rc)
    ok({k: r.step[k] for k in want} == want, "every kind of end has its status [R85][R143]" + on, r.step)
    ok(r.read("logs/good.stdout", True) == b"a\0b" and r.read("logs/good.stderr") == "x\n", "NULs pass, the streams stay apart" + on)
    ok(r.read("logs/late.stdout") == "first\nlate\n", "what is written after the leader ended is kept" + on)
    n = os.path.getsize(r.dir + "/logs/line.stdout")
    ok(n == (10**9 if FULL else 200 * 10**6), "one endless line arrives whole" + on, n)
    ev = r.events("fakes")
    names = [e["event"] for e in ev]
    ok(names.count("step_complete") == 1 and "loaded" in names, "a step cannot write a lifecycle event; a line in two writes is one" + on, names)
    ok(sum(e["event"] == "log" and e["level"] == "warning" for e in ev) == 2, "bad lines on descriptor 3 become warnings" + on, ev)
    failed = [e for e in r.events() if e["event"] == "step_failed"]
    ok({e["step_id"] for e in failed if e["status"] == "error"} == {"error", "said", "lied"}, "failures carry status and error [R31]" + on, failed)
    ok(sum(e["event"] in ("step_complete", "step_failed") for e in r.events()) == 14, "exactly one completion for each step that ran [R219]" + on)
    left = subprocess.run(["pgrep", "-fx", "sleep (1000|30)\\.%s" % OURS], capture_output=True).stdout
    ok(not left, "no process of a step is left [R193]" + on, left)
    v = call("verify", "--run-dir", "runs", r.id)
    ok(v.returncode == 0, "the receipts verify offline" + on, v.stdout)
    return r


def tampering(r):
    log = r.dir + "/logs/late.stdout"
    body = open(log, "rb").read()
    open(log, "wb").write(body.replace(b"late", b"l4te"))
    ok(call("verify", "--run-dir", "runs", r.id).returncode == 7, "a changed log does not verify")
    open(log, "wb").write(body)
    path = r.dir + "/receipts.jsonl"
    body = open(path, "rb").read()
    open(path, "wb").write(body.replace(b'\\"leftovers\\":0', b'\\"leftovers\\":9', 1))
    ok(call("verify", "--run-dir", "runs", r.id).returncode == 7, "a changed receipt does not verify")
    open(path, "wb").write(body)
    ok(call("verify", "--run-dir", "runs", r.id).returncode == 0, "put back as it was, it verifies again")


def artifacts():
    p = pipeline("artifacts", [shell("a", """
        cd "$FARSTEP_ARTIFACTS_DIR"
        : > empty; printf 'x' > 'with space'; printf 'y' > "ünï"; mkdir -p d/e; head -c 3000000 /dev/urandom > d/e/bin
        ln -s /etc/passwd link; mkfifo pipe; chmod 755 'with space'
        sha256sum d/e/bin | cut -c1-64
        i=0; while [ $i -lt 300 ]; do echo $i > f$i; i=$((i+1)); done""")])
    r = run(p, "--out", "out")
    a = r.artifacts()
    ok(r.rc == 0 and a["a/empty"] == b"" and a["a/with space"] == b"x" and a["a/ünï"] == b"y" and len(a) == 304,
       "empty, spaced, unicode, nested and many artifacts come home", (r.rc, r.err, len(a)))
    ok(hashlib.sha256(a["a/d/e/bin"]).hexdigest() == r.read("logs/a.stdout").strip(), "a binary artifact is equal")
    w = [e["message"] for e in r.events() if e["event"] == "warning"]
    ok(len(w) == 2 and any("link" in m for m in w) and any("pipe" in m for m in w), "a link and a pipe are refused by name", w)
    ok(open("out/a/with space").read() == "x", "--out has them too")
    entry = {x["path"]: x for x in r.status["artifacts"]}["a/with space"]
    ok(entry["size"] == 1 and entry["sha256"] == hashlib.sha256(b"x").hexdigest(), "the result lists size and digest")


def environment():
    p = pipeline("env", [shell("e", "env | cut -d= -f1 | sort; echo $LC_ALL $GIVEN", env={"LC_ALL": "C"})])
    r = run(p, "--env", "GIVEN=a=b", env=dict(os.environ, CANARY="1", STRIPE_TOKEN="x"))
    names = r.read("logs/e.stdout").split()
    contract = {"PATH", "HOME", "TMPDIR", "USER", "LANG", "LC_ALL", "GIVEN", "PWD", "FARSTEP_RUN_ID", "FARSTEP_STEP_ID", "FARSTEP_ATTEMPT",
                "FARSTEP_CONFIG", "FARSTEP_INPUTS", "FARSTEP_OUTPUT_DIR", "FARSTEP_ARTIFACTS_DIR", "FARSTEP_CHECKPOINT_DIR", "FARSTEP_CACHE_DIR", "FARSTEP_EVENT_FD"}
    ok(set(names[:-2]) - {"OLDPWD", "_", "SHLVL"} == contract, "a step's environment is that of the contract", set(names) ^ contract)
    ok(names[-2:] == ["C", "a=b"], "a step's own variable and --env reach it, '=' kept")


def scheduling():
    p = pipeline("dag", [shell("p%d" % i, "date +%s%N; sleep 1; date +%s%N") for i in range(4)] +
                 [shell("join", "ls $FARSTEP_INPUT_P0 >/dev/null; date +%s%N", ["p0", "p1", "p2", "p3"])])
    r = run(p, "-j4")
    spans = [[int(x) for x in r.read("logs/p%d.stdout" % i).split()] for i in range(4)]
    ok(r.rc == 0 and max(s[0] for s in spans) < min(s[1] for s in spans), "four independent steps run at the same time [R57]", spans)
    ok(int(r.read("logs/join.stdout")) > max(s[1] for s in spans), "a step waits for all that it needs")
    p = pipeline("live", [shell("s", "for i in 1 2 3 4; do echo '{\"type\":\"progress\",\"current\":'$i',\"total\":4}' >&3; sleep 0.2; done; date -u +%FT%T.%N")])
    r = run(p)
    ends = r.read("logs/s.stdout").strip()
    times = [e["ts"] for e in r.events("s") if e["event"] == "progress"]
    ok(len(times) == 4 and all(t < ends for t in times), "progress arrives while the step runs [R29]", (times, ends))


def phases():
    p = pipeline("three", [shell("a", "cat data/in.txt | wc -l > $FARSTEP_ARTIFACTS_DIR/n")], ["data/in.txt"])
    a = call("prepare", p, "-o", "prepared.json")
    b = call("prepare", p)
    ok(a.returncode == 0 and open("prepared.json", "rb").read() == b.stdout, "the same pipeline prepares to the same bytes [R37][R38]")
    x = call("execute", "--run-dir", "runs", "--json", "prepared.json")
    import json
    got = json.loads(x.stdout)
    ok(x.returncode == 0 and got["ok"] and got["steps_completed"] == 1, "execute runs what was prepared [R2]", (x, got))
    c = call("collect", "--run-dir", "runs", got["run_id"], "--out", "collected")
    ok(c.returncode == 0 and open("collected/a/n").read().strip() == "50000", "collect verifies offline and lays out", c.stderr)
    open("data/in.txt", "a").write("more\n")
    ok(call("execute", "--run-dir", "runs", "prepared.json").returncode == 7, "execute refuses when the files changed since")
    d = call("run", "--dry-run", p)
    ok(d.returncode == 0 and json.loads(d.stdout)["sandbox"], "--dry-run shows plan, package and sandbox request")


def none_can_start():
    """As with a full disk: thousands of steps end before they begin, at once, and on a small stack."""
    steps = [shell("first", "rm -r \"$RUNS\"/*/logs")] + [shell("s%d" % i, "true") for i in range(2000)]
    p = subprocess.run(["sh", "-c", "ulimit -s 256; exec \"$@\"", "sh", FARSTEP, "run", "-q", "-j1", "--target", "native", "--run-dir", "runs-none",
                        "--env", "RUNS=" + os.path.abspath("runs-none"), pipeline("none", steps)], stdin=open(os.devnull), capture_output=True, timeout=100)
    r = Run(p.returncode, "", p.stderr.decode(), "runs-none/" + max(n for n in os.listdir("runs-none") if n != ".gitignore"))
    states = [s["status"] for s in r.status["steps"]]
    ok(p.returncode == 6 and states[0] == "success" and set(states[1:]) == {"error"}, "steps that cannot start are told one by one, however many", (p, states[:3]))


def refusals():
    for args, rc, word in (
            (["run", "missing.yaml"], 2, "missing.yaml"), (["run"], 2, "usage"), (["rum"], 2, "did you mean 'run'"),
            (["run", "--targt", "x", "p"], 2, "did you mean '--target'"), (["run", "--e2b", "three.yaml"], 8, "E2B_API_KEY is not set"),
            (["run", "--target", "docker", "three.yaml"], 10, "not built yet"), (["run", "-j0", "three.yaml"], 2, "-j"),
            (["report", "last"], 10, "not built yet"), (["status", "nosuch", "--run-dir", "runs"], 2, "nosuch"),
            (["run", "--secret", "NOT_SET_AT_ALL", "three.yaml"], 2, "NOT_SET_AT_ALL")):
        p = call(*args)
        ok(p.returncode == rc and word in p.stderr.decode(), "farstep %s exits %d and says why [R120]" % (" ".join(args), rc),
           (p.returncode, p.stderr))


parity()
tampering(endings("local"))
endings("native")
artifacts()
environment()
scheduling()
phases()
none_can_start()
refusals()
done()
