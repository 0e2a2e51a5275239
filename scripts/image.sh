#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Tree and kernels up to date; the progress goes to stderr, the images' directories to stdout.
#
# usage: image.sh debug|release|kunit...

# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

"$TOP/scripts/tree.sh" >&2
for config in "$@"; do
	"$TOP/scripts/kernel.sh" "$config"
done
