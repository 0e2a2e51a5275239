#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Installs the tools that the workbench needs and that are missing; instant when none is.
#
# usage: deps.sh [lint]

# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

# What must be there (a command, or a file), and the Debian package that brings it.
needs='
command:gcc			gcc
command:make			make
command:git			git
command:perl			perl
command:python3			python3
command:flex			flex
command:bison			bison
command:bc			bc
command:cpio			cpio
command:depmod			kmod
command:rsync			rsync
command:pahole			dwarves
command:ccache			ccache
command:sparse			sparse
command:shellcheck		shellcheck
command:xz			xz-utils
command:curl			curl
file:/bin/busybox		busybox-static
file:/etc/ssl/certs/ca-certificates.crt	ca-certificates
header:libelf.h			libelf-dev
header:openssl/ssl.h		libssl-dev
header:sys/capability.h		libcap-dev
header:uuid/uuid.h		uuid-dev
header:stdlib.h			libc6-dev
'
# Only make lint needs this one, and it is large.
if [[ ${1:-} == lint ]]; then needs+=$'command:spatch coccinelle\n'; fi
PATH=$PATH:/usr/sbin:/sbin

has() {
	case $1 in
	command:*) command -v "${1#*:}" > /dev/null ;;
	file:*)	   [[ -e ${1#*:} || -e /usr${1#*:} ]] ;;
	header:*)  compgen -G "/usr/include/${1#*:}" > /dev/null ||
		   compgen -G "/usr/include/*/${1#*:}" > /dev/null ;;
	esac
}

# Only a QEMU with an igb device will do (8.0 or later).
has_qemu() {
	command -v qemu-system-x86_64 > /dev/null &&
		qemu-system-x86_64 -device help 2> /dev/null | grep -q '"igb"'
}

missing=()
while read -r what package; do
	[[ $what ]] || continue
	has "$what" || missing+=("$package")
done <<< "$needs"
has_qemu || missing+=(qemu-system-x86)

(( ${#missing[@]} )) || exit 0

as_root=()
if (( EUID != 0 )); then
	as_root=(sudo -n)
	sudo -n true 2> /dev/null || as_root=(false)
fi
if [[ ${as_root[0]:-} == false ]] || ! command -v apt-get > /dev/null; then
	echo "These packages (Debian's names) are missing:" >&2
	printf '  %s\n' "${missing[@]}" >&2
	echo "qemu-system-x86 must be version 8.0 or later, for its igb device." >&2
	die "cannot install them (no root, or no apt-get): install them, then run this again"
fi

say deps "installing: ${missing[*]}"
mkdir -p "$LOGS" "$CACHE"	# before root does
apt=("${as_root[@]}" env "GMEM_IOMMU_CACHE=$CACHE" DEBIAN_FRONTEND=noninteractive
     "$TOP/scripts/apt-private.sh")
quietly "$LOGS/apt-update.log" "${apt[@]}" update
install=(install -y --no-install-recommends)
quietly "$LOGS/apt-install.log" "${apt[@]}" "${install[@]}" "${missing[@]}"
if ! has_qemu; then
	# shellcheck source=/dev/null
	backports=$(. /etc/os-release && echo "$VERSION_CODENAME")-backports
	quietly "$LOGS/apt-qemu.log" "${apt[@]}" "${install[@]}" -t "$backports" qemu-system-x86
fi
has_qemu || die "this QEMU has no igb device: version 8.0 or later is needed"
