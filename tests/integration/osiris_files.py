#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Pipelines in the formats of Osiris run like farstep's own."""
import json
import os
import signal
import subprocess

from lib_run import FARSTEP, Run, call, done, new_run_dir, ok, run, wait_for

OML = """\
oml_version: "0.1.0"
name: totals
params:
  greeting: {default: hello}
steps:
  - id: extract
    component: shell
    mode: read
    config: {script: "echo ${params.greeting} world > $FARSTEP_OUTPUT_DIR/words; touch $FARSTEP_ARTIFACTS_DIR/extract"}
  - id: count
    component: exec
    mode: transform
    config: {argv: [sh, -c, "wc -w < $FARSTEP_INPUT_EXTRACT/words"]}
  - id: write
    component: shell
    mode: write
    needs: [extract, count]
    config: {script: "cp $FARSTEP_INPUT_EXTRACT/words $FARSTEP_ARTIFACTS_DIR/words.txt"}
"""
STEPS = [("extract", "shell", [], {"component": "shell", "mode": "extract", "script": "echo hello world > $FARSTEP_OUTPUT_DIR/words; touch $FARSTEP_ARTIFACTS_DIR/extract"}),
         ("count", "exec", ["extract"], {"component": "exec", "mode": "transform", "argv": ["sh", "-c", "wc -w < $FARSTEP_INPUT_EXTRACT/words"]}),
         ("write", "shell", ["extract", "count"], {"component": "shell", "mode": "write", "script": "cp $FARSTEP_INPUT_EXTRACT/words $FARSTEP_ARTIFACTS_DIR/words.txt"})]


def write(path, text):
    os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
    with open(path, "w") as f:
        f.write(text)
    return path


def compiled(where, steps):
    text = "---\nmeta:\n  oml_version: 0.1.0\n  run_id: ${run_id}\nname: totals\npipeline:\n  fingerprints: {}\n  id: totals\n  version: 0.1.0\nsteps:\n"
    for id, driver, needs, cfg in steps:
        text += "- cfg_path: cfg/%s.json\n  component: %s\n  driver: %s\n  id: %s\n  needs: %s\n" % (id, driver, driver, id, json.dumps(needs))
        write("%s/cfg/%s.json" % (where, id), json.dumps(cfg, sort_keys=True, separators=(",", ":")))
    return write(where + "/manifest.yaml", text + "...\n")


def runs():
    manifest = compiled("build", STEPS)
    for target in ("local", "native"):
        on = " (%s)" % target
        r = run(write("oml/totals.yaml", OML), target=target)
        ok(r.rc == 0 and r.step == {"extract": "success", "count": "success", "write": "success"}, "an OML pipeline is run by its name on the command line [R77]" + on, r.err)
        ok(r.read("logs/count.stdout").strip() == "2" and r.artifacts()["write/words.txt"] == b"hello world\n",
           "its steps get what the steps before them made, and artifacts come home" + on, r.artifacts())
        m = run(manifest, target=target)
        ok(m.rc == 0 and m.artifacts() == r.artifacts() and m.read("logs/count.stdout") == r.read("logs/count.stdout"), "its compiled manifest does the same [R77]" + on, m.err)
        same = lambda x: [(e["event"], e.get("step_id")) for e in x.events() if e["event"].startswith("step")]
        ok(same(m) == same(r), "with the same events" + on, (same(m), same(r)))
    ok(call("verify", "--run-dir", "runs", r.id).returncode == 0, "its receipts verify")
    r = run("oml/totals.yaml", target="native", env=dict(os.environ, OSIRIS_PARAM_GREETING="bye"))
    ok(r.artifacts()["write/words.txt"] == b"bye world\n", "OSIRIS_PARAM_ variables set parameters")
    p = call("prepare", "oml/totals.yaml", "-o", "prepared.json")
    q = call("execute", "--target", "native", "--run-dir", "phased", "prepared.json")
    ok((p.returncode, q.returncode) == (0, 0), "prepare and execute take it apart", (p, q))


def refused():
    p = call("run", "--run-dir", "no", "no/such.yaml")
    ok(p.returncode == 2 and b"no/such.yaml" in p.stderr, "a pipeline that is not there is exit 2 [R77]", p)
    compiled("broken", STEPS)
    os.remove("broken/cfg/extract.json")
    os.remove("broken/cfg/write.json")
    p = call("run", "--run-dir", "no", "broken/manifest.yaml")
    ok(p.returncode == 2 and b"cfg/extract.json" in p.stderr and b"cfg/write.json" in p.stderr and b"broken/" in p.stderr,
       "cfg files that are missing are all named, with where they should be: exit 2 [R77]", p)
    write("unknown.yaml", OML.replace("component: shell", "component: filesystem.csv_extractor"))
    p = call("run", "--run-dir", "no", "unknown.yaml")
    ok(p.returncode == 2 and b"unknown.yaml:7:" in p.stderr and b"unknown.yaml:15:" in p.stderr and b"unknown driver 'filesystem.csv_extractor' (offered: shell, exec" in p.stderr,
       "components that nobody offers are mistakes of the file, with their lines", p)
    write("connection.yaml", OML.replace("config: {script:", "config: {connection: '@mysql.main', script:"))
    p = call("run", "--run-dir", "no", "connection.yaml")
    ok(p.returncode == 10 and b"connection '@mysql.main': not built yet" in p.stderr, "connections are refused by name: exit 10", p)
    ok(not os.path.exists("no"), "a file with mistakes starts nothing")


def attach():
    """The plan is in the run directory: neither the file nor the parameter is needed any more."""
    before = set(os.listdir("runs"))
    write("gone/slow.yaml", "oml_version: '0.1.0'\nname: slow\nparams: {t: 0}\nsteps:\n"
          "  - {id: a, component: shell, mode: read, config: {script: 'echo up; sleep ${params.t}'}}\n"
          "  - {id: b, component: shell, mode: read, config: {script: 'echo ${params.t}'}}\n")
    proxy = subprocess.Popen([FARSTEP, "run", "-q", "--target", "native", "--run-dir", "runs", "gone/slow.yaml"], stdin=subprocess.DEVNULL, env=dict(os.environ, OSIRIS_PARAM_T="0.7"))
    d = wait_for("the run", lambda: new_run_dir("runs", before))
    wait_for("its first step", lambda: os.path.exists(d + "/logs/a.stdout") and open(d + "/logs/a.stdout").read())
    proxy.send_signal(signal.SIGKILL)
    proxy.wait()
    os.remove("gone/slow.yaml")
    p = call("attach", "--run-dir", "runs", os.path.basename(d))
    r = Run(p.returncode, "", p.stderr.decode(), d)
    ok(r.rc == 0 and r.read("logs/b.stdout") == "0.7\n", "attach goes on without the file and without the parameter's variable", r.err)


runs()
refused()
attach()
done()
