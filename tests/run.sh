#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/run.sh PROGRAM... - run test programs, print what failed and one closing line:
#
#   N passed, N failed, N skipped
#
# A test program prints lines of TAP: "ok - sentence", "not ok - sentence", "ok - x # SKIP why";
# cmocka programs do so by themselves. Each such line counts. A program that ends otherwise than
# with 0, runs into its time limit, stops before its plan is fulfilled or prints no result at all
# counts as one failure more; exit 77 skips the whole program, its last line being the reason.
#
# Each program runs in an empty directory of its own, which is its HOME and TMPDIR too, with
#   TOP     the source tree       BUILD   the build directory, also first in PATH
# A script may say, in a comment line of its own, "# timeout: SECONDS" (default $TEST_TIMEOUT or
# 120), and "# alone" if it must not share the machine with another test.
#
# With E2B_API_KEY and FARSTEP_E2B_LIVE=1, tests that say so run at E2B itself, too; that costs
# money, and they are skipped otherwise.
#
# Environment: T=REGEX runs only programs whose names match, JOBS=N so many at once (2), V=1
# prints all output, KEEP=1 keeps the directories.

set -u
export TOP BUILD PATH
TOP=$(cd "$(dirname "$0")/.." && pwd)
BUILD=${BUILD:-$TOP/build}
PATH=$BUILD:$PATH
unset MAKEFLAGS MFLAGS MAKELEVEL CFLAGS LDFLAGS
# Only tests that are meant for the real service see the account.
if [ "${FARSTEP_E2B_LIVE:-}" = 1 ]; then
	for name in "${!E2B_@}"; do
		export "LIVE_$name=${!name}"
	done
else
	unset "${!LIVE_E2B_@}"
fi
unset "${!FARSTEP_@}" "${!E2B_@}" "${!XDG_@}" DOCKER_HOST
export LC_ALL=C.UTF-8 CMOCKA_MESSAGE_OUTPUT=TAP PYTHONDONTWRITEBYTECODE=1
export ASAN_OPTIONS=${ASAN_OPTIONS:-detect_stack_use_after_return=1:strict_string_checks=1}
export UBSAN_OPTIONS=${UBSAN_OPTIONS:-print_stacktrace=1}

jobs=${JOBS:-2}
umask 022
# Short, because paths of unix sockets are.
work=$(mktemp -d /tmp/ft.XXXXXX) || exit 1
finish() {
	local pids
	pids=$(jobs -p)
	# shellcheck disable=SC2086
	[ -z "$pids" ] || kill $pids 2>/dev/null
	[ -n "${KEEP:-}" ] && return
	chmod -R u+rwx "$work" 2>/dev/null
	rm -rf "$work"
}
trap finish EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

header() { # FILE WORD: the value of a "# WORD: value" line, or "yes" for a bare "# WORD"
	case $1 in
	*.sh | *.py) sed -n "1,40s/^# $2\(: *\(.*\)\)\{0,1\}\$/yes\2/p" "$1" | head -n 1 ;;
	esac
}

# Runs program $2 as number $1; leaves output and exit status in $work/$1.{out,rc,ms}.
run_one() {
	local n=$1 prog=$2 dir=$work/$1 limit start cmd
	limit=$(header "$prog" timeout)
	limit=${limit#yes}
	case $prog in
	*.sh) cmd=(bash "$prog") ;;
	*.py) cmd=(python3 "$prog") ;;
	*) cmd=("$prog") ;;
	esac
	mkdir "$dir"
	start=$(date +%s%3N)
	(
		cd "$dir" || exit 1
		export HOME=$dir TMPDIR=$dir
		exec timeout -k 10 "${limit:-${TEST_TIMEOUT:-120}}" "${cmd[@]}"
	) >"$dir.out" 2>&1 </dev/null &
	local child=$!
	trap 'kill "$child" 2>/dev/null; exit 143' TERM
	wait "$child"
	echo $? >"$dir.rc"
	echo $(($(date +%s%3N) - start)) >"$dir.ms"
	if [ -z "${KEEP:-}" ]; then
		chmod -R u+rwx "$dir" 2>/dev/null
		rm -rf "$dir"
	fi
}

passed=0 failed=0 skipped=0

# Counts the results of program number $1, named $2, and reports them.
judge() {
	local n=$1 name=$2 out=$work/$1.out rc ms ok bad skip plan why='' line
	rc=$(cat "$work/$n.rc") ms=$(cat "$work/$n.ms")
	read -r ok bad skip plan < <(awk '
		/^ok( |$)/ && /# *[Ss][Kk][Ii][Pp]/ { skip++; next }
		/^not ok( |$)/ && /# *[Ss][Kk][Ii][Pp]/ { skip++; next }
		/^ok( |$)/ { ok++ }
		/^not ok( |$)/ { bad++ }
		/^1\.\.[0-9]+$/ { plan += substr($0, 4) }
		END { print ok + 0, bad + 0, skip + 0, plan + 0 }' "$out")

	if [ "$rc" = 77 ] && [ "$bad" = 0 ]; then
		skipped=$((skipped + 1))
		printf 'skip  %s: %s\n' "$name" "$(tail -n 1 "$out" | sed 's/^# *//')"
		return
	fi
	case $rc in
	124 | 137) why="ran into its time limit" ;;
	0) [ $((ok + bad + skip)) -gt 0 ] || why="printed no result" ;;
	*) [ "$bad" -gt 0 ] || why="ended with $rc" ;;
	esac
	[ -n "$why" ] || [ $((ok + bad + skip)) -ge "$plan" ] ||
		why="gave $((ok + bad + skip)) of $plan results and ended with $rc"
	[ -z "$why" ] || bad=$((bad + 1))

	passed=$((passed + ok)) failed=$((failed + bad)) skipped=$((skipped + skip))
	line=$(printf '%s  %s (%d in %d.%d s)' "$([ "$bad" = 0 ] && echo 'ok  ' || echo 'FAIL')" \
		"$name" $((ok + bad + skip)) $((ms / 1000)) $((ms % 1000 / 100)))
	echo "$line${why:+: $why}"
	if [ "$bad" != 0 ]; then
		tail -n 200 "$out" | sed 's/^/    | /'
	elif [ -n "${V:-}" ]; then
		sed 's/^/    | /' "$out"
	elif [ "$skip" != 0 ]; then
		grep -E '^(not )?ok .*# *[Ss][Kk][Ii][Pp]' "$out" | sed 's/^/    | /'
	fi
}

together=() alone=()
for prog in "$@"; do
	[[ $prog =~ ${T:-.} ]] || continue
	[[ $prog = /* ]] || prog=$PWD/$prog
	if [ -n "$(header "$prog" alone)" ]; then alone+=("$prog"); else together+=("$prog"); fi
done

n=0
declare -A number=() name=()
# Waits for one of the running programs and judges it.
reap() {
	local pid
	wait -n -p pid
	[ -n "${pid:-}" ] || return 1
	judge "${number[$pid]}" "${name[$pid]}"
	unset "number[$pid]" "name[$pid]"
}
start() {
	n=$((n + 1))
	run_one $n "$1" &
	number[$!]=$n
	name[$!]=${1#"$BUILD"/}
	name[$!]=${name[$!]#"$TOP"/}
}

for prog in "${together[@]}"; do
	while [ ${#number[@]} -ge "$jobs" ]; do reap || break; done
	start "$prog"
done
while [ ${#number[@]} -gt 0 ]; do reap || break; done
for prog in "${alone[@]}"; do
	start "$prog"
	reap
done

echo "$passed passed, $failed failed, $skipped skipped" | tee "$BUILD/test-result"
[ "$failed" = 0 ]
