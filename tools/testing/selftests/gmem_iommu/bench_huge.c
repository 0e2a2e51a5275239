// SPDX-License-Identifier: GPL-2.0
/*
 * What a conversion in a huge page of 1 GiB costs: time and struct pages, with the
 * vmemmap optimization of hugetlb and without.
 */
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include "kselftest.h"
#include "lib/gmem_vm.h"
#include "lib/hugepool.h"
#include "lib/measure.h"
#include "lib/text.h"

#define NR_BLOCKS	(SIZE_1G / SIZE_2M)
#define BLOCK_PAGES	(SIZE_2M / GMEM_PAGE_SIZE)
#define HUGE_1G		(GMEM_VM_PRIVATE | GUEST_MEMFD_FLAG_HUGETLB |	\
			 GUEST_MEMFD_HUGE_1GB)

/* The page that is converted, and one of the same block. */
#define THE_PAGE	PAGES(5 * BLOCK_PAGES + 7)
#define NEIGHBOUR	PAGES(5 * BLOCK_PAGES + 100)

/* Huge pages that come into the pool from now on have an optimized vmemmap, or not. */
static void optimize_vmemmap(bool optimize)
{
	must("vm.hugetlb_optimize_vmemmap",
	     text_write("/proc/sys/vm/hugetlb_optimize_vmemmap", optimize ? "1" : "0"));
	must("empty the pool", hugepool_resize(SIZE_1G, 0));
	must("a huge page", hugepool_resize(SIZE_1G, 1));
	ksft_print_msg("vmemmap %soptimized:\n", optimize ? "" : "not ");
}

static void create(struct gmem_vm *vm)
{
	must("VM", gmem_vm_create(vm, SIZE_1G, HUGE_1G));
	must("allocation", gmem_allocate(vm->gmem_fd, 0, SIZE_1G));
}

static void convert(struct gmem_vm *vm, __u64 offset, __u32 target)
{
	must("KVM_GMEM_CONVERT",
	     gmem_convert(vm->gmem_fd, offset, GMEM_PAGE_SIZE, target, NULL));
}

static void share_one(void *arg, unsigned long call)
{
	convert(arg, THE_PAGE, SHARED);
}

static void hide_one(void *arg, unsigned long call)
{
	convert(arg, THE_PAGE, PRIVATE);
}

static void there_and_back(void *arg, unsigned long call)
{
	share_one(arg, call);
	hide_one(arg, call);
}

/* A page of every block. */
static void convert_blocks(struct gmem_vm *vm, __u32 target)
{
	static struct kvm_gmem_range ranges[NR_BLOCKS];
	size_t i;

	for (i = 0; i < NR_BLOCKS; i++)
		ranges[i] = (struct kvm_gmem_range) {
			.offset = i * SIZE_2M,
			.size = GMEM_PAGE_SIZE,
			.target = target,
		};
	must("KVM_GMEM_CONVERT",
	     gmem_convert_vec(vm->gmem_fd, ranges, NR_BLOCKS, NULL));
}

static void share_blocks(void *arg, unsigned long call)
{
	convert_blocks(arg, SHARED);
}

static void hide_blocks(void *arg, unsigned long call)
{
	convert_blocks(arg, PRIVATE);
}

/* Back to one folio. */
static void hide_all(void *arg, unsigned long call)
{
	struct gmem_vm *vm = arg;

	must("KVM_GMEM_CONVERT",
	     gmem_convert(vm->gmem_fd, 0, SIZE_1G, PRIVATE, NULL));
}

/* What RCU frees after a change is none of the next one's time. */
static void settle(void)
{
	usleep(50000);
}

static void whole(void *arg, unsigned long call)
{
	hide_all(arg, call);
	settle();
}

static void blocks_in_pieces(void *arg, unsigned long call)
{
	share_blocks(arg, call);
	settle();
}

static void one_in_pieces(void *arg, unsigned long call)
{
	share_one(arg, call);
	settle();
}

/* H2: a split for one page, against one to 262,144 single pages. */
static double measure_split(void)
{
	struct gmem_vm vm;
	struct side sides[] = {
		{ "split into 262144 folios", whole, share_blocks, &vm },
		{ "split into 511 + 512 folios", whole, share_one, &vm },
	};
	struct side merges[] = {
		{ "merge of 262144 folios", blocks_in_pieces, hide_blocks, &vm },
		{ "merge of 511 + 512 folios", one_in_pieces, hide_one, &vm },
	};

	create(&vm);
	measure(sides, 2, 1);
	hide_all(&vm, 0);
	measure(merges, 2, 1);
	gmem_vm_destroy(&vm);
	return sides[1].median / sides[0].median;
}

static void bench_split(void)
{
	optimize_vmemmap(false);
	claim("split for one page, against a uniform split", measure_split(),
	      1.0 / 100);
	/* A uniform split makes 4095 pages of struct pages first, the other 526. */
	optimize_vmemmap(true);
	claim("split for one page that needs struct pages, against a uniform split",
	      measure_split(), 1.0 / 100);
}

/* There and back of one page, against the same on folios of 4 KiB. */
static void bench_page(void)
{
	struct gmem_vm small, huge;
	struct side alone[] = {
		{ "one page of folios of 4 KiB", NULL, there_and_back, &small },
		{ "one page of 1 GiB", NULL, there_and_back, &huge },
	};
	struct side split[] = {
		{ "one page of folios of 4 KiB", NULL, there_and_back, &small },
		{ "one page of a block that is split", NULL, there_and_back, &huge },
	};

	optimize_vmemmap(true);
	create(&huge);
	must("VM", gmem_vm_create(&small, SIZE_2M * 6, GMEM_VM_PRIVATE));
	must("allocation", gmem_allocate(small.gmem_fd, 0, SIZE_2M * 6));

	measure(alone, 2, 2);
	ksft_print_msg("the only shared page of 1 GiB: %.2f times\n",
		       alone[1].median / alone[0].median);
	convert(&huge, NEIGHBOUR, SHARED);
	measure(split, 2, 100);
	ksft_print_msg("one of many shared pages: %.2f times\n",
		       split[1].median / split[0].median);

	gmem_vm_destroy(&small);
	gmem_vm_destroy(&huge);
}

static long long memmap_pages(void)
{
	return proc_value("/proc/vmstat", "nr_memmap_pages") +
	       proc_value("/proc/vmstat", "nr_memmap_boot_pages");
}

/* H5: memory of struct pages at each step. */
static void bench_structs(void)
{
	long long whole, split, blocks, merged;
	struct gmem_vm vm;

	optimize_vmemmap(true);
	create(&vm);
	whole = memmap_pages();
	share_one(&vm, 0);
	split = memmap_pages();
	share_blocks(&vm, 0);
	blocks = memmap_pages();
	hide_all(&vm, 0);
	merged = memmap_pages();
	gmem_vm_destroy(&vm);

	ksft_print_msg("struct pages beyond those of a whole page:\n");
	ksft_print_msg("one page shared %lld KiB, one of each block %lld KiB, merged %lld KiB\n",
		       (split - whole) * 4, (blocks - whole) * 4,
		       (merged - whole) * 4);
	claim("struct pages that a merge does not give back, in pages",
	      merged - whole, 0);
}

static const struct measurement measurements[] = {
	{ "split", bench_split, 2 },
	{ "page", bench_page, 0 },
	{ "structs", bench_structs, 1 },
};

/* Needs root, and memory for a page of 1 GiB. */
int main(int argc, char **argv)
{
	return run_measurements(measurements, ARRAY_SIZE(measurements),
				gmem_vm_missing(), argc, argv);
}
