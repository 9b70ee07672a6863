#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""A disk that fills under a step: it is ended and answered, by a receipt that says so, or as lost when
not even the record found room."""
import os
import subprocess
import sys

from lib_run import descendants, done, lives, ok, role
from lib_ws import WS, Worker, step

FILL = "head -c 8000000 /dev/zero; exec sleep 1000"
# What is refused is named in the receipt, which then does not fit beside the claim.
FIFOS = "for i in 1 2 3 4 5 6 7 8; do mkfifo $FARSTEP_ARTIFACTS_DIR/$i'%s'; done; " % ('"' * 170)

root = os.path.abspath("w/root")
os.makedirs(root)
small = ["unshare", "-m" if os.geteuid() == 0 else "-rm", "sh", "-c",
         'mount -t tmpfs -o size=2m none "$0" && exec "$@"', root]
if subprocess.run([*small, "true"], capture_output=True).returncode != 0:
    print("# no file system of one's own can be mounted here")
    sys.exit(77)
w = Worker("w", before=small)


def ends(session, script):
    """The answer to a step on a full disk, its keeper's process, and what that had under it."""
    c = WS(w.path)
    c.open(session)
    rid = c.send("step.execute", step("fills", script, timeout_ms=3000, grace_ms=100))
    c.message(lambda m: m.get("method") == "event" and m["params"]["event"] == "step_start")
    busy = [p for p in descendants(w.p.pid) if role(p) == "keeper" and descendants(p)]
    under = [q for p in busy for q in descendants(p)]
    got = c.message(lambda m: m.get("id") == rid)["result"]
    left = [p for p in under if lives(p)]
    c.call("session.close", {})
    return got, left


got, left = ends("said", FILL)
ok(got["status"] == "error" and "stdout could not be kept" in got["error"] and got["receipt"],
   "a step whose output finds no room is ended, and its receipt says why", got)
ok(not left, "and nothing of it runs on", left)
got, left = ends("lost", FIFOS + FILL)
ok(got["status"] == "lost" and "without a record" in got["error"] and got["receipt"] is None,
   "where not even the record finds room the step is lost, with evidence", got)
ok(not left, "and nothing of it runs on either", left)
ok(w.stop() == 0, "the worker goes on, and ends as always")
done()
