# SPDX-License-Identifier: Apache-2.0
"""A certificate for localhost, a TLS relay to a port, and a CONNECT proxy; all on loopback."""
import os
import socket
import ssl
import subprocess
import threading


def certificate(name, hosts="DNS:localhost,DNS:*.localhost,IP:127.0.0.1"):
    """NAME.pem and NAME.key, signed by itself."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                    "-subj", "/CN=farstep test", "-addext", "subjectAltName=" + hosts, "-keyout", name + ".key", "-out", name + ".pem"],
                   check=True, capture_output=True)
    return os.path.abspath(name + ".pem"), os.path.abspath(name + ".key")


def listen():
    s = socket.socket()
    s.bind(("127.0.0.1", 0))
    s.listen(64)
    return s, s.getsockname()[1]


def _copy(a, b):
    try:
        while True:
            d = a.recv(256 * 1024)
            if not d:
                break
            b.sendall(d)
    except OSError:
        pass
    for s in (a, b):
        try:
            s.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass


def join(a, b):
    t = threading.Thread(target=_copy, args=(a, b), daemon=True)
    t.start()
    _copy(b, a)
    t.join()


class Server:
    """Runs handle(connection) in a thread for each connection; counts them."""

    def __init__(self):
        self.sock, self.port = listen()
        self.count = 0
        self.open = []
        threading.Thread(target=self._loop, daemon=True).start()

    def _loop(self):
        while True:
            c, _ = self.sock.accept()
            self.count += 1
            self.open.append(c)
            threading.Thread(target=self._one, args=(c,), daemon=True).start()

    def _one(self, c):
        try:
            self.handle(c)
        except OSError:
            pass
        finally:
            c.close()

    def cut(self):
        """Resets what is open now."""
        for c in self.open:
            try:
                c.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass
        self.open.clear()


class TlsRelay(Server):
    def __init__(self, port, cert, key):
        self.to = port
        self.ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.ctx.load_cert_chain(cert, key)
        self.ctx.set_alpn_protocols(["h2", "http/1.1"])
        self.alpn = []
        self.names = []
        self.ctx.sni_callback = lambda s, name, c: self.names.append(name)
        self.after = 0
        super().__init__()

    def hold(self, after):
        """The next connection that has sent `after` bytes is not read any more, which `held` tells, until `go` is set.  Small
        segments and buffers, as a network has: on the loopback the first megabytes would fit in between."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 88)
        self.held, self.go = threading.Event(), threading.Event()
        self.after = after

    def handle(self, c):
        # An SSL object is not for two threads at once: one loop that never blocks.
        import select
        s = self.ctx.wrap_socket(c, server_side=True)
        self.alpn.append(s.selected_alpn_protocol())
        up = socket.create_connection(("127.0.0.1", self.to))
        s.setblocking(False)
        up.setblocking(False)
        to_up, to_s = bytearray(), bytearray()
        taken = 0
        while True:
            if self.after and taken >= self.after:
                self.after = 0
                self.held.set()
                self.go.wait()
            moved = False
            for recv, out in ((s, to_up), (up, to_s)):
                if len(out) > 1 << 20:
                    continue
                try:
                    d = recv.recv(256 * 1024)
                    if not d:
                        return
                    out += d
                    moved = True
                    taken += len(d) if recv is s else 0
                except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
                    pass
            for send, out in ((up, to_up), (s, to_s)):
                if out:
                    try:
                        n = send.send(out)
                        del out[:n]
                        moved = True
                    except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
                        pass
            if not moved:
                select.select([s, up], [x for x, o in ((up, to_up), (s, to_s)) if o], [], 10)


class ConnectProxy(Server):
    """An HTTP proxy that knows CONNECT; asked for remembers the targets."""

    def __init__(self, wanted=None):
        self.targets = []
        self.auth = []
        self.wanted = wanted
        super().__init__()

    def handle(self, c):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            d = c.recv(1)
            if not d:
                return
            head += d
        line = head.split(b"\r\n")[0].decode().split()
        self.targets.append(line[1])
        self.auth += [h.split(b":", 1)[1].strip().decode() for h in head.split(b"\r\n") if h.lower().startswith(b"proxy-authorization:")]
        if line[0] != "CONNECT":
            c.sendall(b"HTTP/1.1 405 no\r\nContent-Length: 0\r\n\r\n")
            return
        host, port = line[1].rsplit(":", 1)
        up = socket.create_connection(("127.0.0.1", int(port)))
        c.sendall(b"HTTP/1.1 200 ok\r\n\r\n")
        join(c, up)
