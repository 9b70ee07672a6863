#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Runs see nothing of one another: at the same time in sandboxes of their own, one after the other in one worker."""
import os
import subprocess

from lib_run import FARSTEP, Run, call, descendants, done, lives, new_run_dir, ok, pipeline, run, shell, wait_for
from lib_ws import TOKEN, Worker

# What a step sees: its directories, its environment, every process, every file it may find by a relative path.
LOOK = """pwd > $FARSTEP_ARTIFACTS_DIR/dirs; echo "$HOME $TMPDIR $FARSTEP_OUTPUT_DIR $FARSTEP_ARTIFACTS_DIR" >> $FARSTEP_ARTIFACTS_DIR/dirs
env > $FARSTEP_ARTIFACTS_DIR/env
cat /proc/[0-9]*/cmdline 2>/dev/null | tr '\\000' ' ' > $FARSTEP_ARTIFACTS_DIR/processes || true
ls -AR . "$HOME" "$TMPDIR" > $FARSTEP_ARTIFACTS_DIR/files"""


def leave(mark):
    """Leaves what could be found: files, a process with a telling name, in a session of its own."""
    return "for d in . \"$HOME\" \"$TMPDIR\" \"$FARSTEP_OUTPUT_DIR\"; do echo secret > \"$d/file-of-%s\"; done; " % mark + \
           "cp /bin/sleep \"$TMPDIR/process-of-%s\"; setsid \"$TMPDIR/process-of-%s\" 1000 > /dev/null 2>&1 3>&1 &\n" % (mark, mark)


def seen(r):
    return {k.split("/")[1]: v.decode(errors="replace") for k, v in r.artifacts().items()}


def at_once():
    """Both have left what they leave before either looks, because each waits for a word from outside."""
    procs = {}
    for mark in ("one", "two"):
        p = pipeline("at-once-" + mark, [shell("s", leave(mark) + "sleep 2\n" + LOOK)])
        os.makedirs("runs-" + mark)
        procs[mark] = subprocess.Popen([FARSTEP, "run", "-q", "--target", "local", "--run-dir", "runs-" + mark, "--env", "VALUE_OF_%s=%s" % (mark.upper(), mark), p],
                                       stdin=subprocess.DEVNULL, stderr=open(mark + ".err", "wb"))
    dirs = {m: wait_for("a run", lambda: new_run_dir("runs-" + m, set())) for m in procs}
    started = {}
    for m, d in dirs.items():
        wait_for("a step", lambda: os.path.exists(d + "/events.jsonl") and b'"step_start"' in open(d + "/events.jsonl", "rb").read())
        started[m] = procs[m].poll() is None
    rcs = {m: p.wait(60) for m, p in procs.items()}
    ok(all(started.values()) and not any(rcs.values()), "two runs go on at the same time", (started, rcs))
    a, b = (seen(Run(rcs[m], "", "", dirs[m])) for m in ("one", "two"))
    ok("VALUE_OF_ONE=one" in a["env"] and "process-of-one" in a["processes"] and "file-of-one" in a["files"], "each sees what is its own", a)
    strange = [(k, m) for m, x in (("two", a), ("one", b)) for k in x if "of-" + m in x[k] or "OF_" + m.upper() in x[k] or dirs[m].split("/")[-1] in x[k]]
    ok(not strange, "and neither sees directories, files, environment or processes of the other [R59]", strange)


def one_after_the_other():
    w = Worker("w")
    env = dict(os.environ, FARSTEP_TOKEN=TOKEN)
    at = "unix:" + w.path
    first = run(pipeline("first", [shell("s", leave("one") + LOOK)]), "--env", "VALUE_OF_ONE=one", "--pass-env", "PASSED", target=at,
                env=dict(env, PASSED="PASSED_OF_ONE"))
    a = seen(first)
    ok(first.rc == 0 and "file-of-one" in a["files"] and "PASSED_OF_ONE" in a["env"], "the first run leaves files and a process", (first.err, a))
    second = run(pipeline("second", [shell("s", LOOK)]), target=at, env=env)
    b = seen(second)
    strange = [k for k in b if "of-one" in b[k] or "OF_ONE" in b[k] or first.id in b[k]]
    ok(second.rc == 0 and not strange, "the second, in the same worker, sees no file, variable or process of it [R60]", (second.err, strange))
    ok(a["dirs"] != b["dirs"], "and works in directories of its own", b["dirs"])
    p = call("exec", "--target", at, "--", "sh", "-c", leave("three"), env=env)
    ok(p.returncode == 0, "exec runs there as well", p)
    try:
        wait_for("the sessions to be gone", lambda: not os.listdir(w.dir + "/root/sessions"), 10)
        gone = True
    except SystemExit:
        gone = False
    ok(gone, "no run and no exec leaves its session's files behind in a worker that stays", os.listdir(w.dir + "/root/sessions"))
    def more():
        return [p for p in descendants(w.p.pid) if lives(p)]
    try:
        wait_for("the keepers to end", lambda: len(more()) == 1, 10)
    except SystemExit:
        pass
    ok(len(more()) == 1, "nor a process [R193]", more())
    ok(w.stop() == 0, "the worker ends cleanly")


at_once()
one_after_the_other()
done()
