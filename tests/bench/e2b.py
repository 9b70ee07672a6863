# SPDX-License-Identifier: Apache-2.0
"""make bench, at E2B: the waterfall of a run in the mock cloud over links of 0, 20 and 100 ms there and back, beside
what an earlier system published. The link delays every byte, those of the WebSocket too; it does not delay the
making of a TCP connection, and there is no TLS."""
import os
import statistics
import subprocess

from lib_cloud import MOCK, Cloud
from lib_run import BUILD, pipeline, run, shell

PHASES = ("create", "upload", "start", "ready", "run", "collect", "destroy")
PUBLISHED = {"create": "820", "upload": "~50", "start": "~150", "ready": "", "run": "< 10 a step", "collect": "50 to 200", "destroy": ""}
ROUNDS = {0: 9, 20: 5, 100: 3}


class Away:
    """The cloud behind a link of so many milliseconds there and back."""

    def __init__(self, ms):
        self.cloud, self.chaos = Cloud(), None
        self.env = self.cloud.env
        if ms:
            self.chaos = subprocess.Popen([BUILD + "/farstep-chaos", "--with-parent", "--listen", "127.0.0.1:0", "--to", self.env["E2B_API_URL"].split("//")[1],
                                           "--rule", "delay %d" % (ms // 2)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
            url = "http://" + self.chaos.stdout.readline().split()[1]
            self.env = dict(self.env, E2B_API_URL=url, E2B_SANDBOX_URL=url)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.chaos:
            self.chaos.terminate()
            self.chaos.communicate()
        self.cloud.__exit__()

    def go(self, path):
        """One run: (its milliseconds, those that the service took for itself, its phases, its requests)."""
        before = len(self.cloud.asked())
        r = run(path, "-q", target="e2b", env=self.env, timeout=120)
        assert r.rc == 0, r.err
        asked = self.cloud.asked()[before:]
        its = sum(q["ms"] for q in asked if q["path"].startswith(("/v2/sandboxes", "/sandboxes/")))
        end = [e for e in r.events() if e["event"] == "run_end"][0]
        return end["duration_ms"], its, r.status["phases"], len(asked)


def median(runs, what):
    return statistics.median(what(r) for r in runs)


def waterfall(runs):
    """Medians of each phase, a column for each link."""
    print("\n  %-10s %12s %12s %12s   %s" % ("ms", *("%d ms away" % ms for ms in runs), "published earlier"))
    for p in PHASES:
        print("  %-10s %12.1f %12.1f %12.1f   %s" % (p, *(median(rs, lambda r: r[2][p + "_ms"]) for rs in runs.values()), PUBLISHED[p]))
    for name, f in (("in all", lambda r: r[0]), ("its own", lambda r: r[1])):
        print("  %-10s %12.1f %12.1f %12.1f" % (name, *(median(rs, f) for rs in runs.values())))
    print("  (its own: what the mock takes to make and to end a sandbox)\n", flush=True)


def e2b(row):
    if not os.path.exists(MOCK):
        print("  no mock cloud in this build")
        return
    for name in [n for n in os.environ if n.lower().endswith("_proxy")]:
        del os.environ[name]
    hello = pipeline("hello", [shell("hi", "echo hi > $FARSTEP_ARTIFACTS_DIR/hi")])
    os.makedirs("mb", exist_ok=True)
    with open("mb/noise", "wb") as f:
        f.write(os.urandom(1 << 20))
    package = pipeline("package", [shell("a", "true")], files=["mb/*"])
    small = pipeline("small", [shell("a", "for i in 1 2 3 4 5 6 7 8 9 10; do echo $i > $FARSTEP_ARTIFACTS_DIR/$i; done")])
    runs, loaded = {}, {}
    for ms, n in ROUNDS.items():
        with Away(ms) as a:
            a.go(hello)
            runs[ms] = [a.go(hello) for _ in range(n)]
            if ms == 0:
                loaded["package"] = median([a.go(package) for _ in range(5)], lambda r: r[2]["upload_ms"])
                loaded["small"] = median([a.go(small) for _ in range(5)], lambda r: r[2]["run_ms"] + r[2]["collect_ms"])
            if ms == 20:
                slept = a.go(pipeline("two", [shell("a", "sleep 2")]))
    waterfall(runs)
    whole, its = median(runs[0], lambda r: r[0]), median(runs[0], lambda r: r[1])
    trips = (median(runs[100], lambda r: r[0] - r[1]) - median(runs[20], lambda r: r[0] - r[1])) / 80
    row("e2b: hello at 0 ms, whole (ms; beside it the service's part)", "%.0f ms" % whole, "%.0f ms" % its, whole, 60, 80)
    row("e2b: HTTP requests of a run", "%d" % runs[20][0][3], "-", max(r[3] for r in runs[20]), 5, 8)
    row("e2b: round trips from the first byte to the end", "%.1f" % trips, "-", trips, 8, 10)
    row("e2b: worker and 1 MB of package, up (ms) [R48]", "%.0f ms" % loaded["package"], "50 ms", loaded["package"], 20, 50)
    row("e2b: ten small files: step and way home (ms) [R51]", "%.0f ms" % loaded["small"], "50 ms", loaded["small"], 20, 50)
    over = slept[0] - 2000
    row("e2b: all but the step itself, 20 ms away: % of 60 s [R52]", "%.0f ms" % over, "600 ms", over / 600, 0.6, 1)
