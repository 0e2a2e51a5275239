/* SPDX-License-Identifier: GPL-2.0-only */
#ifndef __IOMMUFD_EXT_SELFTEST_H
#define __IOMMUFD_EXT_SELFTEST_H

#include <linux/spinlock.h>
#include <linux/types.h>

struct iommu_iotlb_gather;
struct iommufd_object;
struct iommufd_ucmd;
struct pt_common;

/**
 * struct iommufd_test_iotlb - What the mock IOMMU knows of IOTLB syncs
 * @lock: Held for read by a walk of the page table. A sync waits for all walks,
 *	like that of an IOMMU does, before the tables are freed.
 * @nr_syncs: Number of syncs
 * @start: First IOVA of the last sync
 * @last: Last IOVA of the last sync
 * @nr_map_syncs: Number of syncs of what was mapped, for which an IOMMU in caching
 *	mode has to be told, too
 * @map_start: First IOVA of the last of them
 * @map_last: Last IOVA of the last of them
 */
struct iommufd_test_iotlb {
	rwlock_t lock;
	u64 nr_syncs;
	u64 start;
	u64 last;
	u64 nr_map_syncs;
	u64 map_start;
	u64 map_last;
};

/**
 * struct iommufd_test_mock - A mock domain and its HWPT, which is referenced
 * @obj: The HWPT
 * @common: The page table
 * @iotlb: The IOTLB
 */
struct iommufd_test_mock {
	struct iommufd_object *obj;
	const struct pt_common *common;
	struct iommufd_test_iotlb *iotlb;
};

int iommufd_test_get_mock(struct iommufd_ucmd *ucmd, u32 hwpt_id,
			  struct iommufd_test_mock *mock);

void iommufd_test_iotlb_init(struct iommufd_test_iotlb *iotlb);
void iommufd_test_iotlb_sync(struct iommufd_test_iotlb *iotlb,
			     const struct iommu_iotlb_gather *gather);
void iommufd_test_iotlb_sync_map(struct iommufd_test_iotlb *iotlb,
				 unsigned long iova, size_t size);
int iommufd_test_ext(struct iommufd_ucmd *ucmd);

#endif
