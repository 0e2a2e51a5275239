#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# make check: builds the debug image and runs every suite on it, two VMs at a time.
#
# usage: check.sh [SUITE...]	without arguments: all that make check runs; A+B: both in one VM

# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

"$TOP/scripts/deps.sh"
suites=("$@")
(( $# )) || suites=(own_block+upstream+own_huge own+iommufd generic_pt host boot)
configs=(debug)
if [[ " ${suites[*]} " == *" generic_pt "* ]]; then configs+=(kunit); fi
if [[ " ${suites[*]} " == *" scale"* ]]; then configs+=(release); fi
images=$("$TOP/scripts/image.sh" "${configs[@]}")
declare -A image
for config in "${configs[@]}"; do
	read -r image["$config"]
done <<< "$images"
export GMEM_IOMMU_IMAGE=${image[debug]}	# for suites of the host

# One upstream test takes 20 seconds and more on each format; make check-all runs it.
kunit_filter='kunit.enable=1 kunit.filter=speed>slow'
if [[ ${suites[*]} == *long* ]]; then kunit_filter=kunit.enable=1; fi

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

# list_own block|huge|rest: our own kselftests, which are found by their Makefile. The harness ends
# a single test that hangs after 300 s, see lib/harness.h. Those about huge pages need a large VM,
# and those that look for a block of memory one that is new. The one with several vCPUs is in
# tests/boot.suite.
list_own() {
	local block='/(storm|huge_fail_nth)_' huge='/(huge|storm)_' own=${image[debug]}/own
	case $1 in
	block)
		grep -E "$block" "$own" ;;
	huge)
		echo 'kunit 300 kunit-results'
		grep -E "$huge" "$own" | grep -vE "$block" ;;
	rest)
		grep -vE "$huge|/vcpu_race_" "$own" ;;
	esac | awk '/^[^ ]*$/ { n = $1; sub(/.*\//, "", n); print n, 900, $1; next } 1'
}

# list NAME[+NAME...]: the tests of these suites.
list() {
	local name
	if [[ $1 == *own_* ]]; then echo 'vmemmap 60 optimize-vmemmap'; fi
	for name in ${1//+/ }; do
		case $name in
		own)		list_own rest ;;
		own_block)	list_own block ;;
		own_huge)	list_own huge ;;
		*)		cat "$TOP/tests/$name.suite" || die "there is no suite $name in tests/" ;;
		esac
	done
	# The last such line counts.
	if [[ $1 == *own_* ]]; then echo '# vm: --mem 6G --gigantic 2 --append kunit.enable=1'; fi
}

# run NAME: as a background job only; a VM's runner takes the job's place and gets its signals.
run() {
	local file=$BUILD/$1.suite vm
	list "$1" > "$file"
	vm=("$TOP/scripts/vm.sh" --name "$1" --suite "$file")
	case $1 in
	host)		on_host "$file" ;;
	generic_pt)	exec "${vm[@]}" --image "${image[kunit]}" --append "$kunit_filter" ;;
	scale*)		exec "${vm[@]}" --image "${image[release]}" ;;
	*)		exec "${vm[@]}" --image "${image[debug]}" ;;
	esac
}

runs=() busy=0
trap 'jobs -p | xargs -r kill 2> /dev/null || true' EXIT
trap 'exit 130' INT TERM
for suite in "${suites[@]}"; do
	runs+=("$LOGS/$suite")
	if (( ++busy > 2 )); then wait -n || true; fi
	rm -rf "${LOGS:?}/$suite"	# no result is better than that of another run
	run "$suite" &
done
while wait -n 2> /dev/null || (( $? != 127 )); do :; done
"$TOP/scripts/report.py" --results "$LOGS/results" "${runs[@]}"
