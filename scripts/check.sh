#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make check: builds the debug image and runs every suite on it, two VMs at a time.
#
# usage: check.sh [SUITE...]	without arguments: all that make check runs

# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

"$TOP/scripts/deps.sh"
suites=("$@")
(( $# )) || suites=(own in_place noiommu huge_vmemmap generic_pt iommufd upstream host)
image=$("$TOP/scripts/image.sh" debug)
export GMEM_IOMMU_IMAGE=$image	# for suites of the host
if [[ " ${suites[*]} " == *" generic_pt "* ]]; then kunit=$("$TOP/scripts/image.sh" kunit); fi
if [[ " ${suites[*]} " == *" scale "* ]]; then release=$("$TOP/scripts/image.sh" release); fi

# One upstream test takes 20 seconds and more on each format; make check-all runs it.
kunit_filter='kunit.filter=speed>slow'
if [[ " ${suites[*]} " == *" long "* ]]; then kunit_filter=; fi

# option FILE NAME: what a line "# NAME: VALUE" of a suite says, or nothing.
option() { sed -n "s/^# $2: //p" "$1"; }

# on_host FILE: runs a suite here, and writes what the VM would write.
on_host() {
	local name limit command start status run=$LOGS/host
	rm -rf "$run"
	mkdir -p "$run"
	grep -vE '^[[:space:]]*(#|$)' "$1" > "$run/suite"
	while read -r name limit command; do
		start=$SECONDS status=0
		echo "@begin $name $limit"
		timeout -k 5 "$limit" bash -c "$command" < /dev/null 2>&1 || status=$?
		echo
		if (( status == 124 )); then echo "@timeout"; fi
		echo "@end $name $status $((SECONDS - start))"
		say host "$name$( (( status )) && echo " ended with $status"), $((SECONDS - start)) s" >&3
	done < "$run/suite" > "$run/tests.log" 3>&1
}

# suite_file NAME: our own kselftests are found by their Makefile, the rest is listed in tests/.
suite_file() {
	if [[ $1 != own ]]; then
		echo "$TOP/tests/$1.suite"
	else
		echo 'kunit 300 kunit-results' > "$BUILD/own.suite"
		awk '{ n = $1; sub(/.*\//, "", n); print n, 300, $1 }' "$image/own" >> "$BUILD/own.suite"
		echo "$BUILD/own.suite"
	fi
}

# run NAME: as a background job only; a VM's runner takes the job's place and gets its signals.
run() {
	local file
	file=$(suite_file "$1")
	[[ -e $file ]] || die "there is no suite $1 in tests/"
	case $1 in
	host)	on_host "$file" ;;
	generic_pt)
		exec "$TOP/scripts/vm.sh" --image "$kunit" --name generic_pt --suite "$file" \
			--no-iommu --mem 1G --append "kunit.enable=1 $kunit_filter" ;;
	own)	exec "$TOP/scripts/vm.sh" --image "$image" --name own --suite "$file" \
			--append kunit.enable=1 ;;
	scale)	exec "$TOP/scripts/vm.sh" --image "$release" --name scale --suite "$file" ;;
	*)	exec "$TOP/scripts/vm.sh" --image "$image" --name "$1" --suite "$file" \
			--append "$(option "$file" append)" ;;
	esac
}

runs=() busy=0
trap 'jobs -p | xargs -r kill 2> /dev/null || true' EXIT
trap 'exit 130' INT TERM
for suite in "${suites[@]}"; do
	runs+=("$LOGS/$suite")
	if (( ++busy > 2 )); then wait -n || true; fi
	run "$suite" &
done
while wait -n 2> /dev/null || (( $? != 127 )); do :; done
"$TOP/scripts/report.py" --results "$LOGS/results" "${runs[@]}"
