#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# tests/fresh.sh [COMMAND...] - do the README's commands work in a fresh clone on a bare Debian 12?
#
# Makes a minimal Debian (debootstrap, kept in ~/.cache/farstep/fresh), clones HEAD into a copy of
# it, enters it in namespaces of its own and runs each COMMAND there as root; default "make run"
# and "make test". The only thing installed beforehand is make. apt in there uses this machine's
# sources, keys, proxies and certificates. Needs root; KEEP=1 keeps the directory.

set -euo pipefail
top=$(cd "$(dirname "$0")/.." && pwd)
cache=${XDG_CACHE_HOME:-$HOME/.cache}/farstep/fresh
release=bookworm
keep_env='_proxy$|_PROXY$|_CERTS?$|SSL_CERT_|CA_BUNDLE$|CAINFO$'
commands=("$@")
[ $# -gt 0 ] || commands=("make run" "make test")

die() { printf 'fresh: %s\n' "$*" >&2; exit 1; }
[ "$(id -u)" = 0 ] || die "this needs root"

# The mirror that this machine's apt uses for the release proper, and its keyring.
apt_source() {
	apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(SIGNED_BY)' 'Created-By: Packages' |
		awk -v r="$release" '$2 == r { print; exit }'
}

make_base() {
	local uri _ keyring proxy='' tmp=$cache/base.tmp
	[ ! -e "$cache/base/etc/debian_version" ] || return 0
	command -v debootstrap >/dev/null || {
		DEBIAN_FRONTEND=noninteractive apt-get -qq update
		DEBIAN_FRONTEND=noninteractive apt-get -qq -y install --no-install-recommends debootstrap \
			>/dev/null
	}
	read -r uri _ keyring < <(apt_source) || die "apt has no source for Debian $release here"
	[ -f "${keyring:-}" ] || keyring=/usr/share/keyrings/debian-archive-keyring.gpg
	eval "$(apt-config shell proxy Acquire::http::Proxy)"
	rm -rf "$tmp"
	mkdir -p "$tmp"
	echo "fresh: making a minimal Debian $release"
	env ${proxy:+http_proxy="$proxy"} debootstrap --variant=minbase --keyring="$keyring" \
		"$release" "$tmp" "$uri" >"$cache/debootstrap.log" 2>&1 ||
		{ tail -n 20 "$cache/debootstrap.log"; die "debootstrap failed"; }
	mv -T "$tmp" "$cache/base"
}

# What apt needs to work in root $1 as it does here: sources, keys, network and TLS settings.
copy_settings() {
	local root=$1 f
	rm -rf "$root"/etc/apt/sources.list "$root"/etc/apt/sources.list.d
	for f in /etc/apt/{sources.list,sources.list.d,auth.conf,auth.conf.d,keyrings} \
		/etc/apt/{trusted.gpg,trusted.gpg.d,preferences.d} /usr/share/keyrings \
		/usr/local/share/ca-certificates /etc/ssl/certs/ca-certificates.crt \
		/etc/{resolv.conf,hosts,pip.conf}; do
		[ -e "$f" ] || continue
		mkdir -p "$root$(dirname "$f")"
		rm -rf "${root:?}$f"
		cp -rL "$f" "$root$f"
	done
	# Not the hooks: they call programs that are not there.
	apt-config dump | grep '^Acquire::' >"$root/etc/apt/apt.conf.d/00host"
}

# Runs command line $2 in root $1, in its /root/farstep. A plain chroot would not do: bubblewrap
# refuses to make namespaces there.
enter() {
	local root=$1 command=$2 vars=()
	mapfile -t vars < <(env | grep -E "^[A-Za-z_0-9]+=" | grep -E "^[^=]*($keep_env)[^=]*=" || true)
	unshare --mount --pid --fork --propagation private bash -euc '
		root=$1 command=$2
		shift 2
		mount --bind "$root" "$root"
		mount -t proc proc "$root/proc"
		mount --rbind /sys "$root/sys"
		mount --rbind /dev "$root/dev"
		mount -t tmpfs -o mode=1777 tmp "$root/tmp"
		cd "$root"
		mkdir -p .old
		pivot_root . .old
		cd /
		umount -l /.old
		exec env -i "$@" HOME=/root TERM=dumb DEBIAN_FRONTEND=noninteractive \
			PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
			bash -c "cd /root/farstep && $command"
	' enter "$root" "$command" "${vars[@]}"
}

mkdir -p "$cache"
exec 9>"$cache/lock"
flock 9
make_base
exec 9>&-

work=$(mktemp -d /var/tmp/farstep-fresh.XXXXXX)
trap '[ -n "${KEEP:-}" ] || rm -rf --one-file-system "$work"' EXIT
root=$work/root
cp -a --reflink=auto "$cache/base" "$root"
copy_settings "$root"
git clone -q --no-hardlinks "$top" "$root/root/farstep"
chown -R 0:0 "$root/root/farstep"
echo "fresh: $(git -C "$root/root/farstep" log -1 --format='%h %s')"
enter "$root" "apt-get -qq update && apt-get -qq -y install --no-install-recommends make" \
	>"$work/log" 2>&1 || { tail -n 20 "$work/log"; die "apt does not work in there"; }

failed=0
for command in "${commands[@]}"; do
	echo "--- $command"
	began=$SECONDS
	status=0
	enter "$root" "$command" >"$work/log" 2>&1 </dev/null || status=$?
	tail -n "${LINES_SHOWN:-25}" "$work/log"
	echo "--- $command: exit $status after $((SECONDS - began)) s"
	[ "$status" = 0 ] || failed=$((failed + 1))
done
[ "$failed" = 0 ] && echo "fresh: works" || die "$failed of ${#commands[@]} commands failed"
