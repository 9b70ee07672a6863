# SPDX-License-Identifier: Apache-2.0
"""Checks what Python packages are there, and installs what is missing.

Runs in the sandbox as a step of farstep's own (`python3 -c`), with nothing but the standard
library; what pip prints goes to standard output.  Its configuration, FARSTEP_CONFIG:
requirements, lock (their digest), install, offline, wheels (a directory, or null), ask (the
network is opened when it says for which hosts).  What came of it goes to $FARSTEP_ARTIFACTS_DIR/report.json.  Exit 0: everything is there; 3: something is
missing and was not to be installed; 4: it could not be installed."""
import sys

# The working directory holds files of the pipeline: none of them is a module of ours.
sys.path[:] = [p for p in sys.path if p not in ("", ".")]

import fcntl
import glob
import hashlib
import importlib
import json
import os
import platform
import re
import shutil
import subprocess
import urllib.parse

# pip and venv start the same way.
LAUNCH = "import sys; sys.path[:] = [p for p in sys.path if p not in ('', '.')]\n" \
         "import runpy; sys.argv[0] = sys.argv[1]; m = sys.argv.pop(1)\n" \
         "runpy.run_module(m, run_name='__main__', alter_sys=True)"
# Where a package goes is our business, everything else in pip's variables the user's.
OURS = ("PIP_TARGET", "PIP_PREFIX", "PIP_ROOT", "PIP_USER", "PIP_REQUIRE_VIRTUALENV", "PIP_PYTHON",
        "PIP_DRY_RUN", "PIP_REPORT", "PIP_REQUIREMENT")


class Failed(Exception):
    def __init__(self, text, code=None):
        Exception.__init__(self, text)
        self.code = code


# ---- what is there ----

def find_packaging():
    for name in ("packaging", "pip._vendor.packaging", "setuptools._vendor.packaging"):
        try:
            return importlib.import_module(name + ".requirements")
        except Exception:  # not there, or broken: the next one
            pass
    return None


PACKAGING = find_packaging()


def bare(requirement):
    """Without the digests of a lock file."""
    return re.sub(r" --hash=\S+", "", requirement)


def find(name, paths):
    from importlib import metadata
    for spelled in (name, name.replace("-", "_"), name.replace("-", ".")):
        for dist in metadata.Distribution.discover(name=spelled, path=paths):
            if dist.version:
                return dist
    return None


def numbers(version):
    if not re.fullmatch(r"\d+(\.\d+)*", version):
        return None
    parts = [int(n) for n in version.split(".")]
    while len(parts) > 1 and parts[-1] == 0:
        parts.pop()
    return parts


def compare_one(version, op, wanted):
    """Without `packaging`: plain numbers only; whatever else is compared as text, or not met."""
    if wanted.endswith(".*"):
        same = (version + ".").startswith(wanted[:-1])
        return same if op == "==" else not same if op == "!=" else False
    have, want = numbers(version), numbers(wanted)
    if have is None or want is None:
        return op in ("==", "===") and version == wanted
    if op == "~=":
        head = [int(n) for n in wanted.split(".")][:-1]
        return have >= want and (have + [0] * len(head))[:len(head)] == head
    return {"==": have == want, "===": version == wanted, "!=": have != want, "<=": have <= want,
            ">=": have >= want, "<": have < want, ">": have > want}[op]


def met_simply(requirement, paths):
    text = bare(requirement).split(";")[0]
    m = re.fullmatch(r"([a-z0-9-]+)(\[[^]]*\])?(.*?)\s*", text)
    dist = find(m.group(1), paths) if m else None
    if not dist or m.group(2):
        return None
    if m.group(3).startswith(" @ "):
        return dist if is_from(dist, m.group(3)[3:]) else None
    for one in filter(None, m.group(3).split(",")):
        op, wanted = re.fullmatch(r"(===|==|~=|!=|<=|>=|<|>)(.+)", one).groups()
        if not compare_one(dist.version, op, wanted):
            return None
    return dist


def is_from(dist, url):
    try:
        return json.loads(dist.read_text("direct_url.json") or "{}").get("url") == url.split("#")[0]
    except ValueError:
        return False


def met(requirement, paths, depth=0):
    """The distribution that meets it, True when its marker says that it is not for here, or None."""
    if not PACKAGING:
        return met_simply(requirement, paths)
    req = PACKAGING.Requirement(bare(requirement))
    if req.marker and not req.marker.evaluate({"extra": ""}):
        return True
    dist = find(re.sub(r"[-_.]+", "-", req.name).lower(), paths)
    if not dist or not req.specifier.contains(dist.version, prereleases=True):
        return None
    if req.url and not is_from(dist, req.url):
        return None
    for extra in req.extras:  # is what it brings there as well?
        for text in dist.requires or []:
            sub = PACKAGING.Requirement(text)
            if depth < 8 and sub.marker and sub.marker.evaluate({"extra": extra}) \
                    and not sub.marker.evaluate({"extra": ""}):
                sub.marker = None
                if not met(str(sub), paths, depth + 1):
                    return None
    return dist


def check(requirements, paths):
    importlib.invalidate_caches()
    present, missing = [], []
    for r in requirements:
        try:
            dist = met(r, paths)
        except Exception as e:
            raise Failed("'%s': %s" % (bare(r), str(e).splitlines()[0]))
        if dist is True:
            continue
        if dist:
            present.append("%s %s" % (dist.metadata["Name"], dist.version))
        else:
            missing.append(bare(r))
    return present, missing


# ---- the environment ----

def digest_file(path):
    h = hashlib.sha256()
    with open(path, "rb") as f:
        for chunk in iter(lambda: f.read(1 << 20), b""):
            h.update(chunk)
    return h.hexdigest()


def index_of(variable):
    """Without user and password: who asks makes no difference."""
    return re.sub(r"//[^/@]*@", "//", os.environ.get(variable) or "")


def environment_name(config):
    """Other requirements, another Python, other wheels or another index: another environment."""
    wheels = config["wheels"]
    files = sorted(os.listdir(wheels)) if wheels and os.path.isdir(wheels) else []
    parts = [config["lock"], sys.implementation.cache_tag, platform.python_version(), sys.prefix,
             platform.machine(), [index_of(v) for v in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL")],
             [[f, digest_file(os.path.join(wheels, f))] for f in files if os.path.isfile(os.path.join(wheels, f))]]
    return "pip-" + hashlib.sha256(json.dumps(parts).encode()).hexdigest()[:32]


def site_of(env):
    found = sorted(glob.glob(os.path.join(env, "lib", "*", "site-packages"))) if os.path.exists(os.path.join(env, "pyvenv.cfg")) else []
    return found[0] if found else os.path.join(env, "site")


def variables_of(env):
    """What steps get: a bin directory for PATH, and variables."""
    if os.path.exists(os.path.join(env, "pyvenv.cfg")):
        return {"bin": os.path.join(env, "bin"), "env": {"VIRTUAL_ENV": env}}
    site = os.path.join(env, "site")
    return {"bin": os.path.join(site, "bin"), "env": {"PYTHONPATH": ":".join(filter(None, [site, os.environ.get("PYTHONPATH")]))}}


def run(argv, environ=None):
    """Runs it, its output on ours: what it says is no part of the report, because only logs are masked."""
    print("$ " + " ".join(a for a in argv if a != LAUNCH), flush=True)
    return subprocess.run(argv, stdin=subprocess.DEVNULL, stderr=subprocess.STDOUT, env=environ).returncode


def make_environment(env):
    """A venv that sees the system's packages; without the module venv a plain directory."""
    os.makedirs(env)
    try:
        import venv  # noqa: F401
    except ImportError:
        os.makedirs(os.path.join(env, "site"))
        return [sys.executable], ["--target", os.path.join(env, "site")]
    code = run([sys.executable, "-c", LAUNCH, "venv", "--system-site-packages", "--without-pip", env])
    if code:
        raise Failed("venv: exit %d" % code, code)
    return [os.path.join(env, "bin", "python")], []


def has_pip(python):
    return subprocess.run(python + ["-c", LAUNCH, "pip", "--version"], stdin=subprocess.DEVNULL,
                          stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode == 0


def pip_options(config):
    options = ["--disable-pip-version-check", "--no-input", "--progress-bar", "off"]
    index_here = any((os.environ.get(v) or "").startswith("file:") for v in ("PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL"))
    if config["wheels"]:
        options += ["--find-links", os.path.abspath(config["wheels"])]
    if config["wheels"] or (config["offline"] and not index_here):
        options += ["--no-index"]  # offline it would only try until its patience ends
    return options


def index_hosts(python):
    """Of whatever pip will ask: its variables and files, else its own index; and of a proxy."""
    listed = subprocess.run(python + ["-c", LAUNCH, "pip", "config", "list"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.DEVNULL).stdout.decode(errors="replace")
    found = dict((k, v) for k, v in re.findall(r"([a-z-]+)='([^']*)'", listed))
    urls = [u for k in ("index-url", "extra-index-url", "find-links") for u in found.get(k, "").replace("\\n", " ").split()]
    urls += [os.environ.get(v) or "" for v in ("https_proxy", "HTTPS_PROXY", "http_proxy", "HTTP_PROXY")]
    hosts = {urllib.parse.urlsplit(u).hostname for u in urls if u.startswith(("http://", "https://"))}
    if "index-url" not in found:
        own = subprocess.run(python + ["-c", "from pip._internal.models.index import PyPI; print(PyPI.netloc, PyPI.file_storage_domain)"],
                             stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL).stdout
        hosts.update(own.decode().split())
    return sorted(filter(None, hosts))


def ask(hosts):
    """They are open when standard input ends."""
    line = json.dumps({"type": "event", "name": "index_hosts", "data": {"hosts": hosts}}) + "\n"
    os.write(int(os.environ.get("FARSTEP_EVENT_FD", "3")), line.encode())
    sys.stdin.read()


def install(config, env):
    python, where = make_environment(env)
    if not has_pip(python) and (where or run(python + ["-c", LAUNCH, "ensurepip"]) or not has_pip(python)):
        raise Failed("there is no pip in the sandbox (Debian: python3-pip)")
    hosts = index_hosts(python) if config.get("ask") and not config["wheels"] else []
    if hosts:
        ask(hosts)
    listed = os.path.join(env, "requirements.txt")
    with open(listed, "w") as f:
        f.write("".join(r + "\n" for r in config["requirements"]))
    environ = {k: v for k, v in os.environ.items() if k not in OURS}
    environ.setdefault("PIP_NO_CACHE_DIR", "1")
    code = run(python + ["-c", LAUNCH, "pip", "install"] + pip_options(config) + where + ["-r", listed], environ)
    if code:
        raise Failed("exit %d" % code, code)


def installed(site):
    """Each package with the time in which its files were written."""
    from importlib import metadata
    found = []
    for dist in metadata.distributions(path=[site]):
        times = []
        for f in dist.files or []:
            try:
                times.append(os.lstat(dist.locate_file(f)).st_ctime_ns)
            except OSError:
                pass
        ms = (max(times) - min(times)) / 1e6 if times else 0
        found.append({"package": dist.metadata["Name"], "version": dist.version, "duration_ms": round(ms, 3)})
    return sorted(found, key=lambda p: p["package"].lower())


def with_lock(path, action):
    with open(path + ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # another session of this worker may be making it
        return action()


def provide(config, report):
    """Finds the environment of these requirements, or makes it."""
    cache = os.environ["FARSTEP_CACHE_DIR"]
    env = os.path.join(cache, environment_name(config))
    mark = os.path.join(env, "complete")

    def here():
        return check(config["requirements"], [site_of(env)] + sys.path)

    def make():
        if os.path.exists(mark):
            present, missing = here()
            if not missing:  # steps share the sandbox: one may have spoilt it
                report.update(reused=True, present=present, missing=[])
                return True
        if not config["install"]:
            return False
        shutil.rmtree(env, ignore_errors=True)  # what was never finished
        install(config, env)
        report["installed"] = installed(site_of(env))
        still = here()[1]
        if still:
            raise Failed("pip says that it succeeded, but these are not there: " + ", ".join(still))
        open(mark, "w").close()
        return True

    os.makedirs(cache, exist_ok=True)
    if not with_lock(env, make):
        return False
    report.update(variables_of(env), environment=env)
    return True


def main():
    with open(os.environ["FARSTEP_CONFIG"]) as f:
        config = json.load(f)
    report = {"lock": config["lock"], "path": os.environ.get("PATH", ""), "reused": False, "present": [], "missing": [], "installed": []}
    code = 4
    try:
        if sys.version_info < (3, 8):
            raise Failed("Python %s is too old: 3.8 is the oldest that can say what is installed" % platform.python_version())
        report["present"], report["missing"] = check(config["requirements"], sys.path)
        code = 0 if not report["missing"] or provide(config, report) else 3
    except Failed as e:
        report["error"] = str(e)
        report["tool_exit"] = e.code
    except (OSError, subprocess.SubprocessError) as e:
        report["error"] = "%s: %s" % (type(e).__name__, e)
    with open(os.path.join(os.environ["FARSTEP_ARTIFACTS_DIR"], "report.json"), "w") as f:
        json.dump(report, f)
    return code


if __name__ == "__main__":
    sys.exit(main())
