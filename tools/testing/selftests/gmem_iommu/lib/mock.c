// SPDX-License-Identifier: GPL-2.0
/*
 * iommufd's mock device.
 */
#include <errno.h>
#include <sys/ioctl.h>

#include <linux/iommufd.h>

#include "drivers/iommu/iommufd/iommufd_test.h"
#include "gmem_vm.h"
#include "mock.h"

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
	mock->hwpt_id = 0;
	ret = ioas_open_in(&mock->parking, iommufd);
	if (ret)
		return ret;
	cmd.id = mock->parking.id;
	ret = mock_cmd(mock, &cmd);
	if (!ret)
		mock->stdev_id = cmd.mock_domain.out_stdev_id;
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

static int move_mock(struct mock *mock, const struct ioas *ioas, __u32 *hwpt_id)
{
	struct iommu_test_cmd cmd = {
		.size = sizeof(cmd),
		.op = IOMMU_TEST_OP_MOCK_DOMAIN_REPLACE,
		.id = mock->stdev_id,
		.mock_domain_replace = {
			.pt_id = ioas->id,
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
	return move_mock(mock, ioas, &mock->hwpt_id);
}

void mock_detach(struct mock *mock)
{
	__u32 unused;

	move_mock(mock, &mock->parking, &unused);
	mock->hwpt_id = 0;
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
