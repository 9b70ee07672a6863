#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
"""What a pipeline requires is looked for before its first step, and installed only when that is allowed."""
import hashlib
import json
import os
import shutil
import signal
import subprocess
import urllib.error
import urllib.request

from lib_packages import Index, npm_tarball, wheel
from lib_run import FARSTEP, Run, call, descendants, done, lives, new_run_dir, ok, run, shell, wait_for
from lib_ws import TOKEN, Worker

try:
    from lib_cloud import MOCK, Cloud
except ImportError:
    MOCK = ""

CLEAN = dict(os.environ, PIP_CONFIG_FILE="/dev/null")
PYTHON = "/usr/bin/python3"


def write(name, requirements, script="python3 -c 'import fsdemo; print(fsdemo.X)'", **more):
    doc = dict({"requirements": requirements, "steps": [shell("a", script)]}, **more)
    with open(name + ".yaml", "w") as f:
        json.dump(doc, f)
    return name + ".yaml"


def named(r, name):
    return [e for e in r.events() if e["event"] == name]


def installed(r):
    return [(e["package"], e["version"]) for e in named(r, "dependency_installed")]


def dry(path, *args, **kw):
    p = call("run", "--dry-run", *args, path, **kw)
    return json.loads(p.stdout)["requirements"]


def skip(sentence, why):
    print("ok - %s # SKIP %s" % (sentence, why), flush=True)


wheel("wheels", "fsdemo", "1.0", "X = 'demo'\n", ["fsdep>=1"])
wheel("wheels", "fsdep", "1.1", "Y = 1\n")
wheel("more", "fsdemo", "1.0", "X = 'demo'\n", ["fsdep>=1"])
wheel("more", "fsdemo", "2.0", "X = 'demo two'\n", ["fsdep>=1"], ["fast"])
wheel("more", "fsdep", "1.1", "Y = 1\n")


def missing():
    r = run(write("missing", ["fsdemo==1.0", "fsnothing", "pip"]))
    ok(r.rc == 9 and r.status["error"]["class"] == "dependency" and "fsdemo==1.0" in r.err and "fsnothing" in r.err and "--install-deps" in r.err,
       "what is missing is named with the flag that installs it, exit 9 [R5]", (r.rc, r.err))
    c = named(r, "dependency_check")
    ok(len(c) == 1 and c[0]["missing"] == ["fsdemo==1.0", "fsnothing"] and len(c[0]["present"]) == 1 and c[0]["required"] == ["fsdemo==1.0", "fsnothing", "pip"],
       "dependency_check lists what is required, present and missing", c)
    ok(r.step == {"a": "skipped"} and not installed(r) and not r.events("a")[0]["event"] == "step_start", "no step of the pipeline started", r.events("a"))
    p = call("verify", "--run-dir", "runs", r.id)
    ok(p.returncode == 0 and b"receipt of step '_deps.pip' attempt 1: error" in p.stdout, "to look has a receipt like any step", p.stdout.decode())


def with_flag():
    r = run(write("flag", {"pip": ["FSdemo == 1.0"], "wheels": "wheels"}), "--install-deps")
    ok(r.rc == 0 and r.read("logs/a.stdout") == "demo\n", "with the flag the missing packages are installed, and steps find them [R5] [R154]", (r.rc, r.err))
    e = named(r, "dependency_installed")
    ok(installed(r) == [("fsdemo", "1.0"), ("fsdep", "1.1")] and all(x["duration_ms"] >= 0 and x["tool"] == "pip" for x in e),
       "one dependency_installed a package, with version and duration [R80]", e)
    log = r.artifacts().get("_deps.pip/install.log", b"").decode()
    ok("Successfully installed" in log and {"path": "_deps.pip/install.log", "size": len(log), "sha256": hashlib.sha256(log.encode()).hexdigest()} in r.status["artifacts"],
       "pip's log is kept among the artifacts [R5]", (log, r.status["artifacts"]))
    p = call("verify", "--run-dir", "runs", r.id)
    ok(p.returncode == 0 and b"receipt of step '_deps.pip' attempt 1: success" in p.stdout, "installing has a receipt like any step", p.stdout.decode())
    ok([s["id"] for s in r.status["steps"]] == ["a"] and r.status["steps_completed"] == 1, "it is no step of the pipeline", r.status["steps"])
    ok("installed fsdemo 1.0" in r.err and "1 steps proved" in r.err, "people read what was installed", r.err)
    ok(not named(r, "warning"), "nothing of it is a file that was left behind", named(r, "warning"))


def precedence():
    files = {None: write("said_nothing", ["fsdemo"]), True: write("said_on", ["fsdemo"], install_deps=True), False: write("said_off", ["fsdemo"], install_deps=False)}
    got = {(said, env, flag): dry(files[said], *["--install-deps"] * flag, env=dict(os.environ, **({"FARSTEP_INSTALL_DEPS": env} if env else {})))["install"]
           for said in files for env in (None, "1", "0") for flag in (0, 1)}
    want = {k: True if k[2] else k[1] == "1" if k[1] else bool(k[0]) for k in got}
    ok(got == want, "the flag counts more than FARSTEP_INSTALL_DEPS, and that more than the pipeline file [R14]", got)
    for text in ("install_deps: true\n", "install_deps: false\n"):
        with open("farstep.yaml", "w") as f:
            f.write(text)
        by = [dry(files[None])["install"], dry(files[True])["install"], dry(files[False])["install"], dry(files[None], env=dict(os.environ, FARSTEP_INSTALL_DEPS="0"))["install"],
              dry(files[None], "--install-deps")["install"]]
        os.remove("farstep.yaml")
        ok(by == ["true" in text, True, False, False, True], "farstep.yaml (%s) says what nobody else said [R14]" % text.strip(), by)
    ok(dry(files[None], "--e2b-install-deps")["install"], "--e2b-install-deps is the same option [R14] [R74]")
    p = write("env_on", {"pip": ["fsdemo"], "wheels": "wheels"})
    r = run(p, env=dict(os.environ, FARSTEP_INSTALL_DEPS="1"))
    ok(r.rc == 0 and installed(r), "the variable installs as the flag does [R14]", r.err)
    r = run(write("file_on", {"pip": ["fsdemo"], "wheels": "wheels"}, install_deps=True))
    ok(r.rc == 0 and installed(r), "the pipeline file installs as the flag does [R14]", r.err)
    r = run("file_on.yaml", env=dict(os.environ, FARSTEP_INSTALL_DEPS="0"))
    ok(r.rc == 9, "the variable forbids what the file allows [R14]", r.rc)
    bad = call("run", "--dry-run", p, env=dict(os.environ, FARSTEP_INSTALL_DEPS="maybe"))
    ok(bad.returncode == 2 and b"FARSTEP_INSTALL_DEPS 'maybe'" in bad.stderr, "a wrong variable is told by name", bad)
    bad = call("exec", "--install-deps", "--", "true")
    ok(bad.returncode == 125 and b"exec has no requirements" in bad.stderr or b"a command has no requirements" in bad.stderr, "exec refuses the flag by name", bad)


def present():
    r = run(write("present", ["pip>=1"], "echo $PATH"), "--install-deps")
    ok(r.rc == 0 and r.read("logs/_deps.pip.stdout") == "" and not installed(r) and list(r.artifacts()) == ["_deps.pip/report.json"]
       and named(r, "dependency_check")[0]["missing"] == [], "what is there already is not installed: pip is not called [R55]", (r.rc, r.err, r.artifacts()))
    ok("cache" not in r.read("logs/a.stdout"), "and steps run as without requirements", r.read("logs/a.stdout"))
    with open("none.yaml", "w") as f:
        json.dump({"steps": [shell("a", "true")]}, f)
    r = run("none.yaml", "--install-deps")
    ok(r.rc == 0 and not named(r, "dependency_check") and len(r.read("receipts.jsonl").splitlines()) == 1,
       "a plan that requires nothing looks for nothing [R5]", r.events())


def failing():
    r = run(write("failing", {"pip": ["fsnowhere==3"], "wheels": "wheels"}), "--install-deps")
    log = r.artifacts().get("_deps.pip/install.log", b"").decode()
    ok(r.rc == 9 and "fsnowhere==3" in r.err and "exit 1" in r.err and "No matching distribution" in r.err and "_deps.pip/install.log" in r.err,
       "a pip that fails ends the run with 9, its exit status and its words [R22]", r.err)
    ok("No matching distribution" in log and r.step == {"a": "skipped"}, "its log is kept [R22]", log)
    report = json.loads(r.artifacts()["_deps.pip/report.json"])
    ok(report["tool_exit"] == 1 and report["missing"] == ["fsnowhere==3"], "the report holds the exit status [R22]", report)
    r = run(write("offline", ["fsnowhere==3"]), "--install-deps", timeout=30)
    ok(r.rc == 9 and "--network on" in r.err, "without a network the error says so, and nobody waits for it", r.err)
    r = run(write("nopython", ["fsdemo"]), "--env", "PATH=/nowhere")
    ok(r.rc == 9 and "need python3 in the sandbox" in r.err, "a sandbox without Python is told as that", r.err)


def variables():
    for f in ("wheels", "more"):
        assert os.path.isdir(f)
    r = run(write("links", ["fsdemo==2.0"], files=["more"]), "--install-deps", "--env", "PIP_FIND_LINKS=more", "--env", "PIP_NO_INDEX=1")
    ok(r.rc == 0 and r.read("logs/a.stdout") == "demo two\n", "pip takes its variables: a directory of wheels, no index [R22]", r.err)
    secret = "s3cret-index-token"
    index = Index("more", secret)
    try:
        r = run(write("index", ["fsdemo==2.0"]), "--install-deps", "--pass-env", "PIP_INDEX_URL", "--secret", "INDEX_TOKEN", target="native", env=dict(CLEAN, PIP_INDEX_URL=index.url, INDEX_TOKEN=secret))
        ok(r.rc == 0 and r.read("logs/a.stdout") == "demo two\n" and index.wheels(), "pip takes its index [R22]", (r.err, index.asked))
        found = subprocess.run(["grep", "-rl", secret, r.dir], capture_output=True).stdout
        bad = run(write("index_bad", ["fsnowhere==2.0"]), "--install-deps", "--pass-env", "PIP_INDEX_URL", "--secret", "INDEX_TOKEN", "-v", target="native",
                  env=dict(CLEAN, PIP_INDEX_URL=index.url, INDEX_TOKEN=secret))
        ok(bad.rc == 9 and "No matching distribution" in bad.err and secret not in bad.err and subprocess.run(["grep", "-rl", secret, bad.dir], capture_output=True).stdout == b"",
           "nor does a failing pip tell it", bad.err)
        ok(found == b"" and "***MASKED***" in r.artifacts()["_deps.pip/install.log"].decode(), "a secret in the address of an index is masked, in the kept log too", found)
    finally:
        index.close()


def cached():
    w = Worker("kept")
    index = Index("more")
    args = ["--install-deps", "--env", "PIP_INDEX_URL=" + index.url]
    env = dict(CLEAN, FARSTEP_TOKEN=TOKEN)
    try:
        first = run(write("one", ["fsdemo==1.0"]), *args, target="unix:" + w.path, env=env)
        asked = len(index.asked)
        again = run("one.yaml", *args, target="unix:" + w.path, env=env)
        ok(first.rc == 0 and installed(first), "a sandbox that is kept installs once", first.err)
        ok(again.rc == 0 and not installed(again) and len(index.asked) == asked and again.read("logs/a.stdout") == "demo\n"
           and named(again, "dependency_check")[0]["missing"] == [], "a second run with the same lock uses what is there: nothing is asked for [R56]", (again.err, index.asked[asked:]))
        without = run("one.yaml", target="unix:" + w.path, env=env)
        ok(without.rc != 0 or without.read("logs/a.stdout") == "demo\n", "what is there needs no flag", without.err)
        other = run(write("two", ["fsdemo==2.0"]), *args, target="unix:" + w.path, env=env)
        ok(other.rc == 0 and ("fsdemo", "2.0") in installed(other) and other.read("logs/a.stdout") == "demo two\n", "another lock installs anew [R56]", other.err)
        third = run("one.yaml", *args, target="unix:" + w.path, env=env)
        ok(third.rc == 0 and not installed(third) and third.read("logs/a.stdout") == "demo\n", "and the first environment is still its own [R56]", third.err)
    finally:
        index.close()
        w.stop()
    ok(not os.path.exists(w.dir + "/root"), "the environments go with their worker", os.listdir(w.dir))


def at_once():
    """Two sessions of one worker want the same while it is being installed."""
    w = Worker("twice")
    index = Index("more")
    index.gate.clear()
    p = write("twice", ["fsdemo==2.0"])
    try:
        both = [subprocess.Popen([FARSTEP, "run", "-q", "--run-dir", "runs", "--target", "unix:" + w.path, "--install-deps", "--env", "PIP_INDEX_URL=" + index.url, p],
                                 stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=dict(CLEAN, FARSTEP_TOKEN=TOKEN)) for _ in range(2)]
        wait_for("pip at its index", index.wheels)
        wait_for("the other to wait for it", lambda: sum("_deps.pip" in cmd for cmd in steps_of(w)) == 2)
        index.gate.set()
        err = [x.communicate(timeout=60)[1].decode() for x in both]
        ok([x.returncode for x in both] == [0, 0] and len(index.wheels()) == 2, "two sessions that want the same at once install it once", (err, index.asked))
    finally:
        index.close()
        w.stop()


def steps_of(w):
    """The environments of its running steps' leaders."""
    found = []
    for pid in descendants(w.p.pid):
        try:
            with open("/proc/%d/environ" % pid) as f, open("/proc/%d/cmdline" % pid) as c:
                if c.read().startswith("python3\0-c\0# SPDX"):
                    found.append([v for v in f.read().split("\0") if v.startswith("FARSTEP_STEP_ID=")][0])
        except (OSError, IndexError):
            pass
    return found


def spoilt():
    w = Worker("spoilt")
    env = dict(CLEAN, FARSTEP_TOKEN=TOKEN)
    try:
        p = write("spoilt", {"pip": ["fsdemo==1.0"], "wheels": "wheels"})
        run(p, "--install-deps", target="unix:" + w.path, env=env)
        cache = [d for d in os.listdir(w.dir + "/root/cache") if os.path.isdir(w.dir + "/root/cache/" + d)]
        subprocess.run("rm -rf %s/root/cache/%s/lib/*/site-packages/fsdemo*" % (w.dir, cache[0]), shell=True)
        r = run(p, "--install-deps", target="unix:" + w.path, env=env)
        ok(r.rc == 0 and len(installed(r)) == 2 and r.read("logs/a.stdout") == "demo\n", "an environment that a step has spoilt is made anew", r.err)
    finally:
        w.stop()


def odd_pythons():
    """Without the module venv, and without the package that compares versions."""
    os.makedirs("odd/bin", exist_ok=True)
    with open("odd/venv.py", "w") as f:
        f.write("raise ImportError('no venv here')\n")
    with open("odd/bin/python3", "w") as f:
        f.write("#!/bin/sh\nPYTHONPATH=%s${PYTHONPATH:+:$PYTHONPATH} exec /usr/bin/python3 \"$@\"\n" % os.path.abspath("odd"))
    os.chmod("odd/bin/python3", 0o755)
    r = run(write("odd", {"pip": ["fsdemo==1.0"], "wheels": "wheels"}), "--install-deps", "--env", "PATH=%s:/usr/bin:/bin" % os.path.abspath("odd/bin"), target="native")
    ok(r.rc == 0 and r.read("logs/a.stdout") == "demo\n" and "--target" in r.artifacts()["_deps.pip/install.log"].decode(), "a Python without venv gets a directory of its own", r.err)
    script = {"__name__": "script"}
    with open(os.environ["TOP"] + "/proxy/dependencies/pip.py") as f:
        exec(compile(f.read(), "pip.py", "exec"), script)
    cases = [("1.5.3", "==", "1.5.3", 1), ("1.5", "==", "1.5.0", 1), ("1.5.3", "==", "1.5.*", 1), ("1.53", "==", "1.5.*", 0), ("1.5.3", "!=", "1.5.*", 0), ("1.10", ">=", "1.9", 1),
             ("1.9", ">", "1.10", 0), ("2.3", "~=", "2.2", 1), ("3.0", "~=", "2.2", 0), ("2.2.9", "~=", "2.2.1", 1), ("2.3.0", "~=", "2.2.1", 0), ("2.1", "~=", "2.2", 0),
             ("1.0rc1", "==", "1.0rc1", 1), ("1.0rc1", ">=", "0.9", 0), ("1", "<", "2", 1), ("1", "<=", "1.0", 1), ("1.0", "===", "1", 0)]
    got = [int(script["compare_one"](*c[:3])) for c in cases]
    ok(got == [c[3] for c in cases], "without `packaging` plain versions are compared, and what is unclear counts as missing", [c for c, g in zip(cases, got) if c[3] != g])


def from_file():
    sha = hashlib.sha256(open("wheels/fsdemo-1.0-py3-none-any.whl", "rb").read()).hexdigest()
    dep = hashlib.sha256(open("wheels/fsdep-1.1-py3-none-any.whl", "rb").read()).hexdigest()
    os.makedirs("sub", exist_ok=True)
    shutil.copytree("wheels", "sub/wheels", dirs_exist_ok=True)
    with open("sub/lock.txt", "w") as f:
        f.write("# locked\nfsdemo==1.0 \\\n    --hash=sha256:%s\nfsdep==1.1 --hash=sha256:%s  # of fsdemo\n" % (sha, dep))
    p = write("sub/file", {"pip": "lock.txt", "wheels": "wheels"})
    r = run(p, "--install-deps")
    ok(r.rc == 0 and len(installed(r)) == 2, "requirements may stand in a file, hashes and all", r.err)
    files = [f["path"] for f in json.loads(r.read("package.json"))["files"]]
    ok("lock.txt" in files and "wheels/fsdemo-1.0-py3-none-any.whl" in files, "the file and the wheels travel by themselves", files)
    with open("sub/lock.txt", "w") as f:
        f.write("fsdemo==1.0 --hash=sha256:%s\nfsdep==1.1 --hash=sha256:%s\n" % (dep, dep))
    r = run(p, "--install-deps")
    ok(r.rc == 9 and "DO NOT MATCH" in r.artifacts()["_deps.pip/install.log"].decode(), "a package with another hash is refused", r.err)
    with open("sub/lock.txt", "w") as f:
        f.write("fsdemo==1.0\n--index-url http://x\nfsdep = 1\n")
    b = call("run", "--run-dir", "runs", p)
    ok(b.returncode == 2 and b"lock.txt:2: " in b.stderr and b"lock.txt:3: " in b.stderr, "every mistake in the file is told with its line", b.stderr.decode())
    b = call("prepare", write("gone", "nofile.txt"))
    ok(b.returncode == 2 and b"nofile.txt" in b.stderr, "a file that is not there is told by name", b.stderr.decode())


def extras():
    r = run(write("extra", {"pip": ["fsdemo[fast]==2.0; python_version >= '3'", "fsnever; python_version < '3'"], "wheels": "more"}), "--install-deps")
    ok(r.rc == 0 and r.read("logs/a.stdout") == "demo two\n", "extras and markers mean what they mean to pip", r.err)


def paths():
    p = write("paths", {"pip": ["fsdemo==1.0"], "wheels": "wheels"})
    doc = json.load(open(p))
    doc["steps"] = [shell("a", "command -v python3; echo $PATH", env={"PATH": "/usr/bin:/bin"}), shell("b", "python3 -c 'import fsdemo'; test -n \"$VIRTUAL_ENV\"")]
    json.dump(doc, open(p, "w"))
    r = run(p, "--install-deps")
    out = r.read("logs/a.stdout").split()
    ok(r.rc == 0 and len(out) == 2 and out[0].endswith("/bin/python3") and out[1] == os.path.dirname(out[0]) + ":/usr/bin:/bin",
       "a step that sets PATH keeps it behind the environment's", (r.err, out))


def survives():
    """The proxy is killed while pip waits for its index, and the next one goes on."""
    index = Index("more")
    index.gate.clear()
    os.makedirs("runs", exist_ok=True)
    before = set(os.listdir("runs"))
    try:
        proxy = subprocess.Popen([FARSTEP, "run", "-q", "--target", "native", "--run-dir", "runs", "--install-deps", "--env", "PIP_INDEX_URL=" + index.url,
                                  write("killed", ["fsdemo==2.0"])], stdin=subprocess.DEVNULL, env=CLEAN)
        d = wait_for("the run", lambda: new_run_dir("runs", before))
        wait_for("pip at its index", index.wheels)
        proxy.send_signal(signal.SIGKILL)
        proxy.wait()
        second = subprocess.Popen([FARSTEP, "attach", "--run-dir", "runs", os.path.basename(d)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
        wait_for("the second proxy", lambda: "reattached" in open(d + "/events.jsonl").read())
        index.gate.set()
        err = second.communicate(timeout=60)[1].decode()
        r = Run(second.returncode, "", err, d)
        ok(r.rc == 0 and r.read("logs/a.stdout") == "demo two\n", "who attaches while packages are installed goes on", err)
        ok(len([e for e in r.events("_deps.pip") if e["event"] == "step_start"]) == 1 and len(index.wheels()) == 2, "and they are installed once", index.asked)
    finally:
        index.close()


def attached_later():
    """The proxy is killed when everything is there: the environment is the same for who attaches."""
    before = set(os.listdir("runs"))
    p = write("later", {"pip": ["fsdemo==1.0"], "wheels": "wheels"}, "echo up; while [ ! -e $FARSTEP_CHECKPOINT_DIR/../go ]; do sleep 0.02; done; python3 -c 'import fsdemo; print(fsdemo.X)'")
    doc = json.load(open(p))
    doc["steps"].append(shell("b", "python3 -c 'import fsdemo; print(fsdemo.X)'"))
    json.dump(doc, open(p, "w"))
    proxy = subprocess.Popen([FARSTEP, "run", "-q", "--target", "native", "--run-dir", "runs", "--install-deps", p], stdin=subprocess.DEVNULL)
    d = wait_for("the run", lambda: new_run_dir("runs", before))
    wait_for("its step", lambda: os.path.exists(d + "/logs/a.stdout") and open(d + "/logs/a.stdout").read())
    proxy.send_signal(signal.SIGKILL)
    proxy.wait()
    os.rename("wheels", "wheels.away")
    second = subprocess.Popen([FARSTEP, "attach", "--run-dir", "runs", os.path.basename(d)], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE)
    wait_for("the second proxy", lambda: "reattached" in open(d + "/events.jsonl").read())
    os.rename("wheels.away", "wheels")
    go = subprocess.run(["find", d + "/sandbox", "-name", "checkpoints"], capture_output=True, text=True).stdout.strip()
    open(go + "/go", "w").close()
    err = second.communicate(timeout=60)[1].decode()
    r = Run(second.returncode, "", err, d)
    ok(r.rc == 0 and r.read("logs/a.stdout") == "up\ndemo\n" and r.read("logs/b.stdout") == "demo\n" and len(named(r, "dependency_check")) == 1,
       "who attaches later knows the environment and looks for nothing", err)
    ok([a["path"] for a in r.status["artifacts"]] == ["_deps.pip/report.json", "_deps.pip/install.log"] and call("verify", "--run-dir", "runs", r.id).returncode == 0,
       "and lists what came home before", r.status["artifacts"])


def interrupted():
    index = Index("more")
    index.gate.clear()
    before = set(os.listdir("runs"))
    try:
        proxy = subprocess.Popen([FARSTEP, "run", "-q", "--target", "native", "--run-dir", "runs", "--install-deps", "--env", "PIP_INDEX_URL=" + index.url,
                                  write("cut", ["fsdemo==2.0"])], stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, env=CLEAN)
        d = wait_for("the run", lambda: new_run_dir("runs", before))
        wait_for("pip at its index", index.wheels)
        pids = descendants(proxy.pid)
        proxy.send_signal(signal.SIGINT)
        proxy.communicate(timeout=30)
        r = Run(proxy.returncode, "", "", d)
        ok(r.rc == 130 and r.step == {"a": "skipped"}, "an interrupted installation ends the run with 130", (r.rc, r.status))
        ends = [e for e in r.events("_deps.pip") if e["event"] in ("step_failed", "step_complete")]
        ok(len(ends) == 1 and ends[0].get("status") == "cancelled", "it has an end of its own", r.events("_deps.pip"))
        ok(not [p for p in pids if lives(p)] and not os.path.exists(d + "/sandbox"), "nothing of it stays", pids)
    finally:
        index.close()


def prepared():
    p = write("prep", {"pip": ["fsdemo==1.0"], "wheels": "wheels"})
    made = call("prepare", p, "-o", "prep.json")
    before = set(os.listdir("runs"))
    b = call("execute", "--run-dir", "runs", "--install-deps", "prep.json")
    r = Run(b.returncode, "", b.stderr.decode(), new_run_dir("runs", before))
    ok(made.returncode == 0 and r.rc == 0 and len(installed(r)) == 2, "execute installs what was prepared", (made.stderr, r.err))


def npm():
    sentences = ["a missing Node package is named, exit 9", "npm installs with the flag, and require finds it", "one dependency_installed a Node package [R80]"]
    if not shutil.which("npm", path="/usr/bin:/bin:/usr/local/bin") or not shutil.which("node", path="/usr/bin:/bin:/usr/local/bin"):
        for s in sentences:
            skip(s, "there is no npm in /usr")
        return
    npm_tarball("vendor", "fsnode", "1.2.0", "module.exports = 'node demo';\n")
    script = "node -e 'console.log(require(\"fsnode\"))'"
    r = run(write("npm_missing", {"npm": ["fsnode@^1.0.0"]}, script))
    ok(r.rc == 9 and "fsnode@^1.0.0 (npm)" in r.err and "--install-deps" in r.err, sentences[0], r.err)
    r = run(write("npm", {"npm": ["fsnode@file:vendor/fsnode-1.2.0.tgz"], "pip": ["fsdemo==1.0"], "wheels": "wheels"}, script + "; python3 -c 'import fsdemo; print(fsdemo.X)'",
                  files=["vendor"]), "--install-deps", timeout=120)
    ok(r.rc == 0 and r.read("logs/a.stdout") == "node demo\ndemo\n", sentences[1], r.err + json.dumps([(k, v.decode()) for k, v in r.artifacts().items()]))
    ok(("fsnode", "1.2.0") in installed(r) and [e["duration_ms"] >= 0 for e in named(r, "dependency_installed") if e["tool"] == "npm"] == [True], sentences[2], installed(r))
    with open("package.json", "w") as f:
        json.dump({"dependencies": {"fsgone": "^1.0.0"}}, f)
    r = run(write("npm_file", {"npm": "package.json"}, script), "--install-deps", timeout=120)
    ok(r.rc == 9 and "npm could not install fsgone@^1.0.0" in r.err and "_deps.npm/install.log" in r.artifacts(), "an npm that fails ends the run with 9, its log is kept", r.err)


def elsewhere():
    sentence = "at E2B it is the same: missing packages are named, or installed"
    if not os.path.exists(MOCK):
        skip(sentence, "no mock cloud in this build")
        return
    with Cloud() as c:
        env = {k: v for k, v in c.env.items() if not k.lower().endswith("_proxy")}
        p = write("cloud", {"pip": ["fsdemo==1.0"], "wheels": "wheels"})
        named_only, r = run(p, target="e2b", env=env), run(p, "--e2b-install-deps", target="e2b", env=env)
        ok(named_only.rc == 9 and "fsdemo==1.0" in named_only.err and r.rc == 0 and len(installed(r)) == 2 and r.read("logs/a.stdout") == "demo\n",
           sentence, (named_only.err, r.err))


def door():
    """No index can be reached from the mock's sandboxes: pip asks it in vain for a moment, and finds what it needs in a directory."""
    sentence = "while packages are installed only the index's hosts are open, before and after it is what the user asked for [R146]"
    if not os.path.exists(MOCK):
        skip(sentence, "no mock cloud in this build")
        return
    options = ["--env", "PIP_INDEX_URL=https://index.example/simple", "--env", "PIP_EXTRA_INDEX_URL=https://more.example:8080/x", "--env", "PIP_FIND_LINKS=more",
               "--env", "PIP_RETRIES=2", "--env", "PIP_CONFIG_FILE=/dev/null"]

    def network(c):
        """Of the one sandbox that runs."""
        here = c.running()
        if len(here) != 1:
            return None
        q = urllib.request.Request(c.env["E2B_API_URL"] + "/sandboxes/" + here[0]["sandboxID"], headers={"X-API-Key": c.env["E2B_API_KEY"]})
        try:
            with urllib.request.urlopen(q) as f:
                d = json.load(f)
        except urllib.error.HTTPError:      # it has just gone
            return None
        return d["allowInternetAccess"], sorted((d.get("network") or {}).get("allowOut") or [])

    for user, own in (("off", []), ("own.example", ["own.example"])):
        with Cloud() as c:
            env = {k: v for k, v in c.env.items() if not k.lower().endswith("_proxy")}
            p = write("door", ["fsdemo==1.0"], "python3 -c 'import fsdemo; print(fsdemo.X)'; until test -e go; do sleep 0.05; done & sleep 1; kill $!", files=["more/*"])
            before = set(os.listdir("runs"))
            q = subprocess.Popen([FARSTEP, "run", "--e2b", "--run-dir", "runs", "--install-deps", "--network", user, *options, p], env=env, stdin=subprocess.DEVNULL,
                                 stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
            first = wait_for("its sandbox", lambda: network(c))
            opened = wait_for("the index's hosts", lambda: (lambda n: n and "index.example" in n[1] and n)(network(c)), 60)
            shut = wait_for("their end", lambda: (lambda n: n and "index.example" not in n[1] and n)(network(c)), 60)
            err = q.communicate(timeout=60)[1].decode()
            r = Run(q.returncode, "", err, new_run_dir("runs", before))
            ok(first == (False, own) and opened == (False, sorted(own + ["index.example", "more.example"])) and shut == (False, own), sentence + " (--network %s)" % user,
               (first, opened, shut, err))
            ok(r.rc == 0 and r.read("logs/a.stdout") == "demo\n" and len(installed(r)) == 2, "and the packages are there", (r.rc, err, r.read("logs/_deps.pip.stdout")))
            ok([e["hosts"] for e in named(r, "index_hosts")] == [["index.example", "more.example"]], "an event says which were opened", named(r, "index_hosts"))
    with Cloud() as c:
        env = {k: v for k, v in c.env.items() if not k.lower().endswith("_proxy")}
        r = run(write("there", ["pip"], "true"), "--install-deps", *options, target="e2b", env=env)
        ok(r.rc == 0 and not c.asked("PUT"), "where nothing is missing nothing is opened", (r.rc, r.err))
        r = run(write("none", ["fsnone"], "true", files=["more/*"]), "--install-deps", *options, target="e2b", env=env)
        ok(r.rc == 9 and "fsnone" in r.err and len(c.asked("PUT")) == 2, "also a pip that fails leaves nothing open", (r.rc, r.err, c.asked("PUT")))
        r = run(write("wide", ["fsdemo==1.0"], "true", files=["more/*"]), "--install-deps", "--network", "on", *options, target="e2b", env=env)
        ok(r.rc == 0 and len(c.asked("PUT")) == 2, "where the network is on nothing is changed", (r.rc, r.err))
        # The proxy is killed while they are open: who takes over goes on, and shuts them off.
        before = set(os.listdir("runs"))
        q = subprocess.Popen([FARSTEP, "run", "--e2b", "--run-dir", "runs", "--install-deps", *options, "door.yaml"], env=env, stdin=subprocess.DEVNULL,
                             stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("the index's hosts", lambda: (lambda n: n and "index.example" in n[1])(network(c)), 60)
        q.send_signal(signal.SIGKILL)
        q.wait()
        dir = new_run_dir("runs", before)
        a = subprocess.Popen([FARSTEP, "attach", "--run-dir", "runs", os.path.basename(dir)], env=env, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                             stderr=subprocess.PIPE)
        shut = wait_for("their end", lambda: (lambda n: n and "index.example" not in n[1] and n)(network(c)), 60)
        err = a.communicate(timeout=60)[1].decode()
        r = Run(a.returncode, "", err, dir)
        ok(r.rc == 0 and shut == (False, []) and r.read("logs/a.stdout") == "demo\n", "who takes over while they are open shuts them off", (r.rc, err, shut))
        ok(not c.running(), "no sandbox stays")


if subprocess.run([PYTHON, "-m", "pip", "--version"], capture_output=True).returncode != 0:
    missing_pip = "there is no pip for %s (make deps installs it)" % PYTHON
    print("1..0 # SKIP " + missing_pip)
    raise SystemExit(77)
os.makedirs("runs", exist_ok=True)
for part in (missing, with_flag, precedence, present, failing, variables, cached, at_once, spoilt, odd_pythons, from_file, extras, paths, survives, attached_later, interrupted, prepared, npm, elsewhere, door):
    part()
done()
