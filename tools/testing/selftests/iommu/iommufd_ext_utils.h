/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Ext pages of the provider in drivers/iommu/iommufd/ext_selftest.c, with a model
 * of what each domain has to translate.
 */
#ifndef __SELFTEST_IOMMUFD_EXT_UTILS
#define __SELFTEST_IOMMUFD_EXT_UTILS

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "iommufd_utils.h"

#define EXT_PAGE_LG2	12
#define EXT_PAGE_SIZE	4096UL

/* No machine that runs tests has memory there */
#define EXT_PFN		0x100000000ULL

enum {
	EXT_RW = IOMMU_TEST_EXT_MAP_READ | IOMMU_TEST_EXT_MAP_WRITE,
	EXT_FIXED = IOMMU_TEST_EXT_MAP_FIXED,
	EXT_ABORT = IOMMU_TEST_EXT_CHANGE_ABORT,
	EXT_REVOKE = IOMMU_TEST_EXT_CHANGE_REVOKE,
};

/* A provider and what is in it */
struct ext {
	int iommufd;
	int fd;
	__u64 npages;
	__u64 pfn_xor;
	bool *present;
};

/* Of a domain, for the steps of a change */
struct ext_look {
	__u32 hwpt_id;
	__u64 iova;
	__u64 length;
	__u32 max;
	__u32 nr[IOMMU_TEST_EXT_STEPS];
	struct iommu_test_leaf *leaves;
};

static int ext_create(int iommufd, struct ext *ext, __u64 npages, __u64 pfn_xor)
{
	struct iommu_test_cmd cmd = {
		.size = sizeof(cmd),
		.op = IOMMU_TEST_OP_EXT_CREATE,
		.ext_create = {
			.npages = npages,
			.pfn = EXT_PFN,
			.pfn_xor = pfn_xor,
		},
	};

	memset(ext, 0, sizeof(*ext));
	ext->iommufd = iommufd;
	ext->fd = ioctl(iommufd, IOMMU_TEST_CMD, &cmd);
	if (ext->fd < 0)
		return -1;
	ext->npages = npages;
	ext->pfn_xor = pfn_xor;
	ext->present = calloc(npages, sizeof(*ext->present));
	assert(ext->present);
	return 0;
}

static void ext_destroy(struct ext *ext)
{
	if (!ext->present)
		return;
	close(ext->fd);
	free(ext->present);
	ext->present = NULL;
}

static int __ext_map(int iommufd, struct ext *ext, __u32 ioas_id, __u32 flags,
		     unsigned int max_leaf_lg2, __u64 *iova, __u32 *index)
{
	struct iommu_test_cmd cmd = {
		.size = sizeof(cmd),
		.op = IOMMU_TEST_OP_EXT_MAP,
		.id = ioas_id,
		.ext_map = {
			.fd = ext->fd,
			.flags = flags,
			.iova = *iova,
			.max_leaf_lg2 = max_leaf_lg2,
		},
	};

	if (flags & IOMMU_TEST_EXT_MAP_AGAIN)
		cmd.ext_map.index = *index;
	if (ioctl(iommufd, IOMMU_TEST_CMD, &cmd))
		return -1;
	*iova = cmd.ext_map.iova;
	if (index)
		*index = cmd.ext_map.index;
	return 0;
}

static int ext_map(struct ext *ext, __u32 ioas_id, unsigned int max_leaf_lg2,
		   __u64 iova, __u32 *index)
{
	return __ext_map(ext->iommufd, ext, ioas_id, EXT_RW | EXT_FIXED,
			 max_leaf_lg2, &iova, index);
}

static int ext_unmap(struct ext *ext, __u32 index)
{
	struct iommu_test_cmd cmd = {
		.size = sizeof(cmd),
		.op = IOMMU_TEST_OP_EXT_UNMAP,
		.ext_unmap = { .fd = ext->fd, .index = index },
	};

	return ioctl(ext->iommufd, IOMMU_TEST_CMD, &cmd);
}

static int ext_stats(struct ext *ext, __u32 index,
		     struct iommu_test_ext_stats *stats)
{
	struct iommu_test_cmd cmd = {
		.size = sizeof(cmd),
		.op = IOMMU_TEST_OP_EXT_STATS,
		.ext_stats = {
			.fd = ext->fd,
			.index = index,
			.uptr = (uintptr_t)stats,
		},
	};

	return ioctl(ext->iommufd, IOMMU_TEST_CMD, &cmd);
}

/* On success the model follows */
static int ext_change(struct ext *ext,
		      const struct iommu_test_ext_range *ranges, __u32 nr,
		      __u32 flags, struct ext_look *look)
{
	struct iommu_test_cmd cmd = {
		.size = sizeof(cmd),
		.op = IOMMU_TEST_OP_EXT_CHANGE,
		.id = look ? look->hwpt_id : 0,
		.ext_change = {
			.fd = ext->fd,
			.flags = flags,
			.ranges_uptr = (uintptr_t)ranges,
			.nr_ranges = nr,
			.walk_iova = look ? look->iova : 0,
			.walk_length = look ? look->length : 0,
			.walk_uptr = look ? (uintptr_t)look->leaves : 0,
			.walk_max = look ? look->max : 0,
		},
	};
	__u32 i;
	int rc;

	rc = ioctl(ext->iommufd, IOMMU_TEST_CMD, &cmd);
	if (look)
		memcpy(look->nr, cmd.ext_change.out_nr, sizeof(look->nr));
	for (i = 0; !rc && i != nr; i++)
		memset(ext->present + ranges[i].index, ranges[i].present,
		       ranges[i].nr);
	return rc;
}

static int ext_set(struct ext *ext, __u64 index, __u64 nr, bool present)
{
	struct iommu_test_ext_range range = {
		.index = index,
		.nr = nr,
		.present = present,
	};

	return ext_change(ext, &range, 1, 0, NULL);
}

static int md_info(int fd, __u32 hwpt_id, struct iommu_test_cmd *cmd)
{
	*cmd = (struct iommu_test_cmd){
		.size = sizeof(*cmd),
		.op = IOMMU_TEST_OP_MD_INFO,
		.id = hwpt_id,
	};
	return ioctl(fd, IOMMU_TEST_CMD, cmd);
}

static long md_syncs(int fd, __u32 hwpt_id)
{
	struct iommu_test_cmd cmd;

	return md_info(fd, hwpt_id, &cmd) ? -1 : cmd.md_info.out_nr_syncs;
}

static long md_tables(int fd, __u32 hwpt_id)
{
	struct iommu_test_cmd cmd;

	return md_info(fd, hwpt_id, &cmd) ? -1 : cmd.md_info.out_nr_tables;
}

/* Returns the number of leaves */
static long md_walk(int fd, __u32 hwpt_id, __u64 iova, __u64 length,
		    struct iommu_test_leaf *leaves, __u32 max)
{
	struct iommu_test_cmd cmd = {
		.size = sizeof(cmd),
		.op = IOMMU_TEST_OP_MD_WALK,
		.id = hwpt_id,
		.md_walk = {
			.iova = iova,
			.length = length,
			.uptr = (uintptr_t)leaves,
			.max = max,
		},
	};

	if (ioctl(fd, IOMMU_TEST_CMD, &cmd))
		return -1;
	if (cmd.md_walk.out_nr > max) {
		fprintf(stderr, "# %u leaves, expected up to %u\n",
			cmd.md_walk.out_nr, max);
		errno = EOVERFLOW;
		return -1;
	}
	return cmd.md_walk.out_nr;
}

static __u64 ext_phys(const struct ext *ext, __u64 index)
{
	return (EXT_PFN + (index ^ ext->pfn_xor)) << EXT_PAGE_LG2;
}

/*
 * Compare leaves with pages of the model that are mapped at iova. Not more than
 * the pages may translate, and each to the right place. Returns the number of
 * differences.
 */
static unsigned long ext_compare(const struct ext *ext,
				 const bool *present, __u64 first, __u64 nr,
				 __u64 iova,
				 const struct iommu_test_leaf *leaves,
				 __u32 nr_leaves)
{
	const __u64 unit = MOCK_PAGE_SIZE;
	__u64 end = iova + nr * EXT_PAGE_SIZE;
	unsigned long wrong = 0;
	__u64 at = iova;
	__u32 i;

	for (i = 0; i <= nr_leaves; i++) {
		const struct iommu_test_leaf *leaf = &leaves[i];
		__u64 stop = i == nr_leaves ? end : leaf->iova;

		if (i != nr_leaves &&
		    (leaf->iova < at || leaf->iova + (1ULL << leaf->lg2) > end)) {
			fprintf(stderr,
				"# leaf of 2^%u at %llx is not in its area\n",
				leaf->lg2, leaf->iova);
			return wrong + 1;
		}
		for (; at != stop; at += unit) {
			__u64 index = first + ((at - iova) >> EXT_PAGE_LG2);

			if (present[index] && !wrong++)
				fprintf(stderr,
					"# page %llu does not translate at %llx\n",
					index, at);
		}
		if (i == nr_leaves)
			return wrong;
		for (; at != leaf->iova + (1ULL << leaf->lg2); at += unit) {
			__u64 index = first + ((at - iova) >> EXT_PAGE_LG2);
			__u64 phys = ext_phys(ext, index) +
				     (at - iova) % EXT_PAGE_SIZE;
			__u64 got = leaf->phys + (at - leaf->iova);

			if (present[index] && phys == got)
				continue;
			if (!wrong++)
				fprintf(stderr,
					"# page %llu (%s) leads to %llx at %llx\n",
					index,
					present[index] ? "present" : "absent",
					got, at);
		}
	}
	return wrong;
}

/*
 * Compare pages of a domain with the model. Returns the number of leaves, or -1
 * if there is a difference.
 */
static long ext_check_pages(const struct ext *ext, __u32 hwpt_id, __u64 iova,
			    __u64 first, __u64 nr, unsigned int max_leaf_lg2)
{
	__u32 max = nr * EXT_PAGE_SIZE / MOCK_PAGE_SIZE;
	struct iommu_test_leaf *leaves;
	long nr_leaves;
	long i;

	if (max > 1U << 16)
		max = 1U << 16;
	leaves = calloc(max, sizeof(*leaves));
	assert(leaves);
	nr_leaves = md_walk(ext->iommufd, hwpt_id, iova, nr * EXT_PAGE_SIZE,
			    leaves, max);
	if (nr_leaves >= 0 && ext_compare(ext, ext->present, first, nr, iova,
					  leaves, nr_leaves))
		nr_leaves = -1;
	for (i = 0; i < nr_leaves; i++) {
		if (leaves[i].lg2 > max_leaf_lg2) {
			fprintf(stderr, "# leaf of 2^%u at %llx, maximum 2^%u\n",
				leaves[i].lg2, leaves[i].iova, max_leaf_lg2);
			nr_leaves = -1;
		}
	}
	free(leaves);
	return nr_leaves;
}

static long ext_check(const struct ext *ext, __u32 hwpt_id, __u64 iova,
		      unsigned int max_leaf_lg2)
{
	return ext_check_pages(ext, hwpt_id, iova, 0, ext->npages,
			       max_leaf_lg2);
}

#endif
