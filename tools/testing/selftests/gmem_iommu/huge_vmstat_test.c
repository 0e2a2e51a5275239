// SPDX-License-Identifier: GPL-2.0
/*
 * H5, H6, H7: what the kernel counts of the memory of a file of huge pages: the
 * memory itself, which is hugetlb's in every step and never the page cache's, and its
 * struct pages. If the vmemmap of the pool is optimized, a 2 MiB page in pieces has
 * all of its struct pages. Of 1 GiB in pieces a block of 2 MiB that is one has a page of
 * them, and all only if it is in pieces itself; and there are one page for all such blocks
 * and what one block in pieces has more, for a memory failure without memory. What is
 * whole, or in the pool, has saved them again, to the page.
 *
 * Pages of 1 GiB are of the kind that vm.hugetlb_optimize_vmemmap said when they came
 * into the pool.
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"
#include "lib/hugepool.h"
#include "lib/vmstat.h"

#define SEED		0x5eed0009
#define PAGE		5UL
#define BLOCK		(SIZE_2M / GMEM_PAGE_SIZE)
/* Pages of the struct pages of 2 MiB, of those that are one folio of 1 GiB, of 1 GiB. */
#define BLOCK_MEMMAP	8
#define WHOLE_BLOCK_MEMMAP	1
#define COMMON_MEMMAP	(1 + BLOCK_MEMMAP - WHOLE_BLOCK_MEMMAP)
#define NR_ROUNDS	50

struct counters {
	long long file_pages;
	long long hugetlb;
	long long memmap;
};

FIXTURE(vmstat)
{
	struct gmem_vm vm;
	struct counters before;	/* the VM */
	struct counters alive;	/* with it, which has a page of shmem */
	struct hugepool pool;
	long long saved;	/* pages of struct pages, for each huge page */
	int was_optimized;
};

FIXTURE_VARIANT(vmstat)
{
	size_t page_size;
	long nr;
	bool optimized;
};

FIXTURE_VARIANT_ADD(vmstat, 2M) { SIZE_2M, 4, false };
FIXTURE_VARIANT_ADD(vmstat, 2M_optimized) { SIZE_2M, 4, true };
FIXTURE_VARIANT_ADD(vmstat, 1G) { SIZE_1G, 2, false };
FIXTURE_VARIANT_ADD(vmstat, 1G_optimized) { SIZE_1G, 2, true };

static void read_counters(struct __test_metadata *_metadata, struct counters *c)
{
	c->file_pages = vmstat_get("nr_file_pages");
	c->hugetlb = vmstat_get("nr_hugetlb");
	c->memmap = vmstat_get_memmap();
	ASSERT_LE(0, c->file_pages);
	ASSERT_LE(0, c->hugetlb);
	ASSERT_LE(0, c->memmap);
}

/* What the optimization saves is what the pool of 2 MiB pages gives back. */
static long long measure_saved(struct __test_metadata *_metadata, size_t page_size)
{
	struct counters with, without;
	struct hugepool pool;
	long long saved;

	ASSERT_EQ(0, hugepool_read(SIZE_2M, &pool));
	ASSERT_LT(0, pool.nr);
	read_counters(_metadata, &with);
	ASSERT_EQ(0, hugepool_resize(SIZE_2M, 0));
	read_counters(_metadata, &without);
	ASSERT_EQ(0, hugepool_resize(SIZE_2M, pool.nr));
	saved = (without.memmap - with.memmap) / pool.nr;
	/* One page of struct pages stays. */
	return saved ? (saved + 1) * (long long)(page_size / SIZE_2M) - 1 : 0;
}

FIXTURE_SETUP(vmstat)
{
	const char *missing = gmem_vm_missing();

	if (missing)
		SKIP(return, "%s", missing);
	self->was_optimized = hugepool_is_optimized();
	if (variant->optimized && self->was_optimized < 0)
		SKIP(return, "no vm.hugetlb_optimize_vmemmap");
	if (variant->page_size != SIZE_2M &&
	    variant->optimized != !!self->was_optimized)
		SKIP(return, "the pool is of the other kind (vm.hugetlb_optimize_vmemmap)");
	if (self->was_optimized >= 0)
		ASSERT_EQ(0, hugepool_optimize(SIZE_2M, variant->optimized));
	ASSERT_EQ(0, hugepool_read(variant->page_size, &self->pool));
	if (self->pool.free < variant->nr)
		SKIP(return, "not enough huge pages");

	self->saved = measure_saved(_metadata, variant->page_size);
	ASSERT_EQ(variant->optimized, self->saved > 0);
	read_counters(_metadata, &self->before);
	ASSERT_EQ(0, gmem_vm_create(&self->vm, variant->nr * variant->page_size,
				    GMEM_VM_PRIVATE | GUEST_MEMFD_FLAG_HUGETLB |
				    (variant->page_size == SIZE_1G ?
				     GUEST_MEMFD_HUGE_1GB :
				     GUEST_MEMFD_HUGE_2MB)));
	read_counters(_metadata, &self->alive);
}

/* What huge pages have more of struct pages than whole ones, if they have saved any. */
static long long memmap_of_pieces(size_t page_size, long nr, long nr_blocks)
{
	const long long blocks = page_size / SIZE_2M;
	const long long common = blocks > 1 ? COMMON_MEMMAP : 0;

	return nr * (blocks * WHOLE_BLOCK_MEMMAP - 1 + common) +
	       nr_blocks * (BLOCK_MEMMAP - WHOLE_BLOCK_MEMMAP);
}

/* @used: huge pages of the file; @split: those that are in pieces, in one block each. */
#define EXPECT_COUNTERS(_used, _split) do {				\
	const long in_pieces = (_split);				\
									\
	EXPECT_BLOCKS(_used, in_pieces, in_pieces);			\
} while (0)

/* @blocks: blocks in pieces, of all of those huge pages. */
#define EXPECT_BLOCKS(_used, _split, _blocks) do {			\
	const long used = (_used), split = (_split);			\
	const struct counters *base = self->vm.gmem_fd < 0 ?		\
				      &self->before : &self->alive;	\
	struct counters now;						\
									\
	read_counters(_metadata, &now);					\
	EXPECT_EQ(base->file_pages, now.file_pages);			\
	EXPECT_EQ(base->memmap + (self->saved ?				\
		  memmap_of_pieces(variant->page_size, split, (_blocks)) : 0), \
		  now.memmap);						\
	EXPECT_EQ(base->hugetlb + used *				\
		  (long)(variant->page_size / GMEM_PAGE_SIZE), now.hugetlb); \
} while (0)

FIXTURE_TEARDOWN(vmstat)
{
	struct hugepool now;

	gmem_vm_destroy(&self->vm);
	EXPECT_COUNTERS(0, 0);
	EXPECT_EQ(0, hugepool_read(variant->page_size, &now));
	EXPECT_EQ(0, memcmp(&self->pool, &now, sizeof(now)));
	if (self->was_optimized >= 0)
		EXPECT_EQ(0, hugepool_optimize(SIZE_2M, self->was_optimized));
}

TEST_F(vmstat, H5_H6_split_and_merge)
{
	const size_t huge = variant->page_size / GMEM_PAGE_SIZE;
	struct gmem_vm *vm = &self->vm;
	int i;

	EXPECT_COUNTERS(0, 0);
	ASSERT_EQ(0, gmem_vm_fill(vm, 0, PAGES(16), SEED));
	EXPECT_COUNTERS(1, 0);
	ASSERT_EQ(0, gmem_vm_convert(vm, PAGE, 1, SHARED));
	EXPECT_COUNTERS(1, 1);
	EXPECT_FALSE(host_faults(vm->mem + PAGES(PAGE)));
	EXPECT_COUNTERS(1, 1);

	/* More of the same, and one that is in pieces from the start. */
	ASSERT_EQ(0, gmem_vm_convert(vm, 0, 3, SHARED));
	ASSERT_EQ(0, gmem_vm_convert(vm, huge, 1, SHARED));
	EXPECT_COUNTERS(1, 1);
	EXPECT_FALSE(host_faults(vm->mem + PAGES(huge)));
	EXPECT_COUNTERS(2, 2);

	ASSERT_EQ(0, gmem_vm_convert(vm, 0, 3, PRIVATE));
	EXPECT_COUNTERS(2, 2);
	ASSERT_EQ(0, gmem_vm_convert(vm, PAGE, 1, PRIVATE));
	EXPECT_COUNTERS(2, 1);
	EXPECT_EQ(0, gmem_vm_verify(vm, 0, PAGES(16), SEED));

	/* Blocks of the page that is in pieces come and go. */
	if (huge > BLOCK) {
		ASSERT_EQ(0, gmem_vm_convert(vm, huge + 3 * BLOCK, BLOCK + 1, SHARED));
		EXPECT_BLOCKS(2, 1, 3);
		ASSERT_EQ(0, gmem_vm_convert(vm, huge + 3 * BLOCK, BLOCK, PRIVATE));
		EXPECT_BLOCKS(2, 1, 2);
		ASSERT_EQ(0, gmem_vm_convert(vm, huge + 4 * BLOCK, 1, PRIVATE));
		EXPECT_BLOCKS(2, 1, 1);
	}

	/* The hole is of pieces. */
	ASSERT_EQ(0, gmem_punch_hole(vm->gmem_fd, variant->page_size,
				     variant->page_size));
	EXPECT_COUNTERS(1, 0);
	ASSERT_EQ(0, gmem_punch_hole(vm->gmem_fd, 0, variant->page_size));
	EXPECT_COUNTERS(0, 0);

	/* Nothing is lost on the way, not even a little. */
	for (i = 0; i < (huge > 512 ? 2 : NR_ROUNDS); i++) {
		ASSERT_EQ(0, gmem_vm_fill(vm, 0, PAGES(1), SEED));
		ASSERT_EQ(0, gmem_vm_convert(vm, i, 1, SHARED));
		ASSERT_EQ(0, gmem_vm_convert(vm, i, 1, PRIVATE));
		ASSERT_EQ(0, gmem_punch_hole(vm->gmem_fd, 0, variant->page_size));
	}
	EXPECT_COUNTERS(0, 0);
	/* The teardown closes a file with one in pieces. */
	ASSERT_EQ(0, gmem_vm_convert(vm, 0, 1, SHARED));
	EXPECT_FALSE(host_faults(vm->mem));
}

TEST_F(vmstat, H5_H6_H7_refused_and_pinned)
{
	struct gmem_vm *vm = &self->vm;
	int pin, i;

	ASSERT_EQ(0, gmem_vm_fill(vm, 0, PAGES(16), SEED));
	ASSERT_EQ(0, gmem_vm_convert(vm, PAGE, 1, SHARED));
	pin = host_pin(vm->mem + PAGES(PAGE), GMEM_PAGE_SIZE);
	ASSERT_LE(0, pin);

	/* A conversion that is refused, and a merge that is put off. */
	EXPECT_EQ(-EAGAIN, gmem_vm_convert(vm, 0, 16, PRIVATE));
	EXPECT_COUNTERS(1, 1);

	/* What is pinned stays what it is when the file goes. */
	gmem_vm_destroy(vm);
	EXPECT_COUNTERS(1, 1);
	close(pin);
	for (i = 0; i < 100; i++) {
		struct hugepool now;

		ASSERT_EQ(0, hugepool_read(variant->page_size, &now));
		if (now.free == self->pool.free)
			break;
		usleep(10000);
	}
	EXPECT_COUNTERS(0, 0);
}

TEST_HARNESS_MAIN
