#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
#
# farstep-chaos on real links: what each rule does to them, and that the same seed does the same.
#
# timeout: 300

import os
import signal
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time

PROGRAM = os.path.join(os.environ.get("BUILD", "build"), "farstep-chaos")
# What must happen is waited for this long: reached only when it never happens, however busy the machine is.
NEVER = 60
failed = 0


def result(good, sentence, detail=""):
    global failed
    print(f"{'ok' if good else 'not ok'} - {sentence}")
    if not good:
        failed += 1
        for line in str(detail).splitlines()[-20:]:
            print(f"#   {line}")
    sys.stdout.flush()


class Server:
    """Takes connections; `serve` gets each socket in a thread of its own."""

    def __init__(self, serve, path=None):
        if path:
            self.listener = socket.socket(socket.AF_UNIX)
            self.listener.bind(path)
            self.listener.listen(64)
            self.address = f"unix:{path}"
        else:
            self.listener = socket.create_server(("127.0.0.1", 0), backlog=64)
            self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        self.serve = serve
        self.got = []  # what came in, a bytearray a connection
        self.how = []  # how it ended: "end", "reset", or None while it lives
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                s, _ = self.listener.accept()
            except OSError:
                return
            self.got.append(bytearray())
            self.how.append(None)
            threading.Thread(target=self.run, args=(s, len(self.got) - 1), daemon=True).start()

    def ended(self, n=0):
        return self.how[n] if len(self.how) > n else None

    def run(self, s, n):
        try:
            self.serve(s, self, n)
            self.how[n] = "end"
        except OSError:
            self.how[n] = "reset"
        finally:
            s.close()


def echo(s, server, n):
    while data := s.recv(65536):
        server.got[n] += data
        s.sendall(data)


def sink(s, server, n):
    while data := s.recv(65536):
        server.got[n] += data


def source(size):
    def serve(s, server, n):
        s.sendall(pattern(size))
        s.shutdown(socket.SHUT_WR)
        sink(s, server, n)
    return serve


def pattern(size):
    return bytes(i * 7 % 251 for i in range(size))


class Chaos:
    def __init__(self, to, *rules, seed=1, listen="127.0.0.1:0", with_parent=False):
        command = [PROGRAM, "--listen", listen, "--to", to, "--seed", str(seed)]
        for rule in rules:
            command += ["--rule", rule]
        if with_parent:
            command.append("--with-parent")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        first = self.process.stdout.readline().split()
        assert first[:1] == ["ready"], f"{command} did not start: {first}"
        self.address = first[1]
        self.said = []
        self.reader = threading.Thread(target=self.read, daemon=True)
        self.reader.start()

    def read(self):
        for line in self.process.stdout:
            self.said.append(line.rstrip("\n").split(" ", 1)[1])

    def connect(self, timeout=NEVER):
        if self.address.startswith("unix:"):
            s = socket.socket(socket.AF_UNIX)
            s.connect(self.address[5:])
        else:
            host, port = self.address.rsplit(":", 1)
            s = socket.create_connection((host, int(port)))
        s.settimeout(timeout)
        return s

    def stop(self):
        """Ends it; returns what it said, without the times."""
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=NEVER)
        self.reader.join(timeout=NEVER)
        return self.said

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        self.reader.join(timeout=NEVER)
        self.process.stdin.close()
        self.process.stdout.close()


def receive(s):
    """All until the end: the bytes and "end", "reset" or "timeout"."""
    got = bytearray()
    try:
        while data := s.recv(65536):
            got += data
        return bytes(got), "end"
    except (ConnectionError, BrokenPipeError):
        return bytes(got), "reset"
    except socket.timeout:
        return bytes(got), "timeout"


def send_all(s, data):
    """True unless the link broke meanwhile."""
    try:
        s.sendall(data)
        return True
    except OSError:
        return False


def wait_for(condition, seconds=NEVER):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.005)
    return False


def timed(function):
    start = time.monotonic()
    value = function()
    return value, time.monotonic() - start


# --- without rules -------------------------------------------------------------------------------


def test_plain(directory):
    data = pattern(3_000_000)
    kinds = {
        "TCP to TCP": (None, "127.0.0.1:0"),
        "unix to unix": (f"{directory}/s1", f"unix:{directory}/c1"),
        "TCP to unix": (f"{directory}/s2", "127.0.0.1:0"),
        "unix to TCP": (None, f"unix:{directory}/c2"),
    }
    for name, (path, listen) in kinds.items():
        server = Server(echo, path)
        with Chaos(server.address, listen=listen) as chaos:
            s = chaos.connect()
            threading.Thread(target=lambda: (send_all(s, data), s.shutdown(socket.SHUT_WR)), daemon=True).start()
            got, how = receive(s)
            result(got == data and how == "end", f"{name}: without rules all bytes pass, both ways, with their end",
                   f"{len(got)} bytes, {how}")
            said = chaos.stop()
            result(said[-1] == f"conn 1 end: up {len(data)} bytes, down {len(data)} bytes",
                   f"{name}: it says how many bytes passed", said)
    result(not os.path.exists(f"{directory}/c1"), "its unix socket is gone when it ended")


def test_half_close():
    server = Server(source(50_000))
    with Chaos(server.address) as chaos:
        s = chaos.connect()
        got, how = receive(s)
        s.sendall(b"still here")
        s.close()
        result(got == pattern(50_000) and how == "end" and
               wait_for(lambda: server.ended() == "end" and server.got[0] == b"still here"),
               "one direction may end while the other goes on", (len(got), how, server.got))


def test_no_server():
    unused = socket.create_server(("127.0.0.1", 0))
    address = "127.0.0.1:%d" % unused.getsockname()[1]
    unused.close()
    with Chaos(address) as chaos:
        s = chaos.connect()
        got, how = receive(s)
        said = chaos.stop()
        result(got == b"" and how in ("end", "reset") and "conn 1 cannot connect: Connection refused" in said,
               "without a server the connection ends and it says why", (how, said))


# --- each rule -----------------------------------------------------------------------------------


def test_cut(directory):
    for kind, path, listen in (("TCP", None, "127.0.0.1:0"), ("unix", f"{directory}/s3", f"unix:{directory}/c3")):
        server = Server(sink, path)
        with Chaos(server.address, "up:cut@100000", listen=listen) as chaos:
            s = chaos.connect()
            send_all(s, pattern(300_000))
            _, how = receive(s)
            wait_for(server.ended)
            result(server.got[0] == pattern(100_000) and how != "timeout",
                   f"{kind}: cut lets exactly so many bytes pass, then breaks both sides",
                   (len(server.got[0]), server.how, how))
            if kind == "TCP":
                result(server.how[0] == "reset" and how == "reset", "a cut is a reset, no clean end", (server.how, how))
            said = chaos.stop()
            result("conn 1 up cut@100000" in said, f"{kind}: it says where it cut", said)
    server = Server(echo)
    with Chaos(server.address, "cut@1000x1") as chaos:
        s = chaos.connect()
        send_all(s, pattern(2000))
        first, _ = receive(s)
        s = chaos.connect()
        s.sendall(pattern(2000))
        s.shutdown(socket.SHUT_WR)
        second, how = receive(s)
        result(len(first) <= 1000 and second == pattern(2000) and how == "end",
               "a rule with x1 acts once: the next connection is left alone", (len(first), len(second), how))


def test_cut_every():
    server = Server(echo)
    with Chaos(server.address, "cut-every 150") as chaos:
        for n in (1, 2):
            start = time.monotonic()
            s = chaos.connect()
            s.sendall(b"hello")
            got, how = receive(s)
            took = time.monotonic() - start
            result(got == b"hello" and how == "reset" and 0.15 <= took < NEVER,
                   f"cut-every resets connection {n} when its time is up", (got, how, took))


def test_delay():
    server = Server(echo)
    with Chaos(server.address, "delay 100") as chaos:
        s = chaos.connect()

        def round_trip():
            s.sendall(b"ping")
            return s.recv(100)

        got, took = timed(round_trip)
        result(got == b"ping" and 0.2 <= took < NEVER, "delay 100 makes a round trip 200 ms longer", took)
        s.shutdown(socket.SHUT_WR)
        (got, how), took = timed(lambda: receive(s))
        result(how == "end" and took >= 0.2, "the end of a stream is delayed as well", took)
    with Chaos(server.address, "delay 30±30") as chaos:
        s = chaos.connect()
        data = pattern(200_000)
        threading.Thread(target=lambda: (send_all(s, data), s.shutdown(socket.SHUT_WR)), daemon=True).start()
        got, how = receive(s)
        result(got == data and how == "end", "with jitter the bytes stay in order", (len(got), how))


def test_rate():
    server = Server(source(60_000))
    with Chaos(server.address, "down:rate 100KB/s") as chaos:
        s = chaos.connect()
        (got, how), took = timed(lambda: receive(s))
        result(got == pattern(60_000) and how == "end" and 0.45 <= took < NEVER,
               "rate 100 takes 0.6 s for 60 KB", (len(got), how, took))


def test_stall():
    server = Server(source(20_000))
    with Chaos(server.address, "down:stall 400@5000") as chaos:
        start = time.monotonic()
        s = chaos.connect()
        head = b""
        while len(head) < 5000:
            head += s.recv(5000 - len(head))
        s.recv(1, socket.MSG_PEEK)
        took = time.monotonic() - start
        rest, how = receive(s)
        result(head + rest == pattern(20_000) and how == "end" and 0.4 <= took < NEVER,
               "stall stops everything behind so many bytes for its time, and loses nothing", (took, len(rest), how))
        said = chaos.stop()
        result("conn 1 down stall 400@5000" in said, "it says where it stalled", said)


def test_blackhole():
    server = Server(echo)
    with Chaos(server.address, "blackhole") as chaos:
        s = chaos.connect(timeout=0.5)
        good = send_all(s, pattern(3_000_000))
        got, how = receive(s)
        result(good and got == b"" and how == "timeout" and server.how[0] is None and server.got[0] == b"",
               "blackhole takes all and gives nothing, and the connection stands", (good, got, how, server.how))
        s.shutdown(socket.SHUT_WR)
        time.sleep(0.2)
        result(server.how[0] is None, "not even the end of a stream comes out of it", server.how)
        said = chaos.stop()
        result("conn 1 up blackhole@0" in said and "conn 1 down blackhole@0" in said, "it says that it swallows", said)
    server = Server(source(20_000))
    with Chaos(server.address, "down:blackhole@5000") as chaos:
        s = chaos.connect(timeout=0.5)
        got, how = receive(s)
        result(got == pattern(5000) and how == "timeout", "blackhole@BYTES lets so many pass first", (len(got), how))


def test_truncate():
    server = Server(source(20_000))
    with Chaos(server.address, "down:truncate@7000") as chaos:
        s = chaos.connect()
        got, how = receive(s)
        result(got == pattern(7000) and how == "end", "truncate gives a clean end too early", (len(got), how))
        s.sendall(b"up goes on")
        s.close()
        result(wait_for(lambda: server.ended() and server.got[0] == b"up goes on"), "and leaves the other direction alone", server.got)
        said = chaos.stop()
        result("conn 1 down truncate@7000" in said, "it says where it truncated", said)


def test_corrupt():
    server = Server(sink)
    with Chaos(server.address, "up:corrupt@1234 corrupt@70000") as chaos:
        s = chaos.connect()
        s.sendall(pattern(100_000))
        s.close()
        wait_for(server.ended)
        want, got = pattern(100_000), bytes(server.got[0])
        wrong = [i for i in range(min(len(want), len(got))) if want[i] != got[i]]
        bits = [bin(want[i] ^ got[i]).count("1") for i in wrong]
        result(len(got) == len(want) and wrong == [1234, 70000] and bits == [1, 1],
               "corrupt flips one bit of the byte that it names, and no other", (len(got), wrong, bits))
        said = chaos.stop()
        line = [x for x in said if x.startswith("conn 1 up corrupt@1234: 0x")]
        result(line == [f"conn 1 up corrupt@1234: 0x{want[1234]:02x} became 0x{got[1234]:02x}"],
               "it says what the byte was and became", said)


def test_one_byte():
    segments = []

    def serve(s, server, n):
        sink(s, server, n)
        info = s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
        segments.append(struct.unpack_from("I", info, 152)[0])  # tcpi_data_segs_in

    for rules in ([], ["up:one-byte"]):
        server = Server(serve)
        with Chaos(server.address, *rules) as chaos:
            s = chaos.connect()
            s.sendall(pattern(2000))
            s.close()
            wait_for(server.ended)
    # The kernel joins small segments when it must wait; it never splits the one of 2000.
    result(server.got[0] == pattern(2000) and segments[0] <= 2 and segments[1] >= 10,
           "one-byte writes byte by byte", (len(server.got[0]), segments))


def test_together():
    server = Server(sink)
    # Few bytes, because each is a write and a read of its own: the work is bounded, not the time.
    with Chaos(server.address, "delay 50", "rate 20", "up:corrupt@10 up:cut@5000", "one-byte") as chaos:
        s = chaos.connect()
        send_all(s, pattern(10_000))
        (_, how), took = timed(lambda: receive(s))
        wait_for(server.ended)
        got, want = bytes(server.got[0]), pattern(5_000)
        wrong = [i for i in range(len(got)) if i >= len(want) or got[i] != want[i]]
        result(len(got) == 5_000 and wrong == [10] and how == "reset" and took >= 0.25,
               "rules work together", (len(got), wrong, how, took))


def test_bounded():
    stop = threading.Event()

    def deaf(s, server, n):
        stop.wait(10)

    server = Server(deaf)
    with Chaos(server.address) as chaos:
        s = chaos.connect(timeout=0.3)
        sent = 0
        try:
            while sent < 200_000_000:
                sent += s.send(b"x" * 1_000_000)
        except socket.timeout:
            pass
        with open(f"/proc/{chaos.process.pid}/status") as f:
            kb = next(int(line.split()[1]) for line in f if line.startswith("VmRSS"))
        result(sent < 100_000_000 and kb < 200_000, "a receiver that does not read stops the sender, not the memory",
               (sent, kb))
        stop.set()


# --- the same again ------------------------------------------------------------------------------


def story(seed):
    """What it says of ten connections with rules that leave much to chance."""
    server = Server(sink)
    with Chaos(server.address, "up:cut up:corrupt@77 up:stall 5 delay 2±2", seed=seed) as chaos:
        for n in range(10):
            s = chaos.connect()
            send_all(s, pattern(70_000))
            receive(s)
            s.close()
            wait_for(lambda: server.ended(n))
        said = chaos.stop()
    return [line for line in said if not line.endswith("open")], [bytes(g) for g in server.got]


def test_seed():
    first, first_got = story(5)
    again, again_got = story(5)
    other, other_got = story(6)
    result(len(first) > 20 and first == again and first_got == again_got,
           "the same seed does the same again, to the byte", "\n".join(first + ["--"] + again))
    result(first != other and first_got != other_got, "another seed does something else", "\n".join(other))


# --- the program ---------------------------------------------------------------------------------


def run(*arguments):
    return subprocess.run([PROGRAM, *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True, timeout=NEVER)


def test_program(directory):
    done = run("--help")
    names = ("cut@", "cut-every", "delay", "rate", "stall", "blackhole", "truncate", "corrupt@", "one-byte")
    result(done.returncode == 0 and all(f"  {n}" in done.stdout for n in names) and "Examples:" in done.stdout,
           "--help explains every rule and shows examples", done.stdout)
    wrong = {
        "no addresses": [],
        "an unknown rule": ["--listen", "127.0.0.1:0", "--to", "127.0.0.1:1", "--rule", "explode"],
        "an unknown option": ["--listen", "127.0.0.1:0", "--to", "127.0.0.1:1", "--bang"],
        "a seed that is no number": ["--listen", "127.0.0.1:0", "--to", "127.0.0.1:1", "--seed", "x"],
        "an address that is none": ["--listen", "nowhere", "--to", "127.0.0.1:1"],
        "an address where it cannot listen": ["--listen", f"unix:{directory}/no/such/dir", "--to", "127.0.0.1:1"],
    }
    for name, arguments in wrong.items():
        done = run(*arguments)
        result(done.returncode == 2 and done.stderr.startswith("farstep-chaos: ") and not done.stdout,
               f"{name}: exit 2 with a message", (done.returncode, done.stdout, done.stderr))
    server = Server(echo)
    with Chaos(server.address) as chaos:
        s = chaos.connect()
        s.sendall(b"x")
        s.recv(1)
        said = chaos.stop()
        result(chaos.process.returncode == 0 and said[-1] == "conn 1 stopped: up 1 bytes, down 1 bytes",
               "SIGTERM ends it with 0, whatever is open", (chaos.process.returncode, said))
    with Chaos(server.address, with_parent=True) as chaos:
        chaos.process.stdin.close()
        try:
            code = chaos.process.wait(timeout=NEVER)
        except subprocess.TimeoutExpired:
            code = None
        result(code == 0, "with --with-parent it ends when standard input closes", code)
    with Chaos(server.address) as chaos:
        chaos.process.stdin.close()
        time.sleep(0.1)
        result(chaos.process.poll() is None, "without --with-parent it does not")
    path = f"{directory}/stale"
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(path)
    stale.close()
    with Chaos(server.address, listen=f"unix:{path}") as chaos:
        s = chaos.connect()
        s.sendall(b"x")
        result(s.recv(1) == b"x", "a socket that a dead process left is replaced")


def test_many():
    server = Server(echo)
    with Chaos(server.address) as chaos:
        sockets = [chaos.connect() for _ in range(300)]
        for s in sockets[:250]:
            s.sendall(b"ping")
        good = sum(s.recv(4) == b"ping" for s in sockets[:250])
        for s in sockets[:250]:
            s.close()
        for s in sockets[250:]:
            s.sendall(b"late")
        late = sum(s.recv(4) == b"late" for s in sockets[250:])
        result(good == 250 and late == 50, "300 connections: those over its bound wait for their turn", (good, late))
        for s in sockets[250:]:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            s.close()
        result(wait_for(lambda: all(server.how[-50:])), "a reset is passed on", server.how[-50:])


def main():
    if not os.access(PROGRAM, os.X_OK):
        print(f"no {PROGRAM}")
        sys.exit(77)
    with tempfile.TemporaryDirectory(prefix="c-", dir="/tmp") as directory:
        test_plain(directory)
        test_half_close()
        test_no_server()
        test_cut(directory)
        test_cut_every()
        test_delay()
        test_rate()
        test_stall()
        test_blackhole()
        test_truncate()
        test_corrupt()
        test_one_byte()
        test_together()
        test_bounded()
        test_seed()
        test_program(directory)
        test_many()


main()
sys.exit(1 if failed else 0)
