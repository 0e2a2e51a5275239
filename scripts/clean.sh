#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make clean, distclean, cacheclean: removes what can be made again, never work.

# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

case ${1:-} in
clean)
	if [[ -d $BUILD ]]; then
		find "$BUILD" -mindepth 1 -maxdepth 1 ! -name linux -exec rm -rf {} +
	fi ;;
distclean)
	if [[ -d $TREE/.git && ! ${FORCE:-} ]]; then
		built=$(tree_git rev-parse -q --verify refs/workbench/built || true)
		if [[ $(tree_git rev-parse -q --verify HEAD || true) != "$built" ]] ||
		   ! tree_git diff --quiet HEAD ||
		   [[ $(tree_git ls-files -o --exclude-standard) ]]; then
			die "build/linux has work that is not in patches/: 'make refresh', or FORCE=1"
		fi
	fi
	rm -rf "$BUILD" ;;
cacheclean)
	rm -rf "$CACHE" ;;
*)
	die "usage: clean.sh clean|distclean|cacheclean" ;;
esac
