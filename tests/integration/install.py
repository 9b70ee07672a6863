#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""make install, and what was installed at work."""
import os
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
done()
