/* SPDX-License-Identifier: GPL-2.0 */
/*
 * ioctl(2) with the kernel's error convention.
 */
#ifndef SELFTESTS_GMEM_IOMMU_XIOCTL_H
#define SELFTESTS_GMEM_IOMMU_XIOCTL_H

#include <errno.h>
#include <sys/ioctl.h>

static inline int xioctl(int fd, unsigned long cmd, void *arg)
{
	int ret = ioctl(fd, cmd, arg);

	return ret < 0 ? -errno : ret;
}

#endif /* SELFTESTS_GMEM_IOMMU_XIOCTL_H */
