#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 180
"""The mock's envd: calls of process.Process."""
import base64
import http.client
import os
import socket
import time

from lib_envd import Envd, alive, b64, envelope, eventually
from lib_run import done, ok

P = "process.Process/"
e = Envd("--env", "GLOBAL=g", "--env", "BOTH=global")
early = e.start("exit 7")
early.rest()
early.ended = time.monotonic()

# --- start, output, end ---

s = e.start("echo out; echo err >&2; exit 3", process={"envs": {"BOTH": "request"}})
got = s.rest()
ok(got["stdout"] == b"out\n" and got["stderr"] == b"err\n", "stdout and stderr come apart", got)
ok(got["end"] == {"exitCode": 3, "exited": True, "status": "exit status 3", "error": "exit status 3"},
   "the end tells exit code, status and error", got)
ok(got["closed"] and got["error"] is None, "the last envelope has the end flag and no error", got)
ok(s.status == 200 and s.r.getheader("Content-Type") == "application/connect+json",
   "a stream is application/connect+json with status 200")
ok(e.run("true")["end"] == {"exited": True, "status": "exit status 0"},
   "an exit code of zero is left out")
ok(e.run("kill -9 $$")["end"] == {"exitCode": -1, "status": "signal: killed", "error": "signal: killed"},
   "death by a signal is exit code -1 without exited")
got = e.run("", process={"cmd": "no-such-program", "args": []})
ok(got["end"]["exitCode"] == 127 and b"no-such-program" in got["stderr"],
   "a missing program is an exit with 127 and a line on stderr", got)
s = e.stream(P + "Start", {"process": {"cmd": "true", "cwd": "/no/such"}})
ok(s.event() == ("closed", {"code": "invalid_argument", "message": "cwd '/no/such' does not exist"}),
   "a missing working directory is an error without a start event")

got = e.run("env; pwd", process={"envs": {"BOTH": "request", "OWN": "o"}})
env = dict(l.split("=", 1) for l in got["stdout"].decode().splitlines() if "=" in l)
ok(env["HOME"] == e.home and env["USER"] == env["LOGNAME"] == "user" and env["GLOBAL"] == "g"
   and env["BOTH"] == "request" and env["OWN"] == "o" and env["E2B_SANDBOX"] == "true" and "PATH" in env,
   "the environment is PATH, HOME, USER, LOGNAME, the global one, and the request's on top", env)
ok(set(env) <= {"HOME", "USER", "LOGNAME", "PATH", "GLOBAL", "BOTH", "OWN", "E2B_SANDBOX", "PWD", "SHLVL",
                "_", "OLDPWD"}, "and nothing else of the daemon's own", env)
ok(got["stdout"].decode().splitlines()[-1] == e.home, "processes start in the user's home")

ok(e.run("", process={"cmd": "ls", "args": ["/proc/self/fd"]})["stdout"].split() == [b"0", b"1", b"2", b"3"],
   "a process has no other descriptors than its three (and ls the directory it reads)")

got = e.run("head -c 300000 /dev/zero")
ok(len(got["stdout"]) == 300000 and max(got["sizes"]) <= 32768, "output comes in pieces of 32 KiB at most")

t = time.monotonic()
got = e.run("sleep 1 & exit 0")
ok(time.monotonic() - t >= 0.9, "the end waits for all who hold the output")
got = e.run("sleep 30 >/dev/null 2>&1 </dev/null & echo $!")
ok(got["end"]["exited"], "a background process that let go of it does not hold the end up")
os.kill(int(got["stdout"]), 9)

# --- standard input ---

s = e.start("cat; echo done", {"stdin": True})
ok(e.rpc(P + "SendInput", {"process": {"pid": s.pid}, "input": {"stdin": b64("one\n")}}) == (200, {}),
   "SendInput is taken")
ok(s.event() == ("data", {"stdout": b64("one\n")}), "and reaches the process")
c = e.connect()
body = [envelope({"start": {"process": {"pid": s.pid}}}), envelope({"data": {"input": {"stdin": b64("two\n")}}}),
        envelope({"keepalive": {}}), envelope({"data": {"input": {"stdin": b64("three\n")}}})]
whole = b"".join(body)
c.request("POST", "/" + P + "StreamInput", iter([whole[i:i + 7] for i in range(0, len(whole), 7)]),
          e.headers({"Content-Type": "application/connect+json", "Transfer-Encoding": "chunked"}),
          encode_chunked=True)
r = c.getresponse()
answer = r.read()
ok(answer == envelope({}) + envelope({}, 2), "StreamInput takes envelopes over any chunk borders", answer)
out = b""
while out.count(b"\n") < 2:
    out += base64.b64decode(s.event()[1]["stdout"])
ok(out == b"two\nthree\n", "in their order", out)
ok(e.rpc(P + "CloseStdin", {"process": {"pid": s.pid}}) == (200, {}), "CloseStdin is taken")
got = s.rest()
ok(got["stdout"] == b"done\n" and got["end"]["exited"], "and the process sees the end of its input", got)

s = e.start("read x; echo got $x", process={"cmd": "/bin/sh"}, more={"stdin": None})
e.rpc(P + "SendInput", {"process": {"pid": s.pid}, "input": {"stdin": b64("y\n")}})
ok(s.rest()["stdout"] == b"got y\n", "stdin is open unless the request says false")
s = e.start("cat; sleep 30")
status, m = e.rpc(P + "SendInput", {"process": {"pid": s.pid}, "input": {"stdin": b64("y\n")}})
ok(status == 400 and m["code"] == "failed_precondition" and "stdin not enabled or closed" in m["message"],
   "without stdin, input is refused", m)
e.rpc(P + "SendSignal", {"process": {"pid": s.pid}, "signal": "SIGNAL_SIGKILL"})
s.rest()

big = os.urandom(3 << 20)
s = e.start("sleep 0.2; wc -c; exec cat >/dev/null", {"stdin": True})
ok(e.rpc(P + "SendInput", {"process": {"pid": s.pid}, "input": {"stdin": b64(big)}})[0] == 200,
   "input that fills the pipe waits for the process")
e.rpc(P + "CloseStdin", {"process": {"pid": s.pid}})
ok(int(s.rest()["stdout"]) == len(big), "and arrives whole")

s = e.start("exec sleep 30", {"stdin": True})
status, m = e.rpc(P + "SendInput", {"process": {"pid": s.pid}, "input": {"stdin": b64(big)}}, Connect_Timeout_Ms="300")
ok((status, m) == (504, {"code": "deadline_exceeded", "message": "context deadline exceeded"}) and alive(s.pid),
   "input that nobody takes ends with the call's deadline", m)
c = e.stream(P + "StreamInput", body=envelope({"start": {"process": {"pid": 999999999}}}))
ok(c.status == 200 and c.event()[1]["code"] == "not_found", "a stream of input to nobody is not_found")
c = e.stream(P + "StreamInput", body=envelope({"data": {"input": {"stdin": "eA=="}}}))
ok(c.event()[1]["code"] == "failed_precondition", "and one without a start message is refused")
e.rpc(P + "SendSignal", {"process": {"pid": s.pid}, "signal": "SIGNAL_SIGKILL"})
s.rest()

# --- list, signals ---

s = e.start("sleep 30", {"tag": "t1"}, process={"envs": {"A": "1"}})
status, m = e.rpc(P + "List")
ok(m == {"processes": [{"config": {"cmd": "/bin/sh", "args": ["-c", "sleep 30"], "envs": {"A": "1"}},
                        "pid": s.pid, "tag": "t1"}]}, "List tells config, pid and tag", m)
s2 = e.start("sleep 30", {"tag": "t2"})
sel = lambda tag: e.rpc(P + "SendInput", {"process": {"tag": tag}, "input": {"stdin": ""}})
ok(sel("t1")[1]["code"] == "failed_precondition" and sel("t2") == (
    404, {"code": "not_found", "message": "process with tag t2 not found"}),
   "of several tagged processes only the first is found by its tag, as in the real one")
ok(e.rpc(P + "SendSignal", {"process": {"pid": s.pid}, "signal": "SIGNAL_SIGTERM"}) == (200, {}),
   "SendSignal is taken")
ok(s.rest()["end"]["status"] == "signal: terminated", "and ends the process")
status, m = e.rpc(P + "SendSignal", {"process": {"pid": s2.pid}, "signal": "SIGNAL_SIGINT"})
ok((status, m["code"]) == (501, "unimplemented"), "other signals are unimplemented", m)
status, m = e.rpc(P + "SendSignal", {"process": {"pid": 999999999}, "signal": "SIGNAL_SIGKILL"})
ok((status, m) == (404, {"code": "not_found", "message": "process with pid 999999999 not found"}),
   "an unknown pid is not found", m)
e.rpc(P + "SendSignal", {"process": {"pid": s2.pid}, "signal": "SIGNAL_SIGKILL"})
ok(s2.rest()["end"]["status"] == "signal: killed", "SIGKILL kills")
t = time.monotonic()
s = e.start("sleep 30 & echo $!; wait")
child = int(base64.b64decode(s.event()[1]["stdout"]))
e.rpc(P + "SendSignal", {"process": {"pid": s.pid}, "signal": "SIGNAL_SIGKILL"})
ok(s.rest()["end"]["status"] == "signal: killed" and time.monotonic() - t < 5 and alive(child),
   "a signal hits the process alone, and the end no longer waits for the others")
os.kill(child, 9)
ok(e.rpc(P + "List") == (200, {}), "an empty list is an empty message")

# --- detached, connect, exits that are kept ---

s = e.start("trap 'exit 4' TERM; echo 0; while [ ! -e go ]; do sleep 0.02; done; echo 1; "
            "while [ ! -e go2 ]; do sleep 0.02; done; echo 2; exit 5")
s.event()
s.close()
open(e.home + "/go", "w").close()
time.sleep(0.2)
c = e.stream(P + "Connect", {"process": {"pid": s.pid}})
ok(c.event() == ("start", {"pid": s.pid}), "Connect begins with a start event")
open(e.home + "/go2", "w").close()
got = c.rest()
ok(got["stdout"] == b"2\n" and got["end"]["exitCode"] == 5,
   "output while nobody is attached is lost; leaving a stream does not end the process", got)
c = e.stream(P + "Connect", {"process": {"pid": s.pid}})
got = (c.event(), c.event(), c.event())
ok(got[0] == ("start", {"pid": s.pid}) and got[1][0] == "end" and got[1][1]["exitCode"] == 5
   and got[2] == ("closed", None), "an exit is kept: Connect gives start and end", got)
ok(e.rpc(P + "SendSignal", {"process": {"pid": s.pid}, "signal": "SIGNAL_SIGKILL"})[0] == 404,
   "though the process is no longer there for others")
ok(e.stream(P + "Connect", {"process": {"pid": 999999999}}).event() ==
   ("closed", {"code": "not_found", "message": "process with pid 999999999 not found"}),
   "Connect to an unknown pid is an error in the last envelope")

s = e.start("sleep 0.2; echo x; sleep 0.1")
watchers = [e.stream(P + "Connect", {"process": {"pid": s.pid}}) for _ in range(3)]
ok(all(w.rest()["stdout"] == b"x\n" for w in [s] + watchers), "all who are attached get the output")

s = e.start("head -c 20000000 /dev/zero; echo finished >&2")
fast = e.stream(P + "Connect", {"process": {"pid": s.pid}})
fast.event()
time.sleep(1)
ok(s.pid in e.pids(), "a reader that does not read stalls the process")
s.close()
ok(b"finished" in fast.rest()["stderr"], "and the others, until it leaves")

# --- deadline and keepalive ---

t = time.monotonic()
s = e.start("sleep 30 & echo $!; exec sleep 31", Connect_Timeout_Ms="400")
child = int(base64.b64decode(s.event()[1]["stdout"]))
got = s.rest()
ok(got["error"] == {"code": "deadline_exceeded", "message": "context deadline exceeded"} and not got["end"]
   and 0.3 < time.monotonic() - t < 5, "Connect-Timeout-Ms ends Start with deadline_exceeded", got)
eventually("the process is killed", lambda: s.pid not in e.pids() and not alive(s.pid))
ok(alive(child), "its process is killed and gone from the list, its grandchildren are not")
os.kill(child, 9)
s = e.start("sleep 30", Connect_Timeout_Ms="300")
s.close()
eventually("the detached process is killed", lambda: not alive(s.pid))
ok(True, "also when the client left before")
s = e.start("sleep 30", Connect_Timeout_Ms="0")
c = e.stream(P + "Connect", {"process": {"pid": s.pid}}, Connect_Timeout_Ms="300")
c.event()
ok(c.event()[1]["code"] == "deadline_exceeded" and alive(s.pid), "on Connect it ends only the call")
e.rpc(P + "SendSignal", {"process": {"pid": s.pid}, "signal": "SIGNAL_SIGKILL"})
s = e.start("sleep 1.3; echo x; sleep 1.3", Keepalive_Ping_Interval="1")
got = s.rest()
ok(s.pings == 2 and got["stdout"] == b"x\n", "silence is filled with keepalives; data starts the count anew", s.pings)

# --- terminals ---

s = e.stream(P + "Start", {"process": {"cmd": "/bin/sh", "envs": {"PS1": "", "TERM": "dumb"}},
                           "pty": {"size": {"rows": 20, "cols": 70}}})
pid = s.event()[1]["pid"]
out = b""


def say(text, want):
    global out
    e.rpc(P + "SendInput", {"process": {"pid": pid}, "input": {"pty": b64(text)}})
    out = b""
    while want not in out:
        kind, value = s.event()
        assert kind == "data", (kind, value, out)
        out += base64.b64decode(value["pty"])
    return True


ok(say("stty size\n", b"20 70"), "a terminal has the size that was asked for", out)
ok(e.rpc(P + "Update", {"process": {"pid": pid}, "pty": {"size": {"rows": 30, "cols": 90}}}) == (200, {})
   and say("stty size\n", b"30 90"), "Update changes it", out)
ok(say("tty; ps -o tty= -p $$ 2>/dev/null || true\n", b"/dev/pts/"), "it is the controlling terminal", out)
status, m = e.rpc(P + "SendInput", {"process": {"pid": pid}, "input": {"stdin": b64("x")}})
ok((status, m["code"]) == (400, "failed_precondition"), "stdin is not for a terminal", m)
ok(e.rpc(P + "CloseStdin", {"process": {"pid": pid}})[1]["code"] == "failed_precondition",
   "nor can it be closed")
e.rpc(P + "SendInput", {"process": {"pid": pid}, "input": {"pty": b64("\x04")}})
got = s.rest()
ok(got["end"]["exited"] and got["closed"], "the end of transmission ends the shell", got)

# --- how requests go wrong ---

ok(e.ask("POST", "/" + P + "Nope", "{}", "user")[::2] ==
   (404, b"404 page not found\n"), "an unknown method is 404 in plain text")
ok(e.ask("GET", "/" + P + "List", None, "user")[0] == 405, "GET is 405")
ok(e.ask("POST", "/" + P + "List", "{}", "user", Content_Type="text/plain")[0] == 415, "another content type is 415")
ok(e.ask("POST", "/" + P + "Start", envelope({}), "user", Content_Type="application/json")[0] == 415,
   "and so is a unary one on a stream")
status, m = e.rpc(P + "List", user="nobody-here")
ok((status, m) == (401, {"code": "unauthenticated", "message": "invalid username: 'nobody-here'"}),
   "an unknown user is unauthenticated", m)
s = e.stream(P + "Start", {"process": {"cmd": "true"}}, user="nobody-here")
ok(s.status == 200 and s.event()[1]["code"] == "unauthenticated", "in a stream that comes in the last envelope")
ok(e.run("id -un >/dev/null; echo $USER", Authorization=None)["stdout"] == b"user\n", "without a name it is the default user")
ok(e.run("echo $HOME", user="root")["stdout"].strip().endswith(b"/root"), "root is root")
status, _, b = e.ask("POST", "/" + P + "List", "{]", "user", Content_Type="application/json")
ok(status == 400 and b'"invalid_argument"' in b, "what is no JSON is invalid_argument", b)
ok(e.rpc(P + "List", Connect_Protocol_Version="2")[1]["code"] == "invalid_argument", "as is another protocol version")
ok(e.rpc(P + "List", Connect_Timeout_Ms="soon")[1]["code"] == "invalid_argument", "and a timeout that is no number")
ok(e.rpc(P + "List", {"unknown": 1})[0] == 200, "unknown fields are ignored")
body = envelope({"process": {"cmd": "true"}})
s = e.stream(P + "Start", body=body[:-3])
ok(s.event()[1]["code"] == "invalid_argument", "half an envelope is an error")
s = e.stream(P + "Start", body=b"\x00\xff\xff\xff\xff")
ok(s.event()[1]["code"] == "resource_exhausted", "one beyond the limit is refused by its length alone")
import gzip
s = e.stream(P + "Start", body=envelope(gzip.compress(b'{"process":{"cmd":"true"}}'), 1), Connect_Content_Encoding="gzip")
head = s.read(5)
ok(head[0] == 1 and b'"start"' in gzip.decompress(s.read(int.from_bytes(head[1:], "big"))),
   "who compresses gets compressed answers")
s.close()

# --- clients that break off ---

body = envelope({"process": {"cmd": "/bin/sh", "args": ["-c", "echo out; echo err >&2; exec cat"]}, "tag": "cut"})
raw = ("POST /%sStart HTTP/1.1\r\nHost: x\r\nX-Access-Token: secret\r\nContent-Length: %d\r\n"
       "Content-Type: application/connect+json\r\n\r\n" % (P, len(body))).encode() + body


def talk(send, receive):
    """Sends so much of the request, reads so much of the answer, and leaves."""
    with socket.create_connection(("127.0.0.1", e.port), timeout=10) as c:
        c.sendall(raw[:send])
        while receive > 0:
            receive -= len(c.recv(receive))


def open_fds():
    return len(os.listdir("/proc/%d/fd" % e.p.pid))


before = open_fds()
for n in range(len(raw)):
    talk(n, 0)
ok(e.pids() == [], "a request cut at any offset starts nothing")
for n in range(1, 301, 3):
    talk(len(raw), n)
left = eventually("all have started", lambda: len(e.pids()) == 100 and e.pids())
for pid in left:
    e.rpc(P + "SendSignal", {"process": {"pid": pid}, "signal": "SIGNAL_SIGKILL"})
eventually("all have ended", lambda: e.pids() == [])
eventually("descriptors are back to %d" % before, lambda: open_fds() <= before)
ok(True, "answers cut at any offset leave their processes running, and no descriptor open afterwards")

# --- the end of an exit's memory ---

left = 31 - (time.monotonic() - early.ended)
late = left > 2 and e.stream(P + "Connect", {"process": {"pid": early.pid}})
ok(not late or (late.event()[0], late.event()[1].get("exitCode")) == ("start", 7), "an exit is kept for a while")
time.sleep(max(0, left))
ok(e.stream(P + "Connect", {"process": {"pid": early.pid}}).event()[1]["code"] == "not_found", "after 30 s it is forgotten")

# --- the end of all ---

s = e.start("(setsid sleep 60 & echo $!); exec sleep 61")
child = int(base64.b64decode(s.event()[1]["stdout"]))
ok(e.stop() == 0 and not alive(s.pid) and not alive(child), "SIGTERM ends it with all it started, and exit code 0")

# --- older versions ---

e = Envd("--envd-version", "0.5.1")
ok(e.rpc(P + "List")[0] == 200 and e.ask("POST", "/" + P + "CloseStdin", "{}", "user")[0] == 404,
   "0.5.1 has no CloseStdin")
s = e.start("echo a; while [ ! -e go3 ]; do sleep 0.02; done; echo b")
s.event()
s.close()
time.sleep(0.1)
open(e.home + "/go3", "w").close()
time.sleep(0.3)
c = e.stream(P + "Connect", {"process": {"pid": s.pid}})
ok(c.rest()["stdout"] == b"b\n", "before 0.5.19 output waits for who attaches")
ok(e.stream(P + "Connect", {"process": {"pid": s.pid}}).event()[1]["code"] == "not_found",
   "before 0.6.12 an exit is not kept")
e.stop()
e = Envd("--envd-version", "0.2.3")
s = e.start("read x; echo $x", {"stdin": False})
e.rpc(P + "SendInput", {"process": {"pid": s.pid}, "input": {"stdin": b64("z\n")}})
ok(s.rest()["stdout"] == b"z\n", "before 0.3.0 stdin is always open")
ok(e.stream(P + "Start", {"process": {"cmd": "true"}}, Authorization=None).event()[1] ==
   {"code": "unauthenticated", "message": "no user specified"}, "before 0.4.0 a request must name its user")
e.stop()

# --- faults ---

e = Envd("--fault", "process:drop@100x2", "--fault", "process:start-503x1")
ok(e.stream(P + "Start", {"process": {"cmd": "true"}}).event()[1]["code"] == "unavailable", "fault start-503")
s = e.stream(P + "Start", {"process": {"cmd": "/bin/sh", "args": ["-c", "echo hello; sleep 1; seq 1000"]}})
try:
    n = len(s.r.read())
except http.client.IncompleteRead as x:
    n = len(x.partial)
ok(n == 100, "fault drop breaks the stream after so many bytes, without a last chunk", n)
ok(e.run("echo again")["stdout"] == b"again\n", "and only as often as it says")
e.stop()
e = Envd("--fault", "process:truncate")
s = e.stream(P + "Start", {"process": {"cmd": "true"}})
try:
    s.r.read()
    ok(False, "fault truncate cuts the last envelope")
except http.client.IncompleteRead as x:
    ok(x.partial.count(b"exit status") == 1 and x.partial[-3:-2] == b"\x02", "fault truncate cuts the last envelope", x.partial[-9:])
e.stop()
e = Envd("--fault", "process:no-keepalive", "--fault", "process:stall@120x1")
s = e.start("sleep 1.4; echo x", Keepalive_Ping_Interval="1")
s.conn.sock.settimeout(3)
try:
    s.rest()
    ok(False, "fault stall sends nothing more")
except TimeoutError:
    ok(True, "fault stall sends nothing more")
s = e.start("sleep 1.4", Keepalive_Ping_Interval="1")
s.rest()
ok(s.pings == 0, "fault no-keepalive sends none")
e.stop()
done()
