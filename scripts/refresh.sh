#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Writes what was edited in build/linux back into patches/.
#
# Uncommitted edits are folded into the last patch that touches each file, or all of them into
# PATCH=<number>; commits that the developer made on top (or a series that he rebased) become
# patches as they are. A file that a commit adds moves into this repository and the patch
# only names it. Patches that did not change keep their bytes.

# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

[[ -d $TREE/.git ]] || die "there is no build/linux: 'make tree' first"
lock "$BUILD/tree.lock"
tmp=$(mktemp -d)
fold=$BUILD/fold
cleanup() {
	rm -rf "$tmp"
	if [[ -d $fold ]]; then tree_git worktree remove --force "$fold"; fi
}
trap cleanup EXIT

# -- fold the edits -----------------------------------------------------------

untracked=$(tree_git ls-files -o --exclude-standard)
[[ -z $untracked ]] ||
	die "new files belong into this repository, not into build/linux: ${untracked//$'\n'/ }"
new_files > "$tmp/new"
mapfile -t edited < <(tree_git diff --name-only --no-renames HEAD)
mapfile -t series < <(tree_git rev-list --reverse pristine..HEAD)

if (( ${#edited[@]} )); then
	# A second working tree, with only the files in question, where git can rebase at will.
	cleanup
	mkdir "$tmp"
	tree_git worktree prune
	tree_git worktree add -q --no-checkout --detach "$fold"
	git -C "$fold" sparse-checkout set --no-cone "${edited[@]/#//}"
	git -C "$fold" checkout -q
	for file in "${edited[@]}"; do
		! new_files | grep -qxF "$file" || die "edit $file in the repository, not in build/linux"
		if [[ ${PATCH:-} ]]; then
			if [[ ! $PATCH =~ ^0*[1-9][0-9]*$ ]] || (( 10#$PATCH > ${#series[@]} )); then
				die "PATCH=$PATCH: the patches are 1 to ${#series[@]}"
			fi
			target=${series[10#$PATCH - 1]}
		else
			target=$(tree_git log -1 --format=%H pristine..HEAD -- "$file")
			[[ $target ]] || die "no patch touches $file: commit that edit in build/linux" \
				"with a message of its own, then run this again"
		fi
		mkdir -p "$(dirname "$fold/$file")"
		if [[ -e $TREE/$file ]]; then cp -p "$TREE/$file" "$fold/$file"; else rm "$fold/$file"; fi
		echo "$target $file" >> "$tmp/targets"
	done
	id=(-c user.name=gmem_iommu -c user.email=gmem_iommu@localhost -c commit.gpgSign=false)
	mapfile -t targets < <(cut -d' ' -f1 "$tmp/targets" | sort -u)
	for target in "${targets[@]}"; do
		sed -n "s/^$target //p" "$tmp/targets" |
			git -C "$fold" add --sparse -f -A --pathspec-from-file=-
		git -C "$fold" "${id[@]}" commit -q --no-verify --fixup="$target"
		say refresh "into '$(tree_git log -1 --format=%s "$target")': $(
			sed -n "s/^$target //p" "$tmp/targets" | xargs)"
	done
	GIT_SEQUENCE_EDITOR=: git -C "$fold" "${id[@]}" -c rebase.abbreviateCommands=false \
		rebase -q -i --autosquash pristine > "$tmp/rebase" 2>&1 || {
		cat "$tmp/rebase" >&2
		die "the edits conflict with later patches; build/linux is as it was"
	}
	folded=$(git -C "$fold" rev-parse HEAD)
	tree_git diff --quiet "$folded" || die "folding changed the contents; build/linux is as it was"
	tree_git reset -q --soft "$folded"
	tree_git reset -q
fi

# -- write the patches --------------------------------------------------------

mkdir -p "$tmp/out" "$PATCHES"
number=0
for commit in $(tree_git rev-list --reverse pristine..HEAD); do
	number=$((number + 1))
	tree_git log -1 --format=%B "$commit" > "$tmp/message"

	# The new files: what the commit adds, and what its message already names.
	{
		tree_git diff --name-only --no-renames --diff-filter=A "$commit^" "$commit"
		sed -n 's/^New-file: *//p' "$tmp/message"
	} | LC_ALL=C sort -ru > "$tmp/files"

	# The same commit without them is what the patch's diff says.
	export GIT_INDEX_FILE=$tmp/index
	tree_git read-tree "$commit"
	trailers=()
	while read -r file; do
		if [[ ! -e $TOP/$file ]]; then
			say refresh "$file moves into the repository"
			mkdir -p "$(dirname "$TOP/$file")"
			tree_git show "$commit:$file" > "$TOP/$file"
			if [[ -x $TREE/$file ]]; then chmod +x "$TOP/$file"; fi
		fi
		tree_git update-index --force-remove "$file"
		trailers+=(--trailer "New-file: $file")
	done < "$tmp/files"
	tree_git log -1 --format=%B "$commit" | sed '/^New-file:/d' | git stripspace > "$tmp/message"
	if (( ${#trailers[@]} )); then
		git interpret-trailers --in-place --where start --if-exists add "${trailers[@]}" "$tmp/message"
	fi
	GIT_AUTHOR_NAME=$(tree_git log -1 --format=%an "$commit")
	GIT_AUTHOR_EMAIL=$(tree_git log -1 --format=%ae "$commit")
	GIT_AUTHOR_DATE=$(tree_git log -1 --format=%aI "$commit")
	export GIT_AUTHOR_NAME GIT_AUTHOR_EMAIL GIT_AUTHOR_DATE
	lean=$(tree_git commit-tree -p "$(tree_git rev-parse "$commit^")" -F "$tmp/message" \
		"$(tree_git write-tree)")
	unset GIT_INDEX_FILE GIT_AUTHOR_NAME GIT_AUTHOR_EMAIL GIT_AUTHOR_DATE
	tree_git format-patch -q -1 --always -N --zero-commit --no-signature --no-renames \
		--full-index --start-number "$number" -o "$tmp/out" "$lean"
done

changed=0
for old in "$PATCHES"/[0-9]*.patch; do
	[[ ! -e $old || -e $tmp/out/${old##*/} ]] || { rm "$old"; changed=$((changed + 1)); }
done
for new in "$tmp/out"/*.patch; do
	[[ -e $new ]] || continue
	if ! cmp -s "$new" "$PATCHES/${new##*/}"; then
		cp "$new" "$PATCHES/"
		changed=$((changed + 1))
	fi
done
say refresh "$number patches, $changed changed"

# build/linux is now what the patches say, save for commit ids; let tree.sh settle those.
tree_git update-ref refs/workbench/built HEAD
