#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Makes build/linux: the pristine kernel + one commit per patch of patches/.
#
# The commits are built in an index beside the working tree and depend on the repository's
# content only, so every machine gets the same ids. One checkout then moves the working tree
# there: it writes only files that differ (the kernel's make stays incremental), keeps edits,
# and refuses to overwrite them.
#
# A patch is a mail as of git format-patch. Lines "New-file: PATH" in its message name the
# files of this repository that its commit adds.

# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

lock "$BUILD/tree.lock"
tmp=$(mktemp -d)
trap 'rm -rf "$tmp"' EXIT

# -- the pristine kernel ----------------------------------------------------

if [[ ! -d $TREE/.git || ${KDIR:-} || ${KERNEL_TARBALL:-} ]] ||
   ! tree_git cat-file -e 'pristine^{tree}' 2> /dev/null; then
	bare=$("$TOP/scripts/source.sh" | tail -n 1)
	[[ -d $bare ]] || die "no kernel source"
	if [[ ! -d $TREE/.git ]]; then
		git init -q -b gmem_iommu "$TREE"
		tree_git config advice.detachedHead false
	fi
	# Borrow the objects instead of copying them.
	alternates=$TREE/.git/objects/info/alternates
	grep -qsxF "$bare/objects" "$alternates" || echo "$bare/objects" >> "$alternates"
	tree_git tag -f pristine "$(git -C "$bare" rev-parse pristine)" > /dev/null
	tree_git cat-file -e 'pristine^{tree}' || die "$bare is not what build/linux was made of"
fi
version=$(tree_git show pristine:Makefile | sed -nE 's/^SUBLEVEL = //p')

# -- the commits ------------------------------------------------------------

export GIT_INDEX_FILE=$tmp/index
tree_git read-tree pristine
commit=$(tree_git rev-parse pristine)
shopt -s nullglob
patches=("$PATCHES"/[0-9]*.patch)
: > "$tmp/listed"
for patch in "${patches[@]}"; do
	name=${patch#"$TOP/"}
	tree_git mailinfo "$tmp/body" "$tmp/diff" < "$patch" > "$tmp/info"
	field() { sed -n "s/^$1: //p" "$tmp/info"; }

	if [[ -s $tmp/diff ]] && grep -q '^diff --git' "$tmp/diff"; then
		tree_git apply --cached --whitespace=nowarn "$tmp/diff" ||
			die "$name does not apply to $SERIES.$version and the patches before it"
	fi
	sed -n 's/^New-file: *//p' "$tmp/body" > "$tmp/files"
	mapfile -t files < "$tmp/files"
	modes=()
	for file in "${files[@]}"; do
		[[ -f $TOP/$file ]] || die "$name: New-file: $file: not in this repository"
		! grep -qxF "$file" "$tmp/listed" || die "$name: $file is already in an earlier patch"
		if [[ -x $TOP/$file ]]; then modes+=(100755); else modes+=(100644); fi
	done
	if (( ${#files[@]} )); then
		old=$(tree_git ls-tree -r --name-only pristine -- "${files[@]}")
		[[ -z $old ]] || die "$name: $old exists in the kernel: change it by a diff"
		printf '%s\n' "${files[@]/#/"$TOP/"}" |
			tree_git hash-object -w --no-filters --stdin-paths > "$tmp/objects"
		paste -d ' \t' <(printf '%s\n' "${modes[@]}") "$tmp/objects" "$tmp/files" |
			tree_git update-index --add --index-info
	fi
	cat "$tmp/files" >> "$tmp/listed"

	{ field Subject; echo; grep -v '^New-file:' "$tmp/body"; } | git stripspace > "$tmp/message"
	GIT_AUTHOR_NAME=$(field Author) GIT_AUTHOR_EMAIL=$(field Email)
	GIT_AUTHOR_DATE=$(field Date)
	GIT_AUTHOR_DATE=${GIT_AUTHOR_DATE:-2026-01-01T00:00:00Z}
	GIT_COMMITTER_DATE=$GIT_AUTHOR_DATE
	export GIT_AUTHOR_NAME GIT_AUTHOR_EMAIL GIT_AUTHOR_DATE GIT_COMMITTER_DATE
	commit=$(tree_git commit-tree -p "$commit" -F "$tmp/message" "$(tree_git write-tree)")
done
unset GIT_INDEX_FILE

unlisted=$(new_files | LC_ALL=C comm -23 - <(LC_ALL=C sort "$tmp/listed"))
if [[ $unlisted && ! ${ALLOW_UNLISTED:-} ]]; then
	printf '%s\n' "$unlisted" >&2
	die "no patch adds these files: put a line 'New-file: PATH' into the message of one"
fi

# -- the working tree -------------------------------------------------------

built=$(tree_git rev-parse -q --verify refs/workbench/built || true)
head=$(tree_git rev-parse -q --verify HEAD || true)
if [[ $commit != "$built" || -z $head ]]; then
	if [[ $head && $head != "$built" ]]; then
		die "build/linux has commits that are not in patches/: 'make refresh' first"
	fi
	if [[ $head ]]; then
		tree_git update-index -q --refresh > /dev/null || true
		tree_git checkout -q -B gmem_iommu "$commit" 2> "$tmp/err" || {
			cat "$tmp/err" >&2
			die "build/linux has edits in files that changed in patches/: 'make refresh'" \
			    "or 'git checkout' them first"
		}
	else
		say tree "checking out $SERIES.$version"
		tree_git read-tree -u --reset "$commit"
		tree_git update-ref refs/heads/gmem_iommu "$commit"
	fi
	tree_git update-ref refs/workbench/built "$commit"
fi

# New files are edited in the repository; their copies here say so by their mode.
while read -r file; do
	if [[ -w $TREE/$file ]]; then chmod a-w "$TREE/$file"; fi
done < "$tmp/listed"
edited=$(tree_git diff --name-only HEAD | grep -xFf "$tmp/listed" || true)
[[ -z $edited ]] || die "edit these in the repository, not in build/linux: ${edited//$'\n'/ }"

edits=$(tree_git diff --name-only HEAD | wc -l)
top=$(tree_git rev-list --count "$commit"..HEAD)
say tree "$SERIES.$version + ${#patches[@]} patches, $(wc -l < "$tmp/listed") new files$(
	(( top )) && echo ", $top commits on top")$(
	(( edits )) && echo ", $edits files edited")"
