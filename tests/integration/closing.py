#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 120
"""A session that leaves very many files: others go on while they are removed, and what was under way in
the session is answered first."""
import os
import time

from lib_run import done, ok
from lib_ws import WS, Worker, step

w = Worker("w")
big, other = WS(w.path), WS(w.path)
big.open("big")
other.open("other")
got = big.call("step.execute", step("fill", "mkdir d e; seq 40000 | sed s,^,d/, | xargs touch; seq 40000 | sed s,^,e/, | xargs touch"))
ok(got["result"]["status"] == "success" and os.path.isdir(w.dir + "/root/sessions/big/work/e"), "a step leaves 80,000 files", got)

big.send("package.load", {"sha256": "0" * 64, "size": "5", "channel": 7})
sent = big.send("session.close", {})
big.s.setblocking(False)
slowest, answers, closed, upload = 0, 0, None, None
big.buf = b""
while closed is None:
    before = time.monotonic()
    other.call("status.get", {})
    slowest = max(slowest, time.monotonic() - before)
    answers += 1
    try:
        big.buf += big.s.recv(65536)
    except BlockingIOError:
        continue
    if b'"leftovers"' in big.buf:
        closed = time.monotonic()
big.s.setblocking(True)
big.s.settimeout(15)
upload = big.message(lambda m: m.get("error", {}).get("data", {}).get("class") == "cancelled")
ok("session ended" in upload["error"]["message"], "an upload under way is answered: the session ended", upload)
ok("leftovers" in big.message(lambda m: m.get("id") == sent)["result"], "then the session's end")
ok(big.close_code() == 4006, "and its connection is closed")
ok(not os.path.exists(w.dir + "/root/sessions/big"), "nothing of it is left by then")
ok(answers >= 4, "another session was answered meanwhile", (answers, slowest))
print("# %d answers, the slowest in %.0f ms" % (answers, slowest * 1000))
ok(other.call("step.execute", step("goes", "true"))["result"]["status"] == "success", "and goes on")
ok(w.stop() == 0, "the worker ends as always")
done()
