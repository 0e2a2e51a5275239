#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make shell: an interactive VM.
#
# usage: shell.sh debug|release [--gdb]

# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

image=$("$TOP/scripts/image.sh" "$1")
shift
exec "$TOP/scripts/vm.sh" --image "$image" --shell --mem 6G --gigantic 2 "$@"
