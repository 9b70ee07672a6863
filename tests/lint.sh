#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/lint.sh [--deps] - what the compiler does not check.
#
# --deps checks only who includes whom. A line that must break a rule of the first part says why
# in a comment that holds the words "lint-ok".

set -u
shopt -s lastpipe # so that "... | rule" counts in this shell
cd "$(dirname "$0")/.." || exit 1
bad=0

# Prints what came in, if anything did, as a breach of rule $1.
rule() {
	local found
	found=$(grep -v lint-ok || true)
	[ -n "$found" ] || return 0
	printf '%s:\n' "$1"
	sed 's/^/    /' <<<"$found"
	bad=$((bad + 1))
}

existing() {
	local d
	for d in "$@"; do [ ! -d "$d" ] || echo "$d"; done
}
mapfile -t dirs < <(existing protocol worker proxy sdk-wrapper mocks)
mapfile -t all_dirs < <(existing protocol worker proxy sdk-wrapper mocks tests)
mapfile -t code < <(find "${dirs[@]}" -name '*.[ch]' | sort)
mapfile -t all_code < <(find "${all_dirs[@]}" -name '*.[ch]' | sort)

# Source lines as file:line:text without comments and string contents.
bare() {
	awk '
		FNR == 1 { in_comment = 0 }
		{
			line = $0; text = ""
			keep = line ~ /lint-ok/ ? " lint-ok" : ""
			while (line != "") {
				if (in_comment) {
					i = index(line, "*/")
					if (!i) break
					line = substr(line, i + 2); in_comment = 0
				} else if (match(line, /\/\*|\/\/|"([^"\\]|\\.)*"|\047([^\047\\]|\\.)*\047/)) {
					text = text substr(line, 1, RSTART - 1)
					what = substr(line, RSTART, 2)
					rest = substr(line, RSTART + RLENGTH)
					if (what == "/*") in_comment = 1
					else if (what == "//") rest = ""
					else text = text "\"\""
					line = rest
				} else { text = text line; line = "" }
			}
			print FILENAME ":" FNR ":" text keep
		}' "$@"
}

check_deps() {
	local dir allowed
	while read -r dir allowed; do
		[ -d "$dir" ] || continue
		grep -rnE --include='*.[ch]' '^[ 	]*#[ 	]*include[ 	]*"' "$dir" |
			grep -vE "\"($(tr ' ' '|' <<<"$dir $allowed"))/" |
			rule "$dir/ may include only from: $dir $allowed"
	done <<-'END'
		protocol
		worker protocol
		sdk-wrapper protocol
		proxy sdk-wrapper protocol
		mocks protocol
	END
	mapfile -t pure < <(find protocol -name '*.[ch]' 2>/dev/null)
	[ ${#pure[@]} = 0 ] || bare "${pure[@]}" |
		grep -E '[^a-z_>.](socket|socketpair|connect|bind|listen|accept4?|v?fork|clone3?|exec[vl][a-z]*|posix_spawnp?|system|popen)[ ]*\(' |
		rule "protocol/ opens no socket and starts no process"
}

check_calls() {
	[ ${#code[@]} != 0 ] || return 0
	bare "${code[@]}" | grep -E '[^a-zA-Z0-9_](strcpy|strcat|sprintf|vsprintf|gets|strtok|alloca|tmpnam|mktemp|atoi|atol|system|popen)[ ]*\(' |
		rule "banned call"
	# A whole call, whatever its number of lines, must name some *_CLOEXEC.
	bare "${code[@]}" | awk '
		function parens(s,   o, c) { o = gsub(/\(/, "", s); c = gsub(/\)/, "", s); return o - c }
		{
			match($0, /^[^:]*:[0-9]*:/); where = substr($0, 1, RLENGTH); text = substr($0, RLENGTH + 1)
			if (!open && match(text, /(^|[^a-zA-Z0-9_>.])(open|openat|openat2|socket|socketpair|accept|accept4|pipe|pipe2|epoll_create1|eventfd|timerfd_create|signalfd|memfd_create|inotify_init1|dup|dup3)[ ]*\(/)) {
				text = substr(text, RSTART); open = 1; call = ""; start = where; depth = 0
			}
			if (open) {
				call = call " " text; depth += parens(text)
				if (depth <= 0 || text ~ /[;{}]/) {
					# a variable as the last argument is trusted to hold the flag
					if (call !~ /CLOEXEC/ && (call ~ /^ *(dup|accept|pipe)[ ]*\(/ ||
					    call !~ /,[ ]*[a-z_]+[ ]*\)[^)]*$/))
						print start call
					open = 0
				}
			}
		}' | rule "descriptor without *_CLOEXEC"
}

# Each library is known to one source file a program.
check_libraries() {
	local header files
	while read -r header files; do
		grep -rnE --include='*.[ch]' "#[ 	]*include[ 	]*[<\"]([a-z-]+/)?${header}[>\"]" "${dirs[@]}" |
			grep -vE "^([^:]*/)?($files):" |
			rule "$header is for $files only"
	done <<-'END'
		libwebsockets\.h ws\.c
		curl\.h http_curl\.h
		http_(curl|int)\.h sdk-wrapper/http(_[a-z]+)?\.[ch]
		archive\.h (unpack|package)\.c
		archive_entry\.h (unpack|package)\.c
		cJSON\.h protocol/base/json[a-z_]*\.[ch]
		yaml\.h (yaml|yaml_json|plan|plan_needs|requirements|plan_requirements|template|config_file)\.c|osiris\.h
		microhttpd\.h mocks/e2b/http\.c
		zlib\.h mocks/e2b/gzip\.c
	END
}

check_text() {
	[ ${#all_code[@]} != 0 ] || return 0
	grep -L 'SPDX-License-Identifier: Apache-2.0' "${all_code[@]}" | rule "no SPDX line"
	grep -nE '[ 	]+$' "${all_code[@]}" | rule "white space at the end of a line"
	for f in "${all_code[@]}"; do
		expand -t 8 "$f" | awk -v f="$f" '{ gsub(/[\200-\277]/, "") } length > 100 { print f ":" FNR ": " length " columns" }'
	done | rule "more than 100 columns"
}

# One source: the tables of the specification, and the names of events.
check_tables() {
	.ci/docs --check 2>&1 | rule "protocol/README.md is stale"
	grep -hE '(run_event|[^_a-z]event|events_put|journal_put)\(' worker/*.c proxy/*.c proxy/*/*.c |
		grep -oE '"[a-z_]+"' | tr -d '"' | sort -u |
		grep -vxFf <(sed -n 's/^EVENT([^,]*, "\([a-z_]*\)".*/\1/p' protocol/events.def) |
		rule "an event that is not in protocol/events.def"
}

check_tools() {
	# cppcheck does not know the cleanup attribute; leaks are for the sanitizers.
	if command -v cppcheck >/dev/null; then
		[ ${#code[@]} = 0 ] || cppcheck -q -j 2 --std=c11 --enable=warning,portability --inline-suppr \
			--suppress=missingInclude --suppress=missingIncludeSystem \
			--suppress=resourceLeak --suppress=memleak \
			-D__linux__ -D__x86_64__ -I. --template=gcc "${dirs[@]}" 2>&1 | rule "cppcheck"
	else
		echo "lint: no cppcheck here"
	fi
	if command -v shellcheck >/dev/null; then
		{ find tests .ci -name '*.sh'; grep -lE '^#!.*\b(ba)?sh$' .ci/* 2>/dev/null; } | sort -u |
			xargs shellcheck -S warning -f gcc 2>&1 | rule "shellcheck"
	else
		echo "lint: no shellcheck here"
	fi
}

if [ "${1:-}" = --deps ]; then
	check_deps
else
	check_calls
	check_libraries
	check_text
	check_tables
	check_tools
fi
[ "$bad" = 0 ] || { echo "lint: $bad rules broken" >&2; exit 1; }
