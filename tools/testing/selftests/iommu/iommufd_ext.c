// SPDX-License-Identifier: GPL-2.0-only
/*
 * Ext pages of iommufd: areas whose pages come and go while devices use them.
 *
 * The provider is drivers/iommu/iommufd/ext_selftest.c. Its PFNs are those of no
 * memory, so nothing here depends on KVM or on guests. What a device would see
 * is read with a table walker of the mock IOMMU, which shares no code with what
 * writes the tables. Each test ends in a comparison of whole domains.
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "iommufd_ext_utils.h"

#define LEAF_4K		12
#define LEAF_2M		21
#define LEAF_1G		30

#define PAGES_1M	256ULL
#define PAGES_2M	512ULL
#define PAGES_1G	(PAGES_2M * 512)

/* 8M at a multiple of 8M within the mock aperture */
#define NPAGES		(PAGES_2M * 4)
#define LENGTH		(NPAGES * EXT_PAGE_SIZE)
#define IOVA		(64ULL << 20)
#define IOVA2		(128ULL << 20)

#define READ_WRITE	(IOMMU_IOAS_MAP_READABLE | IOMMU_IOAS_MAP_WRITEABLE)

static __attribute__((constructor)) void setup_buffer(void)
{
	PAGE_SIZE = sysconf(_SC_PAGE_SIZE);
	BUFFER_SIZE = PAGE_SIZE * 4;
	buffer = mmap(NULL, BUFFER_SIZE, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert(buffer != MAP_FAILED);
	mfd_buffer = memfd_mmap(BUFFER_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED,
				&mfd);
}

FIXTURE(ext)
{
	int fd;
	uint32_t ioas_id;
	uint32_t stdev_id;
	uint32_t hwpt_id;
	uint32_t idev_id;
	struct ext ext;
};

FIXTURE_VARIANT(ext)
{
	unsigned int max_leaf_lg2;
	__u64 pfn_xor;
};

FIXTURE_VARIANT_ADD(ext, leaf_4k)
{
	.max_leaf_lg2 = LEAF_4K,
};

FIXTURE_VARIANT_ADD(ext, leaf_2m)
{
	.max_leaf_lg2 = LEAF_2M,
};

FIXTURE_VARIANT_ADD(ext, leaf_1g)
{
	.max_leaf_lg2 = LEAF_1G,
};

/* Runs of 1M, the largest leaf */
FIXTURE_VARIANT_ADD(ext, pieces_1m)
{
	.max_leaf_lg2 = LEAF_1G,
	.pfn_xor = PAGES_1M,
};

/* No two pages fit together */
FIXTURE_VARIANT_ADD(ext, scattered)
{
	.max_leaf_lg2 = LEAF_2M,
	.pfn_xor = 1,
};

FIXTURE_SETUP(ext)
{
	self->fd = open("/dev/iommu", O_RDWR);
	ASSERT_NE(-1, self->fd);
	test_ioctl_ioas_alloc(&self->ioas_id);
	test_cmd_mock_domain(self->ioas_id, &self->stdev_id, &self->hwpt_id,
			     &self->idev_id);
	ASSERT_EQ(0, ext_create(self->fd, &self->ext, NPAGES, variant->pfn_xor));
}

FIXTURE_TEARDOWN(ext)
{
	ext_destroy(&self->ext);
	ASSERT_EQ(0, close(self->fd));
}

/* The number of leaves that the whole object has in one area, all present */
static long full_leaves(unsigned int max_leaf_lg2, __u64 pfn_xor, __u64 npages)
{
	__u64 bytes = npages * EXT_PAGE_SIZE;
	__u64 leaf = 1ULL << max_leaf_lg2;

	if (pfn_xor && leaf > pfn_xor * EXT_PAGE_SIZE)
		leaf = pfn_xor * EXT_PAGE_SIZE;
	/* The mock IOMMU has all powers of two */
	if (leaf > bytes)
		leaf = bytes;
	return bytes / leaf;
}

static bool can_be_large(unsigned int max_leaf_lg2, __u64 pfn_xor)
{
	return full_leaves(max_leaf_lg2, pfn_xor, NPAGES) != NPAGES;
}

#define check_ext(hwpt_id, iova)                                          \
	ASSERT_LE(0, ext_check(&self->ext, hwpt_id, iova,                 \
			       variant->max_leaf_lg2))

#define set_pages(index, nr, present) \
	ASSERT_EQ(0, ext_set(&self->ext, index, nr, present))

#define map_ext(ioas_id, iova, index_p)                                   \
	ASSERT_EQ(0, ext_map(&self->ext, ioas_id, variant->max_leaf_lg2,  \
			     iova, index_p))

/* No run was refused against the word of a driver */
#define check_failures(index)                                           \
	({                                                              \
		struct iommu_test_ext_stats _stats;                     \
									\
		ASSERT_EQ(0, ext_stats(&self->ext, index, &_stats));    \
		ASSERT_EQ(0, _stats.failures);                          \
	})

/* A map takes over the set with its holes, in leaves as large as they can be */
TEST_F(ext, fill_M2_M5)
{
	uint32_t index;

	map_ext(self->ioas_id, IOVA, &index);
	ASSERT_EQ(0, ext_check(&self->ext, self->hwpt_id, IOVA,
			       variant->max_leaf_lg2));
	ASSERT_EQ(0, ext_unmap(&self->ext, index));

	set_pages(0, NPAGES, true);
	map_ext(self->ioas_id, IOVA, &index);
	ASSERT_EQ(full_leaves(variant->max_leaf_lg2, variant->pfn_xor, NPAGES),
		  ext_check(&self->ext, self->hwpt_id, IOVA,
			    variant->max_leaf_lg2));
	ASSERT_EQ(0, ext_unmap(&self->ext, index));

	set_pages(3, 5, false);
	set_pages(PAGES_1M - 1, 2, false);
	set_pages(NPAGES - 1, 1, false);
	map_ext(self->ioas_id, IOVA, &index);
	check_ext(self->hwpt_id, IOVA);
	/* Not where it was asked for is fine, too */
	set_pages(0, 1, false);
	check_ext(self->hwpt_id, IOVA);
	check_failures(index);
}

/*
 * When the object goes then nothing is left in the domain but tables that are
 * larger than the area, here the one for 512M. Other areas leave them as well.
 */
TEST_F(ext, unmap_frees_all)
{
	long tables = md_tables(self->fd, self->hwpt_id);
	uint32_t index;

	set_pages(0, NPAGES, true);
	map_ext(self->ioas_id, IOVA, &index);
	set_pages(7, 300, false);
	set_pages(9, 1, true);
	ASSERT_LT(tables + 1, md_tables(self->fd, self->hwpt_id));
	ASSERT_EQ(0, ext_unmap(&self->ext, index));
	memset(self->ext.present, 0, NPAGES);
	check_ext(self->hwpt_id, IOVA);
	ASSERT_EQ(tables + 1, md_tables(self->fd, self->hwpt_id));
}

/* A domain that comes later has the same pages */
TEST_F(ext, attach_M3)
{
	uint32_t stdev_id, hwpt_id, index;

	set_pages(5, NPAGES - 300, true);
	map_ext(self->ioas_id, IOVA, &index);
	set_pages(100, 100, false);

	test_cmd_mock_domain(self->ioas_id, &stdev_id, &hwpt_id, NULL);
	if (hwpt_id == self->hwpt_id) {
		/* Automatic domains are shared between devices */
		test_cmd_hwpt_alloc(self->idev_id, self->ioas_id, 0, &hwpt_id);
		test_cmd_mock_domain_replace(stdev_id, hwpt_id);
	}
	check_ext(hwpt_id, IOVA);

	set_pages(150, 10, true);
	check_ext(hwpt_id, IOVA);
	check_ext(self->hwpt_id, IOVA);

	/* The first one goes, the other one stays */
	test_ioctl_destroy(self->stdev_id);
	set_pages(160, 10, true);
	check_ext(hwpt_id, IOVA);
	test_ioctl_destroy(stdev_id);
	set_pages(170, 10, true);

	/* Nobody is there anymore, then one comes */
	test_cmd_mock_domain(self->ioas_id, &stdev_id, &hwpt_id, NULL);
	check_ext(hwpt_id, IOVA);
	check_failures(index);
}

static int alloc_hwpt(int fd, __u32 idev_id, __u32 ioas_id, __u32 type,
		      __u32 *hwpt_id)
{
	struct iommu_hwpt_selftest cfg = { .pagetable_type = type };

	return _test_cmd_hwpt_alloc(fd, idev_id, ioas_id, 0, 0, hwpt_id,
				    IOMMU_HWPT_DATA_SELFTEST, &cfg,
				    sizeof(cfg));
}

/* Page tables that cannot follow are refused, both ways round */
TEST_F(ext, formats_M13)
{
	bool can_cut = variant->max_leaf_lg2 == LEAF_4K;
	uint32_t hwpt_id, foreign_id, index;
	__u64 iova = IOVA;

	set_pages(0, NPAGES, true);

	/* First the domain */
	ASSERT_EQ(0, alloc_hwpt(self->fd, self->idev_id, self->ioas_id,
				MOCK_IOMMUPT_FOREIGN, &foreign_id));
	EXPECT_ERRNO(EOPNOTSUPP,
		     __ext_map(self->fd, &self->ext, self->ioas_id,
			       EXT_RW | EXT_FIXED, variant->max_leaf_lg2, &iova,
			       &index));
	ASSERT_EQ(0, md_walk(self->fd, self->hwpt_id, IOVA, LENGTH, NULL, 0));
	test_ioctl_destroy(foreign_id);

	ASSERT_EQ(0, alloc_hwpt(self->fd, self->idev_id, self->ioas_id,
				MOCK_IOMMUPT_NO_CUT, &hwpt_id));
	if (can_cut) {
		map_ext(self->ioas_id, IOVA, &index);
		check_ext(hwpt_id, IOVA);
		set_pages(17, 1, false);
		check_ext(hwpt_id, IOVA);
		ASSERT_EQ(0, ext_unmap(&self->ext, index));
	} else {
		EXPECT_ERRNO(EOPNOTSUPP,
			     __ext_map(self->fd, &self->ext, self->ioas_id,
				       EXT_RW | EXT_FIXED,
				       variant->max_leaf_lg2, &iova, &index));
	}
	ASSERT_EQ(0, md_walk(self->fd, self->hwpt_id, IOVA, LENGTH, NULL, 0));
	test_ioctl_destroy(hwpt_id);

	/* First the area */
	map_ext(self->ioas_id, IOVA, &index);
	EXPECT_ERRNO(EOPNOTSUPP,
		     alloc_hwpt(self->fd, self->idev_id, self->ioas_id,
				MOCK_IOMMUPT_FOREIGN, &foreign_id));
	if (can_cut) {
		ASSERT_EQ(0, alloc_hwpt(self->fd, self->idev_id, self->ioas_id,
					MOCK_IOMMUPT_NO_CUT, &hwpt_id));
		check_ext(hwpt_id, IOVA);
	} else {
		EXPECT_ERRNO(EOPNOTSUPP,
			     alloc_hwpt(self->fd, self->idev_id, self->ioas_id,
					MOCK_IOMMUPT_NO_CUT, &hwpt_id));
	}
	set_pages(33, 1, false);
	check_ext(self->hwpt_id, IOVA);
	check_failures(index);
}

static void look_alloc(struct ext_look *look, __u32 hwpt_id, __u64 iova,
		       __u64 npages)
{
	*look = (struct ext_look){
		.hwpt_id = hwpt_id,
		.iova = iova,
		.length = npages * EXT_PAGE_SIZE,
		.max = npages * EXT_PAGE_SIZE / MOCK_PAGE_SIZE,
	};
	look->leaves = calloc(look->max * IOMMU_TEST_EXT_STEPS,
			      sizeof(*look->leaves));
	assert(look->leaves);
}

static unsigned long look_compare(const struct ext_look *look, unsigned int step,
				  const struct ext *ext, const bool *present)
{
	return ext_compare(ext, present, 0, ext->npages, look->iova,
			   look->leaves + step * look->max, look->nr[step]);
}

/* At every step all but the pages of the change translate as before */
TEST_F(ext, neighbours_M4)
{
	const struct {
		__u64 index;
		__u64 nr;
	} holes[] = {
		{ 0, 1 },
		{ PAGES_2M - 1, 1 },
		{ PAGES_2M, 1 },
		{ PAGES_2M + 100, 77 },
		{ PAGES_1M, PAGES_2M },
		{ PAGES_1M + 1, PAGES_2M },
		{ NPAGES - 1, 1 },
		{ 1, NPAGES - 2 },
		{ 0, NPAGES },
	};
	struct iommu_test_ext_stats stats;
	bool present[NPAGES];
	struct ext_look look;
	uint32_t index;
	int i, step;

	set_pages(0, NPAGES, true);
	map_ext(self->ioas_id, IOVA, &index);
	look_alloc(&look, self->hwpt_id, IOVA, NPAGES);

	for (i = 0; i != ARRAY_SIZE(holes); i++) {
		struct iommu_test_ext_range range = {
			.index = holes[i].index,
			.nr = holes[i].nr,
		};
		long leaves, whole;

		whole = ext_check(&self->ext, self->hwpt_id, IOVA,
				  variant->max_leaf_lg2);
		ASSERT_LT(0, whole);

		/* The hole opens */
		memset(present, true, sizeof(present));
		ASSERT_EQ(0, ext_change(&self->ext, &range, 1, 0, &look));
		ASSERT_EQ(0, look_compare(&look, IOMMU_TEST_EXT_PREPARED,
					  &self->ext, present));
		memset(present + range.index, false, range.nr);
		ASSERT_EQ(0, look_compare(&look, IOMMU_TEST_EXT_UNMAPPED,
					  &self->ext, present));
		ASSERT_EQ(0, look_compare(&look, IOMMU_TEST_EXT_MAPPED,
					  &self->ext, present));

		/* And closes */
		range.present = true;
		ASSERT_EQ(0, ext_change(&self->ext, &range, 1, 0, &look));
		for (step = 0; step != IOMMU_TEST_EXT_MAPPED; step++)
			ASSERT_EQ(0, look_compare(&look, step, &self->ext,
						  present));
		leaves = ext_check(&self->ext, self->hwpt_id, IOVA,
				   variant->max_leaf_lg2);
		/* Merged again to leaves of a table's item, which is 1M here */
		if (can_be_large(variant->max_leaf_lg2, variant->pfn_xor))
			whole = LENGTH >> 20;
		ASSERT_GE(whole, leaves);
	}

	ASSERT_EQ(0, ext_stats(&self->ext, index, &stats));
	ASSERT_EQ(0, stats.failures);
	ASSERT_EQ(can_be_large(variant->max_leaf_lg2, variant->pfn_xor),
		  !!stats.cuts);
	ASSERT_EQ(!!stats.cuts, !!stats.merges);
	free(look.leaves);
}

/* A change that is given up leaves no trace in what translates */
TEST_F(ext, abort)
{
	struct iommu_test_ext_range ranges[] = {
		{ .index = 10, .nr = 1 },
		{ .index = PAGES_2M - 5, .nr = 10 },
		{ .index = NPAGES - 100, .nr = 100, .present = true },
	};
	struct ext_look look;
	uint32_t index;
	int i;

	set_pages(0, NPAGES - 100, true);
	map_ext(self->ioas_id, IOVA, &index);
	look_alloc(&look, self->hwpt_id, IOVA, NPAGES);
	for (i = 0; i != 3; i++) {
		EXPECT_ERRNO(ECANCELED,
			     ext_change(&self->ext, ranges, ARRAY_SIZE(ranges),
					EXT_ABORT, &look));
		ASSERT_EQ(0, look_compare(&look, IOMMU_TEST_EXT_PREPARED,
					  &self->ext, self->ext.present));
		check_ext(self->hwpt_id, IOVA);
	}
	ASSERT_EQ(0, ext_change(&self->ext, ranges, ARRAY_SIZE(ranges), 0,
				&look));
	check_ext(self->hwpt_id, IOVA);
	check_failures(index);
	free(look.leaves);
}

/* Without memory pressure a revoke takes just its range */
TEST_F(ext, revoke)
{
	struct iommu_test_ext_range ranges[] = {
		{ .index = 10, .nr = 1 },
		{ .index = PAGES_2M * 2 - 5, .nr = 10 },
	};
	uint32_t index;

	set_pages(0, NPAGES, true);
	map_ext(self->ioas_id, IOVA, &index);
	ASSERT_EQ(0, ext_change(&self->ext, ranges, ARRAY_SIZE(ranges),
				EXT_REVOKE, NULL));
	check_ext(self->hwpt_id, IOVA);
	set_pages(10, 1, true);
	check_ext(self->hwpt_id, IOVA);
	check_failures(index);
}

/* Not more than one IOTLB sync for each domain and phase */
TEST_F(ext, syncs_M7)
{
	const struct iommu_test_ext_range opening[] = {
		{ .index = 3, .nr = 1 },
		{ .index = 100, .nr = 30 },
		{ .index = PAGES_2M + 9, .nr = PAGES_2M },
		{ .index = NPAGES - 2, .nr = 1 },
	};
	struct iommu_test_ext_range closing[ARRAY_SIZE(opening)];
	struct iommu_test_ext_range both[ARRAY_SIZE(opening)];
	uint32_t ioas2_id, stdev2_id, hwpts[3], indexes[3], other_id;
	struct iommu_ioas_copy copy = {
		.size = sizeof(copy),
		.flags = READ_WRITE | IOMMU_IOAS_MAP_FIXED_IOVA,
		.length = LENGTH,
		.src_iova = IOVA,
	};
	struct iommu_test_cmd info;
	long syncs[4];
	int i;

	for (i = 0; i != ARRAY_SIZE(opening); i++) {
		closing[i] = opening[i];
		closing[i].present = true;
		both[i] = opening[i];
		both[i].present = i & 1;
	}

	/* Two domains of one IOAS, one of another, and one without ext areas */
	test_ioctl_ioas_alloc(&ioas2_id);
	hwpts[0] = self->hwpt_id;
	test_cmd_hwpt_alloc(self->idev_id, self->ioas_id, 0, &hwpts[1]);
	test_cmd_mock_domain(ioas2_id, &stdev2_id, &hwpts[2], NULL);
	test_ioctl_ioas_alloc(&other_id);
	test_cmd_mock_domain(other_id, NULL, &other_id, NULL);

	/* Three objects, and two areas of the first */
	set_pages(0, NPAGES, true);
	map_ext(self->ioas_id, IOVA, &indexes[0]);
	map_ext(self->ioas_id, IOVA2, &indexes[1]);
	map_ext(ioas2_id, IOVA, &indexes[2]);
	copy.src_ioas_id = self->ioas_id;
	copy.dst_ioas_id = ioas2_id;
	copy.dst_iova = IOVA2;
	ASSERT_EQ(0, ioctl(self->fd, IOMMU_IOAS_COPY, &copy));
	copy.dst_ioas_id = self->ioas_id;
	copy.dst_iova = IOVA2 + LENGTH;
	ASSERT_EQ(0, ioctl(self->fd, IOMMU_IOAS_COPY, &copy));

#define read_syncs()                                                       \
	({                                                                 \
		for (i = 0; i != 3; i++)                                   \
			syncs[i] = md_syncs(self->fd, hwpts[i]);           \
		syncs[3] = md_syncs(self->fd, other_id);                   \
	})
#define check_syncs(min, max)                                              \
	({                                                                 \
		for (i = 0; i != 3; i++) {                                 \
			ASSERT_LE(syncs[i] + (min),                        \
				  md_syncs(self->fd, hwpts[i]));           \
			ASSERT_GE(syncs[i] + (max),                        \
				  md_syncs(self->fd, hwpts[i]));           \
		}                                                          \
		ASSERT_EQ(syncs[3], md_syncs(self->fd, other_id));         \
	})

	/* Of a change that is given up, what was cut in vain */
	read_syncs();
	EXPECT_ERRNO(ECANCELED, ext_change(&self->ext, opening,
					   ARRAY_SIZE(opening), EXT_ABORT, NULL));
	if (can_be_large(variant->max_leaf_lg2, variant->pfn_xor))
		check_syncs(1, 1);
	else
		check_syncs(0, 0);

	read_syncs();
	ASSERT_EQ(0, ext_change(&self->ext, opening, ARRAY_SIZE(opening), 0,
				NULL));
	check_syncs(1, 1);
	/* It is of everything that was unmapped */
	for (i = 0; i != 3; i++) {
		ASSERT_EQ(0, md_info(self->fd, hwpts[i], &info));
		ASSERT_GE(IOVA + 3 * EXT_PAGE_SIZE, info.md_info.out_sync_start);
		ASSERT_LE(IOVA2 + LENGTH - EXT_PAGE_SIZE - 1,
			  info.md_info.out_sync_last);
	}

	/* No translation goes away, so only merges need one */
	read_syncs();
	ASSERT_EQ(0, ext_change(&self->ext, closing, ARRAY_SIZE(closing), 0,
				NULL));
	check_syncs(0, 1);
	if (variant->max_leaf_lg2 == LEAF_4K)
		check_syncs(0, 0);

	/* Both directions are two phases */
	for (i = 0; i != ARRAY_SIZE(both); i++)
		if (both[i].present)
			set_pages(both[i].index, both[i].nr, false);
	read_syncs();
	ASSERT_EQ(0, ext_change(&self->ext, both, ARRAY_SIZE(both), 0, NULL));
	check_syncs(1, 2);

	/* Nothing to do, nothing to sync */
	read_syncs();
	for (i = 0; i != ARRAY_SIZE(both); i++)
		if (!both[i].present)
			set_pages(both[i].index, both[i].nr, false);
	check_syncs(0, 0);

	for (i = 0; i != 2; i++) {
		check_ext(hwpts[i], IOVA);
		check_ext(hwpts[i], IOVA2);
		check_ext(hwpts[i], IOVA2 + LENGTH);
	}
	check_ext(hwpts[2], IOVA);
	check_ext(hwpts[2], IOVA2);
	for (i = 0; i != 3; i++)
		check_failures(indexes[i]);
#undef read_syncs
#undef check_syncs
}

/* IOMMU_IOAS_COPY makes areas of a part, and they follow */
TEST_F(ext, copy_M1)
{
	const __u64 first = 37, nr = NPAGES - 100;
	uint32_t ioas2_id, stdev2_id, hwpt2_id, index;
	struct iommu_ioas_copy copy = {
		.size = sizeof(copy),
		.flags = READ_WRITE | IOMMU_IOAS_MAP_FIXED_IOVA,
		.length = nr * EXT_PAGE_SIZE,
		.src_iova = IOVA + first * EXT_PAGE_SIZE,
		.dst_iova = IOVA2,
	};

#define check_copy()                                                       \
	ASSERT_LE(0, ext_check_pages(&self->ext, hwpt2_id, IOVA2, first,   \
				     nr, variant->max_leaf_lg2))

	test_ioctl_ioas_alloc(&ioas2_id);
	test_cmd_mock_domain(ioas2_id, &stdev2_id, &hwpt2_id, NULL);
	copy.src_ioas_id = self->ioas_id;
	copy.dst_ioas_id = ioas2_id;

	set_pages(20, NPAGES - 40, true);
	map_ext(self->ioas_id, IOVA, &index);
	copy.length++;
	EXPECT_ERRNO(EINVAL, ioctl(self->fd, IOMMU_IOAS_COPY, &copy));
	copy.length--;
	ASSERT_EQ(0, ioctl(self->fd, IOMMU_IOAS_COPY, &copy));
	check_copy();

	/* Over both ends of the copy */
	set_pages(first - 10, 20, false);
	set_pages(first + nr - 10, 20, false);
	set_pages(500, 20, false);
	check_ext(self->hwpt_id, IOVA);
	check_copy();
	set_pages(0, NPAGES, true);
	check_ext(self->hwpt_id, IOVA);
	check_copy();

	/* The copy outlives the first area, the object ends with the last */
	test_ioctl_ioas_unmap(IOVA, LENGTH);
	set_pages(100, 1, false);
	check_copy();
	ASSERT_EQ(0, md_walk(self->fd, self->hwpt_id, IOVA, LENGTH, NULL, 0));
	check_failures(index);
	test_ioctl_ioas_unmap_id(ioas2_id, IOVA2, nr * EXT_PAGE_SIZE);
	ASSERT_EQ(0, md_walk(self->fd, hwpt2_id, IOVA2, LENGTH, NULL, 0));
#undef check_copy
}

/* An object for readers cannot be written, not even by a copy */
TEST_F(ext, protection_M10)
{
	struct iommu_ioas_copy copy = {
		.size = sizeof(copy),
		.flags = READ_WRITE | IOMMU_IOAS_MAP_FIXED_IOVA,
		.dst_ioas_id = self->ioas_id,
		.src_ioas_id = self->ioas_id,
		.length = LENGTH,
		.src_iova = IOVA,
		.dst_iova = IOVA2,
	};
	struct iommu_test_leaf leaf;
	uint32_t index;
	__u64 iova = IOVA;

	set_pages(0, NPAGES, true);
	EXPECT_ERRNO(EPERM,
		     __ext_map(self->fd, &self->ext, self->ioas_id,
			       EXT_RW | EXT_FIXED | IOMMU_TEST_EXT_MAP_READ_ONLY,
			       variant->max_leaf_lg2, &iova, &index));
	EXPECT_ERRNO(EINVAL, __ext_map(self->fd, &self->ext, self->ioas_id,
				       EXT_FIXED, variant->max_leaf_lg2, &iova,
				       &index));
	ASSERT_EQ(0, __ext_map(self->fd, &self->ext, self->ioas_id,
			       IOMMU_TEST_EXT_MAP_READ | EXT_FIXED |
				       IOMMU_TEST_EXT_MAP_READ_ONLY,
			       variant->max_leaf_lg2, &iova, &index));
	EXPECT_ERRNO(EPERM, ioctl(self->fd, IOMMU_IOAS_COPY, &copy));
	copy.flags &= ~IOMMU_IOAS_MAP_WRITEABLE;
	ASSERT_EQ(0, ioctl(self->fd, IOMMU_IOAS_COPY, &copy));

	/* What comes later and what is cut is for readers, too */
	set_pages(5, 1, false);
	set_pages(5, 1, true);
	check_ext(self->hwpt_id, IOVA);
	check_ext(self->hwpt_id, IOVA2);
	for (iova = IOVA; iova != IOVA + 10 * EXT_PAGE_SIZE;
	     iova += EXT_PAGE_SIZE) {
		ASSERT_LE(1, md_walk(self->fd, self->hwpt_id, iova,
				     EXT_PAGE_SIZE, &leaf, 2));
		ASSERT_EQ(0, leaf.flags);
	}
}

/* It lives in its IOAS like any other area */
TEST_F(ext, unmap_M9)
{
	struct iommu_test_ext_stats stats;
	__u64 neighbour = IOVA + LENGTH;
	struct iommu_test_cmd check = {
		.size = sizeof(check),
		.op = IOMMU_TEST_OP_MD_CHECK_MAP,
		.id = self->hwpt_id,
		.check_map = { .iova = neighbour,
			       .length = BUFFER_SIZE,
			       .uptr = (uintptr_t)buffer },
	};
	__u64 iova = IOVA;
	uint32_t index;

	test_ioctl_ioas_map_fixed(buffer, BUFFER_SIZE, neighbour);
	set_pages(0, NPAGES, true);
	map_ext(self->ioas_id, IOVA, &index);

	test_err_ioctl_ioas_unmap(ENOENT, IOVA, EXT_PAGE_SIZE);
	test_err_ioctl_ioas_unmap(ENOENT, IOVA, LENGTH / 2);
	test_err_ioctl_ioas_unmap(ENOENT, IOVA + LENGTH / 2, LENGTH / 2);
	test_err_ioctl_ioas_map_fixed(EEXIST, buffer, PAGE_SIZE, IOVA);
	test_err_ioctl_ioas_map_fixed(EEXIST, buffer, PAGE_SIZE,
				      IOVA + LENGTH - PAGE_SIZE);
	EXPECT_ERRNO(EEXIST,
		     ext_map(&self->ext, self->ioas_id, variant->max_leaf_lg2,
			     neighbour - EXT_PAGE_SIZE, NULL));
	check_ext(self->hwpt_id, IOVA);
	set_pages(NPAGES - 1, 1, false);
	ASSERT_EQ(0, ioctl(self->fd, IOMMU_TEST_CMD, &check));
	ASSERT_EQ(0, ext_stats(&self->ext, index, &stats));
	ASSERT_EQ(0, stats.gone);

	/* Whole, the provider hears of it once */
	test_ioctl_ioas_unmap(IOVA, LENGTH);
	ASSERT_EQ(0, ext_stats(&self->ext, index, &stats));
	ASSERT_EQ(1, stats.gone);
	ASSERT_EQ(0, md_walk(self->fd, self->hwpt_id, IOVA, LENGTH, NULL, 0));
	ASSERT_EQ(0, ioctl(self->fd, IOMMU_TEST_CMD, &check));

	/* Changes go on, the object is of no use */
	set_pages(1, 1, false);
	set_pages(1, 1, true);
	EXPECT_ERRNO(ENODEV,
		     __ext_map(self->fd, &self->ext, self->ioas_id,
			       EXT_RW | EXT_FIXED | IOMMU_TEST_EXT_MAP_AGAIN,
			       variant->max_leaf_lg2, &iova, &index));
	ASSERT_EQ(0, md_walk(self->fd, self->hwpt_id, IOVA, LENGTH, NULL, 0));

	/* The IOVA is free */
	test_ioctl_ioas_map_fixed(buffer, PAGE_SIZE, IOVA);
	test_ioctl_ioas_unmap(IOVA, PAGE_SIZE);
	map_ext(self->ioas_id, IOVA, NULL);
	check_ext(self->hwpt_id, IOVA);
	ASSERT_EQ(0, ext_stats(&self->ext, index, &stats));
	ASSERT_EQ(1, stats.gone);
	ASSERT_EQ(0, ext_unmap(&self->ext, index));
	check_ext(self->hwpt_id, IOVA);

	/* All of the IOAS */
	test_ioctl_ioas_unmap(0, UINT64_MAX);
	ASSERT_EQ(0, md_walk(self->fd, self->hwpt_id, IOVA, LENGTH, NULL, 0));
}

/* The end of the IOAS is the end of the object */
TEST_F(ext, destroy_ioas_M9)
{
	struct iommu_test_ext_stats stats;
	uint32_t index;

	set_pages(0, NPAGES, true);
	map_ext(self->ioas_id, IOVA, &index);
	test_ioctl_destroy(self->stdev_id);
	test_ioctl_destroy(self->ioas_id);
	ASSERT_EQ(0, ext_stats(&self->ext, index, &stats));
	ASSERT_EQ(1, stats.gone);
	set_pages(0, NPAGES, false);
	ASSERT_EQ(0, ext_unmap(&self->ext, index));
}

TEST_F(ext, map_errors_U7)
{
	__u64 iova = IOVA;
	uint32_t ioas2_id;
	uint32_t index;
	int fd;

	set_pages(0, NPAGES, true);
#define map_err(_errno, fd, id, flags)                                        \
	EXPECT_ERRNO(_errno, __ext_map(fd, &self->ext, id, EXT_RW | (flags),  \
				       variant->max_leaf_lg2, &iova, &index))

	map_err(ENOENT, self->fd, 0x7fffffff, EXT_FIXED);
	/* Not an IOAS */
	map_err(ENOENT, self->fd, self->stdev_id, EXT_FIXED);
	iova = IOVA + 1;
	map_err(EINVAL, self->fd, self->ioas_id, EXT_FIXED);
	iova = IOVA + MOCK_PAGE_SIZE;
	map_err(EINVAL, self->fd, self->ioas_id, EXT_FIXED);
	/* Outside of the aperture */
	iova = MOCK_APERTURE_START - EXT_PAGE_SIZE;
	map_err(EINVAL, self->fd, self->ioas_id, EXT_FIXED);
	iova = MOCK_APERTURE_LAST + 1ULL - EXT_PAGE_SIZE;
	map_err(EINVAL, self->fd, self->ioas_id, EXT_FIXED);
	iova = UINT64_MAX - EXT_PAGE_SIZE + 1;
	map_err(EOVERFLOW, self->fd, self->ioas_id, EXT_FIXED);

	/* Anywhere */
	ASSERT_EQ(0, __ext_map(self->fd, &self->ext, self->ioas_id, EXT_RW,
			       variant->max_leaf_lg2, &iova, &index));
	check_ext(self->hwpt_id, iova);

	/* Once more, but not in another context */
	test_ioctl_ioas_alloc(&ioas2_id);
	iova = IOVA2;
	ASSERT_EQ(0, __ext_map(self->fd, &self->ext, ioas2_id,
			       EXT_RW | EXT_FIXED | IOMMU_TEST_EXT_MAP_AGAIN,
			       variant->max_leaf_lg2, &iova, &index));
	fd = open("/dev/iommu", O_RDWR);
	ASSERT_NE(-1, fd);
	ASSERT_EQ(0, _test_ioctl_ioas_alloc(fd, &ioas2_id));
	map_err(EINVAL, fd, ioas2_id, EXT_FIXED | IOMMU_TEST_EXT_MAP_AGAIN);
	ASSERT_EQ(0, close(fd));
#undef map_err
}

/* Nobody else can be given the pages */
TEST_F(ext, access_M9)
{
	struct iommu_test_cmd rw = {
		.size = sizeof(rw),
		.op = IOMMU_TEST_OP_ACCESS_RW,
		.access_rw = { .iova = IOVA,
			       .length = EXT_PAGE_SIZE,
			       .uptr = (uintptr_t)buffer },
	};
	struct iommu_test_cmd pin = {
		.size = sizeof(pin),
		.op = IOMMU_TEST_OP_ACCESS_PAGES,
		.access_pages = { .iova = IOVA, .length = EXT_PAGE_SIZE },
	};
	uint32_t index, access_id, pin_id;

	test_cmd_create_access(self->ioas_id, &access_id, 0);
	test_cmd_create_access(self->ioas_id, &pin_id,
			       MOCK_FLAGS_ACCESS_CREATE_NEEDS_PIN_PAGES);
	rw.id = access_id;
	pin.id = pin_id;

	set_pages(0, NPAGES, true);
	map_ext(self->ioas_id, IOVA, &index);
	EXPECT_ERRNO(EINVAL, ioctl(self->fd, IOMMU_TEST_CMD, &rw));
	rw.access_rw.flags = MOCK_ACCESS_RW_WRITE;
	EXPECT_ERRNO(EINVAL, ioctl(self->fd, IOMMU_TEST_CMD, &rw));
	EXPECT_ERRNO(EINVAL, ioctl(self->fd, IOMMU_TEST_CMD, &pin));
	pin.access_pages.flags = MOCK_FLAGS_ACCESS_WRITE;
	EXPECT_ERRNO(EINVAL, ioctl(self->fd, IOMMU_TEST_CMD, &pin));

	/* Nothing of these attempts is in the way of the end */
	test_ioctl_ioas_unmap(IOVA, LENGTH);
	test_cmd_destroy_access(access_id);
	test_cmd_destroy_access(pin_id);
}

/* A parent of nested domains follows, its pages are not for hardware queues */
TEST_F(ext, nested_M3)
{
	struct iommu_hwpt_selftest data = {
		.iotlb = IOMMU_TEST_IOTLB_DEFAULT,
	};
	uint32_t parent_id, nested_id, viommu_id, queue_id, index;

	set_pages(0, NPAGES, true);
	map_ext(self->ioas_id, IOVA, &index);
	test_cmd_hwpt_alloc(self->idev_id, self->ioas_id,
			    IOMMU_HWPT_ALLOC_NEST_PARENT, &parent_id);
	test_cmd_hwpt_alloc_nested(self->idev_id, parent_id, 0, &nested_id,
				   IOMMU_HWPT_DATA_SELFTEST, &data,
				   sizeof(data));
	test_cmd_mock_domain_replace(self->stdev_id, nested_id);
	set_pages(9, 1, false);
	set_pages(PAGES_2M, PAGES_2M, false);
	check_ext(parent_id, IOVA);

	test_cmd_viommu_alloc(self->idev_id, parent_id,
			      IOMMU_VIOMMU_TYPE_SELFTEST, NULL, 0, &viommu_id);
	test_err_hw_queue_alloc(EINVAL, viommu_id, IOMMU_HW_QUEUE_TYPE_SELFTEST,
				0, IOVA, EXT_PAGE_SIZE, &queue_id);
	set_pages(9, 1, true);
	check_ext(parent_id, IOVA);
	check_failures(index);

	test_ioctl_destroy(viommu_id);
	test_cmd_mock_domain_replace(self->stdev_id, self->ioas_id);
	test_ioctl_destroy(nested_id);
	test_ioctl_destroy(parent_id);
	test_ioctl_ioas_unmap(IOVA, LENGTH);
}

/* Without huge pages there are none, whatever the object allows */
TEST_F(ext, option_huge_pages)
{
	struct iommu_option option = {
		.size = sizeof(option),
		.option_id = IOMMU_OPTION_HUGE_PAGES,
		.op = IOMMU_OPTION_OP_SET,
	};
	struct iommu_test_ext_stats stats;
	uint32_t stdev_id, hwpt_id, index;

	test_ioctl_ioas_alloc(&option.object_id);
	ASSERT_EQ(0, ioctl(self->fd, IOMMU_OPTION, &option));
	test_cmd_mock_domain(option.object_id, &stdev_id, &hwpt_id, NULL);

	set_pages(0, NPAGES, true);
	map_ext(option.object_id, IOVA, &index);
	ASSERT_EQ(NPAGES, ext_check(&self->ext, hwpt_id, IOVA, LEAF_4K));
	set_pages(77, 100, false);
	ASSERT_EQ(NPAGES - 100,
		  ext_check(&self->ext, hwpt_id, IOVA, LEAF_4K));
	set_pages(77, 100, true);
	ASSERT_EQ(NPAGES, ext_check(&self->ext, hwpt_id, IOVA, LEAF_4K));
	ASSERT_EQ(0, ext_stats(&self->ext, index, &stats));
	ASSERT_EQ(0, stats.cuts);
	ASSERT_EQ(0, stats.merges);
	ASSERT_EQ(0, stats.failures);
}

/* Two objects in a domain, each with its own limit */
TEST_F(ext, max_leaf_M10)
{
	uint32_t index, index2;

	set_pages(0, NPAGES, true);
	map_ext(self->ioas_id, IOVA, &index);
	ASSERT_EQ(0, ext_map(&self->ext, self->ioas_id, 16, IOVA2, &index2));
	ASSERT_EQ(full_leaves(16, variant->pfn_xor, NPAGES),
		  ext_check(&self->ext, self->hwpt_id, IOVA2, 16));
	set_pages(20, 1, false);
	ASSERT_LT(0, ext_check(&self->ext, self->hwpt_id, IOVA2, 16));
	check_ext(self->hwpt_id, IOVA);
	set_pages(20, 1, true);
	ASSERT_LT(0, ext_check(&self->ext, self->hwpt_id, IOVA2, 16));
	check_ext(self->hwpt_id, IOVA);
	check_failures(index);
	check_failures(index2);
}

/* A process that takes over the IOAS takes over the area */
TEST_F(ext, change_process)
{
	struct iommu_ioas_change_process cmd = {
		.size = sizeof(cmd),
	};
	uint32_t index;
	pid_t child;
	int status;

	set_pages(0, NPAGES, true);
	map_ext(self->ioas_id, IOVA, &index);
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		if (ioctl(self->fd, IOMMU_IOAS_CHANGE_PROCESS, &cmd) ||
		    ext_set(&self->ext, 3, 1, false) ||
		    ext_check(&self->ext, self->hwpt_id, IOVA,
			      variant->max_leaf_lg2) < 0)
			_exit(1);
		_exit(0);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_EQ(0, status);
	self->ext.present[3] = false;
	check_ext(self->hwpt_id, IOVA);
	ASSERT_EQ(0, ioctl(self->fd, IOMMU_IOAS_CHANGE_PROCESS, &cmd));
	set_pages(3, 1, true);
	check_ext(self->hwpt_id, IOVA);
}

/* Whatever is closed first */
TEST_F(ext, close_order_M14)
{
	uint32_t ioas_id, hwpt_id, index;
	struct ext ext;
	int fd, i;

	for (i = 0; i != 2; i++) {
		fd = open("/dev/iommu", O_RDWR);
		ASSERT_NE(-1, fd);
		ASSERT_EQ(0, _test_ioctl_ioas_alloc(fd, &ioas_id));
		ASSERT_EQ(0, _test_cmd_mock_domain(fd, ioas_id, NULL, &hwpt_id,
						   NULL));
		ASSERT_EQ(0, ext_create(fd, &ext, NPAGES, variant->pfn_xor));
		ASSERT_EQ(0, ext_set(&ext, 1, NPAGES - 2, true));
		ASSERT_EQ(0, ext_map(&ext, ioas_id, variant->max_leaf_lg2, IOVA,
				     &index));
		if (i) {
			ext_destroy(&ext);
			ASSERT_EQ(0, md_walk(fd, hwpt_id, IOVA, LENGTH, NULL,
					     0));
			ASSERT_EQ(0, close(fd));
		} else {
			ASSERT_EQ(0, close(fd));
			ext_destroy(&ext);
		}
	}
}

static unsigned int random_up_to(unsigned int max)
{
	return random() % (max + 1);
}

/* Ranges that do not overlap, of sizes that are often special */
static __u32 random_ranges(struct iommu_test_ext_range *ranges, __u32 max)
{
	__u64 index = random_up_to(NPAGES / 4);
	__u32 nr = 0;

	while (nr != max && index < NPAGES) {
		static const unsigned int sizes[] = { 1, 1, 8, PAGES_1M,
						      PAGES_2M, 1000 };
		__u64 size = 1 + random_up_to(sizes[random_up_to(5)]);

		if (!random_up_to(3))
			index &= ~(PAGES_1M - 1);
		if (nr && index < ranges[nr - 1].index + ranges[nr - 1].nr)
			index = ranges[nr - 1].index + ranges[nr - 1].nr;
		if (index >= NPAGES)
			break;
		if (size > NPAGES - index)
			size = NPAGES - index;
		ranges[nr++] = (struct iommu_test_ext_range){
			.index = index,
			.nr = size,
			.present = random_up_to(1),
		};
		index += size + random_up_to(PAGES_1M);
	}
	return nr;
}

/* Two objects, three areas, two domains, and whatever chance has in mind */
TEST_F(ext, random_M2)
{
	static const __u32 flags[] = { 0, 0, 0, EXT_ABORT, EXT_REVOKE };
	uint32_t hwpt2_id, indexes[2];
	struct iommu_ioas_copy copy = {
		.size = sizeof(copy),
		.flags = READ_WRITE | IOMMU_IOAS_MAP_FIXED_IOVA,
		.length = (NPAGES - 77) * EXT_PAGE_SIZE,
		.src_iova = IOVA + 77 * EXT_PAGE_SIZE,
		.dst_iova = IOVA2 + LENGTH * 2,
		.src_ioas_id = self->ioas_id,
		.dst_ioas_id = self->ioas_id,
	};
	struct iommu_test_ext_range ranges[8];
	__u32 hwpts[2] = { self->hwpt_id };
	int i, j;

	srandom(1);
	test_cmd_hwpt_alloc(self->idev_id, self->ioas_id, 0, &hwpt2_id);
	hwpts[1] = hwpt2_id;
	map_ext(self->ioas_id, IOVA, &indexes[0]);
	map_ext(self->ioas_id, IOVA2 + EXT_PAGE_SIZE, &indexes[1]);
	ASSERT_EQ(0, ioctl(self->fd, IOMMU_IOAS_COPY, &copy));

	for (i = 0; i != 60; i++) {
		__u32 flag = flags[random_up_to(ARRAY_SIZE(flags) - 1)];
		__u32 nr = random_ranges(ranges, ARRAY_SIZE(ranges));
		int rc;

		rc = ext_change(&self->ext, ranges, nr, flag, NULL);
		ASSERT_EQ(flag == EXT_ABORT ? -1 : 0, rc);
		for (j = 0; j != 2; j++) {
			check_ext(hwpts[j], IOVA);
			check_ext(hwpts[j], IOVA2 + EXT_PAGE_SIZE);
			ASSERT_LE(0, ext_check_pages(&self->ext, hwpts[j],
						     copy.dst_iova, 77,
						     NPAGES - 77,
						     variant->max_leaf_lg2));
		}
	}
	check_failures(indexes[0]);
	check_failures(indexes[1]);
}

/* -- dirty tracking ----------------------------------------------------------- */

/* One bit for each page of the area */
#define DIRTY_LONGS	(NPAGES / BITS_PER_LONG)

static unsigned int count_dirty(unsigned long *bitmap)
{
	unsigned int count = 0;
	__u64 page;

	for (page = 0; page != NPAGES; page++)
		count += test_bit(page, bitmap);
	return count;
}

/* The device writes to a page that is mapped */
static int write_page(int fd, __u32 hwpt_id, __u64 iova, __u64 page)
{
	unsigned long bitmap[DIRTY_LONGS] = {};

	set_bit(page, bitmap);
	return _test_cmd_mock_domain_set_dirty(fd, hwpt_id, LENGTH, iova,
					       EXT_PAGE_SIZE, (__u64 *)bitmap,
					       NULL);
}

#define write_pages(hwpt_id, iova, ...)                                      \
	({                                                                   \
		static const __u64 _pages[] = { __VA_ARGS__ };               \
		unsigned int _i;                                             \
									     \
		for (_i = 0; _i != ARRAY_SIZE(_pages); _i++)                 \
			ASSERT_EQ(0, write_page(self->fd, hwpt_id, iova,     \
						_pages[_i]));                \
	})

#define read_dirty(hwpt_id, iova, bitmap, flags)                             \
	({                                                                   \
		void *_bits = (bitmap);                                      \
									     \
		memset(_bits, 0, DIRTY_LONGS * sizeof(long));                \
		test_cmd_get_dirty_bitmap(self->fd, hwpt_id, LENGTH, iova,   \
					  EXT_PAGE_SIZE, _bits, flags);      \
	})

/*
 * All of these pages are dirty. No others are if no leaf is larger than a page,
 * otherwise they share the fate of the leaf that they were in.
 */
#define check_dirty(bitmap, ...)                                             \
	({                                                                   \
		static const __u64 _pages[] = { __VA_ARGS__ };               \
		unsigned long *_bits = (bitmap);                             \
		unsigned int _i;                                             \
									     \
		for (_i = 0; _i != ARRAY_SIZE(_pages); _i++)                 \
			ASSERT_EQ(true, test_bit(_pages[_i], _bits));        \
		if (!can_be_large(variant->max_leaf_lg2, variant->pfn_xor))  \
			ASSERT_EQ(ARRAY_SIZE(_pages), count_dirty(_bits));   \
	})

#define NO_CLEAR IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR

#define alloc_dirty_hwpt(hwpt_id)                                        \
	({                                                               \
		__u32 *_hwpt_id = (hwpt_id);                             \
									 \
		test_cmd_hwpt_alloc(self->idev_id, self->ioas_id,        \
				    IOMMU_HWPT_ALLOC_DIRTY_TRACKING,     \
				    _hwpt_id);                           \
		test_cmd_set_dirty_tracking(*_hwpt_id, true);            \
	})

/* What was written before a page goes is reported once, however it goes */
TEST_F(ext, dirty_unmap_M12)
{
	struct iommu_test_ext_range revoke = { .index = 900, .nr = 1 };
	unsigned long bitmap[DIRTY_LONGS];
	uint32_t hwpt_id;

	alloc_dirty_hwpt(&hwpt_id);
	set_pages(0, NPAGES, true);
	map_ext(self->ioas_id, IOVA, NULL);
	read_dirty(hwpt_id, IOVA, bitmap, 0);
	ASSERT_EQ(0, count_dirty(bitmap));

	write_pages(hwpt_id, IOVA, 3, 99, 100, 600, 900, NPAGES - 1);
	set_pages(3, 1, false);
	set_pages(100, 10, false);
	ASSERT_EQ(0, ext_change(&self->ext, &revoke, 1, EXT_REVOKE, NULL));
	set_pages(NPAGES - 1, 1, false);

	read_dirty(hwpt_id, IOVA, bitmap, NO_CLEAR);
	check_dirty(bitmap, 3, 99, 100, 600, 900, NPAGES - 1);
	read_dirty(hwpt_id, IOVA, bitmap, 0);
	check_dirty(bitmap, 3, 99, 100, 600, 900, NPAGES - 1);
	read_dirty(hwpt_id, IOVA, bitmap, 0);
	ASSERT_EQ(0, count_dirty(bitmap));

	/* Pages that nobody wrote to are not */
	set_pages(200, 10, false);
	read_dirty(hwpt_id, IOVA, bitmap, 0);
	ASSERT_EQ(0, count_dirty(bitmap));
}

/* The page that comes back is a clean one, the write is not forgotten */
TEST_F(ext, dirty_remap_M12)
{
	unsigned long bitmap[DIRTY_LONGS];
	uint32_t hwpt_id;

	alloc_dirty_hwpt(&hwpt_id);
	set_pages(0, NPAGES, true);
	map_ext(self->ioas_id, IOVA, NULL);
	write_pages(hwpt_id, IOVA, 20, 21, NPAGES / 2);
	set_pages(20, 1, false);
	set_pages(20, 1, true);
	set_pages(0, NPAGES, false);
	read_dirty(hwpt_id, IOVA, bitmap, NO_CLEAR);
	check_dirty(bitmap, 20, 21, NPAGES / 2);
	set_pages(0, NPAGES, true);

	/* And is there in addition to what is written now */
	write_pages(hwpt_id, IOVA, 22);
	read_dirty(hwpt_id, IOVA, bitmap, 0);
	check_dirty(bitmap, 20, 21, 22, NPAGES / 2);
	read_dirty(hwpt_id, IOVA, bitmap, 0);
	ASSERT_EQ(0, count_dirty(bitmap));
}

/* A reader of a part takes the part */
TEST_F(ext, dirty_part_M12)
{
	const __u64 first = 50, nr = 64;
	unsigned long bitmap[DIRTY_LONGS] = {};
	uint32_t hwpt_id;

	alloc_dirty_hwpt(&hwpt_id);
	set_pages(0, NPAGES, true);
	map_ext(self->ioas_id, IOVA, NULL);
	write_pages(hwpt_id, IOVA, 49, 50, 113, 114);
	set_pages(40, 100, false);

	test_cmd_get_dirty_bitmap(self->fd, hwpt_id, nr * EXT_PAGE_SIZE,
				  IOVA + first * EXT_PAGE_SIZE, EXT_PAGE_SIZE,
				  (__u64 *)bitmap, 0);
	check_dirty(bitmap, 0, nr - 1);
	read_dirty(hwpt_id, IOVA, bitmap, 0);
	check_dirty(bitmap, 49, 114);
	ASSERT_EQ(false, test_bit(first, bitmap));
	ASSERT_EQ(false, test_bit(first + nr - 1, bitmap));
}

/* Pages of 2K, which the mock IOMMU has, and pages of 2M */
TEST_F(ext, dirty_page_size_M12)
{
	unsigned long bitmap[NPAGES * 2 / BITS_PER_LONG] = {};
	uint32_t hwpt_id;

	alloc_dirty_hwpt(&hwpt_id);
	set_pages(0, NPAGES, true);
	map_ext(self->ioas_id, IOVA, NULL);
	write_pages(hwpt_id, IOVA, 5);
	set_pages(5, 1, false);

	/* Only one half of the page, which therefore stays dirty */
	test_cmd_get_dirty_bitmap(self->fd, hwpt_id, MOCK_PAGE_SIZE,
				  IOVA + 5 * EXT_PAGE_SIZE, MOCK_PAGE_SIZE,
				  (__u64 *)bitmap, 0);
	ASSERT_EQ(1, bitmap[0]);
	memset(bitmap, 0, sizeof(bitmap));
	test_cmd_get_dirty_bitmap(self->fd, hwpt_id, LENGTH, IOVA,
				  MOCK_PAGE_SIZE, (__u64 *)bitmap, NO_CLEAR);
	ASSERT_EQ(true, test_bit(10, bitmap));
	ASSERT_EQ(true, test_bit(11, bitmap));
	bitmap[0] = 0;
	test_cmd_get_dirty_bitmap(self->fd, hwpt_id, LENGTH, IOVA, 1UL << 21,
				  (__u64 *)bitmap, 0);
	ASSERT_EQ(1, bitmap[0] & 1);
	read_dirty(hwpt_id, IOVA, bitmap, 0);
	ASSERT_EQ(0, count_dirty(bitmap));
}

/* Each domain and each area has its own, and takes it along when it goes */
TEST_F(ext, dirty_areas_M12)
{
	struct iommu_ioas_copy copy = {
		.size = sizeof(copy),
		.flags = READ_WRITE | IOMMU_IOAS_MAP_FIXED_IOVA,
		.dst_ioas_id = self->ioas_id,
		.src_ioas_id = self->ioas_id,
		.length = LENGTH,
		.src_iova = IOVA,
		.dst_iova = IOVA2,
	};
	uint32_t hwpt_id, hwpt2_id;
	unsigned long bitmap[DIRTY_LONGS];

	set_pages(0, NPAGES, true);
	map_ext(self->ioas_id, IOVA, NULL);
	ASSERT_EQ(0, ioctl(self->fd, IOMMU_IOAS_COPY, &copy));
	/* The third domain of the IOAS has no dirty tracking */
	alloc_dirty_hwpt(&hwpt_id);
	alloc_dirty_hwpt(&hwpt2_id);

	write_pages(hwpt_id, IOVA, 7);
	write_pages(hwpt2_id, IOVA2, 9);
	set_pages(0, NPAGES, false);
	read_dirty(hwpt_id, IOVA, bitmap, 0);
	check_dirty(bitmap, 7);
	read_dirty(hwpt_id, IOVA2, bitmap, 0);
	ASSERT_EQ(0, count_dirty(bitmap));
	read_dirty(hwpt2_id, IOVA, bitmap, 0);
	ASSERT_EQ(0, count_dirty(bitmap));
	read_dirty(hwpt2_id, IOVA2, bitmap, NO_CLEAR);
	check_dirty(bitmap, 9);

	/* Tracking begins with nothing */
	test_cmd_set_dirty_tracking(hwpt2_id, false);
	test_cmd_set_dirty_tracking(hwpt2_id, true);
	read_dirty(hwpt2_id, IOVA2, bitmap, 0);
	ASSERT_EQ(0, count_dirty(bitmap));

	/* And so does another area */
	set_pages(0, NPAGES, true);
	write_pages(hwpt2_id, IOVA2, 9);
	set_pages(9, 1, false);
	test_ioctl_ioas_unmap(IOVA2, LENGTH);
	ASSERT_EQ(0, ioctl(self->fd, IOMMU_IOAS_COPY, &copy));
	read_dirty(hwpt2_id, IOVA2, bitmap, 0);
	ASSERT_EQ(0, count_dirty(bitmap));
}

/* -- races -------------------------------------------------------------------- */

/* Something that a thread does over and over until it is told to stop */
struct racer {
	pthread_t thread;
	int (*fn)(struct racer *racer);
	int fd;
	uint32_t ioas_id;
	uint32_t stdev_id;
	uint32_t hwpts[2];
	unsigned int max_leaf_lg2;
	struct ext *ext;
	unsigned long rounds;
	int error;
	bool stop;
};

static void *race(void *arg)
{
	struct racer *racer = arg;

	while (!__atomic_load_n(&racer->stop, __ATOMIC_RELAXED)) {
		racer->error = racer->fn(racer);
		if (racer->error)
			break;
		__atomic_add_fetch(&racer->rounds, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}

static unsigned long race_rounds(struct racer *racer)
{
	return __atomic_load_n(&racer->rounds, __ATOMIC_RELAXED);
}

#define race_start(which)                                                \
	({                                                               \
		struct racer *_r = (which);                              \
									 \
		ASSERT_EQ(0, pthread_create(&_r->thread, NULL, race, _r)); \
	})

#define race_stop(which)                                                 \
	({                                                               \
		struct racer *_r = (which);                              \
									 \
		__atomic_store_n(&_r->stop, true, __ATOMIC_RELAXED);     \
		ASSERT_EQ(0, pthread_join(_r->thread, NULL));            \
		ASSERT_EQ(0, _r->error);                                 \
		ASSERT_LT(0, _r->rounds);                                \
	})

#define RACE_ROUNDS	150

/* Changes until the other thread had its turns */
#define race_changes(which, rounds_of_it)                                     \
	({                                                                    \
		struct racer *_r = (which);                                   \
		int _i;                                                       \
									      \
		for (_i = 0; _i < RACE_ROUNDS ||                              \
			     (race_rounds(_r) < (rounds_of_it) && !_r->error); \
		     _i++) {                                                  \
			__u64 _index = (_i * 37) % (NPAGES - 20);             \
									      \
			set_pages(_index, 1 + _i % 20, false);                \
			set_pages(_index, 1 + _i % 20, true);                 \
		}                                                             \
	})

/* A device that uses all pages of the object but the ones that are cut out */
#define DMA_FIRST	20
static int dma(struct racer *racer)
{
	static struct iommu_test_leaf leaves[NPAGES * 2];
	__u64 at = IOVA + DMA_FIRST * EXT_PAGE_SIZE;
	long nr, i;

	nr = md_walk(racer->fd, racer->hwpts[0],
		     IOVA + DMA_FIRST * EXT_PAGE_SIZE,
		     (NPAGES - DMA_FIRST) * EXT_PAGE_SIZE, leaves,
		     ARRAY_SIZE(leaves));
	if (nr < 0)
		return errno;
	for (i = 0; i != nr; i++) {
		__u64 end = leaves[i].iova + (1ULL << leaves[i].lg2);
		__u64 index = (at - IOVA) >> EXT_PAGE_LG2;

		if (leaves[i].iova > at ||
		    leaves[i].phys + (at - leaves[i].iova) !=
			    ext_phys(racer->ext, index) +
				    (at - IOVA) % EXT_PAGE_SIZE)
			break;
		at = end;
	}
	if (at == IOVA + LENGTH)
		return 0;
	fprintf(stderr, "# fault at %llx\n", at);
	errno = EFAULT;
	return errno;
}

/* DMA to the neighbours never fails while leaves are cut and merged */
TEST_F(ext, dma_M4)
{
	struct racer racer = {
		.fn = dma,
		.fd = self->fd,
		.ext = &self->ext,
		.hwpts = { self->hwpt_id },
	};
	struct iommu_test_ext_stats stats;
	uint32_t index;
	int i;

	set_pages(0, NPAGES, true);
	map_ext(self->ioas_id, IOVA, &index);
	race_start(&racer);
	for (i = 0; i < RACE_ROUNDS || (race_rounds(&racer) < 20 && !racer.error);
	     i++) {
		set_pages(i % DMA_FIRST, 1, false);
		set_pages(i % DMA_FIRST, 1, true);
	}
	race_stop(&racer);
	check_ext(self->hwpt_id, IOVA);
	ASSERT_EQ(0, ext_stats(&self->ext, index, &stats));
	ASSERT_EQ(0, stats.failures);
	if (can_be_large(variant->max_leaf_lg2, variant->pfn_xor)) {
		ASSERT_LE(RACE_ROUNDS, stats.cuts);
		ASSERT_LE(RACE_ROUNDS, stats.merges);
	}
}

static int replace(struct racer *racer)
{
	__u32 pt_id = racer->hwpts[racer->rounds & 1];

	return _test_cmd_mock_domain_replace(racer->fd, racer->stdev_id, pt_id,
					     NULL) ? errno : 0;
}

/* A device goes from one domain to another and back */
TEST_F(ext, replace_M3)
{
	uint32_t ioas2_id, stdev2_id, hwpt_id, index, index2;
	struct racer racer = {
		.fn = replace,
		.fd = self->fd,
		.stdev_id = self->stdev_id,
	};

	test_cmd_hwpt_alloc(self->idev_id, self->ioas_id, 0, &hwpt_id);
	test_ioctl_ioas_alloc(&ioas2_id);
	test_cmd_mock_domain(self->ioas_id, &stdev2_id, NULL, NULL);
	racer.hwpts[0] = hwpt_id;
	/* Its domain comes and goes */
	racer.hwpts[1] = ioas2_id;

	set_pages(0, NPAGES, true);
	map_ext(self->ioas_id, IOVA, &index);
	map_ext(ioas2_id, IOVA, &index2);
	race_start(&racer);
	race_changes(&racer, 20);
	race_stop(&racer);
	check_ext(hwpt_id, IOVA);
	ASSERT_EQ(0, _test_cmd_mock_domain_replace(self->fd, self->stdev_id,
						   ioas2_id, &hwpt_id));
	check_ext(hwpt_id, IOVA);
	check_failures(index);
	check_failures(index2);
}

static int plug(struct racer *racer)
{
	uint32_t stdev_id, hwpt_id;

	if (_test_cmd_mock_domain(racer->fd, racer->ioas_id, &stdev_id,
				  &hwpt_id, NULL))
		return errno;
	return _test_ioctl_destroy(racer->fd, stdev_id) ? errno : 0;
}

/* The only device of an IOAS comes and goes, its domain with it */
TEST_F(ext, hotplug_M3)
{
	uint32_t ioas2_id, stdev_id, hwpt_id, index, index2;
	struct racer racer = { .fn = plug, .fd = self->fd };

	test_ioctl_ioas_alloc(&ioas2_id);
	racer.ioas_id = ioas2_id;
	set_pages(0, NPAGES, true);
	map_ext(self->ioas_id, IOVA, &index);
	map_ext(ioas2_id, IOVA, &index2);
	race_start(&racer);
	race_changes(&racer, 20);
	race_stop(&racer);
	test_cmd_mock_domain(ioas2_id, &stdev_id, &hwpt_id, NULL);
	check_ext(hwpt_id, IOVA);
	check_ext(self->hwpt_id, IOVA);
	check_failures(index);
	check_failures(index2);
}

static int map_unmap(struct racer *racer)
{
	__u32 index = 0;

	if (ext_map(racer->ext, racer->ioas_id, racer->max_leaf_lg2, IOVA2,
		    &index))
		return errno;
	if (racer->rounds & 1)
		return ext_unmap(racer->ext, index) ? errno : 0;
	if (_test_ioctl_ioas_unmap(racer->fd, racer->ioas_id, IOVA2, LENGTH,
				   NULL))
		return errno;
	return ext_unmap(racer->ext, index) ? errno : 0;
}

/* Objects come and go, by the hand of the provider and of user space */
TEST_F(ext, unmap_race_M14)
{
	struct racer racer = {
		.fn = map_unmap,
		.fd = self->fd,
		.ioas_id = self->ioas_id,
		.ext = &self->ext,
		.max_leaf_lg2 = variant->max_leaf_lg2,
	};
	uint32_t index;

	set_pages(0, NPAGES, true);
	map_ext(self->ioas_id, IOVA, &index);
	race_start(&racer);
	race_changes(&racer, 20);
	race_stop(&racer);
	check_ext(self->hwpt_id, IOVA);
	ASSERT_EQ(0, md_walk(self->fd, self->hwpt_id, IOVA2, LENGTH, NULL, 0));
	check_failures(index);
}

/* Reads what is dirty and clears it, and keeps the sum */
static unsigned long race_dirty[DIRTY_LONGS];

static int collect(struct racer *racer)
{
	unsigned long bitmap[DIRTY_LONGS] = {};
	unsigned int i;

	if (_test_cmd_get_dirty_bitmap(racer->fd, racer->hwpts[0], LENGTH, IOVA,
				       EXT_PAGE_SIZE, (__u64 *)bitmap, 0))
		return errno;
	for (i = 0; i != ARRAY_SIZE(bitmap); i++)
		race_dirty[i] |= bitmap[i];
	return 0;
}

/* No write is lost between a reader and a change, and none is made up */
TEST_F(ext, dirty_race_M12)
{
	struct racer racer = { .fn = collect, .fd = self->fd };
	unsigned int i;

	alloc_dirty_hwpt(&racer.hwpts[0]);
	set_pages(0, NPAGES, true);
	map_ext(self->ioas_id, IOVA, NULL);
	memset(race_dirty, 0, sizeof(race_dirty));
	race_start(&racer);
	for (i = 0; i != NPAGES; i += 8) {
		ASSERT_EQ(0, write_page(self->fd, racer.hwpts[0], IOVA, i));
		set_pages(i, 1, false);
		if (i % 16)
			set_pages(i, 1, true);
	}
	race_stop(&racer);
	ASSERT_EQ(0, collect(&racer));

	for (i = 0; i != NPAGES; i += 8)
		ASSERT_EQ(true, test_bit(i, race_dirty));
	if (!can_be_large(variant->max_leaf_lg2, variant->pfn_xor))
		ASSERT_EQ(NPAGES / 8, count_dirty(race_dirty));
}

/* -- large -------------------------------------------------------------------- */

FIXTURE(ext_1g)
{
	int fd;
	uint32_t ioas_id;
	uint32_t hwpt_id;
	struct ext ext;
};

FIXTURE_SETUP(ext_1g)
{
	self->fd = open("/dev/iommu", O_RDWR);
	ASSERT_NE(-1, self->fd);
	test_ioctl_ioas_alloc(&self->ioas_id);
	test_cmd_mock_domain(self->ioas_id, NULL, &self->hwpt_id, NULL);
	ASSERT_EQ(0, ext_create(self->fd, &self->ext, PAGES_1G, 0));
	ASSERT_EQ(0, ext_set(&self->ext, 0, PAGES_1G, true));
}

FIXTURE_TEARDOWN(ext_1g)
{
	ext_destroy(&self->ext);
	ASSERT_EQ(0, close(self->fd));
}

#define IOVA_1G 0x40000000ULL

/* A 1G leaf, a hole in it, and one leaf for each item of the top table again */
TEST_F(ext_1g, cut_and_merge_M4_M5)
{
	struct iommu_test_ext_stats stats;
	long tables = md_tables(self->fd, self->hwpt_id);
	uint32_t index;
	long leaves;

	ASSERT_EQ(0, ext_map(&self->ext, self->ioas_id, LEAF_1G, IOVA_1G,
			     &index));
	ASSERT_EQ(1, ext_check(&self->ext, self->hwpt_id, IOVA_1G, LEAF_1G));
	ASSERT_EQ(tables, md_tables(self->fd, self->hwpt_id));

	/* 512M, 511 of 1M, and 510 of 2K */
	ASSERT_EQ(0, ext_set(&self->ext, 12345, 1, false));
	leaves = ext_check(&self->ext, self->hwpt_id, IOVA_1G, LEAF_1G);
	ASSERT_EQ(1 + 511 + 510, leaves);
	ASSERT_EQ(tables + 2, md_tables(self->fd, self->hwpt_id));

	ASSERT_EQ(0, ext_set(&self->ext, 12345, 1, true));
	ASSERT_EQ(2, ext_check(&self->ext, self->hwpt_id, IOVA_1G, LEAF_1G));
	ASSERT_EQ(tables, md_tables(self->fd, self->hwpt_id));

	ASSERT_EQ(0, ext_stats(&self->ext, index, &stats));
	ASSERT_EQ(3, stats.cuts);
	ASSERT_EQ(2, stats.merges);
	ASSERT_EQ(1, stats.mapped);
	ASSERT_EQ(1, stats.unmapped);
	ASSERT_EQ(0, stats.failures);
}

TEST_HARNESS_MAIN
