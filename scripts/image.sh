#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Tree and kernel up to date; the progress goes to stderr, the image's directory to stdout.
#
# usage: image.sh debug|release|kunit

# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

"$TOP/scripts/tree.sh" >&2
"$TOP/scripts/kernel.sh" "$1"
