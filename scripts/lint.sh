#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Holds patches, new files and scripts to the kernel's style; prints KTAP.
#
# usage: lint.sh [cheap]	cheap: only what needs no kernel build

# shellcheck disable=SC2317	# check calls functions by name

# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT
number=0 failures=0 verdict=

# check NAME COMMAND...: ok when the command succeeds and says nothing.
check() {
	local name=$1
	shift
	verdict=ok
	if ! ("$@") > "$tmp/said" 2>&1 || [[ -s $tmp/said ]]; then
		verdict='not ok'
		failures=$((failures + 1))
		cat "$tmp/said"
	fi
	number=$((number + 1))
	echo "$verdict $number $name"
}

# remember FILE NAME COMMAND...: the same, but what was found good once is not looked at again. The
# answer depends on the file, on what checks it, and on the kernel's tools.
remember() {
	local file=$1 good
	shift
	good=$CACHE/lint/$({ tree_git rev-parse pristine; sed '/^Date: /d' "$TOP/scripts/lint.sh" "$file"; echo "$*"; } |
		sha256sum | cut -c-32)
	if [[ -e $good ]]; then
		number=$((number + 1))
		echo "ok $number $1"
		touch "$good"
		return
	fi
	check "$@"
	if [[ $verdict == ok ]]; then touch "$good"; fi
}
mkdir -p "$CACHE/lint"
find "$CACHE/lint" -type f -mtime +30 -delete

skip() {
	number=$((number + 1))
	echo "ok $number $1 # SKIP $2"
}

"$TOP/scripts/series.sh" > "$tmp/series" || { cat "$tmp/series"; exit 1; }
mapfile -t new < <(new_files)
mapfile -t scripts < <(grep -rlsE '^#!.*\<(ba)?sh\>' scripts .ci tools tests)
shopt -s nullglob
mails=("$BUILD"/series/*.patch)

echo "KTAP version 1"
check shellcheck shellcheck -x -P scripts "${scripts[@]}"

# Machine paths and hosts do not belong into the project.
no_traces() { ! grep -rnE "$1" --exclude-dir=build --exclude-dir=.git . | grep -v 'scripts/lint.sh'; }
check "no paths of one machine" no_traces '/(root|home/[a-z]+|work)/|/tmp/[a-z]+/'
check "no package registries" no_traces '(deb|security|snapshot)\.debian\.org|ports\.ubuntu\.com'

# gmem_iommu alone knows both, so that each can be built, loaded and unloaded without the other.
strangers() {
	! grep -rnE '\<(kvm|gmem)[_/]|guest_memfd\.h|GUEST_MEMFD' drivers/iommu include/linux/iommufd_ext.h &&
		! grep -rnE '\<iommufd?[_./]|IOMMUFD' virt include/linux/guest_memfd.h
}
check "N4 kvm and iommufd are strangers" strangers

# What it says on stderr is about optional Python modules of a helper.
checkpatch() {
	(cd "$TREE" && scripts/checkpatch.pl --strict --no-summary --quiet \
		--ignore FILE_PATH_CHANGES "$1" 2> /dev/null)
}
for mail in "${mails[@]:1}"; do
	remember "$mail" "checkpatch ${mail##*/}" checkpatch "$mail"
done
for file in "${new[@]}"; do
	case $file in
	drivers/*.[ch]|include/*.h|virt/*.[ch]|lib/*.[ch]|mm/*.[ch])
		remember "$file" "kernel-doc $file" env -C "$TREE" scripts/kernel-doc -none -Wall "$file" ;;
	esac
done
(( ${#mails[@]} )) || skip checkpatch "there are no patches yet"

if [[ ${1:-} == cheap ]]; then
	exit $((failures > 0))
fi

# -- with the compiler --------------------------------------------------------

# The lines that the series adds; a warning elsewhere is not ours.
tree_git diff -U0 --no-renames pristine | awk '
	/^\+\+\+ b\// { file = substr($2, 3) }
	/^@@/ { split($3, at, ","); n = length(at) > 1 ? at[2] : 1
		for (i = 0; i < n; i++) print file ":" substr(at[1], 2) + i }' > "$tmp/ours"

# warnings LOG: those of a build that are at one of our lines.
warnings() {
	sed -nE 's,^(\.\./linux/|'"$TREE"'/)?([^ :]+:[0-9]+):.*(warning|error):.*,\2 &,p' "$1" |
		while read -r place text; do
			if grep -qxF "$place" "$tmp/ours"; then echo "$text"; fi
		done | sort -u
}

out=$BUILD/lint
mkdir -p "$out"
export CCACHE_DIR=$CACHE/ccache CCACHE_BASEDIR=$TOP CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=time_macros
# Without sparse.h, an older sparse knows too little; make would leave it out without failing.
make=(make -C "$TREE" "O=$out" ARCH=x86 HOSTCC="ccache gcc" "-j${JOBS:-$(nproc)}"
      CHECK="sparse -include $TOP/scripts/sparse.h")
cat configs/base.config configs/debug.config configs/gmem_iommu*.config > "$out/fragment"
quietly "$LOGS/lint-config.log" "${make[@]}" KCONFIG_ALLCONFIG="$out/fragment" allnoconfig
quietly "$LOGS/lint-prepare.log" "${make[@]}" prepare modules_prepare
mapfile -t objects < <(tree_git diff --name-only --no-renames --diff-filter=d pristine -- \
	'arch/x86/*.c' 'drivers/*.c' 'mm/*.c' 'virt/*.c' 'lib/*.c' | sed 's/c$/o/')
for object in "${objects[@]}"; do
	log=$LOGS/lint-${object//\//-}.log
	rm -f "$out/$object"
	if ! "${make[@]}" C=2 W=1 "$object" > "$log" 2>&1; then
		if grep -qE "No rule to make target|Nothing to be done" "$log"; then
			skip "W=1 and sparse $object" "not part of the configuration, or included by another file"
		else
			check "W=1 and sparse $object" tail -n 30 "$log"
		fi
	elif ! grep -q '^  CHECK' "$log"; then
		check "W=1 and sparse $object" grep -m 1 sparse "$log"
	else
		check "W=1 and sparse $object" warnings "$log"
	fi
done

# -- coccinelle, on our directories -----------------------------------------------

# The few rules written in OCaml are about other subsystems and would need its compiler.
cocci() {
	local rule log=$LOGS/cocci.log
	: > "$log"
	(cd "$TREE" && grep -rlw 'virtual report' scripts/coccinelle | xargs grep -Liw ocaml | sort | sed "s,^,$TREE/,") |
		while read -r rule; do
			"${make[@]}" coccicheck MODE=report M="$1" COCCI="$rule" J="$(nproc)" >> "$log" 2>&1 ||
				echo "failed: $rule (the output: $log)"
		done
	# Of what it finds in files that are not ours, what is on our lines.
	sed -nE "s,^($TREE/$1/|\./)?([^ :]+\.[ch]:[0-9]+):.*,\2 &,p" "$log" | sort -u |
		while read -r place text; do
			if grep -qxF "$1/$place" "$tmp/ours"; then echo "$text"; fi
		done
}
mapfile -t dirs < <(printf '%s\n' "${new[@]}" | sed -nE 's,^((drivers|virt)/.*)/[^/]*\.c$,\1,p' | sort -u)
for dir in "${dirs[@]}"; do
	if command -v spatch > /dev/null; then
		check "coccicheck $dir" cocci "$dir"
	else
		skip "coccicheck $dir" "coccinelle is not installed"
	fi
done
exit $((failures > 0))
