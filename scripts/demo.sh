#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make demo: runs gmem_iommu_demo in a VM with the release kernel and shows it live.

# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

image=$("$TOP/scripts/image.sh" release)
mkdir -p "$LOGS"
echo 'demo 300 gmem_iommu/gmem_iommu_demo' > "$BUILD/demo.suite"
"$TOP/scripts/vm.sh" --image "$image" --name demo --suite "$BUILD/demo.suite" --live || {
	tail -n 20 "$LOGS/demo/console.log" >&2
	die "the VM did not end well: $(< "$LOGS/demo/verdict")"
}
exit "$(sed -nE 's/^@end demo ([0-9]+).*/\1/p' "$LOGS/demo/tests.log" | tr -d '\r')"
