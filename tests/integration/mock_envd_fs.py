#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""The mock's envd: calls of filesystem.Filesystem."""
import os
import re
import time

from lib_envd import Envd, eventually
from lib_run import done, ok

F = "filesystem.Filesystem/"
e = Envd()
H = e.home


def names(answer):
    return [x["path"][len(H) + 1:] for x in answer.get("entries", [])]


# --- Stat ---

with open("home/file", "w") as f:
    f.write("12345")
os.chmod("home/file", 0o640)
os.symlink("file", "home/link")
os.symlink("nowhere", "home/dangling")
os.mkdir("home/d")
status, m = e.rpc(F + "Stat", {"path": "file"})
x = m["entry"]
owner = "root" if os.getuid() == 0 else "user"
ok(status == 200 and x["name"] == "file" and x["type"] == "FILE_TYPE_FILE" and x["path"] == H + "/file"
   and x["size"] == "5" and x["mode"] == 0o640 and x["permissions"] == "-rw-r-----" and x["owner"] == owner
   and re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", x["modifiedTime"]), "Stat tells all about a file", x)
x = e.rpc(F + "Stat", {"path": "link"})[1]["entry"]
ok(x["type"] == "FILE_TYPE_FILE" and x["symlinkTarget"] == H + "/file" and x["permissions"][0] == "L"
   and x["mode"] == 0o640, "a link has type and mode of its target", x)
x = e.rpc(F + "Stat", {"path": "dangling"})[1]["entry"]
ok("type" not in x and "mode" not in x and x["symlinkTarget"] == H + "/dangling", "one that leads nowhere has neither", x)
x = e.rpc(F + "Stat", {"path": H + "/d/../d/"})[1]["entry"]
ok(x["type"] == "FILE_TYPE_DIRECTORY" and x["path"] == H + "/d" and x["permissions"] == "drwxr-xr-x", "paths are cleaned", x)
status, m = e.rpc(F + "Stat", {"path": "nothing"})
ok((status, m["code"]) == (404, "not_found") and m["message"].endswith("no such file or directory"), "a missing one is not_found", m)

# --- MakeDir, Move, Remove ---

status, m = e.rpc(F + "MakeDir", {"path": "x/y/z"})
ok(status == 200 and m["entry"]["type"] == "FILE_TYPE_DIRECTORY" and os.path.isdir("home/x/y/z"), "MakeDir makes all above, too", m)
ok(e.rpc(F + "MakeDir", {"path": "x/y"})[1]["code"] == "already_exists", "one that is there already_exists")
ok(e.rpc(F + "MakeDir", {"path": "file"})[1]["code"] == "invalid_argument", "a file in the way is invalid_argument")
status, m = e.rpc(F + "Move", {"source": "file", "destination": "new/place/f2"})
ok(status == 200 and m["entry"]["path"] == H + "/new/place/f2" and not os.path.exists("home/file"), "Move makes the directories", m)
open("home/other", "w").close()
ok(e.rpc(F + "Move", {"source": "new/place/f2", "destination": "other"})[0] == 200 and
   os.path.getsize("home/other") == 5, "and replaces a file")
ok(e.rpc(F + "Move", {"source": "nothing", "destination": "y"})[0] == 404, "a missing source is not_found")
ok(e.rpc(F + "Remove", {"path": "x"}) == (200, {}) and not os.path.exists("home/x"), "Remove takes all below along")
ok(e.rpc(F + "Remove", {"path": "x"}) == (200, {}), "and is content with nothing")
ok(e.rpc(F + "Remove", {"path": "link"}) == (200, {}) and not os.path.lexists("home/link"), "a link is removed, not followed")

# --- ListDir ---

for d in ("l/a/b/c", "l/z"):
    os.makedirs("home/" + d)
for f in ("l/f", "l/a/f", "l/a/b/f"):
    open("home/" + f, "w").close()
os.symlink("a", "home/l/s")
ok(names(e.rpc(F + "ListDir", {"path": "l"})[1]) == ["l/a", "l/f", "l/s", "l/z"], "ListDir lists one level")
ok(names(e.rpc(F + "ListDir", {"path": "l", "depth": 2})[1]) == ["l/a", "l/a/b", "l/a/f", "l/f", "l/s", "l/z"],
   "or as many as are asked for; links are not followed")
ok(len(names(e.rpc(F + "ListDir", {"path": "l", "depth": 99})[1])) == 8, "or all")
ok(names(e.rpc(F + "ListDir", {"path": "l/s"})[1]) == ["l/s/b", "l/s/f"], "but for the one that was named")
ok(e.rpc(F + "ListDir", {"path": "d"}) == (200, {}), "an empty one is an empty message")
ok(e.rpc(F + "ListDir", {"path": "nothing"})[0] == 404, "a missing one is not_found")
ok(e.rpc(F + "ListDir", {"path": "l/f"})[1]["code"] == "invalid_argument", "a file is invalid_argument")

os.mkdir("home/many")
for i in range(15000):
    os.symlink("x" * 100, "home/many/%05d" % i)
n = names(e.rpc(F + "ListDir", {"path": "many"})[1])
ok(n == ["many/%05d" % i for i in range(15000)], "15,000 entries fit into one answer", len(n))

# --- WatchDir ---


def until(s, name, kind):
    """All events up to the one that is waited for."""
    seen = []
    while True:
        k, v = s.event()
        if k != "filesystem":
            return seen, False
        seen.append((v["name"], v["type"][11:]))
        if seen[-1] == (name, kind):
            return seen, v


os.mkdir("home/w")
s = e.stream(F + "WatchDir", {"path": "w"})
ok(s.event() == ("start", {}), "WatchDir begins with a start event")
with open("home/w/f", "w") as f:
    f.write("x")
seen, v = until(s, "f", "WRITE")
ok(("f", "CREATE") in seen and v and "entry" not in v, "create and write are told", seen)
os.chmod("home/w/f", 0o600)
ok(until(s, "f", "CHMOD")[1], "chmod")
os.rename("home/w/f", "home/w/g")
seen, v = until(s, "g", "CREATE")
ok(("f", "RENAME") in seen, "a rename is one of the old name and a create of the new one", seen)
os.remove("home/w/g")
ok(until(s, "g", "REMOVE")[1], "remove")
os.makedirs("home/w/sub")
open("home/w/sub/deep", "w").close()
open("home/w/last", "w").close()
seen, v = until(s, "last", "CREATE")
ok(not [n for n, k in seen if n.startswith("sub/")], "what is below is not watched", seen)
s.close()
s = e.stream(F + "WatchDir", {"path": "w", "recursive": True, "includeEntry": True})
s.event()
open("home/w/sub/deep2", "w").close()
seen, v = until(s, "sub/deep2", "CREATE")
ok(v and v["entry"]["path"] == H + "/w/sub/deep2", "unless that is asked for; entries come along", v)
os.makedirs("home/w/n1/n2")
ok(until(s, "n1/n2", "CREATE")[1], "a new directory is watched, and what came into it before")
open("home/w/n1/n2/f", "w").close()
ok(until(s, "n1/n2/f", "CREATE")[1], "at every depth")
s.close()
s = e.stream(F + "WatchDir", {"path": "w"}, Keepalive_Ping_Interval="1")
s.event()
time.sleep(1.2)
open("home/w/late", "w").close()
until(s, "late", "CREATE")
ok(s.pings == 1, "silence is filled with keepalives", s.pings)
s.close()
s = e.stream(F + "WatchDir", {"path": "w"}, Connect_Timeout_Ms="200")
s.event()
ok(s.event()[1]["code"] == "deadline_exceeded", "Connect-Timeout-Ms ends the call")
ok(e.stream(F + "WatchDir", {"path": "nothing"}).event()[1]["code"] == "not_found", "a missing directory is not_found")
ok(e.stream(F + "WatchDir", {"path": "w/late"}).event()[1]["code"] == "invalid_argument", "a file is invalid_argument")

# --- watchers ---

status, m = e.rpc(F + "CreateWatcher", {"path": "w"})
wid = m["watcherId"]
ok(status == 200 and re.fullmatch("w[a-z0-9]{20}", wid), "CreateWatcher gives an id", m)
ok(e.rpc(F + "GetWatcherEvents", {"watcherId": wid}) == (200, {}), "nothing happened yet")
open("home/w/polled", "w").close()
os.remove("home/w/polled")
m = e.rpc(F + "GetWatcherEvents", {"watcherId": wid})[1]
ok([(x["name"], x["type"]) for x in m["events"]] == [("polled", "EVENT_TYPE_CREATE"), ("polled", "EVENT_TYPE_REMOVE")],
   "what happened is kept until it is asked for", m)
ok(e.rpc(F + "GetWatcherEvents", {"watcherId": wid}) == (200, {}), "once")
ok(e.rpc(F + "RemoveWatcher", {"watcherId": wid}) == (200, {}) and
   e.rpc(F + "RemoveWatcher", {"watcherId": wid})[0] == 404, "RemoveWatcher ends it")
fds = "/proc/%d/fd" % e.p.pid
eventually("the watches are closed", lambda: not [f for f in os.listdir(fds) if "inotify" in os.readlink(fds + "/" + f)])
ok(True, "no watch outlives its stream")
e.stop()

e = Envd("--envd-version", "0.2.4")
open("home/old", "w").close()
ok(set(e.rpc(F + "Stat", {"path": "old"})[1]["entry"]) == {"name", "type", "path"}, "before 0.2.5 an entry is name, type and path")
e.stop()
done()
