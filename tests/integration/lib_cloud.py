# SPDX-License-Identifier: Apache-2.0
"""The mock cloud as a child of a test: what it was asked, what it still runs."""
import json
import os
import subprocess
import time
import urllib.request

from lib_run import BUILD

MOCK = BUILD + "/farstep-mock-e2b"


class Cloud:
    def __init__(self, *args):
        self.log = os.path.abspath("cloud-%d.log" % time.monotonic_ns())
        self.p = subprocess.Popen([MOCK, "--print-env", "--with-parent", "--log", self.log, *args],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        lines = []
        while not lines or not lines[-1].startswith("E2B_DOMAIN"):
            line = self.p.stdout.readline()
            assert line, lines
            lines.append(line.strip())
        self.env = dict(os.environ, **dict(l.split("=", 1) for l in lines if l.startswith("E2B_")))

    def __enter__(self):
        return self

    def __exit__(self, *a):
        self.p.terminate()
        self.p.wait(30)
        self.p.stdin.close()
        self.p.stdout.close()

    def asked(self, method=None, path=""):
        if not os.path.exists(self.log):
            return []
        with open(self.log) as f:
            rows = [json.loads(l) for l in f]
        return [r for r in rows if method in (None, r["method"]) and r["path"].startswith(path)]

    def running(self):
        """What the cloud still has, asked without farstep."""
        r = urllib.request.Request(self.env["E2B_API_URL"] + "/v2/sandboxes", headers={"X-API-Key": self.env["E2B_API_KEY"]})
        with urllib.request.urlopen(r) as f:
            return json.load(f)
