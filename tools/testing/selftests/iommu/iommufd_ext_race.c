// SPDX-License-Identifier: GPL-2.0-only
/*
 * Ext pages of iommufd: pages change while devices use them, come, go and move, and
 * while areas come and go.
 */
#include "iommufd_ext_fixture.h"
#include "iommufd_ext_race.h"

#define RACE_ROUNDS	60

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

/* User space copies the area of an object that the provider takes away */
static int copy(struct racer *racer)
{
	struct iommu_ioas_copy copy = ext_copy(racer->ioas_id, IOVA2, IOVA);

	if (ioctl(racer->fd, IOMMU_IOAS_COPY, &copy))
		return errno == ENOENT || errno == ENODEV ? 0 : errno;
	/* The copy goes with its object */
	if (_test_ioctl_ioas_unmap(racer->fd, racer->ioas_id, IOVA, LENGTH,
				   NULL))
		return errno == ENOENT ? 0 : errno;
	return 0;
}

TEST_F(ext, copy_race_M14)
{
	struct racer racer = {
		.fn = copy,
		.fd = self->fd,
		.ioas_id = self->ioas_id,
	};
	uint32_t index;
	int i;

	set_pages(0, NPAGES, true);
	race_start(&racer);
	for (i = 0; i < RACE_ROUNDS || (race_rounds(&racer) < 20 && !racer.error);
	     i++) {
		map_ext(self->ioas_id, IOVA2, &index);
		usleep(i % 16 * 100);
		ASSERT_EQ(0, ext_unmap(&self->ext, index));
		ASSERT_EQ(0, md_walk(self->fd, self->hwpt_id, IOVA2, LENGTH,
				     NULL, 0));
	}
	race_stop(&racer);
	ASSERT_EQ(0, md_walk(self->fd, self->hwpt_id, IOVA, LENGTH, NULL, 0));
	map_ext(self->ioas_id, IOVA, &index);
	check_ext(self->hwpt_id, IOVA);
}

TEST_HARNESS_MAIN
