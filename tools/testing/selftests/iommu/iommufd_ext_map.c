// SPDX-License-Identifier: GPL-2.0-only
/*
 * Ext pages of iommufd: areas that are mapped, copied, replayed into domains that
 * come later, and unmapped.
 *
 * The provider is drivers/iommu/iommufd/ext_selftest.c. Its PFNs are those of no
 * memory, so nothing here depends on KVM or on guests. What a device would see
 * is read with a table walker of the mock IOMMU, which shares no code with what
 * writes the tables. Each test ends in a comparison of whole domains.
 */
#include <sys/wait.h>

#include "iommufd_ext_fixture.h"

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

TEST_HARNESS_MAIN
