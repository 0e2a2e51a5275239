// SPDX-License-Identifier: GPL-2.0-only
/*
 * Ext pages of iommufd: what is refused, to the provider and to user space, and
 * that nothing is left of it.
 */
#include "iommufd_ext_fixture.h"

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
	int i;

	/* First the domain, also if there is nothing to map yet */
	ASSERT_EQ(0, alloc_hwpt(self->fd, self->idev_id, self->ioas_id,
				MOCK_IOMMUPT_FOREIGN, &foreign_id));
	for (i = 0; i != 2; i++) {
		EXPECT_ERRNO(EOPNOTSUPP,
			     __ext_map(self->fd, &self->ext, self->ioas_id,
				       EXT_RW | EXT_FIXED,
				       variant->max_leaf_lg2, &iova, &index));
		set_pages(0, NPAGES, true);
	}
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

/* An object for readers cannot be written, not even by a copy */
TEST_F(ext, protection_M10)
{
	struct iommu_ioas_copy copy = ext_copy(self->ioas_id, IOVA, IOVA2);
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

/* A domain that cannot map for readers alone, also while there is nothing to map */
TEST_F(ext, protection_of_domain_M3_M10)
{
	const __u32 flags = IOMMU_TEST_EXT_MAP_READ | EXT_FIXED |
			    IOMMU_TEST_EXT_MAP_READ_ONLY;
	uint32_t hwpt_id, index;
	__u64 iova = IOVA;

	ASSERT_EQ(0, alloc_hwpt(self->fd, self->idev_id, self->ioas_id,
				MOCK_IOMMUPT_NO_READ_ONLY, &hwpt_id));
	EXPECT_ERRNO(EOPNOTSUPP,
		     __ext_map(self->fd, &self->ext, self->ioas_id, flags,
			       variant->max_leaf_lg2, &iova, &index));
	test_ioctl_destroy(hwpt_id);
	ASSERT_EQ(0, __ext_map(self->fd, &self->ext, self->ioas_id, flags,
			       variant->max_leaf_lg2, &iova, &index));
	EXPECT_ERRNO(EOPNOTSUPP,
		     alloc_hwpt(self->fd, self->idev_id, self->ioas_id,
				MOCK_IOMMUPT_NO_READ_ONLY, &hwpt_id));
	set_pages(0, NPAGES, true);
	check_ext(self->hwpt_id, IOVA);
	check_failures(index);
	ASSERT_EQ(0, ext_unmap(&self->ext, index));

	/* For both it can */
	ASSERT_EQ(0, alloc_hwpt(self->fd, self->idev_id, self->ioas_id,
				MOCK_IOMMUPT_NO_READ_ONLY, &hwpt_id));
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

TEST_HARNESS_MAIN
