#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Turns a kernel source, wherever it comes from, into a bare git repository in the cache.
#
# The repository has one commit, tagged "pristine". In this order: KDIR (a tree),
# KERNEL_TARBALL, one that the cache has, the distribution's linux-source package,
# kernel.org. Prints the repository's path on the last line of its output.

# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

mkdir -p "$CACHE/downloads"
lock "$CACHE/source.lock" >&2

# version_of: the version that a top-level Makefile (stdin) states, if it is one of ours.
version_of() {
	local v
	v=$(awk -F' *= *' '$1 == "VERSION" { a = $2 } $1 == "PATCHLEVEL" { b = $2 }
		$1 == "SUBLEVEL" && a { print a "." b "." $2; a = "" }')
	[[ $v == "$SERIES".* ]] ||
		die "wrong kernel version ${v:-(none)}: the patches are for $SERIES.y"
	echo "$v"
}

# import [NAME]: an uncompressed tar archive on stdin becomes $CACHE/NAME.git.
import() {
	local tmp=$CACHE/import.tmp version repo
	rm -rf "$tmp"
	git init -q --bare "$tmp" || die "cannot create $tmp"
	"$TOP/scripts/tar-to-git.py" "linux $SERIES" |
		git -C "$tmp" -c core.compression=1 fast-import --quiet || die "not a kernel archive"
	version=$(git -C "$tmp" show pristine:Makefile | version_of) || exit 1
	repo=$CACHE/${1:-linux-$version}.git
	[[ -d $repo ]] || mv -T "$tmp" "$repo" || die "cannot create $repo"
	say source "$version is in ${repo##*/}" >&2
	echo "$repo"
}

# from_tarball FILE [NAME]
from_tarball() {
	case $1 in
	*.xz)  xz -dcT0 "$1" ;;
	*.gz)  gzip -dc "$1" ;;
	*)     cat "$1" ;;
	esac | import "${2:-}"
}

from_kdir() {
	local version id
	version=$(version_of < "$KDIR/Makefile")
	if [[ -e $KDIR/.git ]]; then
		id=$(git -C "$KDIR" rev-parse --verify -q HEAD) || die "KDIR=$KDIR: nothing is committed"
		id=${id:0:12}
	else
		if [[ -e $KDIR/.config || -e $KDIR/include/config ]]; then
			die "KDIR=$KDIR was built in place: 'make mrproper' there, or give a git tree"
		fi
		id=$(cd "$KDIR" && find . -type f -printf '%P %s %T@\n' | LC_ALL=C sort | sha256sum)
		id=${id:0:12}
	fi
	if [[ -d $CACHE/linux-$version-$id.git ]]; then
		echo "$CACHE/linux-$version-$id.git"
		return
	fi
	say source "$version from the tree $KDIR" >&2
	if [[ -e $KDIR/.git ]]; then
		git -C "$KDIR" archive --prefix=linux/ HEAD
	else
		tar -C "$KDIR" --exclude-vcs --exclude='*.o' --exclude='*.ko' --exclude='*.cmd' \
			--transform='s,^\.,linux,' -cf - .
	fi | import "linux-$version-$id"
}

from_user_tarball() {
	local id
	[[ -r $KERNEL_TARBALL ]] || die "KERNEL_TARBALL=$KERNEL_TARBALL: no such file"
	id=$(sha256sum < "$KERNEL_TARBALL")
	id=tarball-${id:0:12}
	if [[ -d $CACHE/$id.git ]]; then
		echo "$CACHE/$id.git"
		return
	fi
	say source "from $KERNEL_TARBALL" >&2
	from_tarball "$KERNEL_TARBALL" "$id"
}

# from_debian: the package's checksum is apt's business, down to the archive's signature.
from_debian() {
	local dir=$CACHE/downloads/debian deb
	command -v apt-get > /dev/null && command -v dpkg > /dev/null || return 1
	mkdir -p "$dir"
	say source "asking apt for linux-source-$SERIES" >&2
	"$TOP/scripts/apt-private.sh" update > "$dir/apt.log" 2>&1 || return 1
	(cd "$dir" && "$TOP/scripts/apt-private.sh" download "linux-source-$SERIES") \
		>> "$dir/apt.log" 2>&1 || return 1
	deb=$(find "$dir" -name "linux-source-${SERIES}_*.deb" | sort -V | tail -n 1)
	[[ $deb ]] || die "apt-get download wrote no package"
	say source "unpacking $(basename "$deb")" >&2
	dpkg -x "$deb" "$dir/x" || return 1
	from_tarball "$dir/x/usr/src/linux-source-$SERIES.tar.xz" || exit 1
	rm -rf "$dir"
}

from_kernel_org() {
	local url=https://cdn.kernel.org/pub/linux/kernel/v${SERIES%%.*}.x dir=$CACHE/downloads file
	local fetch=(curl -fsSL --retry 3 --connect-timeout 30 --speed-limit 1000 --speed-time 60)
	say source "asking kernel.org for the newest $SERIES.y" >&2
	"${fetch[@]}" -o "$dir/sha256sums.asc" "$url/sha256sums.asc" || return 1
	file=$(grep -oE "linux-${SERIES//./\\.}(\.[0-9]+)?\.tar\.xz" "$dir/sha256sums.asc" |
		sort -uV | tail -n 1)
	[[ $file ]] || return 1
	say source "downloading $file" >&2
	"${fetch[@]}" -o "$dir/$file" "$url/$file" || return 1
	(cd "$dir" && grep "  $file\$" sha256sums.asc | sha256sum -c --quiet) >&2 ||
		die "$file: its checksum is not the one of $url/sha256sums.asc"
	from_tarball "$dir/$file" || exit 1
	rm -f "$dir/$file"
}

if [[ ${KDIR:-} ]]; then
	[[ -f $KDIR/Makefile ]] || die "KDIR=$KDIR: no kernel tree there"
	from_kdir
elif [[ ${KERNEL_TARBALL:-} ]]; then
	from_user_tarball
else
	cached=$(find "$CACHE" -maxdepth 1 -regex ".*/linux-$SERIES\.[0-9]+\.git" | sort -V | tail -n 1)
	if [[ $cached ]]; then
		echo "$cached"
	else
		from_debian || from_kernel_org ||
			die "no kernel source: give KDIR=<tree> or KERNEL_TARBALL=<file> of a $SERIES.y"
	fi
fi
