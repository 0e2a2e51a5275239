#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Builds one configuration (debug, release, kunit) into an image: kernel, modules, tests.
#
# The finished image is kept in the cache under a hash of everything that it was made of, so
# nothing is built twice, not even in another clone. Progress goes to stderr, the image's
# directory to stdout.
#
# usage: kernel.sh debug|release|kunit

# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

config=${1:-}
exec {result}>&1 1>&2
out=$BUILD/$config
hdr=$BUILD/headers
[[ -f configs/$config.config ]] || die "usage: kernel.sh debug|release|kunit"

export CCACHE_DIR=$CACHE/ccache CCACHE_BASEDIR=$TOP CCACHE_NOHASHDIR=1
export CCACHE_SLOPPINESS=time_macros CCACHE_MAXSIZE=5G
export KBUILD_BUILD_TIMESTAMP=2026-01-01 KBUILD_BUILD_USER=gmem KBUILD_BUILD_HOST=iommu
kmake=(make -C "$TREE" "O=$out" ARCH=x86 CC="ccache gcc" HOSTCC="ccache gcc" LOCALVERSION=)
jobs=-j${JOBS:-$(nproc)}

# The project's own options exist only in a patched kernel.
fragments=(configs/base.config "configs/$config.config")
if [[ $config == kunit ]]; then
	fragments=(configs/kunit.config)
elif [[ -e $TREE/drivers/virt/gmem_iommu/Kconfig ]]; then
	fragments+=(configs/gmem_iommu.config)
	if [[ -e configs/gmem_iommu-$config.config ]]; then
		fragments+=("configs/gmem_iommu-$config.config")
	fi
fi

# -- is it there already? ---------------------------------------------------

# The tree as it is in the working directory, edits included, is one git tree id.
index=$(mktemp)
trap 'rm -f "$index"' EXIT
cp "$TREE/.git/index" "$index"
tree=$(export GIT_INDEX_FILE=$index; tree_git add -u && tree_git write-tree)
key=$({ echo "$tree"; gcc --version; cat "${fragments[@]}" scripts/kernel.sh tests/*.suite tests/patience.c; } | sha256sum)
image=$CACHE/images/$config-${key:0:16}
if [[ -d $image ]]; then
	touch "$image"
	say kernel "$config: up to date"
	echo "$image" >&$result
	exit 0
fi

lock "$out.lock"
mkdir -p "$out" "$LOGS"
whole=; [[ -e $out/.config ]] || whole=yes	# not the rest of a build that was ended

# -- configuration ----------------------------------------------------------

fragment=$out/fragment.config
cat "${fragments[@]}" > "$fragment"
quietly "$LOGS/$config-config.log" "${kmake[@]}" KCONFIG_ALLCONFIG="$fragment" allnoconfig
missing=$(grep -E '^(CONFIG_|# CONFIG_.* is not set)' "$fragment" |
	while read -r line; do
		grep -qxF "$line" "$out/.config" && continue
		# An option that does not exist at all is as good as off.
		[[ $line == '#'* ]] && ! grep -q "^${line:2:$((${#line} - 13))}=" "$out/.config" && continue
		echo "  $line"
	done)
[[ -z $missing ]] || die "$config: these options did not stick (a dependency is missing):
$missing"

# -- kernel, with a count of objects ------------------------------------------

log=$LOGS/$config-build.log
total_file=$CACHE/objects-$config
fresh=; [[ -e $out/vmlinux ]] || fresh=yes
total=1900; [[ -s $total_file ]] && total=$(< "$total_file")
objects() { grep -cE '^  (CC|AS|LDS|AR|HOSTCC)( \[M\])? ' "$log" || true; }

# progress PID: shows the count until that process ends.
progress() {
	local n shown=-1
	while kill -0 "$1" 2> /dev/null; do
		sleep 2
		n=$(objects)
		if [[ ! $fresh ]]; then
			if [[ -t 1 ]]; then
				printf '\r[kernel] %s: %d objects ' "$config" "$n"
			elif (( n / 100 > shown )); then
				shown=$((n / 100))
				if (( n )); then say kernel "$config: $n objects"; fi
			fi
		elif [[ -t 1 ]]; then
			printf '\r[kernel] %s: %d / %d objects ' "$config" "$n" "$total"
		elif (( n * 10 / total != shown )); then
			shown=$((n * 10 / total))
			say kernel "$config: $n / $total objects"
		fi
	done
	if [[ -t 1 ]]; then printf '\r'; fi
}

say kernel "$config: building"
: > "$log"
"${kmake[@]}" "$jobs" all > "$log" 2>&1 &
make=$!
trap 'kill $make 2> /dev/null || true; rm -f "$index"' EXIT
trap 'exit 130' INT TERM
progress $make
if ! wait $make; then
	grep -E -B2 -A12 '(error|warning|undefined reference)\b' "$log" >&2 || tail -n 30 "$log" >&2
	die "$config: the kernel does not build (all of the output: $log)"
fi
if [[ $whole ]]; then objects > "$total_file"; fi
say kernel "$config: built, $(objects) objects, $SECONDS s"

# -- tests: only the programs that the suites name ----------------------------

root=$out/root
rm -rf "$root"
mkdir -p "$root"/{bin,tests}
quietly "$LOGS/headers.log" "${kmake[@]}" INSTALL_HDR_PATH="$hdr" headers_install
kselftest() {
	local dir=$1
	shift
	LDFLAGS="-static -Wl,--wrap=poll $BUILD/tests/patience.o" EXTRA_CFLAGS=-static make -C "$TREE/tools/testing/selftests/$dir" "$jobs" \
		ARCH=x86_64 CC="ccache gcc" KHDR_INCLUDES="-isystem $hdr/include" \
		OUTPUT="$BUILD/tests/$dir" "$@"
}
dirs=(kvm iommu vfio)
if [[ $config == kunit ]]; then dirs=(); fi
mkdir -p "$BUILD/tests"
gcc -O2 -c -o "$BUILD/tests/patience.o" tests/patience.c
for dir in "${dirs[@]}"; do
	mapfile -t programs < <(grep -hv '^#' tests/*.suite | tr -s '[:space:]' '\n' |
		grep "^$dir/" | sort -u)
	# Their Makefiles know neither all headers nor the flags: link anew.
	(cd "$BUILD/tests" && mkdir -p "$dir" && rm -f "${programs[@]}")
	quietly "$LOGS/selftests-$dir.log" kselftest "$dir" "${programs[@]/#/"$BUILD/tests/"}"
	for program in "${programs[@]}"; do
		install -D "$BUILD/tests/$program" "$root/tests/$program"
	done
done
: > "$root/tests/own"
if [[ $config != kunit && -e $TREE/tools/testing/selftests/gmem_iommu/Makefile ]]; then
	rm -rf "$BUILD/tests/gmem_iommu"
	mkdir -p "$BUILD/tests/gmem_iommu"
	quietly "$LOGS/selftests-gmem_iommu.log" kselftest gmem_iommu all
	quietly "$LOGS/selftests-gmem_iommu-install.log" \
		kselftest gmem_iommu install INSTALL_PATH="$root/tests/gmem_iommu"
	make -s -C "$TREE/tools/testing/selftests/gmem_iommu" OUTPUT="$BUILD/tests/gmem_iommu" \
		COLLECTION=gmem_iommu emit_tests | tr : / | grep -v ' ' > "$root/tests/own"
fi

# -- the root file system of the VM -------------------------------------------

if grep -qx CONFIG_MODULES=y "$out/.config"; then
	quietly "$LOGS/$config-modules.log" \
		"${kmake[@]}" INSTALL_MOD_PATH="$root" INSTALL_MOD_STRIP=1 modules_install
	rm -f "$root"/lib/modules/*/{build,source}
fi
busybox=/bin/busybox
[[ -e $busybox ]] || busybox=/usr/bin/busybox
install "$busybox" "$root/bin/busybox"
"$busybox" --list | grep -vx busybox | xargs -I{} ln -s busybox "$root/bin/{}"

staged=$(mktemp -d "$CACHE/images.XXXXXX")
find "$root/tests" -type f -perm -u+x -exec strip {} +
# Not compressed: what the emulated machine would need to unpack it takes longer than to read it.
(cd "$root" && find . | LC_ALL=C sort | cpio --quiet -o -H newc -R 0:0) > "$staged/root.cpio"
cp "$out/arch/x86/boot/bzImage" "$out/.config" "$staged/"
cp "$root/tests/own" "$staged/own"
mkdir -p "$CACHE/images"
chmod 755 "$staged"
mv -T "$staged" "$image" 2> /dev/null || rm -rf "$staged"

# Keep the last four of each kind.
for kind in debug release kunit; do
	find "$CACHE/images" -mindepth 1 -maxdepth 1 -name "$kind-*" -printf '%T@ %p\n' |
		sort -rn | tail -n +5 | cut -d' ' -f2- | xargs -r rm -rf
done
say kernel "$config: image ready, $SECONDS s"
echo "$image" >&$result
