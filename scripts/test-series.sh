#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Shows that git am of build/series on the pristine kernel gives exactly the tree that is tested.

# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

"$TOP/scripts/series.sh"
shopt -s nullglob
mails=("$BUILD"/series/*.patch)
if (( ! ${#mails[@]} )); then
	echo "# SKIP there are no patches yet"
	exit 4
fi

# A working tree with only the files that the series touches is enough for git am.
am=$BUILD/am
cleanup() { if [[ -d $am ]]; then tree_git worktree remove --force "$am"; fi; }
trap cleanup EXIT
cleanup
tree_git worktree prune
tree_git worktree add -q --no-checkout --detach "$am" pristine
mapfile -t files < <(tree_git diff --name-only --no-renames pristine HEAD)
git -C "$am" sparse-checkout set --no-cone "${files[@]/#//}"
git -C "$am" checkout -q
git -C "$am" -c user.name=t -c user.email=t@localhost -c commit.gpgSign=false -c core.hooksPath=/dev/null \
	am -q "${mails[@]:1}"

git -C "$am" diff --exit-code --stat HEAD "$(tree_git rev-parse HEAD)" ||
	die "git am of the series gives another tree"
new_files | while read -r file; do
	git -C "$am" show "HEAD:$file" | cmp -s - "$TOP/$file" || die "$file is not in the series as it is here"
done
say series "${#files[@]} files, as tested"
