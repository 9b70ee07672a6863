#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The mock's envd: auth, /files and the small endpoints."""
import base64
import gzip
import hashlib
import http.client
import json
import os
import time
import urllib.parse

from lib_envd import Envd
from lib_run import done, ok

e = Envd("--default-workdir", "", "--env", "A=1")
H = e.home
q = urllib.parse.urlencode
UNAUTHORIZED = {"code": 401, "message": "unauthorized access, please provide a valid access token or "
                                        "method signing if supported"}


def get(path, **headers):
    return e.ask("GET", "/files?" + q({"path": path, "username": "user"}), **headers)


def put(path, data, **headers):
    headers.setdefault("Content_Type", "application/octet-stream")
    query = {"username": "user"} if path is None else {"path": path, "username": "user"}
    status, h, b = e.ask("POST", "/files?" + q(query), data, **headers)
    return status, h, json.loads(b)


def form(*parts, boundary="BoUnD"):
    """(name, filename, content)..."""
    b = b""
    for name, filename, content in parts:
        b += ('--%s\r\nContent-Disposition: form-data; name="%s"%s\r\nContent-Type: x/y\r\n\r\n' % (
            boundary, name, "" if filename is None else '; filename="%s"' % filename)).encode() + content + b"\r\n"
    return b + ("--%s--\r\n" % boundary).encode()


FORM = "multipart/form-data; boundary=BoUnD"


def read(path):
    with open(path, "rb") as f:
        return f.read()


# --- token, small endpoints ---

for method, path in (("GET", "/metrics"), ("GET", "/envs"), ("POST", "/process.Process/List"),
                     ("POST", "/files/compose"), ("GET", "/no-such")):
    status, h, b = e.ask(method, path, "{}" if method == "POST" else None, X_Access_Token=None)
    ok(status == 401 and json.loads(b) == UNAUTHORIZED, "%s %s wants the token" % (method, path), b)
ok(e.ask("GET", "/metrics", X_Access_Token="wrong")[0] == 401, "a wrong token is refused")
ok(e.ask("GET", "/health", X_Access_Token=None)[::2] == (204, b""), "health needs none, and is 204")
m = json.loads(e.ask("GET", "/metrics")[2])
ok(set(m) == {"ts", "cpu_count", "cpu_used_pct", "mem_total_mib", "mem_used_mib", "mem_total", "mem_used",
              "mem_cache", "disk_used", "disk_total"} and m["mem_total"] > m["mem_used"] > 0 and m["cpu_count"] > 0,
   "metrics", m)
ok(json.loads(e.ask("GET", "/envs")[2]) == {"E2B_SANDBOX": "true", "A": "1"}, "envs is the global environment")
status, h, b = e.ask("POST", "/init", json.dumps({"envVars": {"B": "2"}, "accessToken": "secret",
                                                  "timestamp": "2020-01-01T00:00:00Z"}))
ok(status == 204 and h["x-envd-version"] == "0.6.13" and json.loads(e.ask("GET", "/envs")[2])["B"] == "2",
   "init adds to it")
ok(e.ask("POST", "/init", json.dumps({"accessToken": "other"}))[::2] == (401, b"access token validation failed"),
   "init with another token is refused")
ok(e.ask("GET", "/no-such")[::2] == (404, b"404 page not found\n"), "an unknown path is 404 in plain text")
ok(e.ask("DELETE", "/health")[0] == 405 and e.ask("HEAD", "/files?path=/")[0] == 405, "other methods are 405")
status, h, b = e.ask("OPTIONS", "/files", Origin="http://x", Access_Control_Request_Method="POST",
                     Access_Control_Request_Headers="x-a", X_Access_Token=None)
ok(status == 204 and h["access-control-allow-origin"] == "*", "a preflight is answered", h)

# --- uploads ---

data = os.urandom(300000)
status, h, b = put("dir/sub/a.bin", data)
ok(status == 200 and b == [{"name": "a.bin", "path": H + "/dir/sub/a.bin", "type": "file"}]
   and read("home/dir/sub/a.bin") == data, "octet-stream writes the body, and the directories above", b)
ok(h["content-type"] == "text/plain; charset=utf-8", "the answer is JSON in text/plain, as it really is", h)
ok(put("chunked", iter([data[:7], data[7:70000], data[70000:]]), Transfer_Encoding="chunked", chunked=True)[0] == 200
   and read("home/chunked") == data, "chunked too")
ok(put("packed", gzip.compress(data), Content_Encoding="gzip")[0] == 200 and read("home/packed") == data,
   "and compressed")
ok(put("packed2", gzip.compress(bytes(5000000)), Content_Encoding="gzip")[0] == 200
   and read("home/packed2") == bytes(5000000), "however much it becomes")
ok(put("x", b"", Content_Encoding="br")[0] == 400, "another encoding is 400")
ok(put("x", gzip.compress(data)[:-9], Content_Encoding="gzip")[0] == 500, "half a gzip stream is an error")
ok(put(None, b"x")[:1] == (400,), "octet-stream needs a path")
ok(put("x", b"x", Content_Type="text/plain")[0] == 400, "another type is 400")
ok(put("dir", b"x") [::2] == (400, {"code": 400, "message": "path is a directory: %s/dir" % H}), "so is a directory")
ok(put("chunked/x", b"x")[0] == 500, "a file in place of a directory is an error")
ok(put("~/tilde", b"t")[0] == 200 and read("home/tilde") == b"t" and put("~root/x", b"")[0] == 400,
   "~ is the user's home, and nobody else's")

status, h, b = put("one", form(("file", "ignored", data)), Content_Type=FORM)
ok(status == 200 and b == [{"name": "one", "path": H + "/one", "type": "file"}] and read("home/one") == data,
   "a form with a path is one file there", b)
tricky = b"\r\n--BoUnX\r\n--BoUn\r\n\r\n--"
status, h, b = put(None, form(("file", "m/1", b"first"), ("note", None, b"skipped"), ("file", H + "/m/2", tricky),
                              ("file", "m/3", b"")), Content_Type=FORM)
ok(status == 200 and [x["path"] for x in b] == [H + "/m/1", H + "/m/2", H + "/m/3"] and
   [read("home/m/%d" % i) for i in (1, 2, 3)] == [b"first", tricky, b""],
   "without one each part's file name is its path; other parts are passed over", b)
status, h, b = put(None, form(("file", "d", b"1"), ("file", "d", b"2")), Content_Type=FORM)
ok(status == 400 and "only the first specified file was uploaded" in b["message"] and read("home/d") == b"1",
   "the same path twice is refused", b)
ok(put("x", form(("file", "a", b"1"))[:-9], Content_Type=FORM)[0] == 500, "a form without its end is an error")
ok(put("x", b"", Content_Type="multipart/form-data")[0] == 500, "and one without a boundary")

c = e.connect()
c.putrequest("POST", "/files?" + q({"path": "short"}))
for k, v in e.headers({"Content-Type": "application/octet-stream", "Content-Length": "1000"}).items():
    c.putheader(k, v)
c.endheaders()
c.send(b"x" * 500)
end = time.monotonic() + 5
while time.monotonic() < end and not (os.path.exists("home/short") and os.path.getsize("home/short") == 500):
    time.sleep(0.01)
c.close()
ok(read("home/short") == b"x" * 500, "an upload that breaks off leaves a short file")

# --- metadata ---

status, h, b = put("meta", b"x", X_Metadata_Owner="me", X_Metadata_B="two words")
ok(status == 200 and b[0]["metadata"] == {"owner": "me", "b": "two words"}, "metadata comes back with lower-case keys", b)
entry = e.rpc("filesystem.Filesystem/Stat", {"path": "meta"})[1]["entry"]
try:
    os.setxattr("home/meta", "user.probe", b"")
    ok(entry.get("metadata") == {"owner": "me", "b": "two words"}, "Stat shows it", entry)
    put("meta", b"y", X_Metadata_C="3")
    ok(e.rpc("filesystem.Filesystem/Stat", {"path": "meta"})[1]["entry"].get("metadata") == {"c": "3"},
       "the next upload replaces all of it")
except OSError as x:
    ok(True, "Stat shows it # SKIP no user attributes here: %s" % x)
ok(put("meta", b"x", X_Metadata_Big="x" * 4096)[0] == 400, "more than 4096 bytes are refused")

# --- downloads ---

status, h, b = get("dir/sub/a.bin")
ok(status == 200 and b == data and h["content-length"] == "300000" and h["accept-ranges"] == "bytes"
   and h["content-type"] == "application/octet-stream" and h["content-disposition"] == "inline; filename=a.bin"
   and "etag" not in h, "GET gives the bytes and says what they are", h)
put("a b.txt", b"text")
put("\u00e4.json", b"{}")
ok(get("a b.txt")[1]["content-disposition"] == 'inline; filename="a b.txt"' and
   get("a b.txt")[1]["content-type"] == "text/plain; charset=utf-8", "a name with a blank is quoted")
ok(get("\u00e4.json")[1]["content-disposition"] == "inline; filename*=utf-8''%C3%A4.json" and
   get("\u00e4.json")[1]["content-type"] == "application/json", "another is encoded")
for r, want in (("bytes=0-9", data[:10]), ("bytes=299990-", data[-10:]), ("bytes=-5", data[-5:]),
                ("bytes=100-999999", data[100:]), ("bytes=-999999", data)):
    status, h, b = get("dir/sub/a.bin", Range=r)
    ok(status == 206 and b == want and h["content-range"].endswith("/300000"), "Range: " + r, (status, len(b), h))
status, h, b = get("dir/sub/a.bin", Range="bytes=300000-")
ok(status == 416 and h["content-range"] == "bytes */300000", "a range behind the end is 416", h)
status, h, b = get("dir/sub/a.bin", Accept_Encoding="gzip")
ok(status == 200 and h["content-encoding"] == "gzip" and gzip.decompress(b) == data, "gzip for who accepts it", h)
ok(get("dir/sub/a.bin", Accept_Encoding="gzip", Range="bytes=0-9")[2] == data[:10], "but not for a range")
put("empty", b"")
ok(get("empty")[2] == b"" and gzip.decompress(get("empty", Accept_Encoding="gzip")[2]) == b"", "an empty file")
ok(get("empty", Accept_Encoding="identity;q=0, br")[0] == 406, "406 for who wants what there is not")
modified = get("empty")[1]["last-modified"]
ok(get("empty", If_Modified_Since=modified)[0] == 304, "304 for who has it")
ok(get("dir")[::2] == (400, json.dumps({"code": 400, "message": "path '%s/dir' is a directory" % H},
                                       separators=(",", ":")).encode()), "a directory is 400")
status, h, b = get("nothing")
ok(status == 404 and json.loads(b) == {"code": 404, "message": "path '%s/nothing' does not exist" % H}, "a missing file is 404", b)
ok(e.ask("GET", "/files?path=x&username=nobody-here")[0] == 401, "an unknown user is 401")
ok(e.ask("GET", "/files?path=%zz")[0] == 400, "a path that is not encoded right is 400")

# --- signatures ---


def signed(path, op="read", user="user", until=None, token="secret", method="GET", body=None, **more):
    text = "%s:%s:%s:%s" % (path, op, user, token) + ("" if until is None else ":%d" % until)
    sig = "v1_" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
    query = dict({"path": path, "username": user, "signature": sig}, **more)
    if until is not None:
        query["signature_expiration"] = until
    return e.ask(method, "/files?" + q({k: v for k, v in query.items() if v != ""}), body, X_Access_Token=None,
                 Content_Type="application/octet-stream" if body else None)


ok(signed("a b.txt")[0] == 200, "a signature is as good as the token")
ok(signed("a b.txt", user="")[0] == 200, "also without a user")
ok(signed("a b.txt", until=int(time.time()) + 60)[0] == 200, "and for a time")
status, h, b = signed("a b.txt", until=int(time.time()) - 60)
ok(status == 401 and json.loads(b)["message"] == "signature is already expired", "until that is over", b)
ok(json.loads(signed("a b.txt", op="write")[2])["message"] == "invalid signature", "reading is not writing")
ok(signed("signed", op="write", method="POST", body=b"s")[0] == 200 and read("home/signed") == b"s", "uploads too")
ok(signed("a b.txt", token="guess")[0] == 401 and e.ask("GET", "/files?path=x", X_Access_Token=None)[0] == 401,
   "a wrong one or none is 401")
ok(e.ask("GET", "/files?path=empty", X_Access_Token="wrong")[0] == 401, "so is a wrong token")

# --- compose ---


def compose(sources, to, **more):
    status, h, b = e.ask("POST", "/files/compose", json.dumps(dict({"source_paths": sources, "destination": to}, **more)),
                         Content_Type="application/json")
    return status, json.loads(b)


for i in range(3):
    put("part%d" % i, data[i * 100000:(i + 1) * 100000])
put("whole", b"old")
ok(compose(["part0", "part1", "part2"], "whole") == (200, {"name": "whole", "path": H + "/whole", "type": "file"})
   and read("home/whole") == data and not any(os.path.exists("home/part%d" % i) for i in range(3)),
   "compose joins files in their order and removes them")
ok(compose(["whole", "nothing"], "w2")[0] == 404 and read("home/whole") == data and not os.path.exists("home/w2"),
   "a missing source is 404, and nothing is touched")
ok(compose([], "w2")[0] == compose(["whole"], "")[0] == compose(["whole"], "whole")[0] == compose(["dir"], "w2")[0] == 400,
   "no sources, no destination, itself or a directory are 400")
ok(not [n for n in os.listdir("home") if "e2b-compose" in n], "no temporary file stays")

# --- faults, versions, no token ---

ok(e.stop() == 0, "SIGTERM ends it with 0")
e = Envd("--fault", "files:cut@1000x2", "--fault", "files:507x1")
status, h, b = put("x", b"x")
ok(status == 507 and b["code"] == 507, "fault 507", b)
with open("home/big", "wb") as f:
    f.write(data)
try:
    get("big")
    ok(False, "fault cut breaks a download")
except http.client.IncompleteRead as x:
    ok(len(x.partial) == 1000, "fault cut breaks a download after so many bytes", len(x.partial))
ok(get("big")[2] == data, "as often as it says")
e.stop()
e = Envd("--fault", "files:cut@1000x1")
try:
    put("x", data)
    ok(False, "fault cut breaks an upload")
except (http.client.RemoteDisconnected, ConnectionError):
    ok(True, "fault cut breaks an upload")
e.stop()
e = Envd("--envd-version", "0.5.2", token=None)
ok(put("x", b"x")[0] == 500 and put("x", form(("file", "x", b"form")), Content_Type=FORM)[0] == 200,
   "before 0.5.7 there are only forms")
ok(e.ask("POST", "/files/compose", "{}")[0] == 404, "before 0.5.5 no compose")
ok("content-encoding" not in get("x", Accept_Encoding="gzip")[1], "before 0.5.3 no gzip")
ok(e.ask("GET", "/metrics")[0] == 200, "without a token everything is open")
e.stop()
e = Envd("--default-workdir", os.getcwd() + "/work")
os.mkdir("work")
ok(e.run("pwd")["stdout"].decode().strip() == os.getcwd() + "/work", "processes start in the default working directory")
e.stop()
done()
