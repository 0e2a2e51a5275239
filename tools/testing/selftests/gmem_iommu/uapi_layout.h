/* SPDX-License-Identifier: GPL-2.0 */
/*
 * U2: the layout of the user API, as every compiler must see it. The header is
 * correct if this file compiles, as C and as C++, for 64 and for 32 bits. The
 * Makefile does that, each time that it builds the tests.
 *
 * The numbers are written out, not computed: they are the ABI.
 */
#ifndef SELFTESTS_GMEM_IOMMU_UAPI_LAYOUT_H
#define SELFTESTS_GMEM_IOMMU_UAPI_LAYOUT_H

#include <stddef.h>

#include <linux/gmem_iommu.h>
#include <linux/kvm.h>

/* static_assert() of C and of C++ need different headers. */
#define LAYOUT_ASSERT(cond)	extern char layout_assert[(cond) ? 1 : -1]
#define LAYOUT_FIELD(type, field, offset) \
	LAYOUT_ASSERT(offsetof(struct type, field) == (offset))

LAYOUT_ASSERT(GMEM_IOMMU_ABI_VERSION == 1);
LAYOUT_ASSERT(GMEM_IOMMU_POLICY_SHARED_ONLY == 0);
LAYOUT_ASSERT(KVM_GMEM_CONVERT_MAX_RANGES == 1024);
LAYOUT_ASSERT(KVM_GMEM_TARGET_SHARED == 1);
LAYOUT_ASSERT(KVM_GMEM_TARGET_PRIVATE == 2);

LAYOUT_ASSERT(sizeof(struct gmem_iommu_info) == 32);
LAYOUT_FIELD(gmem_iommu_info, size, 0);
LAYOUT_FIELD(gmem_iommu_info, abi_version, 4);
LAYOUT_FIELD(gmem_iommu_info, features, 8);
LAYOUT_FIELD(gmem_iommu_info, max_leaf_size, 16);
LAYOUT_FIELD(gmem_iommu_info, max_query_runs, 24);
LAYOUT_ASSERT(GMEM_IOMMU_GET_INFO == 0xc020af50);

LAYOUT_ASSERT(sizeof(struct gmem_iommu_bind) == 64);
LAYOUT_FIELD(gmem_iommu_bind, size, 0);
LAYOUT_FIELD(gmem_iommu_bind, flags, 4);
LAYOUT_FIELD(gmem_iommu_bind, gmem_fd, 8);
LAYOUT_FIELD(gmem_iommu_bind, iommufd, 12);
LAYOUT_FIELD(gmem_iommu_bind, ioas_id, 16);
LAYOUT_FIELD(gmem_iommu_bind, policy, 20);
LAYOUT_FIELD(gmem_iommu_bind, offset, 24);
LAYOUT_FIELD(gmem_iommu_bind, length, 32);
LAYOUT_FIELD(gmem_iommu_bind, iova, 40);
LAYOUT_FIELD(gmem_iommu_bind, max_leaf_size, 48);
LAYOUT_FIELD(gmem_iommu_bind, out_fd, 56);
LAYOUT_ASSERT(GMEM_IOMMU_BIND == 0xc040af51);

LAYOUT_ASSERT(sizeof(struct gmem_iommu_run) == 24);
LAYOUT_FIELD(gmem_iommu_run, offset, 0);
LAYOUT_FIELD(gmem_iommu_run, length, 8);
LAYOUT_FIELD(gmem_iommu_run, flags, 16);
LAYOUT_FIELD(gmem_iommu_run, leaf_size, 20);

LAYOUT_ASSERT(sizeof(struct gmem_iommu_query_runs) == 32);
LAYOUT_FIELD(gmem_iommu_query_runs, size, 0);
LAYOUT_FIELD(gmem_iommu_query_runs, nr_runs, 4);
LAYOUT_FIELD(gmem_iommu_query_runs, cursor, 8);
LAYOUT_FIELD(gmem_iommu_query_runs, generation, 16);
LAYOUT_FIELD(gmem_iommu_query_runs, runs, 24);
LAYOUT_ASSERT(GMEM_IOMMU_QUERY_RUNS == 0xc020af58);

LAYOUT_ASSERT(sizeof(struct gmem_iommu_stats) == 96);
LAYOUT_FIELD(gmem_iommu_stats, size, 0);
LAYOUT_FIELD(gmem_iommu_stats, flags, 4);
LAYOUT_FIELD(gmem_iommu_stats, conversions, 8);
LAYOUT_FIELD(gmem_iommu_stats, aborts, 16);
LAYOUT_FIELD(gmem_iommu_stats, mapped_pages, 24);
LAYOUT_FIELD(gmem_iommu_stats, unmapped_pages, 32);
LAYOUT_FIELD(gmem_iommu_stats, syncs, 40);
LAYOUT_FIELD(gmem_iommu_stats, failures, 48);
LAYOUT_FIELD(gmem_iommu_stats, cuts, 56);
LAYOUT_FIELD(gmem_iommu_stats, merges, 64);
LAYOUT_FIELD(gmem_iommu_stats, refusals, 72);
LAYOUT_FIELD(gmem_iommu_stats, total_ns, 80);
LAYOUT_FIELD(gmem_iommu_stats, max_ns, 88);
LAYOUT_ASSERT(GMEM_IOMMU_GET_STATS == 0xc060af59);

LAYOUT_ASSERT(sizeof(struct kvm_gmem_range) == 24);
LAYOUT_FIELD(kvm_gmem_range, offset, 0);
LAYOUT_FIELD(kvm_gmem_range, size, 8);
LAYOUT_FIELD(kvm_gmem_range, target, 16);
LAYOUT_FIELD(kvm_gmem_range, reserved, 20);

LAYOUT_ASSERT(sizeof(struct kvm_gmem_convert) == 32);
LAYOUT_FIELD(kvm_gmem_convert, size, 0);
LAYOUT_FIELD(kvm_gmem_convert, flags, 4);
LAYOUT_FIELD(kvm_gmem_convert, nr_ranges, 8);
LAYOUT_FIELD(kvm_gmem_convert, reserved, 12);
LAYOUT_FIELD(kvm_gmem_convert, ranges, 16);
LAYOUT_FIELD(kvm_gmem_convert, error_offset, 24);
LAYOUT_ASSERT(KVM_GMEM_CONVERT == 0xc020af40);

LAYOUT_ASSERT(sizeof(struct kvm_memory_attributes2) == 128);
LAYOUT_FIELD(kvm_memory_attributes2, address, 0);
LAYOUT_FIELD(kvm_memory_attributes2, offset, 0);
LAYOUT_FIELD(kvm_memory_attributes2, size, 8);
LAYOUT_FIELD(kvm_memory_attributes2, attributes, 16);
LAYOUT_FIELD(kvm_memory_attributes2, flags, 24);
LAYOUT_FIELD(kvm_memory_attributes2, error_offset, 32);
LAYOUT_FIELD(kvm_memory_attributes2, reserved, 40);
LAYOUT_ASSERT(KVM_SET_MEMORY_ATTRIBUTES2 == 0xc080aed2);

#endif /* SELFTESTS_GMEM_IOMMU_UAPI_LAYOUT_H */
