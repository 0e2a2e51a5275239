# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0
#
# What every script of the workbench shares: where things are, and how to speak.
#
# Source it; it changes to the top of the checkout.

set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/.."
# shellcheck disable=SC2034	# used by the scripts that source this
{
TOP=$PWD
SERIES=7.3
PATCHES=$TOP/patches/$SERIES
BUILD=$TOP/build
TREE=$BUILD/linux
LOGS=$BUILD/logs
CACHE=${GMEM_IOMMU_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/gmem_iommu}

# Directories of the kernel tree in which this repository may keep new files.
NEW_DIRS=(arch drivers include lib mm tools virt
	  Documentation/ABI Documentation/userspace-api Documentation/virt)
}

# say TAG TEXT: one progress line.
say() { printf '[%s] %s\n' "$1" "$2"; }

die() { printf 'error: %s\n' "$*" >&2; exit 1; }

# tree_git ARGS: git in the kernel tree, with an identity that makes commits reproducible.
tree_git() {
	git -C "$TREE" -c gc.auto=0 -c core.hooksPath=/dev/null \
	    -c user.name=gmem_iommu -c user.email=gmem_iommu@localhost \
	    -c commit.gpgSign=false "$@"
}

# quietly LOG COMMAND: run with the output in a file, which is shown when it fails.
quietly() {
	local log=$1
	shift
	mkdir -p "$(dirname "$log")"
	if ! "$@" > "$log" 2>&1; then
		tail -n 40 "$log" >&2
		die "failed: $* (all of the output: $log)"
	fi
}

# new_files: the paths of all new kernel files that this repository holds.
new_files() {
	local d dirs=()
	for d in "${NEW_DIRS[@]}"; do
		if [[ -d $TOP/$d ]]; then dirs+=("$d"); fi
	done
	(( ${#dirs[@]} )) || return 0
	if [[ -e $TOP/.git ]]; then
		git -C "$TOP" ls-files -co --exclude-standard -- "${dirs[@]}" |
			while read -r d; do if [[ -e $TOP/$d ]]; then echo "$d"; fi; done
	else
		(cd "$TOP" && find "${dirs[@]}" -type f ! -name '*~')
	fi | LC_ALL=C sort -u
}

# lock NAME: one at a time, until this script ends; says so when it has to wait.
lock() {
	local fd
	mkdir -p "$(dirname "$1")"
	exec {fd}> "$1"
	if ! flock -n "$fd"; then
		say wait "for another run that holds ${1##*/}"
		flock "$fd"
	fi
}
