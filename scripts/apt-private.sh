#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Runs apt-get as if the machine's Debian mirror also listed the backports suites.
#
# /etc/apt stays as it is: a directory of the cache holds links to the machine's own
# sources and one more entry, derived from the first Debian mirror among them.
#
# usage: apt-private.sh ARGUMENTS-OF-APT-GET

here=$PWD
# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

apt=$CACHE/apt-$EUID
rm -rf "$apt/parts"
mkdir -p "$apt"/{lists/partial,archives/partial,parts}

shopt -s nullglob
files=(/etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list)
if [[ -s /etc/apt/sources.list ]]; then files+=(/etc/apt/sources.list); fi
for f in "${files[@]}"; do
	case $f in
	*.sources)	ln -s "$f" "$apt/parts/" ;;
	*)		ln -s "$f" "$apt/parts/$(basename "$f" .list).list" ;;
	esac
done

# mirrors: "URI [KEYRING]" of each configured Debian archive, deb822 or one-line.
mirrors() {
	local f
	for f in "${files[@]}"; do
		if [[ $f == *.sources ]]; then
			awk -v RS= -v FS='\n' '{
				split("", v)
				for (i = 1; i <= NF; i++) {
					n = index($i, ":"); k = tolower(substr($i, 1, n - 1))
					x = substr($i, n + 1); sub(/^[ \t]+/, "", x)
					if (n && $i !~ /^[# \t]/) v[k] = x
				}
				split(v["uris"], u, /[ \t]+/)
				if (v["types"] ~ /(^| )deb( |$)/ && tolower(v["enabled"]) != "no" &&
				    v["components"] ~ /main/)
					print u[1], v["signed-by"]
			}' "$f"
		else
			sed -nE 's/^deb[ \t]+(\[[^]]*signed-by=([^] ]+)[^]]*\]|\[[^]]*\])?[ \t]*([^ \t]+)[ \t].*\<main\>.*/\3 \2/p' "$f"
		fi
	done | grep -E '^[^ ]+/debian/?( |$)' || true
}

read -r uri key < <(mirrors) || true
if [[ ${uri:-} ]]; then
	# shellcheck source=/dev/null
	codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-trixie}")
	suites=()
	for s in "$codename-backports" trixie-backports; do
		if ! grep -qsE "\\<$s\\>" "${files[@]}" && [[ ${suites[*]-} != *$s* ]]; then
			suites+=("$s")
		fi
	done
	if (( ${#suites[@]} )); then
		printf '%s\n' "Types: deb" "URIs: $uri" "Suites: ${suites[*]}" "Components: main" \
			"Signed-By: ${key:-/usr/share/keyrings/debian-archive-keyring.gpg}" \
			> "$apt/parts/gmem_iommu.sources"
	fi
fi

cd "$here"	# apt-get download writes there
exec apt-get -qq \
	-o Dir::Etc::sourcelist=/dev/null -o Dir::Etc::sourceparts="$apt/parts" \
	-o Dir::State::lists="$apt/lists" -o Dir::Cache="$apt" \
	-o APT::Sandbox::User="$(id -un)" -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 "$@"
