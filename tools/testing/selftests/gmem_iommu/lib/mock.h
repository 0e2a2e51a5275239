/* SPDX-License-Identifier: GPL-2.0 */
/*
 * iommufd's mock device (CONFIG_IOMMUFD_TEST): its domain has page tables that
 * nothing but a test looks at, with leaves of every power of two.
 *
 * Functions return 0 or a negative errno unless they say otherwise.
 */
#ifndef SELFTESTS_GMEM_IOMMU_MOCK_H
#define SELFTESTS_GMEM_IOMMU_MOCK_H

#include <stdbool.h>

#include <linux/types.h>

#include "ioas.h"

/**
 * struct mock - A mock device
 * @iommufd: Where it is
 * @parking: The IOAS that it is in when it is not attached; empty
 * @stdev_id: Its object id, or 0
 * @dev_id: That of the device as drivers see it
 * @hwpt_id: The domain that it is attached to, or 0 while it is parked
 */
struct mock {
	int iommufd;
	struct ioas parking;
	__u32 stdev_id;
	__u32 dev_id;
	__u32 hwpt_id;
};

int mock_create(struct mock *mock, int iommufd);
int mock_destroy(struct mock *mock);

/* To the domain of an IOAS, which comes into being with this. */
int mock_attach(struct mock *mock, const struct ioas *ioas);
void mock_detach(struct mock *mock);

/* To a domain of its own that tracks what devices write to. */
int mock_attach_tracking(struct mock *mock, struct ioas *ioas);

/* The device writes to a page that is mapped. */
int mock_write_page(const struct mock *mock, __u64 iova);

/*
 * IOMMU_HWPT_GET_DIRTY_BITMAP: a bit of @bitmap for each of the @npages, which are a
 * multiple of 64. What was read is clean again.
 */
int mock_read_dirty(const struct mock *mock, __u64 iova, size_t npages,
		    __u64 *bitmap);

/*
 * Whether the domain translates the @npages at @iova to those that the host has at
 * @addr, which get memory by that.
 */
bool mock_translates(const struct mock *mock, __u64 iova, const void *addr,
		     size_t npages);

#endif /* SELFTESTS_GMEM_IOMMU_MOCK_H */
