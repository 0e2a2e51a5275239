#!/bin/bash
# SPDX-License-Identifier: GPL-2.0
#
# Boots an image in QEMU and runs a suite there: the only place that knows QEMU.
#
# The raw logs go to build/logs/NAME: console.log (kernel), tests.log, suite, verdict.
# What they mean is the business of report.py; this script's status is 0 if the VM ran to its end.
#
# usage: vm.sh --image DIR --name NAME --suite FILE [--no-iommu] [--mem SIZE] [--nodes N]
#		[--gigantic PAGES] [--append ARGS] [--live] [--turns] [--icount]
#        vm.sh --image DIR --shell [--gdb] [...]
#
# A suite can have arguments of its own, in lines "# vm: ARGS".

# shellcheck source-path=SCRIPTDIR
source "$(dirname "$0")/lib.sh"

image='' name=shell suite='' shell='' live='' gdb='' turns='' icount=''
mem=2G nodes=1 gigantic=0 append=''
iommu=(-device 'intel-iommu,intremap=on')

# arguments ARGS: takes them in.
arguments() {
	while (( $# )); do
		case $1 in
		--image)	image=$2; shift ;;
		--name)		name=$2; shift ;;
		--suite)	suite=$2; shift ;;
		--mem)		mem=$2; shift ;;
		--nodes)	nodes=$2; shift ;;
		--gigantic)	gigantic=$2; shift ;;
		--append)	append+=" $2"; shift ;;
		--no-iommu)	iommu=() ;;
		--shell)	shell=yes ;;
		--live)		live=yes ;;
		--gdb)		gdb=yes ;;
		--turns)	turns=yes ;;
		--icount)	icount=yes ;;
		*)		die "vm.sh: what is $1?" ;;
		esac
		shift
	done
}

arguments "$@"
if [[ $suite ]]; then
	# shellcheck disable=SC2046	# words are meant
	arguments $(sed -n 's/^# vm: //p' "$suite")
fi
[[ -e $image/bzImage ]] || die "vm.sh: no image in '$image'"
run=$LOGS/$name
rm -rf "$run"
mkdir -p "$run"

tcg=(-accel 'tcg,thread=multi' -cpu 'EPYC,+svm,+npt' -smp 2)
kvm=(-accel kvm -cpu host -smp 2)

# probe_kvm: boots a guest of KVM; true if it has /dev/kvm itself.
probe_kvm() {
	say vm "does nested virtualisation work here?"
	mkdir -p "$run/probe"
	cat > "$run/probe/init" <<- 'END'
		#!/bin/sh
		/bin/busybox mkdir -p /proc
		/bin/busybox mount -t proc p /proc
		/bin/busybox mount -t devtmpfs d /dev
		/bin/busybox modprobe -q kvm_amd || /bin/busybox modprobe -q kvm_intel
		/bin/busybox test -c /dev/kvm && echo "@kvm works"
		/bin/busybox poweroff -f
	END
	chmod +x "$run/probe/init"
	cat "$image/root.cpio" <(pack "$run/probe") > "$run/probe.initrd"
	{ timeout -k 5 40 qemu-system-x86_64 "${kvm[@]}" -M q35,kernel-irqchip=split \
		-m 1G -nic none -kernel "$image/bzImage" -initrd "$run/probe.initrd" \
		-append "console=ttyS0 panic=-1" -nographic -no-reboot \
		< /dev/null; } > "$run/probe.log" 2>&1 || true
	grep -q '^@kvm works' "$run/probe.log"
}

# usable_kvm: nested virtualization works. Asked once per boot of this machine, by the first of
# several runs; the others wait.
usable_kvm() {
	local answer fd result=no
	[[ -r /dev/kvm && -w /dev/kvm ]] || return 1
	answer=$BUILD/kvm-$(< /proc/sys/kernel/random/boot_id)
	exec {fd}> "$BUILD/kvm.lock"
	flock "$fd"
	if [[ ! -e $answer ]]; then
		if probe_kvm; then result=yes; fi
		echo "$result" > "$answer.new"
		mv "$answer.new" "$answer"
	fi
	exec {fd}>&-
	[[ $(< "$answer") == yes ]]
}

# pack DIR: what a run adds to the image's root file system; the kernel unpacks both.
pack() { (cd "$1" && find . | cpio --quiet -o -H newc -R 0:0); }

overlay=$run/overlay
mkdir -p "$overlay/bin"
cp scripts/guest/init "$overlay/"
find scripts/guest -type f ! -name init -exec cp {} "$overlay/bin/" \;
if [[ $suite ]]; then
	grep -vE '^[[:space:]]*(#|$)' "$suite" > "$overlay/suite" || die "$suite: no tests in it"
	cp "$overlay/suite" "$run/suite"
fi
cat "$image/root.cpio" <(pack "$overlay") > "$run/initrd"
rm -rf "$overlay"

accel=("${tcg[@]}") how='emulation (TCG)'
if [[ $turns ]]; then
	accel[1]='tcg,thread=single' how='emulation (TCG), CPUs take turns'
fi
if [[ $icount ]]; then
	accel=(-accel 'tcg,thread=single' -icount shift=0 -cpu 'EPYC,+svm,+npt' -smp 1)
	how='counted instructions (TCG)'
elif usable_kvm; then
	accel=("${kvm[@]}") how='nested virtualisation (KVM)'
fi

# Two devices of each kind, at fixed addresses: tests attach the second one late.
# shellcheck disable=SC2054
devices=(-device 'edu,addr=2,dma_mask=0xffffffffff' -device igb,addr=3
	 -device 'edu,addr=4,dma_mask=0xffffffffff' -device igb,addr=5)
ids=1234:11e8,8086:10c9

# NUMA nodes, with equal parts of the memory.
memory=(-m "$mem")
if (( nodes > 1 )); then
	bytes=$(numfmt --from=iec "$mem")
	for (( node = 0; node < nodes; node++ )); do
		memory+=(-object "memory-backend-ram,id=node$node,size=$((bytes / nodes))"
			 -numa "node,nodeid=$node,memdev=node$node")
	done
fi

qemu=(qemu-system-x86_64 "${accel[@]}" -M 'q35,kernel-irqchip=split' "${memory[@]}" -nic none
      "${iommu[@]}" "${devices[@]}" -kernel "$image/bzImage" -initrd "$run/initrd" -no-reboot
      -display none -monitor none)
args="console=ttyS0 loglevel=6 no_timer_check panic=-1 oops=panic intel_iommu=on iommu.debug_pagealloc=1"
args+=" gigantic=$gigantic hugepagesz=2M hugepages=128"
args+=" kunit.enable=0 vfio-pci.ids=$ids$append"
if [[ $gdb ]]; then qemu+=(-gdb tcp:127.0.0.1:1234) args+=" nokaslr"; fi

if [[ $shell ]]; then
	say vm "a shell in the VM, by $how"
	exec "${qemu[@]}" -serial mon:stdio -append "$args"
fi

# -- run, and watch that it gets on -------------------------------------------

console=$run/console.log
tests=$run/tests.log
: > "$tests"
say vm "$name: $(wc -l < "$run/suite") tests, by $how"
"${qemu[@]}" -serial "file:$console" -serial "file:$tests" -append "$args" \
	< /dev/null > "$run/qemu.log" 2>&1 &
pid=$!
trap 'kill -KILL $pid 2> /dev/null || true' EXIT
trap 'exit 130' INT TERM
if [[ $live ]]; then
	tail -n +1 -s 0.2 -f --pid=$pid "$tests" | LC_ALL=C sed -u -e '/^@/d' -e 's/\r//g' &
	tail=$!
fi

# A VM hangs when the step that it is in takes a minute more than its limit.
seen=0 deadline=$((SECONDS + 600)) verdict='the VM died'
while kill -0 $pid 2> /dev/null; do
	# The last line may be half written, which sed leaves as it is.
	mapfile marks < <(LC_ALL=C sed -n '/^@/p' "$tests" | tr -d '\r')
	if (( ${#marks[@]} )) && [[ ${marks[-1]} != *$'\n' ]]; then unset 'marks[-1]'; fi
	for mark in "${marks[@]:$seen}"; do
		read -r what test number seconds <<< "$mark"
		case $what in
		@begin)	deadline=$((SECONDS + number + 60)) ;;
		@end)	deadline=$((SECONDS + 60))
			if [[ ! $live ]]; then
				say vm "$name: $test $( (( number )) && echo "ended with $number, ")$seconds s"
			fi ;;
		@finished)	verdict=finished ;;
		esac
	done
	seen=${#marks[@]}
	if (( SECONDS > deadline )); then
		verdict=hang
		break
	fi
	sleep 0.5
done
kill -KILL $pid 2> /dev/null || true
wait $pid 2> /dev/null || true
if [[ $live ]]; then wait "$tail" || true; fi
if grep -aq '^@finished' "$tests"; then verdict=finished; fi
rm -f "$run/initrd"
echo "$verdict" > "$run/verdict"
[[ $verdict == finished ]]
