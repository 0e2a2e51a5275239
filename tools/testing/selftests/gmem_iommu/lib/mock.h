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
 * @hwpt_id: The domain that it is attached to, or 0 while it is parked
 */
struct mock {
	int iommufd;
	struct ioas parking;
	__u32 stdev_id;
	__u32 hwpt_id;
};

int mock_create(struct mock *mock, int iommufd);
int mock_destroy(struct mock *mock);

/* To the domain of an IOAS, which comes into being with this. */
int mock_attach(struct mock *mock, const struct ioas *ioas);
void mock_detach(struct mock *mock);

/*
 * Whether the domain translates the @npages at @iova to those that the host has at
 * @addr, which get memory by that.
 */
bool mock_translates(const struct mock *mock, __u64 iova, const void *addr,
		     size_t npages);

#endif /* SELFTESTS_GMEM_IOMMU_MOCK_H */
