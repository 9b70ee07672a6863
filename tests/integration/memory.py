#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 600
"""Bytes by the gigabyte go through every process of ours, and none of them grows with them."""
import hashlib
import json
import os
import struct
import subprocess
import threading

from lib_run import BUILD, FARSTEP, descendants, done, new_run_dir, ok, pipeline, role, shell
from lib_ws import TOKEN, WS, Worker, step

FULL = os.environ.get("FULL") == "1"
LINE = 10**9 if FULL else 200 * 10**6
TABLE = 10**9 if FULL else 100 * 10**6
SAN = "/san" in BUILD
# MiB at most; measured with 1 GB: 5, 3, 1 and 1.
BOUND = {"proxy": 10, "worker": 6, "keeper": 3, "supervisor": 2}


class Peaks:
    """The highest VmHWM of each role while process p runs; supervisor() is 0 while there is none."""

    def __init__(self, p, supervisor):
        self.p, self.supervisor, self.kb = p, supervisor, {}
        self.thread = threading.Thread(target=self.watch)
        self.thread.start()

    def note(self, who, pid):
        try:
            with open("/proc/%d/status" % pid) as f:
                for line in f:
                    if line.startswith("VmHWM"):
                        self.kb[who] = max(self.kb.get(who, 0), int(line.split()[1]))
        except OSError:
            pass

    def watch(self):
        pause = threading.Event()
        while self.p.poll() is None:
            top = self.supervisor()
            self.note("proxy", self.p.pid)
            for pid in [top] + descendants(top) if top else []:
                if role(pid):
                    self.note(role(pid), pid)
            pause.wait(0.02)

    def check(self, sentence):
        """In a sanitizer's build the figures say nothing."""
        self.thread.join()
        print("# peaks in KiB: %s" % self.kb)
        ok(set(self.kb) == set(BOUND) and (SAN or all(self.kb[who] <= mib * 1024 for who, mib in BOUND.items())), sentence, self.kb)


def journal_pid(run_dir):
    try:
        with open(run_dir + "/journal/run.json") as f:
            return json.load(f).get("sandbox", {}).get("pid", 0)
    except (OSError, ValueError):
        return 0


def one_line():
    os.makedirs("runs")
    p = pipeline("line", [shell("l", "head -c %d /dev/zero | tr '\\000' x" % LINE)])
    q = subprocess.Popen([FARSTEP, "run", "-q", "--target", "native", "--run-dir", "runs", p], stdin=subprocess.DEVNULL)
    peaks = Peaks(q, lambda: journal_pid(new_run_dir("runs", set()) or "none"))
    rc = q.wait(500)
    peaks.check("one line of %d MB leaves proxy, worker, keeper and supervisor small" % (LINE // 10**6))
    d = new_run_dir("runs", set())
    ok(rc == 0 and os.path.getsize(d + "/logs/l.stdout") == LINE, "and it arrives whole", rc)


def pump(fd, total, digest):
    """Writes total bytes that never repeat; they are made and summed up piece by piece."""
    block = os.urandom(1 << 20)
    at = 0
    with os.fdopen(fd, "wb") as f:
        while at < total:
            piece = (struct.pack(">Q", at) + block)[:total - at]
            f.write(piece)
            digest.update(piece)
            at += len(piece)


def both_ways():
    """A table goes up as standard input while it comes down as standard output."""
    w = Worker("w")
    r, wr = os.pipe()
    up, down = hashlib.sha256(), hashlib.sha256()
    q = subprocess.Popen([FARSTEP, "exec", "--target", "unix:" + w.path, "--status-file", "st.json", "--", "cat"], stdin=r, stdout=subprocess.PIPE,
                         env=dict(os.environ, FARSTEP_TOKEN=TOKEN))
    os.close(r)
    writer = threading.Thread(target=pump, args=(wr, TABLE, up))
    writer.start()
    peaks = Peaks(q, lambda: w.p.pid)
    n = 0
    while piece := q.stdout.read(1 << 20):
        down.update(piece)
        n += len(piece)
    rc = q.wait(60)
    writer.join()
    peaks.check("%d MB up and down at once leave all of them small [R32]" % (TABLE // 10**6))
    with open("st.json") as f:
        receipt = json.loads(json.load(f)["receipt"])
    ok(rc == 0 and n == TABLE and up.digest() == down.digest(), "what came down is what went up, by its digest [R32]", (rc, n))
    ok(int(receipt["stdin"]["bytes"]) == TABLE and receipt["stdout"] == {"bytes": str(TABLE), "sha256": up.hexdigest()},
       "the receipt names the same bytes and digest", receipt)
    w.stop()


def frames():
    """The header of each binary frame, seen by a client of our own: channel, offset, length."""
    w = Worker("f")
    c = WS(w.path)
    c.open()
    blob = os.urandom(300_000)
    p = step("cat", "cat")
    ch = p["stdout"]["channel"]
    p["stdout"]["window"] = str(len(blob))
    p["stdin"] = {"channel": 77, "offset": "0"}
    c.send("step.execute", p)
    sent, limit, got, good, last = 0, 0, b"", True, False
    while not last:
        op, m = c.recv()
        if op != 2:
            continue
        kind, flags, zero, channel, offset = struct.unpack(">BBHIQ", m[:16])
        if channel == 77:
            limit = struct.unpack(">Q", m[16:])[0]
            good &= kind == 2 and offset <= sent
        elif channel == ch:
            good &= kind == 1 and zero == 0 and offset == len(got)
            got += m[16:]
            last = bool(flags & 1)
        while sent < min(limit, len(blob)):
            piece = blob[sent:min(limit, sent + 65536)]
            end = sent + len(piece) == len(blob)
            c.frame(struct.pack(">BBHIQ", 1, int(end), 0, 77, sent) + piece, op=2)
            sent += len(piece)
    ok(good and got == blob, "each frame names its channel and goes on at the offset where the last one ended [R32]", (good, len(got)))
    w.stop()


one_line()
both_ways()
frames()
done()
