#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
#
# timeout: 300
"""The control API of farstep-mock-e2b: its statuses, its texts, and what really happens to a sandbox."""
import base64
import os
import re
import time

from lib_e2b import KEY, Mock, usable
from lib_run import done, ok, wait_for
from urllib.parse import quote

why = usable()
if why:
    print(why)
    raise SystemExit(77)


def error(a):
    return a.status, a.json["code"], a.json["message"]


def keys(m):
    ok(m.api("GET", "/health", key=None).status == 204, "/health needs no key")
    a = m.api("GET", "/sandboxes", key=None)
    ok(error(a) == (401, 401, "authorization header is missing"), "no key", a)
    a = m.api("GET", "/sandboxes", key="sk_1")
    ok(error(a) == (401, 401, "authorization header is malformed"), "a key of another shape", a)
    text = "Invalid API key, please visit https://e2b.dev/docs/api-key for more information.\n"
    a = m.api("GET", "/sandboxes", key="e2b_12")
    ok(error(a) == (401, 401, text + "Invalid API key format"), "a key that is too short", a)
    a = m.api("GET", "/sandboxes", key="e2b_" + "1" * 40)
    ok(error(a) == (401, 401, text + "Cannot get the team for the given API key"), "an unknown key", a)
    a = m.api("POST", "/v2/sandboxes", {"templateID": "base"}, key=None)
    ok(a.status == 401 and m.api("GET", "/v2/sandboxes").json == [], "nothing is created without a key", a)


def validation(m):
    def bad(doc, text, path="/v2/sandboxes", **kw):
        a = m.api("POST", path, doc, **kw)
        ok(a.status == 400 and a.json["message"].startswith("validation error: ") and text in a.json["message"], "refused: %s" % text, a)

    bad({}, 'property "templateID" is missing')
    bad({"templateID": 5}, '"/templateID": value must be a string')
    bad({"templateID": "base", "timeout": "5"}, '"/timeout": value must be an integer')
    bad({"templateID": "base", "timeout": 1.5}, '"/timeout": value must be an integer')
    bad({"templateID": "base", "timeout": -1}, '"/timeout": number must be at least 0')
    bad({"templateID": "base", "metadata": {"a": 1}}, '"/metadata/a": value must be a string')
    bad({"templateID": "base", "envVars": []}, '"/envVars": value must be an object')
    bad({"templateID": "base", "autoPause": "yes"}, '"/autoPause": value must be a boolean')
    bad("{", "failed to decode request body")
    bad("[]", "value must be an object")
    bad(b"", "value is required but missing")
    bad("{}", 'header Content-Type has unexpected value "text/plain"', headers={"Content-Type": "text/plain"})
    a = m.api("POST", "/v2/sandboxes", {"templateID": "base", "timeout": 0})
    ok(error(a) == (400, 400, "Timeout must be greater than 0"), "a timeout of 0", a)
    a = m.api("POST", "/v2/sandboxes", {"templateID": "base", "timeout": 90000})
    ok(error(a) == (400, 400, "Timeout cannot be greater than 24 hours"), "a timeout over the plan's", a)
    a = m.api("POST", "/v2/sandboxes", {"templateID": "No-Such"})
    ok(error(a) == (404, 404, "template 'no-such' not found"), "an unknown template", a)
    a = m.api("POST", "/v2/sandboxes", {"templateID": "base:v9"})
    ok(a.status == 404 and a.json["message"].startswith("tag 'v9' does not exist for template '"), "an unknown tag", a)
    a = m.api("POST", "/sandboxes", {"templateID": "base", "network": {"allowPublicTraffic": False}})
    ok(a.status == 400 and a.json["message"].startswith("You cannot create a sandbox without public access unless"), "private without secure", a)
    a = m.api("GET", "/v3/nothing")
    ok(a.status == 404 and a.json["code"] == 404, "an unknown route", a)
    a = m.api("PUT", "/v2/sandboxes", {})
    ok(a.status == 405 and a.json["code"] == 405, "a known route by another method", a)
    a = m.api("POST", "/sandboxes/%s/fork" % ("i" + "0" * 20), {})
    ok(a.status == 501 and a.json["code"] == 501, "what the mock has not is said by name", a)
    ok(m.api("GET", "/v2/sandboxes").json == [], "nothing of this created a sandbox")
    a = m.api("POST", "/v2/sandboxes", "x" * (2 * 1024 * 1024))
    ok(a.status == 413, "a body over the bound", a)


def create(m):
    b = m.create(metadata={"k": "v"}, someday=1)
    d = b.doc
    ok(re.fullmatch("i[a-z0-9]{20}", d["sandboxID"]) and d["clientID"] == "6532622b" and d["alias"] == "base" and d["envdVersion"] == "0.6.13", "v2: an id of E2B's shape", d)
    ok(re.fullmatch("[0-9a-f]{64}", d["envdAccessToken"]) and d["trafficAccessToken"] is None and d["domain"] is None, "v2: always secured", d)
    i = b.info()
    ok(abs(seconds(i) - 300) < 1 and i["state"] == "running" and i["cpuCount"] == 2 and i["metadata"] == {"k": "v"}, "v2: lives 300 s", i)
    ok(i["lifecycle"] == {"autoResume": False, "onTimeout": "kill"} and i["envdAccessToken"] == b.token, "detail has lifecycle and token", i)
    ok(m.api("GET", "/sandboxes/%s-6532622b" % b.id).json["sandboxID"] == b.id, "an id with its client id of old")
    a = b.api("DELETE", "")
    ok((a.status, a.body) == (204, b""), "delete", a)
    text = 'Sandbox "%s" doesn\'t exist or you don\'t have access to it' % b.id
    for method, what, doc in (("DELETE", "", None), ("GET", "", None), ("POST", "/timeout", {"timeout": 9}), ("POST", "/pause", {}), ("POST", "/connect", {"timeout": 9}), ("POST", "/refreshes", {}), ("PUT", "/network", {}), ("GET", "/metrics", None)):
        a = b.api(method, what, doc)
        ok(error(a) == (404, 404, text), "%s%s of one that is gone" % (method, what), a)
    a = m.api("GET", "/sandboxes/a_b")
    ok(error(a) == (400, 400, "Invalid sandbox ID"), "a malformed id", a)
    b = m.create("", secure=False)
    ok("envdAccessToken" not in b.doc and abs(seconds(b.info()) - 15) < 1, "v1: open if so wanted, lives 15 s", b.doc)
    ok(b.run("echo $((6*7))") == (0, b"42\n", b""), "v1: its envd asks for no token")
    b.api("DELETE", "")
    c = m.connect()
    c.request("POST", "/v2/sandboxes", iter([b'{"templ', b'ateID":"base"}']), {"X-API-KEY": KEY, "Content-Type": "application/json"}, encode_chunked=True)
    a = c.getresponse()
    ok(a.status == 201, "a chunked body", a.status)
    m.api("DELETE", "/sandboxes/" + __import__("json").loads(a.read())["sandboxID"])
    c.close()


def seconds(i):
    return parse(i["endAt"]) - parse(i["startedAt"])


def parse(text):
    from datetime import datetime
    return datetime.fromisoformat(text.replace("Z", "+00:00")).timestamp()


def inside(m):
    b = m.create(envVars={"COLOUR": "blue"})
    code, out, _ = b.run("id -un; pwd; echo $COLOUR $E2B_SANDBOX $E2B_SANDBOX_ID; hostname; ls /home")
    ok(code == 0 and out.decode().split() == ["user", "/home/user", "blue", "true", b.id, b.id, "user"], "commands run as user, in its home, with the sandbox's variables", out)
    ok(b.run("touch /usr/x; touch /etc/x; touch x /tmp/x && echo fine")[1] == b"fine\n", "/usr and /etc are read-only, home and /tmp are not")
    out = b.run("cat /proc/net/route /proc/net/ipv6_route | grep -v lo; ls /sys/class/net 2>/dev/null; exec 3<>/dev/tcp/1.1.1.1/80")[1]
    ok(b"eth" not in out and b.run("exec 3<>/dev/tcp/1.1.1.1/80")[0] != 0, "there is no way out of its network", out)
    out = b.run("ls /proc | grep -c '^[0-9]*$'")[1]
    ok(int(out) < 12, "it sees only its own processes", out)
    here = os.path.abspath(".")
    ok(b.run("ls '%s'" % here)[0] != 0, "it sees no other files of this machine")
    ok(b.run("exec 3<>/dev/tcp/127.0.0.1/%d" % m.port)[0] != 0, "this machine's loopback is not its own")
    if os.geteuid() == 0:
        ok(b.run("id -u; touch /root/x && echo fine", user="root")[1] == b"0\nfine\n", "root in it is root of it")
        ok(b.run("cat /etc/shadow", user="root")[0] != 0, "but not of this machine's files")
        ok(b.run("mount -o remount,rw,bind /usr; touch /usr/x /usr/bin/x", user="root")[0] != 0 and not os.path.exists("/usr/x"), "nor can it write them when it mounts /usr anew")
    out = b.run("cut -d' ' -f5 /proc/self/mountinfo; cat /etc/os-release")[1].decode()
    ok("/etc/" not in out and "NAME=" in out, "no mount lies on a file of /etc: it would go when this machine replaces the file", out)
    other = m.create()
    ok(other.run("ls /tmp; cat /home/user/x")[0] != 0 and b.run("ls /home/user")[1] == b"x\n", "two sandboxes share nothing")
    other.api("DELETE", "")
    b.api("DELETE", "")


def lifetime(m):
    b = m.create(timeout=100)
    ok(b.api("POST", "/timeout", {"timeout": 10}).status == 204 and abs(parse(b.info()["endAt"]) - time.time() - 10) < 5, "timeout shortens a life")
    ok(b.api("POST", "/timeout", {"timeout": 500}).status == 204 and abs(parse(b.info()["endAt"]) - time.time() - 500) < 5, "and lengthens it")
    ok(b.api("POST", "/timeout", {"timeout": 10**6}).status == 204 and abs(seconds(b.info()) - 86400) < 2, "but not over the plan's bound")
    b.api("POST", "/timeout", {"timeout": 100})
    ok(b.api("POST", "/refreshes", {"duration": 50}).status == 204 and abs(parse(b.info()["endAt"]) - time.time() - 100) < 5, "a refresh never shortens")
    ok(b.api("POST", "/refreshes", {"duration": 200}).status == 204 and abs(parse(b.info()["endAt"]) - time.time() - 200) < 5, "it extends")
    a = b.api("POST", "/refreshes", {"duration": 3601})
    ok(a.status == 400 and a.json["message"].startswith("validation error"), "a refresh over an hour", a)
    a = b.api("POST", "/timeout", {})
    ok(a.status == 400 and 'property "timeout" is missing' in a.json["message"], "timeout needs its number", a)
    a = b.api("POST", "/v2/connect".replace("/v2", ""), {"timeout": 20}, version="/v2")
    ok(a.status == 200 and a.json["envdAccessToken"] == b.token and parse(b.info()["endAt"]) - time.time() > 150, "connect to a running one: 200, and it only extends", a)
    ok(b.api("POST", "/timeout", {"timeout": 0}).status == 204 and b.api("GET", "").status == 404, "timeout 0 kills")
    b = m.create(timeout=1)
    began = time.monotonic()
    wait_for("its end", lambda: b.api("GET", "").status == 404)
    ok(0.8 < time.monotonic() - began < 8 and b.ask("GET", "/health").status == 502, "a life ends at its end", time.monotonic() - began)
    b = m.create(timeout=1, autoPause=True)
    wait_for("its pause", lambda: b.info()["state"] == "paused")
    ok(b.info()["lifecycle"]["onTimeout"] == "pause", "autoPause: it pauses at its end")
    b.api("DELETE", "")


COUNT = "setsid bash -c 'i=0; while :; do i=$((i+1)); echo $i >count.new; mv count.new count; sleep 0.02; done' >/dev/null 2>&1 </dev/null &"


def pauses(m):
    b = m.create(timeout=60)
    b.run(COUNT)
    wait_for("counting", lambda: int(b.get("count") or 0) > 3)
    a = b.api("POST", "/pause", {})
    ok((a.status, a.body) == (204, b""), "pause", a)
    i = b.info()
    ok(i["state"] == "paused" and abs(parse(i["endAt"]) - time.time()) < 5, "a paused one says so, and when", i)
    path = os.path.join(m.root, b.id, "home/user/count")
    before = open(path).read()
    time.sleep(0.3)
    ok(open(path).read() == before, "nothing in it moves meanwhile")
    a = b.ask("GET", "/health")
    ok(a.status == 502 and a.json["message"] == "The sandbox was not found", "the edge does not find it", a)
    a = b.api("POST", "/pause")
    ok(a.status == 409 and a.json["code"] == 409, "paused twice", a)
    ok(b.api("POST", "/timeout", {"timeout": 5}).status == 404, "a paused one has no timeout")
    a = b.api("POST", "/connect", {"timeout": 77}, version="/v2")
    ok(a.status == 201 and a.json["envdAccessToken"] == b.token, "connect resumes it: 201, with the same token", a)
    ok(abs(seconds(b.info()) - 77) < 1 and b.info()["state"] == "running", "a new run begins")
    ok(wait_for("going on", lambda: int(b.get("count") or 0) > int(before)), "its processes go on where they were")
    a = b.api("POST", "/resume", {"timeout": 5})
    ok(a.status == 409, "resume of a running one", a)
    b.api("POST", "/pause", {"memory": False})
    a = b.api("POST", "/resume", {"timeout": 60})
    ok(a.status == 201, "resume: 201", a)
    at = b.get("count")
    ok(int(at) > 0 and b.run("pgrep -fc 'echo $i'")[1] == b"0\n" and b.get("count") == at, "without its memory only the files are back", at)
    b.api("POST", "/pause", {})
    ok(b.api("POST", "/connect", {"timeout": 60, "memory": False}).status == 201 and b.run("true")[0] == 0, "resumed from its files on demand")
    b.api("POST", "/pause", {})
    ok(b.api("DELETE", "").status == 204 and not os.path.exists(os.path.join(m.root, b.id)), "a paused one is deleted with its files")
    b = m.create(timeout=60, autoPause=True, autoResume={"enabled": True})
    b.run("echo kept >f")
    b.api("POST", "/pause", {})
    ok(b.get("f") == b"kept\n" and b.info()["state"] == "running" and seconds(b.info()) >= 299, "autoResume: traffic wakes it, for 300 s at least")
    b.api("DELETE", "")


def lists(m):
    made = [m.create(timeout=60, metadata={"n": str(i), "app": "x y&z" if i < 2 else "w"}) for i in range(5)]
    ids = [b.id for b in made]
    made[0].api("POST", "/pause", {})
    a = m.api("GET", "/v2/sandboxes?limit=2")
    got, pages = [s["sandboxID"] for s in a.json], 1
    ok(a.headers["X-Total-Running"] == "4", "the number of running ones is told", a.headers)
    token = a.headers["X-Next-Token"]
    ok("__" in base64.urlsafe_b64decode(token).decode(), "the token is url-base64 of a time and an id", token)
    while token:
        a = m.api("GET", "/v2/sandboxes?limit=2&nextToken=" + quote(token))
        got += [s["sandboxID"] for s in a.json]
        token, pages = a.headers["X-Next-Token"], pages + 1
    ok(got == ids[::-1] and pages == 3, "pages: all of them once, the newest first", got)
    first = m.api("GET", "/v2/sandboxes?limit=3&order=asc")
    ok([s["sandboxID"] for s in first.json] == ids[:3], "the oldest first", first)
    a = m.api("GET", "/v2/sandboxes?nextToken=" + quote(first.headers["X-Next-Token"]))
    ok(error(a) == (400, 400, "Invalid next token"), "a token of the other order", a)
    rest = m.api("GET", "/v2/sandboxes?order=asc&nextToken=" + quote(first.headers["X-Next-Token"]))
    ok([s["sandboxID"] for s in rest.json] == ids[3:] and rest.headers["X-Next-Token"] is None, "the last page has no token", rest)

    def listed(query, path="/v2/sandboxes"):
        a = m.api("GET", path + query)
        return sorted(s["sandboxID"] for s in a.json) if a.status == 200 else a

    ok(listed("?state=paused") == ids[:1] and listed("?state=running") == sorted(ids[1:]) and listed("?state=running,paused") == sorted(ids), "by state")
    ok(m.api("GET", "/v2/sandboxes?state=paused").headers["X-Total-Running"] is None, "no total when running ones are not asked for")
    ok(listed("", "/sandboxes") == sorted(ids[1:]), "v1 lists running ones")
    for text in ("n%3D3", "n=3"):
        ok(listed("?metadata=" + (text if "%" in text else quote(text))) == [ids[3]], "by metadata " + text)
    thrice = quote("app=" + quote(quote("x y&z")))
    ok(listed("?metadata=" + thrice) == sorted(ids[:2]), "by metadata that needs all three encodings")
    ok(listed("?metadata=" + quote("app=w&n=4")) == [ids[4]], "by two pairs")
    for bad in ("app", "app=", "=w"):
        a = m.api("GET", "/v2/sandboxes?metadata=" + quote(bad))
        ok(a.status == 400, "metadata '%s' is refused" % bad, a)
    ok(listed("?startedAfter=" + quote(made[3].info()["startedAt"])) == [ids[4]], "those started later")
    ok(listed("?template=base") == sorted(ids) and listed("?template=other") == [], "by template")
    for bad in ("limit=0", "limit=101", "limit=x", "state=dead", "order=up", "startedAfter=x"):
        a = m.api("GET", "/v2/sandboxes?" + bad)
        ok(a.status == 400 and a.json["message"].startswith("validation error"), "refused: " + bad, a)
    a = m.api("GET", "/v2/sandboxes?nextToken=abc")
    ok(error(a) == (400, 400, "Invalid next token"), "no token", a)
    s = m.api("GET", "/sandboxes/metrics?sandbox_ids=%s,%s" % (ids[1], "none")).json["sandboxes"]
    ok(list(s) == [ids[1]] and s[ids[1]]["cpuCount"] == 2, "metrics of many", s)
    s = made[1].api("GET", "/metrics").json
    ok(len(s) == 1 and s[0]["memTotal"] == 512 << 20 and 0 < s[0]["memUsed"] < 512 << 20 and s[0]["diskUsed"] > 0, "metrics of one", s)
    ok(made[1].api("GET", "/metrics?end=5").json == [], "metrics of another time")
    ok(isinstance(made[1].api("GET", "/logs").json["logEntries"], list) and isinstance(made[1].api("GET", "/logs", version="/v2").json["logs"], list), "logs")
    a = made[1].api("PUT", "/network", {"denyOut": ["10.0.0.0/8"]})
    ok(a.status == 204 and made[1].info()["network"]["denyOut"] == ["10.0.0.0/8"], "the network is replaced", a)
    for b in made:
        b.api("DELETE", "")


def quota():
    with Mock("--max-sandboxes", "2") as m:
        a, b = m.create(timeout=60), m.create(timeout=60)
        text = "you have reached the maximum number of concurrent E2B sandboxes (2). If you need more, please visit 'https://e2b.dev/docs/billing'"
        r = m.api("POST", "/v2/sandboxes", {"templateID": "base"})
        ok(error(r) == (429, 429, text) and r.headers["Retry-After"] is None, "the quota, without Retry-After", r)
        a.api("POST", "/pause", {})
        c = m.create(timeout=60)
        ok(True, "a paused one does not count")
        r = a.api("POST", "/connect", {"timeout": 9})
        ok(error(r) == (429, 429, text) and a.info()["state"] == "paused", "nor can it come back over the quota", r)
        c.api("DELETE", "")
        ok(a.api("POST", "/connect", {"timeout": 9}).status == 201, "it can when there is room")
        b.api("DELETE", "")


def templates(m):
    name = "farstep-base-2c-1024m"
    a = m.api("GET", "/templates/aliases/" + name)
    ok(error(a) == (404, 404, "template '%s' not found" % name), "a name that is free", a)
    a = m.api("POST", "/v3/templates", {"name": name, "cpuCount": 4, "memoryMB": 1024, "tags": ["v1"]})
    t, build = a.json["templateID"], a.json["buildID"]
    ok(a.status == 202 and a.json["names"] == [name] and a.json["tags"] == ["v1"], "a build is asked for", a)
    status = "/templates/%s/builds/%s/status" % (t, build)
    ok(m.api("GET", status).json["status"] == "waiting" and m.api("POST", "/v2/sandboxes", {"templateID": name}).status == 404, "until it is built there is none")
    link = m.api("GET", "/templates/%s/files/%s" % (t, "a" * 64))
    ok(link.status == 201 and link.json["present"] is False, "a place for its files", link)
    path = link.json["url"].split(str(m.port), 1)[1]
    ok(m.ask("PUT", path, b"x" * 3000000).status == 200, "they may be any size")
    a = m.ask("PUT", path, iter([b"x"]))
    ok(a.status == 501, "but not chunked", a)
    a = m.api("POST", "/v2/templates/%s/builds/%s" % (t, build), {"fromImage": "debian:12", "steps": [{"type": "RUN", "args": ["true"]}]})
    ok((a.status, a.body) == (202, b""), "the build is triggered", a)
    ok(m.api("GET", status).json["status"] == "ready", "and ready in an instant")
    b = m.create(templateID=name)
    i = b.info()
    ok((i["templateID"], i["alias"], i["cpuCount"], i["memoryMB"]) == (t, name, 4, 1024), "a sandbox of it has its size", i)
    b.api("DELETE", "")
    m.create(templateID="team/%s:v1" % name.upper()).api("DELETE", "")
    ok(True, "it is found with namespace, tag and in upper case")
    ok(m.api("GET", "/templates/aliases/" + name).json["templateID"] == t, "the name is taken now")
    ok([x["templateID"] for x in m.api("GET", "/v2/templates").json] == [t], "the team's templates are listed")
    a = m.api("POST", "/templates/tags", {"target": name, "tags": ["v2"]})
    ok(a.status == 201 and sorted(x["tag"] for x in m.api("GET", "/templates/%s/tags" % t).json) == ["v1", "v2"], "tags", a)
    ok(m.api("DELETE", "/templates/tags", {"name": name, "tags": ["v1"]}).status == 204 and len(m.api("GET", "/templates/%s/tags" % t).json) == 1, "tags go")
    again = m.api("POST", "/v3/templates", {"name": name}).json
    ok(again["templateID"] == t and again["buildID"] != build, "another build of the same name is of the same template", again)
    for doc, text in (({"cpuCount": 0}, "CPU count must be at least 1"), ({"cpuCount": 3}, "CPU count must be 1 or"), ({"cpuCount": 33}, "CPU count can't be higher than 32"), ({"memoryMB": 64}, "Memory must be at least 128"), ({"memoryMB": 129}, "Memory must be divisible")):
        a = m.api("POST", "/v3/templates", dict(doc, name="x"))
        ok(a.status == 400 and a.json["message"].startswith(text), "refused: " + text, a)
    ok(m.api("POST", "/v3/templates", {"name": "base"}).status == 403, "a public one is another team's")
    ok(m.api("DELETE", "/templates/" + t).status == 204 and m.api("GET", "/templates/aliases/" + name).status == 404, "a template is deleted")


with Mock("--root", "root", "--max-sandboxes", "50") as mock:
    mock.root = os.path.abspath("root")
    keys(mock)
    validation(mock)
    create(mock)
    inside(mock)
    lifetime(mock)
    pauses(mock)
    lists(mock)
    templates(mock)
    for s in mock.api("GET", "/v2/sandboxes").json:
        mock.api("DELETE", "/sandboxes/" + s["sandboxID"])
    ok(os.listdir("root") == ["lock"], "nothing is left of sandboxes that ended", os.listdir("root"))
quota()
done()
