// SPDX-License-Identifier: GPL-2.0
/*
 * An iommufd IOAS with one scratch page that every device attached to it can
 * reach, on plain iommufd ioctls.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/iommufd.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gmem_vm.h"
#include "ioas.h"
#include "xioctl.h"

int ioas_map(struct ioas *ioas, __u64 iova, void *addr, size_t size)
{
	struct iommu_ioas_map args = {
		.size = sizeof(args),
		.flags = IOMMU_IOAS_MAP_FIXED_IOVA | IOMMU_IOAS_MAP_READABLE |
			 IOMMU_IOAS_MAP_WRITEABLE,
		.ioas_id = ioas->id,
		.user_va = (unsigned long)addr,
		.length = size,
		.iova = iova,
	};

	return xioctl(ioas->iommufd, IOMMU_IOAS_MAP, &args);
}

int ioas_unmap(struct ioas *ioas, __u64 iova, __u64 size)
{
	struct iommu_ioas_unmap args = {
		.size = sizeof(args),
		.ioas_id = ioas->id,
		.iova = iova,
		.length = size,
	};

	return xioctl(ioas->iommufd, IOMMU_IOAS_UNMAP, &args);
}

int ioas_hwpt_alloc(struct ioas *ioas, __u32 dev_id, __u32 flags, __u32 *hwpt_id)
{
	struct iommu_hwpt_alloc args = {
		.size = sizeof(args),
		.flags = flags,
		.dev_id = dev_id,
		.pt_id = ioas->id,
	};
	int ret;

	ret = xioctl(ioas->iommufd, IOMMU_HWPT_ALLOC, &args);
	if (!ret)
		*hwpt_id = args.out_hwpt_id;
	return ret;
}

int iommufd_destroy(int iommufd, __u32 id)
{
	struct iommu_destroy args = { .size = sizeof(args), .id = id };

	return xioctl(iommufd, IOMMU_DESTROY, &args);
}

int ioas_open_in(struct ioas *ioas, int iommufd)
{
	struct iommu_ioas_alloc args = { .size = sizeof(args) };
	int ret;

	ret = xioctl(iommufd, IOMMU_IOAS_ALLOC, &args);
	if (ret)
		return ret;

	ioas->iommufd = iommufd;
	ioas->id = args.out_ioas_id;
	ioas->scratch = mmap(NULL, GMEM_PAGE_SIZE, PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (ioas->scratch == MAP_FAILED)
		return -errno;

	return ioas_map(ioas, IOAS_SCRATCH_IOVA, ioas->scratch, GMEM_PAGE_SIZE);
}

int ioas_open(struct ioas *ioas)
{
	int fd, ret;

	ioas->iommufd = -1;
	fd = open("/dev/iommu", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;

	ret = ioas_open_in(ioas, fd);
	if (ret) {
		close(fd);
		ioas->iommufd = -1;
	}
	return ret;
}

void ioas_close(struct ioas *ioas)
{
	if (ioas->iommufd >= 0)
		close(ioas->iommufd);
	ioas->iommufd = -1;
}
