#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Writes build/series: the whole project as mails for git am, with a cover letter.
#
# With "build" as argument it also builds every step, to show that the series bisects.

# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

"$TOP/scripts/tree.sh"
out=$BUILD/series
rm -rf "$out"
mkdir -p "$out"
count=$(tree_git rev-list --count pristine..HEAD)
if (( ! count )); then
	say series "there are no patches yet"
	exit 0
fi
tree_git format-patch -q --cover-letter -n --zero-commit --no-signature -M \
	-o "$out" pristine..HEAD

# The first line of cover-letter.txt is the subject, the rest the text.
letter=$PATCHES/cover-letter.txt
if [[ -s $letter ]]; then
	python3 - "$out/0000-cover-letter.patch" "$letter" <<- 'PYTHON'
		import sys
		cover, letter = sys.argv[1:]
		subject, _, text = open(letter).read().partition("\n")
		mail = open(cover).read()
		mail = mail.replace("*** SUBJECT HERE ***", subject)
		mail = mail.replace("*** BLURB HERE ***", text.strip())
		open(cover, "w").write(mail)
	PYTHON
fi
say series "$count patches and a cover letter are in build/series"

[[ ${1:-} == build ]] || exit 0

# -- every step builds ----------------------------------------------------------

steps=$BUILD/steps
if [[ -d $steps/linux ]]; then tree_git worktree remove --force "$steps/linux"; fi
tree_git worktree prune
mkdir -p "$steps/o"
tree_git worktree add -q --detach "$steps/linux" pristine
export CCACHE_DIR=$CACHE/ccache CCACHE_BASEDIR=$TOP CCACHE_NOHASHDIR=1 CCACHE_SLOPPINESS=time_macros
n=0
for commit in $(tree_git rev-list --reverse pristine..HEAD); do
	n=$((n + 1))
	say series "step $n/$count: $(tree_git log -1 --format=%s "$commit")"
	git -C "$steps/linux" checkout -q "$commit"
	make=(make -C "$steps/linux" "O=$steps/o" ARCH=x86 CC="ccache gcc" "-j${JOBS:-$(nproc)}")
	cat configs/*.config > "$steps/fragment"
	quietly "$LOGS/step-$n-config.log" "${make[@]}" KCONFIG_ALLCONFIG="$steps/fragment" allnoconfig
	quietly "$LOGS/step-$n.log" "${make[@]}" bzImage modules
done
tree_git worktree remove --force "$steps/linux"
say series "all $count steps build"
