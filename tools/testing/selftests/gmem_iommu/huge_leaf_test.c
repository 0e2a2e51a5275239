// SPDX-License-Identifier: GPL-2.0
/*
 * M2 to M5, M10: IOMMU leaves are as large as the shared runs of huge pages allow, up to
 * 1 GiB and to the limit of the binding, after any sequence of conversions, and for a
 * binding that comes late. What the page table looks like is what the IOMMU's debugfs
 * says; what it should look like follows from the runs alone, as the memory is contiguous.
 */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/dma.h"
#include "lib/env.h"
#include "lib/gmem_vm.h"
#include "lib/harness.h"
#include "lib/host.h"
#include "lib/hugepool.h"
#include "lib/ioas.h"
#include "lib/mirror.h"
#include "lib/walker.h"

#define SEED		0x5eed000b
#define IOVA		0x100000000ULL
#define NR_ROUNDS	12

#define LEAF_2M		(SIZE_2M / GMEM_PAGE_SIZE)
#define LEAF_1G		(SIZE_1G / GMEM_PAGE_SIZE)

FIXTURE(leaf)
{
	struct gmem_vm vm;
	struct ioas ioas;
	struct edu edu;
	int binding;
	size_t npages;
	__u8 *shared;	/* the model */
};

FIXTURE_VARIANT(leaf)
{
	size_t huge_size;
	long nr;
	size_t shift;		/* of the IOVA, in bytes */
	__u64 max_leaf_size;	/* of the binding */
	size_t largest;		/* leaf in bytes that there can be */
};

FIXTURE_VARIANT_ADD(leaf, 2M) { SIZE_2M, 4, 0, 0, SIZE_2M };
FIXTURE_VARIANT_ADD(leaf, 2M_limit) { SIZE_2M, 4, 0, 4096, 4096 };
FIXTURE_VARIANT_ADD(leaf, 2M_shifted) { SIZE_2M, 4, 4096, 0, 4096 };
FIXTURE_VARIANT_ADD(leaf, 1G) { SIZE_1G, 1, 0, 0, SIZE_1G };
FIXTURE_VARIANT_ADD(leaf, 1G_limit) { SIZE_1G, 1, 0, SIZE_2M, SIZE_2M };
FIXTURE_VARIANT_ADD(leaf, 1G_shifted) { SIZE_1G, 1, SIZE_2M, 0, SIZE_2M };

FIXTURE_SETUP(leaf)
{
	const char *missing = env_missing(1);
	struct hugepool pool;
	struct edu_list list;

	self->binding = -1;
	if (missing)
		SKIP(return, "%s", missing);
	/* With 2 MiB pages it is shown in any case. */
	if (variant->huge_size == SIZE_1G && variant->largest < SIZE_1G &&
	    !getenv("GMEM_IOMMU_LONG"))
		SKIP(return, "takes long (GMEM_IOMMU_LONG)");
	if (hugepool_read(variant->huge_size, &pool) || pool.free < variant->nr)
		SKIP(return, "not enough huge pages");
	edu_list(&list);
	ASSERT_EQ(0, gmem_vm_create(&self->vm, variant->nr * variant->huge_size,
				    GMEM_VM_SHARED | GUEST_MEMFD_FLAG_HUGETLB |
				    (variant->huge_size == SIZE_1G ?
				     GUEST_MEMFD_HUGE_1GB :
				     GUEST_MEMFD_HUGE_2MB)));
	self->npages = self->vm.size / GMEM_PAGE_SIZE;
	self->shared = malloc(self->npages);
	ASSERT_NE(NULL, self->shared);
	memset(self->shared, 1, self->npages);
	ASSERT_EQ(0, ioas_open(&self->ioas));
	ASSERT_EQ(0, edu_open(&self->edu, list.bdf[0], self->ioas.iommufd));
	ASSERT_EQ(0, edu_attach(&self->edu, &self->ioas, self->ioas.id));
}

FIXTURE_TEARDOWN(leaf)
{
	if (self->binding >= 0)
		close(self->binding);
	edu_close(&self->edu);
	ioas_close(&self->ioas);
	gmem_vm_destroy(&self->vm);
	free(self->shared);
}

static bool is_all(const __u8 *shared, size_t nr, __u8 state)
{
	return shared[0] == state && !memcmp(shared, shared + 1, nr - 1);
}

/* How many leaves of 1 GiB, 2 MiB and 4 KiB there should be. */
static void count_wanted(const __u8 *shared, size_t npages, size_t largest,
			 long *wanted)
{
	size_t i, nr;

	memset(wanted, 0, 3 * sizeof(*wanted));
	for (i = 0; i < npages; i += nr) {
		if (largest == SIZE_1G && i % LEAF_1G == 0 &&
		    npages - i >= LEAF_1G && is_all(shared + i, LEAF_1G, 1)) {
			nr = LEAF_1G;
			wanted[0]++;
		} else if (largest >= SIZE_2M && i % LEAF_2M == 0 &&
			   is_all(shared + i, LEAF_2M, 1)) {
			nr = LEAF_2M;
			wanted[1]++;
		} else {
			nr = 1;
			wanted[2] += shared[i];
		}
	}
}

#define EXPECT_LEAVES() do {						\
	static const size_t sizes[] = { LEAF_1G, LEAF_2M, 1 };		\
	long wanted[3], counts[3];					\
	int k;								\
									\
	count_wanted(self->shared, self->npages, variant->largest, wanted); \
	ASSERT_EQ(0, walker_count_sizes(self->edu.bdf,			\
					IOVA + variant->shift,		\
					self->npages, sizes, counts, 3)); \
	for (k = 0; k < 3; k++)						\
		EXPECT_EQ(wanted[k], counts[k])				\
			TH_LOG("leaves of %zu pages", sizes[k]);	\
} while (0)

static int bind_all(const struct gmem_vm *vm, const struct ioas *ioas,
		    size_t shift, __u64 max_leaf_size)
{
	return mirror_bind_leaves(vm->gmem_fd, ioas, 0, vm->size, IOVA + shift,
				  max_leaf_size);
}

#define CONVERT(_first, _nr, _shared) do {				\
	const size_t from = (_first), len = (_nr);			\
	const bool to = (_shared);					\
									\
	ASSERT_EQ(0, gmem_convert(self->vm.gmem_fd, PAGES(from), PAGES(len), \
				  to ? SHARED : PRIVATE, NULL));	\
	memset(self->shared + from, to, len);				\
	EXPECT_LEAVES();						\
} while (0)

/* Each page of the device's is the page of the host's. */
static void check_pages(struct __test_metadata *_metadata, const char *bdf,
			__u64 iova, __u8 *mem, const __u8 *shared, size_t npages)
{
	size_t i, n;

	for (i = 0; i < npages; i += n) {
		__u8 model[LEAF_2M];
		size_t k;

		n = npages - i < LEAF_2M ? npages - i : LEAF_2M;
		/* Some blocks of many. */
		if (i && i + n < npages && rand() % (npages / LEAF_2M) > 8)
			continue;
		for (k = 0; k < n; k++)
			model[k] = shared[i + k] ? PAGE_SHARED : PAGE_PRIVATE;
		EXPECT_STREQ("", walker_check(bdf, iova + PAGES(i), model, n,
					      mem + PAGES(i)));
	}
}

/* One test, as to make the pages takes most of the time. */
TEST_F_TIMEOUT(leaf, M2_M3_M4_M5_M10_as_large_as_runs_allow, 300)
{
	const size_t first = 7, last = self->npages - 13;
	size_t block = self->npages > LEAF_2M * 8 ? LEAF_2M * 7 : LEAF_2M;
	size_t start, nr;
	int i;

	srand(SEED);
	self->binding = bind_all(&self->vm, &self->ioas, variant->shift,
				 variant->max_leaf_size);
	ASSERT_LE(0, self->binding);
	EXPECT_LEAVES();

	/* A page, a second one in its block, one in another; and back. */
	CONVERT(block + 5, 1, false);
	CONVERT(block + 300, 1, false);
	CONVERT(0, 1, false);
	CONVERT(block + 5, 1, true);
	CONVERT(block + 300, 1, true);
	CONVERT(0, 1, true);
	/* A block, and what crosses its ends. */
	CONVERT(block, LEAF_2M, false);
	CONVERT(block - 3, 10, false);
	CONVERT(block - 3, 10, true);
	CONVERT(0, self->npages, true);

	for (i = 0; i < (self->npages < LEAF_1G ? NR_ROUNDS : 4); i++) {
		start = rand() % self->npages;
		nr = 1 + rand() % (rand() % 3 ? 600 : self->npages);
		if (nr > self->npages - start)
			nr = self->npages - start;
		CONVERT(start, nr, rand() % 2);
	}
	check_pages(_metadata, self->edu.bdf, IOVA + variant->shift, self->vm.mem,
		    self->shared, self->npages);
	CONVERT(0, self->npages, true);

	/* A binding that comes later finds the same, or gives it memory. */
	CONVERT(0, first, false);
	CONVERT(last, self->npages - last, false);
	close(self->binding);
	if (variant->huge_size == SIZE_2M)
		ASSERT_EQ(0, gmem_punch_hole(self->vm.gmem_fd, 0, self->vm.size));
	self->binding = bind_all(&self->vm, &self->ioas, variant->shift,
				 variant->max_leaf_size);
	ASSERT_LE(0, self->binding);
	EXPECT_LEAVES();
	CONVERT(0, first, true);
	CONVERT(last, self->npages - last, true);
}

TEST_HARNESS_MAIN
