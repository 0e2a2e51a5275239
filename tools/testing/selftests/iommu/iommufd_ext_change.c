// SPDX-License-Identifier: GPL-2.0-only
/*
 * Ext pages of iommufd: pages come and go in transactions, which are committed or
 * given up. Neighbours of a change translate throughout, and a change costs each
 * domain one IOTLB sync.
 */
#include <stdlib.h>

#include "iommufd_ext_fixture.h"

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

/* What was mapped is synced as well, by a fill and once by a change */
TEST_F(ext, map_syncs_M2_M7)
{
	struct iommu_test_ext_range ranges[] = {
		{ .index = 3, .nr = 1 },
		{ .index = PAGES_2M + 9, .nr = 5 },
		{ .index = NPAGES - 2, .nr = 1 },
	};
	struct iommu_test_cmd before, after;
	uint32_t index;
	int i;

#define check_map_syncs(nr)                                                   \
	({                                                                    \
		ASSERT_EQ(0, md_info(self->fd, self->hwpt_id, &after));       \
		ASSERT_EQ(before.md_info.out_nr_map_syncs + (nr),             \
			  after.md_info.out_nr_map_syncs);                    \
		before = after;                                               \
	})

	ASSERT_EQ(0, md_info(self->fd, self->hwpt_id, &before));
	set_pages(0, NPAGES, true);
	map_ext(self->ioas_id, IOVA, &index);
	ASSERT_EQ(0, md_info(self->fd, self->hwpt_id, &after));
	ASSERT_LT(before.md_info.out_nr_map_syncs,
		  after.md_info.out_nr_map_syncs);
	ASSERT_EQ(IOVA + LENGTH - 1, after.md_info.out_map_last);
	before = after;

	ASSERT_EQ(0, ext_change(&self->ext, ranges, ARRAY_SIZE(ranges), 0,
				NULL));
	check_map_syncs(0);
	for (i = 0; i != ARRAY_SIZE(ranges); i++)
		ranges[i].present = true;
	EXPECT_ERRNO(ECANCELED, ext_change(&self->ext, ranges,
					   ARRAY_SIZE(ranges), EXT_ABORT, NULL));
	check_map_syncs(0);
	ASSERT_EQ(0, ext_change(&self->ext, ranges, ARRAY_SIZE(ranges), 0,
				NULL));
	check_map_syncs(1);
	ASSERT_GE(IOVA + 3 * EXT_PAGE_SIZE, after.md_info.out_map_start);
	ASSERT_LE(IOVA + LENGTH - EXT_PAGE_SIZE - 1, after.md_info.out_map_last);
#undef check_map_syncs
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

#define IOVA_1G 0x40000000ULL

/*
 * Leaves are merged within the area only, also if it is in the first block of the size of
 * the largest leaf. iommu_merge_leaves() warns of what is not in the domain.
 */
TEST_F(ext, merge_in_area_M5)
{
	uint32_t index;

	set_pages(0, NPAGES, true);
	ASSERT_EQ(0, ext_map(&self->ext, self->ioas_id, LEAF_4K, IOVA_1G, &index));
	map_ext(self->ioas_id, IOVA, &index);
	set_pages(0, NPAGES, false);
	set_pages(0, NPAGES, true);

	check_ext(self->hwpt_id, IOVA);
	ASSERT_LE(0, ext_check(&self->ext, self->hwpt_id, IOVA_1G, LEAF_4K));
	check_failures(index);
}

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
