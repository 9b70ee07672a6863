# SPDX-License-Identifier: Apache-2.0
"""The mock cloud as a child of a test: what it was asked, what it still runs. And the real one, where it is allowed."""
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


def why_not_live():
    """None: E2B_API_KEY and FARSTEP_E2B_LIVE=1 were given to the tests (tests/run.sh renames what it hands on)."""
    return None if os.environ.get("LIVE_E2B_API_KEY") else "E2B_API_KEY and FARSTEP_E2B_LIVE=1 are not both set: the real service is not asked"


class Live:
    """E2B itself, or what E2B_API_URL names, as Cloud is; of the account's sandboxes it sees those of this test alone."""

    def __init__(self, runs):
        self.env = dict(os.environ, **{k[len("LIVE_"):]: v for k, v in os.environ.items() if k.startswith("LIVE_E2B_")})
        self.runs = runs

    def __enter__(self):
        return self

    def __exit__(self, *a):
        pass

    def running(self):
        url = self.env.get("E2B_API_URL") or "https://api." + self.env.get("E2B_DOMAIN", "e2b.app")
        r = urllib.request.Request(url + "/v2/sandboxes", headers={"X-API-Key": self.env["E2B_API_KEY"]})
        with urllib.request.urlopen(r, timeout=30) as f:
            return [s for s in json.load(f) if (s.get("metadata") or {}).get("farstep_run") in os.listdir(self.runs)]
