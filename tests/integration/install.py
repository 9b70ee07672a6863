#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make install, and what was installed at work."""
import hashlib
import json
import os
import re
import shutil
import subprocess

from lib_run import BUILD, done, ok

TOP = os.environ["TOP"]
kind = os.path.relpath(BUILD, TOP)
root = os.path.abspath("root")
p = subprocess.run(["make", "-C", TOP, "-o", "all", "install", "O=" + kind, "DESTDIR=" + root, "PREFIX=/usr"], capture_output=True, text=True)
ok(p.returncode == 0, "make install puts everything in its place", p.stderr)
farstep = root + "/usr/bin/farstep"
env = {"PATH": os.environ["PATH"], "HOME": os.environ["HOME"]}
p = subprocess.run([farstep, "exec", "--target", "native", "--", "echo", "installed"], capture_output=True, env=env, stdin=subprocess.DEVNULL, timeout=60)
ok(p.returncode == 0 and p.stdout == b"installed\n", "the installed farstep finds its worker", p)
p = subprocess.run([farstep, "template", "build", "farstep-base", "--dry-run"], capture_output=True, env=env, timeout=60)
ok(p.returncode == 0 and b"farstep-base" in p.stdout, "and its templates", p)
for name in ("farstep", "farstep-worker"):
    page = root + "/usr/share/man/man1/%s.1" % name
    with open(page) as f:
        text = f.read().replace("\\-", "-")
    said = subprocess.run([BUILD + "/" + name, "--help"], capture_output=True, text=True).stdout
    if name == "farstep":
        for c in re.findall(r"^  ([a-z]+) ", said.split("\n\n")[2], re.M):
            said += subprocess.run([BUILD + "/" + name, c, "--help"], capture_output=True, text=True).stdout
    lost = [o for o in set(re.findall(r"^  (--?[a-z0-9-]+)", said, re.M)) if not re.search(r"(^|[ B])%s(?![a-z-])" % re.escape(o), text, re.M)]
    ok(len(text) > 2000 and not lost, "the man page of %s has every option of its help" % name, lost)
    if shutil.which("groff"):
        p = subprocess.run(["groff", "-man", "-Tutf8", "-ww", page], capture_output=True, text=True)
        ok(p.returncode == 0 and not p.stderr and len(p.stdout) > 2000, "and can be read", p.stderr)
    else:
        print("ok - and can be read # SKIP there is no groff here")

with open(root + "/usr/share/farstep/sbom.cdx.json") as f:
    bom = json.load(f)
part = {c["name"]: c for c in bom["components"]}
inside = {d["ref"]: set(d["dependsOn"]) for d in bom["dependencies"]}


def digest(path):
    with open(path, "rb") as f:
        return hashlib.sha256(f.read()).hexdigest()


ok(set(inside) == {"farstep", "farstep-worker"} and part["farstep"]["hashes"][0]["content"] == digest(farstep) and
   part["farstep-worker"]["hashes"][0]["content"] == digest(root + "/usr/lib/farstep/farstep-worker"), "a bill of materials names both programs by their digests", bom)
ok({"libwebsockets", "cjson", "libarchive", "libzstd", "nettle"} <= inside["farstep-worker"] and all(part[p]["version"] for p in set().union(*inside.values())),
   "and the libraries inside with their versions", inside)
with open(TOP + "/.ci/deps.lock") as f:
    locked = {tuple(l.split()[:2]) for l in f if l[0] != "#"}
ok(all((p, part[p]["version"]) in locked for p in set().union(*inside.values()) - {"musl"}), "which are those that are locked", locked)
props = {(p["name"], p["value"]) for p in part["farstep-worker"]["properties"]}
if "san" not in kind:
    ok(props == {("farstep:linked", "static")}, "the worker is static and needs nothing beside itself [R163]", props)
done()
