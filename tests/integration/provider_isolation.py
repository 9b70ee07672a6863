#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
#
# What a step in a local sandbox can reach of this machine: nothing. As the user who runs the
# test and, if that is root, as an ordinary user too.
#
# timeout: 180

import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading

BUILD = os.environ.get("BUILD", "build")
failed = 0


def result(good, sentence, detail=""):
    global failed
    print(f"{'ok' if good else 'not ok'} - {sentence}")
    if not good:
        failed += 1
        for line in str(detail).splitlines()[-20:]:
            print(f"#   {line}")
    sys.stdout.flush()


def skip(sentence, why):
    print(f"ok - {sentence} # SKIP {why}")


def skip_all(why):
    print(why)
    sys.exit(77)


# Runs in the sandbox; says "ok NAME" or "bad NAME what was seen" for each thing it tried.
PROBE = r"""
no() {  # NAME COMMAND...: the command must fail
    name=$1; shift
    if out=$("$@" 2>&1); then echo "bad $name: $* succeeded: $out"; else echo "ok $name"; fi
}
same() {  # NAME WANT GOT
    if [ "$2" = "$3" ]; then echo "ok $1"; else echo "bad $1: '$3' instead of '$2'"; fi
}
no remount mount -o remount,rw,bind /usr
no remount mount -o remount,rw,bind /etc
no remount mount -t tmpfs none /mnt
no remount unshare -Urm sh -c 'mount -o remount,rw,bind /usr && touch /usr/farstep-canary'
no write touch /usr/farstep-canary
no write touch /etc/farstep-canary
no write touch /farstep-canary
no write touch /usr/bin/farstep-canary
no socket test -e "$HOST_SOCKET"
no socket test -e /run/docker.sock
no socket test -e /var/run/docker.sock
no socket test -e /run/dbus/system_bus_socket
same sockets '' "$(ls -A /run/farstep/sock 2>/dev/null)"
no ssh test -e "$HOST_HOME/.ssh"
no ssh cat "$HOST_HOME/.ssh/id_canary"
no home test -e "$HOST_HOME/canary"
no process test -e "/proc/$HOST_PID"
no process kill -0 "$HOST_PID"
no process sh -c 'cat /proc/[0-9]*/comm | grep -qx sleep'
no shadow cat /etc/shadow
no shadow cat /etc/gshadow
no shadow cat /etc/shadow-
no shadow sh -c 'cat /etc/ssh/ssh_host_*_key'
no shadow sh -c 'ls /etc/ssl/private/*'
no shadow cat "/etc/$ETC_CANARY"
no shadow cat "/etc/$ETC_CANARY.d/key"
same capabilities '0000000000000000' "$(sed -n 's/^CapEff:[[:space:]]*//p' /proc/self/status)"
same capabilities '0000000000000000' "$(sed -n 's/^CapBnd:[[:space:]]*//p' /proc/self/status)"
same privileges 1 "$(sed -n 's/^NoNewPrivs:[[:space:]]*//p' /proc/self/status)"
no device sh -c 'ls /dev/sd* /dev/vd* /dev/nvme* /dev/mem /dev/kmsg 2>/dev/null | grep -q .'
same environment '' "$FARSTEP_TEST_SECRET"
touch /tmp/farstep-canary-inside && echo 'ok own-tmp'
test -r /etc/passwd && test -x /bin/sh && echo 'ok system'
"""

NETWORK_OFF = r"""
same network lo "$(sed -n 's/^ *\([^:]*\):.*/\1/p' /proc/net/dev | tr '\n' ' ' | sed 's/ $//')"
if command -v bash >/dev/null; then
    no network bash -c "exec 3<>/dev/tcp/127.0.0.1/$HOST_PORT"
fi
if [ -x /usr/bin/python3 ]; then
    no abstract /usr/bin/python3 -c "import socket; socket.socket(socket.AF_UNIX).connect('\0$HOST_ABSTRACT')"
fi
"""

NETWORK_ON = r"""
if command -v bash >/dev/null; then
    bash -c "exec 3<>/dev/tcp/127.0.0.1/$HOST_PORT" && echo 'ok network-on'
fi
"""

SENTENCES = {
    "remount": "a remount is",
    "write": "a write to the system is",
    "socket": "a socket of the host is",
    "sockets": "the directory of sockets is",
    "ssh": "the directory ~/.ssh is",
    "home": "the home directory is",
    "process": "a process of the host is",
    "shadow": "what only root may read in /etc is",
    "capabilities": "any capability is",
    "privileges": "any new privilege is",
    "device": "a device of the host is",
    "environment": "the environment is",
    "network": "the network is",
    "abstract": "an abstract socket of the host is",
}


class Host:
    """What lies about on this machine for a step to find."""

    def __init__(self, home, uid, gid):
        self.home = home
        self.short = tempfile.mkdtemp(prefix="fs-", dir="/tmp")
        self.etc = f"farstep-canary-{os.getpid()}"
        os.makedirs(f"{home}/.ssh", mode=0o700, exist_ok=True)
        for path in (f"{home}/.ssh/id_canary", f"{home}/canary"):
            with open(path, "w") as f:
                f.write("a secret\n")
            os.chown(path, uid, gid)
        self.sleep = subprocess.Popen(["sleep", "471147"])
        self.tcp = socket.create_server(("127.0.0.1", 0))
        self.unix = socket.socket(socket.AF_UNIX)
        self.unix.bind(f"{self.short}/host.sock")
        self.unix.listen()
        self.abstract = socket.socket(socket.AF_UNIX)
        self.abstract.bind(f"\0{self.etc}")
        self.abstract.listen()
        os.chmod(self.short, 0o755)
        os.chmod(f"{self.short}/host.sock", 0o777)
        threading.Thread(target=self.accept, daemon=True).start()
        if os.geteuid() == 0:
            with open(f"/etc/{self.etc}", "w") as f:
                f.write("a secret\n")
            os.chmod(f"/etc/{self.etc}", 0o600)
            os.mkdir(f"/etc/{self.etc}.d", 0o700)
            with open(f"/etc/{self.etc}.d/key", "w") as f:
                f.write("a secret\n")

    def accept(self):
        try:
            while True:
                self.tcp.accept()[0].close()
        except OSError:
            pass

    def environment(self):
        return {
            "HOST_HOME": self.home,
            "HOST_SOCKET": f"{self.short}/host.sock",
            "HOST_ABSTRACT": self.etc,
            "HOST_PID": str(self.sleep.pid),
            "HOST_PORT": str(self.tcp.getsockname()[1]),
            "ETC_CANARY": self.etc,
        }

    def close(self):
        self.sleep.send_signal(signal.SIGKILL)
        self.sleep.wait()
        for s in (self.tcp, self.unix, self.abstract):
            s.close()
        shutil.rmtree(self.short, ignore_errors=True)
        if os.geteuid() == 0:
            os.unlink(f"/etc/{self.etc}")
            shutil.rmtree(f"/etc/{self.etc}.d")


def run_in_sandbox(user, home, script, env, options=()):
    """`farstep exec` of the script, as the user."""
    command = [f"{home}/bin/farstep", "exec", "--target", "local", *options]
    for name, value in env.items():
        command += ["--env", f"{name}={value}"]
    command += ["--", "/bin/sh", "-c", script]
    outer = {
        "PATH": os.environ["PATH"], "HOME": home, "TMPDIR": "/tmp", "LC_ALL": "C.UTF-8",
        "XDG_RUNTIME_DIR": f"{home}/run", "FARSTEP_TEST_SECRET": "not for steps",
    }
    as_user = {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []} if user else {}
    return subprocess.run(command, cwd=home, env=outer, stdin=subprocess.DEVNULL, timeout=60,
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, **as_user)


def living(word):
    """Processes (no zombies) whose command line holds the word."""
    found = []
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/cmdline", "rb") as f:
                line = f.read().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if word in line and int(pid) != os.getpid():
            found.append(f"{pid} {line}")
    return found


def judge(who, done, names):
    lines = done.stdout.splitlines()
    bad = [line for line in lines if line.startswith("bad ")]
    good = {line[3:] for line in lines if line.startswith("ok ")}
    for name in names:
        of_name = [line for line in bad if line.startswith(f"bad {name}:")]
        reached = name in good and not of_name
        result(reached, f"{who}: {SENTENCES[name]} out of reach",
               "\n".join(of_name) or done.stdout)


def check(who, user, home):
    uid, gid = (user.pw_uid, user.pw_gid) if user else (os.getuid(), os.getgid())
    host = Host(home, uid, gid)
    try:
        if user:
            subprocess.run(["chown", "-R", f"{uid}:{gid}", home], check=True)
        env = host.environment()
        done = run_in_sandbox(user, home, PROBE + NETWORK_OFF, env)
        judge(who, done, [n for n in SENTENCES if n != "abstract" or os.path.exists("/usr/bin/python3")])
        result("ok own-tmp" in done.stdout and "ok system" in done.stdout,
               f"{who}: there is a system to work with and a directory for temporary files", done.stdout)
        result(not os.path.exists("/tmp/farstep-canary-inside"),
               f"{who}: a temporary file of the sandbox stays in it")
        done = run_in_sandbox(user, home, PROBE + NETWORK_ON, env, ["--network", "on"])
        result("ok network-on" in done.stdout and "bad " not in done.stdout,
               f"{who}: with the network on, the network is all that there is more", done.stdout)
        left = living(home) + [str(x) for x in os.walk(f"{home}/run/farstep") if x[2]]
        result(not left, f"{who}: no process and no file of the sandboxes remains", "\n".join(left))
    finally:
        host.close()


def install(home):
    os.makedirs(f"{home}/bin", exist_ok=True)
    os.makedirs(f"{home}/run", mode=0o700, exist_ok=True)
    for program in ("farstep", "farstep-worker"):
        shutil.copy(f"{BUILD}/{program}", f"{home}/bin/{program}")


def make_user():
    """An ordinary user: an existing one of that name, or a new one (and whether it is new)."""
    name = "farstep-test"
    try:
        return pwd.getpwnam(name), False
    except KeyError:
        pass
    done = subprocess.run(["useradd", "--system", "--shell", "/bin/sh", "--no-create-home", name],
                          stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        return None, done.stdout.strip() or "useradd failed"
    return pwd.getpwnam(name), True


def main():
    for program in ("farstep", "farstep-worker"):
        if not os.access(f"{BUILD}/{program}", os.X_OK):
            skip_all(f"no {program} in {BUILD} yet")
    if subprocess.run(["bwrap", "--unshare-all", "--ro-bind", "/", "/", "true"],
                      stderr=subprocess.DEVNULL).returncode:
        skip_all("bubblewrap cannot make namespaces here")
    base = tempfile.mkdtemp(prefix="fsi-", dir="/tmp")
    os.chmod(base, 0o755)
    try:
        install(f"{base}/self")
        check("root" if os.geteuid() == 0 else "a user", None, f"{base}/self")
        if os.geteuid() != 0:
            skip("root: nothing of the host is in reach", "this is not root")
            return
        user, new = make_user()
        if not user:
            skip("a user: nothing of the host is in reach", new)
            return
        try:
            install(f"{base}/user")
            check("a user", user, f"{base}/user")
        finally:
            if new:
                subprocess.run(["userdel", user.pw_name], stderr=subprocess.DEVNULL)
    finally:
        shutil.rmtree(base, ignore_errors=True)


main()
sys.exit(1 if failed else 0)
