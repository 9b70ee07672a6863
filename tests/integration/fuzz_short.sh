#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# timeout: 300
#
# A short round of every fuzz target. The long ones are `make fuzz FUZZ_SECONDS=...`.

set -u
seconds=${FUZZ_SECONDS:-2}

echo 'int LLVMFuzzerTestOneInput(const unsigned char *p, unsigned long n); int LLVMFuzzerTestOneInput(
const unsigned char *p, unsigned long n) { return p && n ? 0 : 0; }' >probe.c
if ! clang -fsanitize=fuzzer,address -o probe probe.c 2>/dev/null; then
	echo "# no clang with libFuzzer here: make deps installs it"
	exit 77
fi

# build/clang may be a directory, which make takes for the compiler.
PATH=${PATH#"$BUILD":}
# HOME is the test's own: the libraries are where they are, not in its cache.
deps=$(readlink -e "$TOP/build/deps") || { echo "# no build/deps: make deps"; exit 77; }
export FARSTEP_DEPS=${deps%/*}
# The corpora that earlier rounds left in build/fuzz would take the short time for themselves.
make -s -C "$TOP" FUZZ_SECONDS="$seconds" FUZZ_FOUND="$PWD/found" fuzz-run >out 2>&1
rc=$?
while read -r name n rest; do
	case $name in
	fuzz_*:) if [ "$n" -gt 0 ] 2>/dev/null; then echo "ok - ${name%:} finds nothing in $n $rest"; else
		echo "not ok - ${name%:} ran"; fi ;;
	esac
done <out
want=$(find "$TOP/tests/fuzz" -name 'fuzz_*.c' | wc -l)
if [ $rc = 0 ] && [ "$(grep -c '^fuzz_' out)" = "$want" ]; then
	echo "ok - all $want fuzz targets were built and run"
else
	echo "not ok - all $want fuzz targets were built and run"
	sed 's/^/# /' out
	exit 1
fi
