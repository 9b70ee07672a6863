#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
# timeout: 240
"""Size, template, network and variables of sandboxes at E2B: what is asked for, byte by byte, at a
small server of our own, and what comes of it in the mock cloud."""
import gzip
import hashlib
import http.server
import io
import json
import os
import re
import signal
import subprocess
import tarfile
import threading

from lib_cloud import MOCK, Cloud
from lib_run import BUILD, FARSTEP, call, done, ok, pipeline, run, shell, wait_for

KEY = "e2b_" + "a" * 40
ID = "i0123456789abcdefghij"
SECRET = "in-no-request=4711"
for name in list(os.environ):
    if name.lower().endswith("_proxy") or name.startswith("E2B_"):
        del os.environ[name]
os.environ["FARSTEP_TEMPLATES"] = os.path.join(os.path.dirname(os.path.abspath(__file__)), "../../templates")


class Api:
    """A control API that knows some templates, and remembers what it was asked."""

    def __init__(self, templates=("base",), size=(2, 512), build="ready", put=(), stored=False):
        self.templates, self.size, self.build, self.put, self.stored = set(templates), size, build, list(put), stored
        self.asked = []
        api = self

        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *a):
                pass

            def answer(self):
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                api.asked.append((self.command, self.path, dict(self.headers), body))
                status, reply = api.reply(self.command, self.path.split("?")[0], body)
                data = b"" if reply is None else json.dumps(reply).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            do_GET = do_POST = do_PUT = do_DELETE = answer

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = "http://127.0.0.1:%d" % self.server.server_address[1]
        self.env = dict(os.environ, E2B_API_KEY=KEY, E2B_API_URL=self.url, E2B_SANDBOX_URL=self.url)

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *a):
        self.server.shutdown()
        self.server.server_close()

    def reply(self, method, path, body):
        if (method, path) == ("POST", "/v2/sandboxes"):
            name = json.loads(body)["templateID"]
            if name not in self.templates:
                return 404, {"code": 404, "message": "template '%s' not found" % name}
            return 201, {"templateID": "t1", "sandboxID": ID, "clientID": "c", "envdVersion": "0.6.13", "envdAccessToken": "feed"}
        if (method, path) == ("GET", "/sandboxes/" + ID):
            return 200, {"templateID": "t1", "sandboxID": ID, "envdVersion": "0.6.13", "state": "running",
                         "cpuCount": self.size[0], "memoryMB": self.size[1]}
        if method == "DELETE":
            return 204, None
        if (method, path) == ("POST", "/v3/templates"):
            self.named = json.loads(body)["name"]
            return 202, {"templateID": "t1", "buildID": "b1", "names": [self.named]}
        if path.startswith("/templates/t1/files/"):
            return 201, {"present": self.stored, "url": self.url + "/store/it"}
        if method == "PUT":
            return (self.put.pop(0) if self.put else 200), None
        if (method, path) == ("POST", "/v2/templates/t1/builds/b1"):
            return 202, None
        if path == "/templates/t1/builds/b1/status":
            if self.build == "slow":
                return 200, {"status": "building"}
            if self.build == "ready":
                self.templates.add(self.named)
                return 200, {"status": "ready", "logEntries": [{"message": "all done"}]}
            return 200, {"status": "error", "logEntries": [{"message": "E: no such package"}],
                         "reason": {"message": "exit status 100", "step": "3"}}
        if (method, path) == ("GET", "/v2/templates"):
            return 200, [{"templateID": "t1", "names": [n], "cpuCount": 2, "memoryMB": 512, "buildStatus": "ready"} for n in sorted(self.templates)]
        if path == "/files":  # the bring-up ends here
            return 507, {"code": 507, "message": "no space"}
        return 500, {"code": 500, "message": "%s %s is not served" % (method, path)}

    def bodies(self, method, path):
        return [json.loads(b) for m, p, h, b in self.asked if m == method and p.split("?")[0] == path]

    def count(self, method, path=""):
        return len([1 for m, p, h, b in self.asked if m == method and p.startswith(path)])


def one(api, *args, env=None, target=("--e2b",)):
    """exec with these options; how farstep ended."""
    p = call("exec", *target, "--status-file", "status", *args, "--", "true", env=dict(api.env if api else os.environ, **(env or {})))
    if os.path.exists("status"):
        with open("status") as f:
            p.status = json.load(f)
        os.unlink("status")
    else:
        p.status = {}
    return p


def asked_for():
    with Api(templates=("base", "mine")) as a:
        one(a)
        body = a.bodies("POST", "/v2/sandboxes")[0]
        ok(body["templateID"] == "base", "the template is base unless another is named", body)
        ok(body["allow_internet_access"] is False and "network" not in body, "the network is off unless asked for [R61] [R191]", body)
        ok(body["timeout"] == 300 and "envVars" not in body, "the lease is 300 s, and no variables go along", body)
        ok(a.count("GET", "/sandboxes/") == 0, "a size that nobody asked for is not asked about")
    for option in ("--template", "--e2b-template"):
        with Api(templates=("base", "mine")) as a:
            one(a, option, "mine")
            ok([b["templateID"] for b in a.bodies("POST", "/v2/sandboxes")] == ["mine"], option + " is what create asks for [R10]", a.asked)
    for option in ("--timeout", "--e2b-timeout"):
        with Api() as a:
            one(a, option, "90")
            ok(a.bodies("POST", "/v2/sandboxes")[0]["timeout"] == 150, option + ": the sandbox lives for it and the minute to end in [R73]", a.asked[0])
    with Api() as a:
        one(a, "--timeout", "3600")
        ok(a.bodies("POST", "/v2/sandboxes")[0]["timeout"] == 300, "a long run has leases of 300 s", a.asked[0])
    with Api() as a:
        one(a, "--network", "on")
        ok(a.bodies("POST", "/v2/sandboxes")[0]["allow_internet_access"] is True, "--network on opens it")
    with Api() as a:
        one(a, "--network", "api.example.org,*.example.net,10.1.0.0/16")
        body = a.bodies("POST", "/v2/sandboxes")[0]
        ok(body["allow_internet_access"] is False and
           body["network"] == {"allowOut": ["api.example.org", "*.example.net", "10.1.0.0/16"], "denyOut": ["0.0.0.0/0"]},
           "hosts are openings in a network that is off", body)
    for option in (("--env", "TOKEN=" + SECRET), ("--e2b-env", "TOKEN=" + SECRET), ("--e2b-pass-env", "TOKEN"), ("--secret", "TOKEN")):
        with Api() as a:
            one(a, *option, env={"TOKEN": SECRET})
            ok(a.count("POST", "/files") == 1 and not any(SECRET.encode() in b or SECRET in str(h) + p for m, p, h, b in a.asked),
               option[0] + ": nothing of its value goes to the provider", [x[:2] for x in a.asked])


def sizes():
    size = ("--e2b-cpu", "4", "--e2b-mem", "8")
    with Api() as a:
        p = one(a, *size)
        ok(p.status.get("class") == "policy" and "'farstep template build base --cpu 4 --memory 8'" in p.stderr.decode() and a.count("POST") == 1,
           "a size whose template is missing is an error with the command that builds it", p)
        r = run(pipeline("s", [shell("a", "true")]), *size, target="e2b", env=a.env)
        ok(r.rc == 10, "which is exit 10", (r.rc, r.err))
    with Api(templates=("base", "farstep-base-4c-8192m"), size=(4, 8192)) as a:
        one(a, *size)
        ok(a.bodies("POST", "/v2/sandboxes")[0]["templateID"] == "farstep-base-4c-8192m" and a.count("POST", "/files") == 1,
           "a size selects the template of that name", a.asked)
    with Api(templates=("base", "farstep-base-4c-8192m"), size=(4, 512)) as a:
        p = one(a, *size)
        ok("gave 4 and 512 MiB" in p.stderr.decode() and p.status.get("class") == "policy" and a.count("POST", "/files") == 0,
           "a sandbox that reports another size is an error [R11]", p)
        ok(a.count("DELETE", "/sandboxes/" + ID) == 1, "and is ended")
    with Api(size=(4, 8192)) as a:
        one(a, *size, "--build-template")
        ok(a.bodies("POST", "/v3/templates") == [{"name": "farstep-base-4c-8192m", "cpuCount": 4, "memoryMB": 8192}] and
           a.bodies("POST", "/v2/templates/t1/builds/b1") == [{"fromTemplate": "base", "steps": [], "force": False}],
           "a missing template is built when that is allowed", a.asked)
        ok([b["templateID"] for b in a.bodies("POST", "/v2/sandboxes")] == ["farstep-base-4c-8192m"] * 2 and a.count("POST", "/files") == 1,
           "and then used", a.asked)
    with Api(build="error") as a:
        p = one(a, *size, "--build-template")
        ok("the build failed at step 3: exit status 100" in p.stderr.decode() and a.count("DELETE") == 0, "a build that fails is the reason", p)


def interrupted():
    with Api(build="slow") as a:
        q = subprocess.Popen([FARSTEP, "exec", "--e2b", "--cpu", "4", "--build-template", "--", "true"], env=a.env, stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        wait_for("the build", lambda: a.count("GET", "/templates/t1/builds/b1/status"))
        q.send_signal(signal.SIGINT)
        ok(q.wait(20) == 130 and a.count("GET", "/v2/sandboxes") == 0 and a.count("DELETE") == 0,
           "a build that is not waited for leaves no sandbox to look for", [x[:2] for x in a.asked])


def refused():
    cpu = call("run", "--e2b", "--e2b-cpu", "three", "p.yaml")
    memory = call("run", "--e2b", "--e2b-mem", "4G", "p.yaml")
    ok((cpu.returncode, memory.returncode) == (2, 2) and b"--memory '4G': want GiB" in memory.stderr, "a bad number is exit 2 [R71] [R72]", (cpu, memory))
    p = pipeline("p", [shell("a", "true")])
    with Api() as a:
        r = run(p, "--cpu", "3", target="e2b", env=a.env)
        ok(r.rc == 10 and "the nearest is 4" in r.err and not a.asked, "a size that E2B does not have is exit 10, with the nearest", (r.rc, r.err))
    for target in ("local", "native"):
        for option in (("--cpu", "2"), ("--memory", "2"), ("--template", "x"), ("--network", "a.example"), ("--cpu", "2", "--build-template")):
            r = run(p, *option, target=target)
            ok(r.rc == 10 and "'%s'" % target in r.err, "%s: %s is refused by name" % (target, " ".join(option)), (r.rc, r.err))
    r = run(p, "--e2b-pass-env", "NOT_SET_HERE", target="native")
    ok(r.rc == 0 and "NOT_SET_HERE: the variable is not set" in r.err, "a variable that is not set is a warning [R76]", (r.rc, r.err))
    strict = call("run", "--strict", "--pass-env", "NOT_SET_HERE", p)
    ok(strict.returncode == 2 and b"NOT_SET_HERE" in strict.stderr, "and with --strict an error [R76]", strict)
    dry = call("run", "--e2b", "--cpu", "4", "--network", "a.example", "--dry-run", p, env=dict(os.environ, E2B_API_KEY=KEY))
    box = json.loads(dry.stdout)["sandbox"]
    ok(box["body"]["templateID"] == "farstep-base-4c-1024m" and box["size"]["memory_mb"] == 1024 and box["body"]["network"]["allowOut"] == ["a.example"],
       "--dry-run shows size and network", box)


def settled():
    """Option, environment, farstep.yaml: what each of them says can be seen before anything is made."""
    os.mkdir("settled")
    with open("settled/farstep.yaml", "w") as f:
        f.write("target: native\ntimeout: 77\ninstall_deps: true\ne2b:\n  cpu: 4\n  memory: 8\n  template: py\n  network: [a.example]\n  templates: {py: team/python}\n")
    p = os.path.abspath(pipeline("settled", [shell("s", "true")]))
    with open("settled/vars", "w") as f:
        f.write("FROM_FILE=value-of-it\n")
    dry = call("run", "--e2b-mem", "2", "--e2b-env", "ON_LINE=value-of-it", "--e2b-env-from", "vars", "--e2b-pass-env", "PASSED", "-j", "3", "--out", "o",
               "--dry-run", "--json", p, cwd="settled", env=dict(os.environ, E2B_API_KEY=KEY, FARSTEP_TARGET="e2b", FARSTEP_INSTALL_DEPS="0", PASSED="value-of-it"))
    doc = json.loads(dry.stdout)
    want = {"target": ("e2b", "environment"), "timeout": (77, "farstep.yaml"), "cpu": (4, "farstep.yaml"), "memory": (2, "option"),
            "template": ("team/python", "farstep.yaml"), "network": (["a.example"], "farstep.yaml"), "install-deps": (False, "environment"),
            "j": (3, "option"), "out": ("o", "option"), "json": (True, "option"), "dry-run": (True, "option")}
    got = {k: (v["value"], v["from"]) for k, v in doc["settings"].items()}
    ok(got == want, "--dry-run --json shows each value of options, environment and farstep.yaml, and whose it is [R40]", got)
    ok(doc["env"] == ["ON_LINE", "FROM_FILE", "PASSED"] and b"value-of-it" not in dry.stdout, "of variables it shows the names", doc["env"])
    ok(doc["sandbox"]["size"] == {"cpu": 4, "memory_mb": 2048, "base": "team/python", "build_template": False} and doc["sandbox"]["body"]["timeout"] == 137 and doc["timeout_s"] == 77,
       "and what is asked of the provider follows from them: the sandbox lives for the deadline and the minute to end in [R13]", doc["sandbox"])
    ok(not os.path.exists("settled/.farstep"), "nothing was touched")


def builds():
    with open(BUILD + "/farstep-worker", "rb") as f:
        worker = f.read()
    with Api(put=[503]) as a:
        p = call("template", "build", "farstep-base", env=a.env)
        ok(p.returncode == 0 and p.stdout == b"template farstep-base is ready: 2 processors, 1024 MiB\n" and b"all done" in p.stderr,
           "a definition is built, and its log shown", p)
        puts = [(h, b) for m, path, h, b in a.asked if m == "PUT"]
        ok(len(puts) == 2 and all(int(h["Content-Length"]) == len(b) and "Transfer-Encoding" not in h and "X-API-Key" not in h for h, b in puts),
           "its files go up with their exact length, again after a 503, and without the key", [h for h, b in puts])
        body = a.bodies("POST", "/v2/templates/t1/builds/b1")[0]
        copy = [s for s in body["steps"] if s["type"] == "COPY"][0]
        packed = puts[0][1]
        ok(copy["filesHash"] == hashlib.sha256(packed).hexdigest() and any(copy["filesHash"] in x[1] for x in a.asked), "by the digest that the step names", copy)
        with tarfile.open(fileobj=io.BytesIO(gzip.decompress(packed))) as t:
            m = t.getmembers()
            ok([(x.name, x.mode, x.mtime, x.uid) for x in m] == [("farstep-worker", 0o755, 0, 0)] and t.extractfile(m[0]).read() == worker,
               "they are a tar.gz, and hold the worker", m)
        ok(body["fromImage"] == "debian:12-slim" and copy["args"] == ["farstep-worker", "/opt/farstep/bin/farstep-worker", "root:root", "0755"],
           "the Dockerfile is translated", body)
    with Api(stored=True) as a:
        p = call("template", "build", "farstep-python", "--cpu", "1", "--memory", "0.5", "--json", env=a.env)
        ok(json.loads(p.stdout) == {"template": "farstep-farstep-python-1c-512m", "cpu": 1, "memory_mb": 512, "status": "ready"} and a.count("PUT") == 0,
           "what is there already is not sent again", p)
    with Api(build="error") as a:
        p = call("template", "build", "base", "--memory", "2", env=a.env)
        ok(p.returncode == 3 and b"the build failed at step 3: exit status 100" in p.stderr and b"E: no such package" in p.stderr, "a failed build is exit 3, with its log", p)
    with Api() as a:
        p = call("template", "list", env=a.env)
        ok(p.returncode == 0 and re.search(rb"farstep-python +2 +2048 MiB +/", p.stdout) and re.search(rb"base +2 +512 MiB +e2b \(ready\)", p.stdout), "list shows both", p)
        p = json.loads(call("template", "list", "--json", env=a.env).stdout)
        ok([t["name"] for t in p["e2b"]] == ["base"] and {"farstep-base", "farstep-python"} <= {t["name"] for t in p["here"]}, "and as JSON", p)
    deep = "sub/%s/%s.txt" % ("d" * 60, "n" * 90)
    os.makedirs("own/" + os.path.dirname(deep), exist_ok=True)
    for path, text in (("own/template.yaml", "name: own\ncpu: 1\n"), ("own/Dockerfile", "FROM a\nCOPY sub x.sh /srv/\n"), ("own/" + deep, "deep"),
                       ("own/x.sh", "#!/bin/sh\n")):
        with open(path, "w") as f:
            f.write(text)
    os.chmod("own/x.sh", 0o755)
    with Api() as a:
        p = call("template", "build", "./own", env=a.env)
        names = []
        for body in [b for m, path, h, b in a.asked if m == "PUT"]:
            with tarfile.open(fileobj=io.BytesIO(gzip.decompress(body))) as t:
                names += [(x.name, x.mode) for x in t.getmembers() if x.isfile()]
        ok(p.returncode == 0 and names == [(deep, 0o644), ("x.sh", 0o755)], "a definition of one's own is named by its path", (p, names))
    with open("own/Dockerfile", "w") as f:
        f.write("FROM a\nARG b\nRUN x\nEXPOSE 80\n")
    p = call("template", "build", "./own", "--dry-run")
    ok(p.returncode == 2 and b"own/Dockerfile:2: ARG" in p.stderr and b"own/Dockerfile:4: EXPOSE" in p.stderr, "what cannot be translated is told with its line", p)
    with open("own/template.yaml", "w") as f:
        f.write("name: Own\ncpus: 1\nmemory: x\n")
    p = call("template", "build", "./own")
    ok(p.returncode == 2 and all(w in p.stderr for w in (b":1: name", b":2: unknown key 'cpus' (did you mean 'cpu'?)", b":3: memory")),
       "and so is what is wrong with the definition", p)
    os.makedirs("templates/mine")
    with open("templates/mine/template.yaml", "w") as f:
        f.write("name: mine\ncpuu: 2\n")
    for more in ((), ("--cpu", "4", "--dry-run")):
        p = call("template", "build", "mine", *more, env={k: v for k, v in os.environ.items() if k != "FARSTEP_TEMPLATES"})
        ok(p.returncode == 2 and b"template.yaml:2:" in p.stderr and b"cpuu" in p.stderr, "a definition with a mistake is told, not passed over (%s)" % " ".join(more), p)
    p = call("template", "build", "nothing-like-it", env=dict(os.environ, E2B_API_KEY=KEY))
    ok(p.returncode == 2 and b"farstep-python" in p.stderr, "an unknown name is told with those there are", p)
    p = call("template", "build", "farstep-base")
    ok(p.returncode == 8 and b"E2B_API_KEY is not set" in p.stderr, "no key is exit 8", p)


def in_the_cloud():
    show = 'echo "$A|$B|$C"; env | cut -d= -f1 | sort | tr "\\n" " "'
    with open("vars", "w") as f:
        f.write("B=from=a-file\n")
    with Cloud() as c:
        env = dict(c.env, C="passed=on-here", STRIPE_TOKEN="stripe-4711")
        r = run(pipeline("v", [shell("a", show)]), "--e2b-env", "A=one=two-three", "--e2b-env-from", "vars", "--e2b-pass-env", "C", target="e2b", env=env)
        text = r.read("logs/a.stdout")
        ok(r.rc == 0 and text.startswith("***MASKED***|***MASKED***|***MASKED***\n"), "variables reach the driver and are masked in its log [R75]", (r.err, text))
        ok("STRIPE_TOKEN" not in text and "E2B_API_KEY" not in text, "others of this machine do not [R63]", text)
        ok("one=two-three" not in "".join(r.read(f) for f in ("events.jsonl", "farstep.log", "manifest.yaml") if os.path.exists(r.dir + "/" + f)), "nor are they in the run's files")
        p = call("exec", "--e2b", "--e2b-env", "A=one=two-three", "--", "sh", "-c", 'echo "$A"', env=env)
        ok(p.stdout == b"one=two-three\n", "a value keeps its = [R75]", p)
        size = ("--e2b-cpu", "4", "--e2b-mem", "0.5")
        p = call("exec", "--e2b", *size, "--", "true", env=env)
        ok(p.returncode == 125 and b"farstep template build base --cpu 4 --memory 0.5" in p.stderr, "a size without its template says what to do", p)
        p = call("template", "build", "base", "--cpu", "4", "--memory", "0.5", env=env)
        ok(p.returncode == 0, "what it says is done", p)
        p = call("exec", "--e2b", *size, "--", "echo", "here", env=env)
        ok((p.returncode, p.stdout) == (0, b"here\n"), "and then it runs in that size", p)
        hungry = "import sys\ntry:\n  b = bytearray(600 << 20)\nexcept MemoryError:\n  sys.exit(7)"
        p = call("exec", "--e2b", *size, "--", "sh", "-c", 'ulimit -d; python3 -c "$0"', hungry, env=env)
        q = call("exec", "--e2b", "--", "sh", "-c", 'ulimit -d; python3 -c "$0"', hungry, env=env)
        ok((p.returncode, p.stdout) == (7, b"524288\n") and (q.returncode, q.stdout) == (0, b"unlimited\n"),
           "a driver that asks for more memory than was asked for it is told so by its own allocation, without a size nothing is bounded [R12]", (p, q))
        r = run(pipeline("hungry", [shell("a", "ulimit -d")]), *size, target="e2b", env=env)
        ok(r.read("logs/a.stdout") == "524288\n", "in a pipeline, too [R12]", r.err)
        p = call("exec", "--e2b", "--cpu", "1", "--build-template", "--", "echo", "here", env=env)
        ok((p.returncode, p.stdout) == (0, b"here\n") and len(c.asked("POST", "/v3/templates")) == 2, "another is built on demand", p)
        p = call("exec", "--e2b", "--cpu", "1", "--build-template", "--", "true", env=env)
        ok(p.returncode == 0 and len(c.asked("POST", "/v3/templates")) == 2, "once", p)
        p = call("template", "build", "farstep-python", env=env)
        q = call("exec", "--e2b", "--template", "farstep-python", "--network", "a.example", "--", "true", env=env)
        ok(p.returncode == 0 and q.returncode == 0 and any(x["method"] == "PUT" for x in c.asked()), "a definition is built and used", (p, q))
        names = {t["name"] for t in json.loads(call("template", "list", "--json", env=env).stdout)["e2b"]}
        ok(names == {"farstep-base-4c-512m", "farstep-base-1c-1024m", "farstep-python"}, "and listed", names)
        ok(not c.running(), "nothing stays")


asked_for()
sizes()
interrupted()
refused()
settled()
builds()
if os.path.exists(MOCK):
    in_the_cloud()
else:
    print("ok - the same in the mock cloud # SKIP no mock cloud in this build")
done()
