#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Tests tree, refresh and series on a kernel of five files, and what report.py makes of a run;
# prints KTAP, takes seconds.

# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
repo=$tmp/repo
number=0
export GMEM_IOMMU_CACHE=$tmp/cache
unset KDIR KERNEL_TARBALL PATCH GIT_DIR GIT_INDEX_FILE

# is NAME COMMAND...: the command succeeds. isnt NAME TEXT COMMAND...: it fails and says TEXT.
is() {
	local name=$1
	shift
	number=$((number + 1))
	if (cd "$repo" && "$@") > "$tmp/said" 2>&1; then
		echo "ok $number $name"
	else
		cat "$tmp/said"
		echo "not ok $number $name"
		exit 1
	fi
}
isnt() {
	local name=$1 text=$2
	shift 2
	number=$((number + 1))
	if ! (cd "$repo" && "$@") > "$tmp/said" 2>&1 && grep -q -- "$text" "$tmp/said"; then
		echo "ok $number $name"
	else
		cat "$tmp/said"
		echo "not ok $number $name"
		exit 1
	fi
}
# skip NAME WHY
skip() {
	number=$((number + 1))
	echo "ok $number $1 # SKIP $2"
}
linux() { git -C "$repo/build/linux" -c user.name=Me -c user.email=me@localhost "$@"; }
same() { [[ $(cat "$1") == "$2" ]]; }

# A kernel, a repository of two patches and one new file.
mkdir -p "$tmp/kernel"/{mm,virt} "$repo/patches/7.3" "$repo/drivers/gmem"
printf 'VERSION = 7\nPATCHLEVEL = 3\nSUBLEVEL = 9\n' > "$tmp/kernel/Makefile"
seq 1 30 > "$tmp/kernel/mm/a.c"
seq 1 30 > "$tmp/kernel/virt/b.c"
cp -r scripts "$repo/"
git -C "$repo" init -q
echo build > "$repo/.gitignore"
echo 'int gmem;' > "$repo/drivers/gmem/new.c"
mail() {
	cat <<- MAIL
		From 0000000000000000000000000000000000000000 Mon Sep 17 00:00:00 2001
		From: Me <me@localhost>
		Date: Sat, 3 Jan 2026 10:00:00 +0100
		Subject: [PATCH] $1

		Text.

		$2Signed-off-by: Me <me@localhost>
		---
	MAIL
}
{
	mail "mm: one" ""
	sed 's/^3$/three/' "$tmp/kernel/mm/a.c" |
		git diff --no-index "$tmp/kernel/mm/a.c" - | sed -E '/^(diff|index|old|new)/d;
			s,^--- .*,diff --git a/mm/a.c b/mm/a.c\n--- a/mm/a.c,; s,^\+\+\+ .*,+++ b/mm/a.c,'
} > "$repo/patches/7.3/0001-mm-one.patch" || true
mail "gmem: two" $'New-file: drivers/gmem/new.c\n' > "$repo/patches/7.3/0002-gmem-two.patch"

echo "KTAP version 1"
export KDIR=$tmp/kernel
sed -i 's/= 3/= 2/' "$tmp/kernel/Makefile"
isnt "a wrong kernel version is refused" "wrong kernel version 7.2.9" scripts/tree.sh
sed -i 's/= 2/= 3/' "$tmp/kernel/Makefile"
touch "$tmp/kernel/.config"
isnt "a tree that was built in place is refused" "built in place" scripts/tree.sh
rm "$tmp/kernel/.config"
is "a tree is made" scripts/tree.sh
unset KDIR
is "the patch is in it" grep -qx three build/linux/mm/a.c
is "the new file is in it" cmp drivers/gmem/new.c build/linux/drivers/gmem/new.c
is "refresh of an unchanged tree" scripts/refresh.sh
cp -r "$repo/patches" "$tmp/before"
is "refresh again" scripts/refresh.sh
is "refresh keeps the bytes" diff -r "$tmp/before" patches
is "the tree follows" scripts/tree.sh

touch -d '2020-01-01' "$repo/build/linux/mm/a.c" "$repo/build/linux/Makefile"
echo 'int gmem2;' >> "$repo/drivers/gmem/new.c"
is "a new file changes" scripts/tree.sh
is "the change arrives" cmp drivers/gmem/new.c build/linux/drivers/gmem/new.c
is "other files keep their time" test ! build/linux/mm/a.c -nt "$tmp/kernel/Makefile"

sed -i 's/^25$/twentyfive/' "$repo/build/linux/mm/a.c"
is "an edit survives" scripts/tree.sh
is "an edit is still there" grep -qx twentyfive build/linux/mm/a.c
is "an edit is folded" scripts/refresh.sh
is "into its patch" grep -q '^+twentyfive' patches/7.3/0001-mm-one.patch
is "the tree is clean then" git -C build/linux diff --quiet HEAD
is "the tree follows again" scripts/tree.sh

sed -i 's/^25$/x/' "$repo/build/linux/virt/b.c"
isnt "an edit that belongs to no patch is refused" "no patch touches virt/b.c" scripts/refresh.sh
is "PATCH= names one" env PATCH=2 scripts/refresh.sh
is "the edit is in it" grep -q '^+x' patches/7.3/0002-gmem-two.patch
is "the new file is still named" grep -qx 'New-file: drivers/gmem/new.c' patches/7.3/0002-gmem-two.patch
isnt "PATCH= beyond the end" "the patches are 1 to 2" bash -c 'echo y >> build/linux/virt/b.c; PATCH=3 scripts/refresh.sh'

linux commit -qam $'virt: three\n\nText.\n\nSigned-off-by: Me <me@localhost>'
isnt "commits on top are not lost" "make refresh" bash -c 'echo >> drivers/gmem/new.c; scripts/tree.sh'
is "a commit becomes a patch" scripts/refresh.sh
is "of its own" grep -q '^+y' patches/7.3/0003-virt-three.patch
is "the tree follows once more" scripts/tree.sh

touch "$repo/drivers/gmem/forgotten.c"
isnt "a new file without a patch is refused" "drivers/gmem/forgotten.c" scripts/tree.sh
rm "$repo/drivers/gmem/forgotten.c"
chmod u+w "$repo/build/linux/drivers/gmem/new.c"
echo wrong >> "$repo/build/linux/drivers/gmem/new.c"
isnt "a new file edited in the wrong place is refused" "in the repository" scripts/tree.sh
linux checkout -q drivers/gmem/new.c
is "the series applies to a pristine tree" scripts/test-series.sh
sed -i 's/^+three/+drei/' "$repo/patches/7.3/0001-mm-one.patch"
is "a patch edited by hand" scripts/tree.sh
is "arrives" grep -qx drei build/linux/mm/a.c
echo work > "$repo/build/linux/mm/idea.c"
isnt "distclean keeps what is nowhere else" "build/linux has work" scripts/clean.sh distclean
rm "$repo/build/linux/mm/idea.c"
is "distclean" scripts/clean.sh distclean
is "removes the build" test ! -e build

# A run of two programs, and three requirements.
run=$tmp/run
mkdir -p "$run" "$repo/tests"
cat > "$repo/tests/requirements.txt" <<- 'END'
	# comment

	C1	one
	    kunit suite.whole_*
	C10	ten
	M2	two
END
cat > "$run/tests.log" <<- 'END'
	@begin first 10
	1..4
	ok 1 fixture.variant.C1_M2_follows
	ok 2 fixture.other.C1_M2_follows
	not ok 3 fixture.M2_fails
	ok 4 fixture.M2_absent # SKIP no device
	@end first 1 2
	@begin kunit 10
	1..3
	ok 1 suite.whole_requests
	ok 2 suite.gmem_c1_lower
	ok 3 suite.c100
	@end kunit 0 1
END
printf '%s\n' 'first 10 x' 'kunit 10 y' > "$run/suite"
report() { scripts/report.py "$run" > "$tmp/report" || true; grep -x -- "$1" "$tmp/report"; }
report_lacks() { ! report "$1"; }
is "a requirement has its tests" report 'C1     4 passed: fixture.follows, suite.whole_requests, suite.gmem_lower'
is "one has none" report 'C10  no test'
is "one has failures" report 'M2     2 passed, 1 failed, 1 skipped: fixture.follows, fixture.fails, fixture.absent'
is "the last line is the summary" bash -c "tail -n 1 '$tmp/report' | grep -qx '5 passed, 1 failed, 1 skipped'"
sed -i 's/C1_M2_//; /M2_/d; /c1_/d; /whole/d; s/1\.\.[43]/1..1/' "$run/tests.log"
is "no table for tests of other things" report_lacks '== Requirements.*'

# What the selftests ask for, the kernel that they run on has.
config=$TOP/tools/testing/selftests/gmem_iommu/config
lacks() { grep -vxFf "$1" "$2" | sed 's/^/the kernel lacks /'; }
has_all() { [[ -s $2 ]] && ! lacks "$1" "$2" | grep .; }
printf 'CONFIG_A=y\nCONFIG_B=m\n' > "$tmp/has"
printf 'CONFIG_A=y\nCONFIG_B=y\n' > "$tmp/wants"
isnt "an option that a kernel lacks is found" 'lacks CONFIG_B=y' has_all "$tmp/has" "$tmp/wants"
if [[ ${GMEM_IOMMU_IMAGE:-} && -e $config ]]; then
	is "the debug kernel has all that the selftests ask for" has_all "$GMEM_IOMMU_IMAGE/.config" "$config"
else
	skip "the debug kernel has all that the selftests ask for" "make check knows the kernel"
fi
