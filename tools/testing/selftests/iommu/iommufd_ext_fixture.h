/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What the tests of ext pages stand on: an IOAS with a mock device, and a provider
 * of 8M. The variants are how large leaves may be and how the PFNs lie.
 */
#ifndef __SELFTEST_IOMMUFD_EXT_FIXTURE
#define __SELFTEST_IOMMUFD_EXT_FIXTURE

#include <sys/mman.h>

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

/* For IOMMU_IOAS_COPY of a whole area within an IOAS */
static struct iommu_ioas_copy ext_copy(uint32_t ioas_id, __u64 src_iova,
				       __u64 dst_iova)
{
	return (struct iommu_ioas_copy){
		.size = sizeof(struct iommu_ioas_copy),
		.flags = READ_WRITE | IOMMU_IOAS_MAP_FIXED_IOVA,
		.dst_ioas_id = ioas_id,
		.src_ioas_id = ioas_id,
		.length = LENGTH,
		.src_iova = src_iova,
		.dst_iova = dst_iova,
	};
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

#endif
