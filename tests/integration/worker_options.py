#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What a worker is told on its command line holds in the process that serves."""
from lib_run import done, ok
from lib_ws import WS, Worker


def sessions():
    w = Worker("few", "--max-sessions", "1")
    first, second = WS(w.path), WS(w.path)
    ok("result" in first.open("one"), "--max-sessions 1 has room for one session")
    got = second.open("two")
    ok(got.get("error", {}).get("data", {}).get("class") == "busy", "and answers busy to the second", got)
    w.stop()


sessions()
done()
