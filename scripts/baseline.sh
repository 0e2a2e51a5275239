#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Records what the kernel's own suites achieve on the unpatched kernel, in tests/baseline/.
#
# It runs in a copy of this checkout without patches and new files. Lines "!NAME" are failures of
# the unpatched kernel; the reason stands in a comment of the file, which is kept.

# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

plain=$BUILD/unpatched
mkdir -p "$plain"
rsync -a --delete --exclude /build --exclude /patches --exclude /.git \
	"${NEW_DIRS[@]/#/--exclude=/}" ./ "$plain/"
rm -rf "$plain/tests/baseline"
# Suites of programs that only patches bring.
grep -lE '\b(gmem_iommu/|iommufd_ext)' "$plain"/tests/*.suite | xargs -r rm
(cd "$plain" && scripts/check.sh upstream upstream_long generic_pt "$@") || true

results=$plain/build/logs/results
[[ -s $results ]] || die "the suites did not run"
mkdir -p tests/baseline
cut -d' ' -f2 "$results" | sort -u | while read -r name; do
	[[ $name != kmemleak ]] || continue
	file=tests/baseline/$name
	notes=$(grep '^#' "$file" 2> /dev/null || true)
	{
		if [[ $notes ]]; then echo "$notes"; fi
		sed -n "s/^fail $name /!/p" "$results"
		sed -n "s/^pass $name //p" "$results"
	} > "$file.new"
	mv "$file.new" "$file"
	say baseline "$name: $(grep -c '^[^#!]' "$file" || true) must pass"
done
