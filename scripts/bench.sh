#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make bench: runs each suite of tests/bench in a VM with the release kernel and shows it live.

# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

shopt -s nullglob
suites=("$TOP"/tests/bench/*.suite)
if (( ! ${#suites[@]} )); then
	say bench "there are no benchmarks yet: tests/bench has no *.suite"
	exit 0
fi
image=$("$TOP/scripts/image.sh" release)
status=0
for suite in "${suites[@]}"; do
	name=bench-$(basename "$suite" .suite)
	"$TOP/scripts/vm.sh" --image "$image" --name "$name" --suite "$suite" --live || status=1
	if grep -aqE '^@end [^ ]+ [1-9]' "$LOGS/$name/tests.log"; then status=1; fi
done
exit $status
