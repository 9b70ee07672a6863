# SPDX-License-Identifier: Apache-2.0
"""Packages that the tests make themselves, and an index that serves them on loopback."""
import base64
import hashlib
import http.server
import io
import json
import os
import tarfile
import threading
import zipfile


def wheel(directory, name, version, text="", requires=(), extras=()):
    """Writes a wheel of one module and returns its path."""
    info = "%s-%s.dist-info/" % (name, version)
    meta = "Metadata-Version: 2.1\nName: %s\nVersion: %s\n" % (name, version)
    meta += "".join("Provides-Extra: %s\n" % e for e in extras) + "".join("Requires-Dist: %s\n" % r for r in requires)
    files = {name + "/__init__.py": text, info + "METADATA": meta,
             info + "WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n"}
    record = "".join("%s,sha256=%s,%d\n" % (n, base64.urlsafe_b64encode(hashlib.sha256(b.encode()).digest()).rstrip(b"=").decode(), len(b))
                     for n, b in files.items())
    files[info + "RECORD"] = record + info + "RECORD,,\n"
    os.makedirs(directory, exist_ok=True)
    path = "%s/%s-%s-py3-none-any.whl" % (directory, name, version)
    with zipfile.ZipFile(path, "w") as z:
        for n, b in files.items():
            z.writestr(zipfile.ZipInfo(n), b)
    return path


def npm_tarball(directory, name, version, text):
    os.makedirs(directory, exist_ok=True)
    path = "%s/%s-%s.tgz" % (directory, name, version)
    files = {"package/package.json": json.dumps({"name": name, "version": version, "main": "index.js"}), "package/index.js": text}
    with tarfile.open(path, "w:gz") as t:
        for n, b in files.items():
            m = tarfile.TarInfo(n)
            m.size = len(b)
            t.addfile(m, io.BytesIO(b.encode()))
    return path


class Index:
    """The simple index of PEP 503 below /PREFIX/simple/. While `gate` is cleared no wheel leaves it."""

    def __init__(self, directory, prefix="x"):
        self.directory, self.asked, self.gate = directory, [], threading.Event()
        self.gate.set()
        index = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                index.asked.append(self.path)
                parts = self.path.strip("/").split("/")
                body, kind = b"", "text/html"
                if parts[:2] == [prefix, "simple"] and len(parts) == 3:
                    names = [f for f in sorted(os.listdir(index.directory)) if f.split("-")[0].replace("_", "-") == parts[2]]
                    body = "".join('<a href="/%s/files/%s">%s</a>\n' % (prefix, f, f) for f in names).encode()
                elif parts[:2] == [prefix, "files"]:
                    index.gate.wait(60)
                    with open(os.path.join(index.directory, parts[2]), "rb") as f:
                        body, kind = f.read(), "application/octet-stream"
                self.send_response(200 if body else 404)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                try:
                    self.wfile.write(body)
                except OSError:     # who asked is gone
                    pass

            def log_message(self, *args):
                pass

        self.server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = "http://127.0.0.1:%d/%s/simple/" % (self.server.server_address[1], prefix)

    def wheels(self):
        return [p for p in self.asked if "/files/" in p]

    def close(self):
        self.gate.set()
        self.server.shutdown()
        self.server.server_close()
