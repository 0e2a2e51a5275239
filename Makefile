# SPDX-License-Identifier: GPL-2.0
#
# The commands of this project. Each does all the set-up that it needs, and nothing twice.

MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help

export KDIR KERNEL_TARBALL JOBS PATCH

.PHONY: help
help:
	@sed -n 's/^#: //p' Makefile

#: gmem_iommu: devices follow the conversions of confidential guest memory.
#:
#:   make demo         watch a PCI device lose and regain access to a guest's page
#:   make check        all tests on the debug kernel; the last line is the result
#:   make check-all    the same, and what takes long
#:   make test T=NAME  only tests/NAME.suite (default: our kselftests)
#:   make lint         checkpatch, sparse, W=1, kernel-doc, coccinelle, shellcheck
#:   make bench        measurements on the release kernel
#:   make shell        a shell in the VM (DEBUG=1: debug kernel; GDB=1: gdb stub)
#:
#:   make tree         build/linux: pristine kernel + patches/ + new files
#:   make refresh      edits in build/linux go back into patches/ (PATCH=N: into that one)
#:   make series       build/series: mails for git am, with a cover letter
#:   make series-build the same, and every step compiles
#:   make kernel       both kernels (make kernel-debug, make kernel-release: one)
#:   make baseline     record what the upstream suites achieve on the unpatched kernel
#:
#:   make deps         install what is missing (every other command does, too)
#:   make clean        remove what was built, keep build/linux
#:   make distclean    remove build/; refuses when build/linux has work that is not in patches/
#:   make cacheclean   remove the cache: kernel sources, compiler cache, images
#:
#: Kernel source: KDIR=<tree> or KERNEL_TARBALL=<file> of a 7.3.y, else the distribution's,
#: else kernel.org's. More in Documentation/workbench.rst.

.PHONY: deps tree refresh kernel kernel-debug kernel-release kernel-kunit
deps:
	@scripts/deps.sh

tree: deps
	@scripts/tree.sh

refresh: deps
	@scripts/refresh.sh
	@scripts/tree.sh

kernel: kernel-debug kernel-release

kernel-debug kernel-release kernel-kunit: kernel-%: deps
	@scripts/image.sh $* > /dev/null

.PHONY: demo check check-all test lint bench shell baseline series series-build
demo: deps
	@scripts/demo.sh

check: deps
	@scripts/check.sh

check-all: deps
	@scripts/check.sh own_block+upstream+own_huge own+iommufd generic_pt host boot \
		upstream_long+huge_plain+long boot_long shadow scale scale_vcpu

test: deps
	@scripts/check.sh $(or $(T),own_block+own_huge+own)

lint:
	@scripts/deps.sh lint
	@scripts/lint.sh

bench: deps
	@scripts/bench.sh

shell: deps
	@scripts/shell.sh $(if $(DEBUG),debug,release) $(if $(GDB),--gdb)

baseline: deps
	@scripts/baseline.sh

series: tree
	@scripts/series.sh

series-build: tree
	@scripts/series.sh build

.PHONY: clean distclean cacheclean
clean distclean cacheclean:
	@scripts/clean.sh $@
