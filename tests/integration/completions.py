#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""What farstep completions gives a shell is what farstep --help says."""
import re
import shutil
import subprocess

from lib_run import FARSTEP, call, done, ok

script = {shell: call("completions", shell) for shell in ("bash", "zsh", "fish")}
ok(all(p.returncode == 0 and p.stdout for p in script.values()), "there is a script for bash, zsh and fish", script)
commands = [l.split()[0] for l in call("--help").stdout.decode().splitlines() if re.match(r"  [a-z]+ ", l) and not l.startswith("  farstep")]
options = {c: sorted(re.findall(r"^  (--?[a-z0-9-]+)", call(c, "--help").stdout.decode(), re.M)) for c in commands}
ok({"run", "exec", "sandboxes", "completions"} <= set(commands) and "--target" in options["run"], "the help names commands and options", (commands, options))


def complete(*words):
    """What bash offers behind these words."""
    p = subprocess.run(["bash", "-c", '. <("$0" completions bash); COMP_WORDS=("$@"); COMP_CWORD=$(($# - 1)); _farstep; printf "%s\\n" "${COMPREPLY[@]}"',
                        FARSTEP, *words], capture_output=True, text=True)
    assert not p.stderr, p.stderr
    return sorted(p.stdout.split())


ok(complete("farstep", "") == sorted(commands + ["--help", "--version"]), "bash completes every command", complete("farstep", ""))
wrong = {c: (complete("farstep", c, "-"), options[c]) for c in commands
         if not set(options[c]) | {"--help"} <= set(complete("farstep", c, "-")) or
         any(o not in options[c] and o != "--help" and not o.startswith("--e2b-") for o in complete("farstep", c, "-"))}
ok(not wrong, "and for each its options and no others", wrong)
ok(complete("farstep", "run", "--ta") == ["--target"] and complete("farstep", "exec", "--target", "e") == ["e2b"] and
   complete("farstep", "sandboxes", "") == ["gc", "kill", "list"], "a word that is begun, an option's value, a command's verb")
ok(complete("farstep", "exec", "--", "-") == [], "behind -- words are the command's own")
for shell in ("zsh", "fish"):
    text = script[shell].stdout.decode()
    lost = [(c, o) for c in commands for o in options[c]
            if not re.search(r"'\*%s\[" % re.escape(o) if shell == "zsh" else r"from %s' -[ls] %s " % (c, re.escape(o.lstrip("-"))), text)]
    ok(not lost, "%s: every option of every command is there" % shell, lost)
    if not shutil.which(shell):
        print("ok - %s reads it # SKIP there is no %s here" % (shell, shell))
        continue
    p = subprocess.run([shell, "-n"], input=script[shell].stdout, capture_output=True)
    ok(p.returncode == 0 and not p.stderr, "%s reads it" % shell, p)
p = call("completions", "tcsh")
ok(p.returncode == 2 and b"bash, zsh and fish" in p.stderr, "another shell is told which there are", p)
done()
