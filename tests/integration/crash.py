#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A process that dies of a fault leaves its backtrace as an artifact, where the step asked for it."""
import ctypes
import os
import platform
import re
import signal
import struct
import subprocess
import sys

from lib_run import FARSTEP, Run, call, descendants, done, new_run_dir, ok, pipeline, role, run, shell, wait_for

SOURCE = r"""
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile int zero;

__attribute__((noinline)) void inner(char *p) { *(volatile char *)p = 1; __asm__(""); }
__attribute__((noinline)) void middle(char *p) { inner(p); __asm__(""); }
__attribute__((noinline)) void outer(char *p) { middle(p); __asm__(""); }
__attribute__((noinline)) void gives_up(void) { abort(); }
__attribute__((noinline)) int divides(int n) { return n / zero; }
__attribute__((noinline)) int falls(volatile char *p) { volatile char room[1000]; room[0] = *p; return falls(room) + room[0]; }
static void *in_thread(void *p) { outer(p); return NULL; }
static void caught(int sig) { (void)sig; _exit(7); }

int main(int argc, char **argv)
{
	const char *how = argc > 1 ? argv[1] : "";
	pthread_t t;

	if (!strcmp(how, "segv")) outer((char *)8);
	if (!strcmp(how, "abort")) gives_up();
	if (!strcmp(how, "fpe")) return divides(10);
	if (!strcmp(how, "overflow")) return falls("x");
	if (!strcmp(how, "caught")) { signal(SIGSEGV, caught); outer((char *)8); }
	if (!strcmp(how, "ignored")) { signal(SIGQUIT, SIG_IGN); raise(SIGQUIT); return 0; }
	if (!strcmp(how, "thread")) { pthread_create(&t, NULL, in_thread, (char *)8); pthread_join(t, NULL); }
	return 0;
}
"""


def build(name, *flags):
    subprocess.run(["gcc", "-g", "-pthread", "-o", name, *flags, "c.c"], check=True)


def reports(r, step):
    return [v.decode() for k, v in sorted(r.artifacts().items()) if k.startswith(step + "/crash.") and re.fullmatch(r"crash\.\d+\.txt", k.split("/")[1])]


def names(text, program):
    """The functions of the program on the stack, first to last, with how they were found."""
    found = []
    for guess, offset in re.findall(r"#\d+ *(\??) 0x[0-9a-f]+ %s\+0x([0-9a-f]+)" % re.escape(program), text):
        # A return address is behind its call, which may be the last instruction of its function.
        at = int(offset, 16) - (1 if found or "#0 " not in text.split(offset)[0].rsplit("\n", 1)[-1] else 0)
        out = subprocess.run(["addr2line", "-f", "-e", program, hex(at)], capture_output=True, text=True).stdout
        found.append((out.split("\n")[0], guess))
    return found


def in_order(wanted, found):
    it = iter(n for n, _ in found)
    return all(w in it for w in wanted)


def crash(id, argv, **more):
    return dict({"id": id, "driver": "exec", "needs": [], "backtrace": True, "config": {"argv": argv}}, **more)


def faults(target):
    on = " (%s)" % target
    r = run(pipeline("faults", [
        crash("segv", ["./fp", "segv"]),
        crash("abort", ["./fp", "abort"]),
        crash("fpe", ["./fp", "fpe"]),
        crash("thread", ["./fp", "thread"]),
        crash("nofp", ["./nofp", "segv"]),
        crash("fixed", ["./fixed", "segv"]),
        crash("overflow", ["./fp", "overflow"]),
        crash("caught", ["./fp", "caught"]),
        crash("ignored", ["./fp", "ignored"]),
        crash("signal", ["sh", "-c", "kill -TERM $$"]),
        shell("child", "./fp segv || echo $?", backtrace=True),
        shell("pipe", "./fp segv arg 'two words' | cat", backtrace=True),
        shell("without", "./fp segv"),
    ], ["fp", "nofp", "fixed"]), target=target)
    got = {s["id"]: reports(r, s["id"]) for s in r.status["steps"]}
    failed = {e["step_id"]: e for e in r.events() if e["event"] == "step_failed"}
    t = (got["segv"] or [""])[0]
    ok(len(got["segv"]) == 1 and "signal:  11 (" in t and "address: 0x8\n" in t and "command: ./fp segv\n" in t and "registers:" in t,
       "a native crash leaves signal, address, command line and registers as an artifact [R153]" + on, t)
    chain = names(t, "fp")
    ok([n for n in chain if n[1] == ""][:4] == [("inner", ""), ("middle", ""), ("outer", ""), ("main", "")],
       "its stack names the functions, the innermost first [R153]" + on, (chain, t))
    ok(failed["segv"]["signal"] == 11 and re.search(r"see crash\.\d+\.txt$", failed["segv"]["error"]), "the receipt names signal and file [R153]" + on, failed["segv"])
    t = (got["abort"] or [""])[0]
    ok("signal:  6 (" in t and in_order(["gives_up", "main"], names(t, "fp")), "abort() is found through the library" + on, t)
    t = (got["fpe"] or [""])[0]
    ok("signal:  8 (" in t and "divided by zero" in t and in_order(["divides", "main"], names(t, "fp")), "a division by zero is told as one" + on, t)
    t = (got["thread"] or [""])[0]
    ok(", thread " in t and in_order(["inner", "middle", "outer", "in_thread"], names(t, "fp")), "the stack is that of the thread that fell" + on, t)
    t = (got["nofp"] or [""])[0]
    ok(in_order(["inner", "middle", "outer", "main"], names(t, "nofp")) and ("middle", "?") in names(t, "nofp"), "without frame pointers callers are found by searching, marked as guesses" + on, t)
    t = (got["fixed"] or [""])[0]
    ok(in_order(["inner", "middle", "outer", "main"], names(t, "fixed")), "a static program at a fixed place is named by its own addresses" + on, t)
    t = (got["overflow"] or [""])[0]
    ok(t.count("\n  #") == 64 and len(t) <= 65536, "endless recursion gives 64 frames" + on, t[-3000:])
    ok(got["caught"] == [] and failed["caught"]["exit_code"] == 7 and got["ignored"] == [] and r.step["ignored"] == "success",
       "a program that handles or ignores the signal itself is left alone" + on, (failed.get("caught"), got["caught"]))
    ok(got["signal"] == [] and failed["signal"]["error"] == "ended by signal 15 (Terminated)", "other signals leave nothing" + on, failed["signal"])
    t = (got["child"] or [""])[0]
    ok(r.step["child"] == "success" and r.read("logs/child.stdout") == "139\n" and "command: ./fp segv\n" in t, "a child of the step leaves its own, whatever becomes of the step" + on, (r.step["child"], t))
    t = (got["pipe"] or [""])[0]
    ok(r.step["pipe"] == "success" and "command: ./fp segv arg two words\n" in t and "PATH=" not in t, "in a pipe too; with arguments, without environment" + on, t)
    ok(got["without"] == [] and r.step["without"] == "error" and failed["without"]["error"] == "exit code 139", "without the key there is none" + on, failed["without"])
    ok(call("verify", "--run-dir", "runs", r.id).returncode == 0, "receipts verify" + on)


def nothing_changes(target):
    """What steps do with signals, stops and processes is the same with and without."""
    on = " (%s)" % target
    scripts = {
        "traps": "trap 'echo usr; exit 3' USR1; kill -USR1 $$; echo never",
        "stops": "(while :; do echo x; sleep 0.01; done) >$FARSTEP_OUTPUT_DIR/n & p=$!; sleep 0.2; kill -STOP $p; sleep 0.1; a=$(wc -l <$FARSTEP_OUTPUT_DIR/n); sleep 0.2; b=$(wc -l <$FARSTEP_OUTPUT_DIR/n); "
                 "kill -CONT $p; sleep 0.2; c=$(wc -l <$FARSTEP_OUTPUT_DIR/n); kill $p; wait $p || echo $?; [ $a = $b ] && [ $c -gt $b ] && echo stopped and went on",
        "jobs": "for i in 1 2 3 4 5 6 7 8 9 10; do (exit $i) & done; wait; echo all; seq 100 | xargs -P4 -n1 sh -c 'exit 0'; echo $?",
        "daemon": "setsid sleep 70153 & (setsid sleep 70154 &) ; echo started",
        "term": "trap 'echo got it; exit 0' TERM; sleep 100 & wait",
        "forks": "while :; do (sleep 70155 &) ; done",
    }
    timeouts = {"term": 1, "forks": 1}
    steps = [shell(n + s, t, **dict({"backtrace": True} if s else {}, **({"timeout": timeouts[n], "grace": 2} if n in timeouts else {})))
             for n, t in scripts.items() for s in ("", "-traced")]
    r = run(pipeline("same", steps), target=target, timeout=100)
    for n in scripts:
        a, b = (dict(ended(r, n + s)) for s in ("", "-traced"))
        same = r.read("logs/%s.stdout" % n) == r.read("logs/%s-traced.stdout" % n)
        if n == "forks": # how many there were is chance; that none is left is not
            a.pop("leftovers"), b.pop("leftovers")
        ok(a == b and same, "'%s' ends the same with backtrace" % n + on, (a, b, r.read("logs/%s-traced.stdout" % n)))
    ok("stopped and went on" in r.read("logs/stops-traced.stdout"), "a stopped process stays stopped until it is continued" + on, r.read("logs/stops-traced.stdout"))
    ok(not subprocess.run(["pgrep", "-fx", "sleep 7015[345]"], capture_output=True).stdout, "nothing is left running" + on)


def ended(r, step):
    import json
    for line in r.read("receipts.jsonl").splitlines():
        x = json.loads(json.loads(line)["receipt"])
        if x["step"] == step:
            return {"status": x["status"], "exit": x["exit"], "error": x["error"], "leftovers": x["leftovers"]}
    return {}


def replaced():
    """The keeper traces, so a new worker changes nothing."""
    p = pipeline("replaced", [shell("a", "echo up; while [ ! -e $FARSTEP_CHECKPOINT_DIR/go ]; do sleep 0.01; done; ./fp segv", backtrace=True)], ["fp"])
    before = set(os.listdir("runs"))
    proxy = subprocess.Popen([FARSTEP, "run", "-q", "--target", "native", "--run-dir", "runs", p], stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    d = wait_for("the run", lambda: new_run_dir("runs", before))
    wait_for("its step", lambda: os.path.exists(d + "/logs/a.stdout") and open(d + "/logs/a.stdout").read())
    mine = "sessions/" + os.path.basename(d)
    worker = [q for q in descendants(1) if role(q) == "worker" and os.path.basename(d) in open("/proc/%d/cmdline" % q).read()]
    ok(len(worker) == 1, "there is one worker", worker)
    os.kill(worker[0], signal.SIGKILL)
    open("%s/sandbox/root/%s/checkpoints/a/go" % (d, mine), "w").close()
    rc = proxy.wait(60)
    r = Run(rc, "", "", d)
    ok(rc == 1 and any(e["event"] == "worker_restarted" for e in r.events()) and len(reports(r, "a")) == 1, "a crash under a worker that was replaced leaves its backtrace", (rc, r.events("a")))


def bounds():
    r = run(pipeline("bounds", [shell("many", "i=0; while [ $i -lt 20 ]; do ./fp segv || i=$((i+1)); done; exit 1", backtrace=True)], ["fp"]), "-q", target="native")
    ok(len(reports(r, "many")) == 16, "the first sixteen of twenty crashes are written", len(reports(r, "many")))
    failed = {e["step_id"]: e["error"] for e in r.events() if e["event"] == "step_failed"}
    ok(re.fullmatch(r"exit code 1; see crash\.\d+\.txt and others", failed["many"]), "the error names the first", failed["many"])
    r = run(pipeline("gone", [shell("gone", "rm -r $FARSTEP_ARTIFACTS_DIR; ./fp segv", backtrace=True)], ["fp"]), "-q", target="native")
    failed = [e["error"] for e in r.events() if e["event"] == "step_failed"]
    ok(failed == ["exit code 139"], "a report that cannot be written names no file", failed)
    bad = call("run", "--run-dir", "no", pipeline("bad", [shell("a", "true", backtrace=1)]))
    ok(bad.returncode == 2 and b"backtrace: want true or false" in bad.stderr, "backtrace is true or false", bad.stderr)


def refused():
    # Who may not be read may not be traced: this shows when the step is under way.
    r = run(pipeline("unreadable", [shell("hide", "chmod 111 fp"), crash("runs", ["./fp", "segv"], needs=["hide"])], ["fp"]), target="local")
    logs = [e["message"] for e in r.events("runs") if e["event"] == "log"]
    ok(r.step["runs"] == "error" and not reports(r, "runs") and len(logs) == 1 and "cannot be traced" in logs[0], "a program that cannot be traced runs on, and a warning says so", (logs, r.err))
    # LeakSanitizer, where it is built in, wants to trace, too.
    env = dict(os.environ, ASAN_OPTIONS=os.environ.get("ASAN_OPTIONS", "") + ":detect_leaks=0")
    nr = {"x86_64": 101, "aarch64": 117}.get(platform.machine())
    r = run(pipeline("refused", [crash("a", ["true"])]), target="native", preexec_fn=lambda: forbid(nr), env=env)
    ev = [e["event"] for e in r.events("a")]
    ok(r.rc == 10 and "backtrace: this sandbox does not let a process be traced" in r.err and "step_start" not in ev, "where the system refuses, the step is refused by name before it starts: exit 10", (r.rc, r.err, ev))
    r = run(pipeline("allowed", [shell("a", "true")]), target="native", preexec_fn=lambda: forbid(nr), env=env)
    ok(r.rc == 0, "steps without the key run there", r.err)


def forbid(nr):
    """A seccomp filter that answers one system call with EPERM."""
    code = b"".join(struct.pack("HBBI", *i) for i in ((0x20, 0, 0, 0), (0x15, 0, 1, nr), (0x06, 0, 0, 0x00050001), (0x06, 0, 0, 0x7fff0000)))
    mem = ctypes.create_string_buffer(code)
    prog = struct.pack("HxxxxxxP", 4, ctypes.addressof(mem))
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(38, 1, 0, 0, 0) or libc.prctl(22, 2, prog, 0, 0):
        os._exit(99)


with open("c.c", "w") as f:
    f.write(SOURCE)
build("fp", "-O0", "-fno-omit-frame-pointer")
build("nofp", "-O2", "-fomit-frame-pointer")
build("fixed", "-O0", "-fno-omit-frame-pointer", "-static", "-no-pie")
if platform.machine() not in ("x86_64", "aarch64"):
    print("# backtraces are for x86_64 and aarch64")
    sys.exit(77)
for t in ("local", "native"):
    faults(t)
    nothing_changes(t)
replaced()
bounds()
refused()
done()
