// SPDX-License-Identifier: GPL-2.0
/*
 * iommufd's mock device.
 */
#include <errno.h>
#include <string.h>
#include <sys/ioctl.h>

#include <linux/iommufd.h>

#include "drivers/iommu/iommufd/iommufd_test.h"
#include "gmem_vm.h"
#include "mock.h"
#include "xioctl.h"

static int mock_cmd(const struct mock *mock, struct iommu_test_cmd *cmd)
{
	return ioctl(mock->iommufd, IOMMU_TEST_CMD, cmd) < 0 ? -errno : 0;
}

int mock_create(struct mock *mock, int iommufd)
{
	struct iommu_test_cmd cmd = {
		.size = sizeof(cmd),
		.op = IOMMU_TEST_OP_MOCK_DOMAIN,
	};
	int ret;

	mock->iommufd = iommufd;
	mock->stdev_id = 0;
	mock->dev_id = 0;
	mock->hwpt_id = 0;
	ret = ioas_open_in(&mock->parking, iommufd);
	if (ret)
		return ret;
	cmd.id = mock->parking.id;
	ret = mock_cmd(mock, &cmd);
	if (!ret) {
		mock->stdev_id = cmd.mock_domain.out_stdev_id;
		mock->dev_id = cmd.mock_domain.out_idev_id;
	}
	return ret;
}

int mock_destroy(struct mock *mock)
{
	int ret = 0;

	if (mock->stdev_id)
		ret = iommufd_destroy(mock->iommufd, mock->stdev_id);
	mock->stdev_id = 0;
	mock->hwpt_id = 0;
	return ret;
}

/* @pt_id: an IOAS, or a domain */
static int move_mock(struct mock *mock, __u32 pt_id, __u32 *hwpt_id)
{
	struct iommu_test_cmd cmd = {
		.size = sizeof(cmd),
		.op = IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE,
		.id = mock->stdev_id,
		.mock_domain_replace = {
			.pt_id = pt_id,
		},
	};
	int ret;

	ret = mock_cmd(mock, &cmd);
	if (!ret)
		*hwpt_id = cmd.mock_domain_replace.pt_id;
	return ret;
}

int mock_attach(struct mock *mock, const struct ioas *ioas)
{
	return move_mock(mock, ioas->id, &mock->hwpt_id);
}

void mock_detach(struct mock *mock)
{
	__u32 unused;

	move_mock(mock, mock->parking.id, &unused);
	mock->hwpt_id = 0;
}

int mock_attach_tracking(struct mock *mock, struct ioas *ioas)
{
	struct iommu_hwpt_set_dirty_tracking args = {
		.size = sizeof(args),
		.flags = IOMMU_HWPT_DIRTY_TRACKING_ENABLE,
	};
	int ret;

	ret = ioas_hwpt_alloc(ioas, mock->dev_id, IOMMU_HWPT_ALLOC_DIRTY_TRACKING,
			      &args.hwpt_id);
	ret = ret ?: move_mock(mock, args.hwpt_id, &mock->hwpt_id);
	return ret ?: xioctl(mock->iommufd, IOMMU_HWPT_SET_DIRTY_TRACKING, &args);
}

int mock_write_page(const struct mock *mock, __u64 iova)
{
	__u64 bitmap = 1;
	struct iommu_test_cmd cmd = {
		.size = sizeof(cmd),
		.op = IOMMU_TEST_OP_DIRTY,
		.id = mock->hwpt_id,
		.dirty = {
			.iova = iova,
			.length = GMEM_PAGE_SIZE,
			.page_size = GMEM_PAGE_SIZE,
			.uptr = (unsigned long)&bitmap,
		},
	};

	return mock_cmd(mock, &cmd);
}

int mock_read_dirty(const struct mock *mock, __u64 iova, size_t npages,
		    __u64 *bitmap)
{
	struct iommu_hwpt_get_dirty_bitmap args = {
		.size = sizeof(args),
		.hwpt_id = mock->hwpt_id,
		.iova = iova,
		.length = npages * GMEM_PAGE_SIZE,
		.page_size = GMEM_PAGE_SIZE,
		.data = (unsigned long)bitmap,
	};

	memset(bitmap, 0, npages / 8);
	return xioctl(mock->iommufd, IOMMU_HWPT_GET_DIRTY_BITMAP, &args);
}

bool mock_translates(const struct mock *mock, __u64 iova, const void *addr,
		     size_t npages)
{
	struct iommu_test_cmd cmd = {
		.size = sizeof(cmd),
		.op = IOMMU_TEST_OP_MD_CHECK_MAP,
		.id = mock->hwpt_id,
		.check_map = {
			.iova = iova,
			.length = npages * GMEM_PAGE_SIZE,
			.uptr = (unsigned long)addr,
		},
	};

	return !mock_cmd(mock, &cmd);
}
