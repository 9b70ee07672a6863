#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 to the provider: what it breaks is asked again on a fresh connection."""
import os
import shutil
import subprocess
import sys

from lib_cloud import MOCK, Cloud
from lib_run import call, done, ok
from lib_tls import ConnectProxy, certificate

NODE = shutil.which("node")
if not NODE or not os.path.exists(MOCK):
    print("no node, or no mock cloud in this build")
    sys.exit(77)
for name in list(os.environ):
    if name.lower().endswith("_proxy") or name in ("CURL_CA_BUNDLE", "SSL_CERT_DIR"):
        del os.environ[name]
cert, key = certificate("front")


class Front:
    def __init__(self, cloud, fault="none"):
        port = cloud.env["E2B_API_URL"].rsplit(":", 1)[1]
        self.p = subprocess.Popen([NODE, os.path.join(os.path.dirname(os.path.abspath(__file__)), "lib_h2.js"), cert, key, port, fault],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        url = "https://localhost:" + self.p.stdout.readline().strip()
        self.env = dict(cloud.env, E2B_API_URL=url, E2B_SANDBOX_URL=url, SSL_CERT_FILE=cert)

    def seen(self):
        """Ends it; the lines that it printed."""
        out, _ = self.p.communicate(timeout=30)
        return out.split("\n")


def through(fault, **env):
    with Cloud() as c:
        f = Front(c, fault)
        p = call("exec", "--e2b", "--", "sh", "-c", "cat; exit 3", stdin=None, input=b"x" * 300000, env=dict(f.env, **env), timeout=90)
        seen = f.seen()
        return p.returncode == 3 and p.stdout == b"x" * 300000 and not c.running(), p, seen


good, p, seen = through("none")
ok(good, "everything goes through HTTP/2 and TLS, the session over an upgrade", (p, seen))
ok(seen.count("stream POST /v2/sandboxes") == 1 and seen.count("upgrade /farstep") == 1, "the upgrade asks for HTTP/1.1", seen)
ok(seen.count("session") == 2, "bring-up shares one connection, and its end has another", seen)
good, p, seen = through("none", FARSTEP_HTTP1="1")
ok(good and not [l for l in seen if l.startswith("stream")], "FARSTEP_HTTP1 pins HTTP/1.1", (p, seen))
good, p, seen = through("none", FARSTEP_HTTP_DEBUG="1")
err = p.stderr.decode()
ok(good and "HTTP/2 201" in err and "x-api-key" in err.lower(), "traces show HTTP/2 as well", err[:3000])
ok("e2b_0000" not in err and "Basic " not in err and not [l for l in err.split("\n") if "x-access-token: " in l.lower() and "***" not in l],
   "without keys and tokens", [l for l in err.split("\n") if "e2b_0000" in l or "Basic " in l or "token" in l.lower()])
proxy = ConnectProxy()
good, p, seen = through("none", HTTPS_PROXY="http://127.0.0.1:%d" % proxy.port)
ok(good and len(proxy.targets) == 3 and len(set(proxy.targets)) == 1, "HTTPS_PROXY is used for requests and session", (p, proxy.targets))
for fault in ("goaway@1", "goaway@2", "goaway@3", "rst@1", "rst@2", "rst@3"):
    good, p, seen = through(fault)
    ok(good and seen.count("stream POST /v2/sandboxes") <= 1 + (fault[-1] == "1"), "survived: " + fault, (p, seen))
    after = seen[[l.split()[0] for l in seen if l].index(fault.split("@")[0]) + 1]
    ok(after == "session", "and what follows has a connection of its own: " + fault, seen)
done()
