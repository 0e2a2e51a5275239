/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What a test does with a sweep and with the contents of the watched pages, which no
 * sweep may change. Here and not in sweep.c, because a failed assertion ends the test.
 */
#ifndef SELFTESTS_GMEM_IOMMU_SWEEP_HARNESS_H
#define SELFTESTS_GMEM_IOMMU_SWEEP_HARNESS_H

#include <string.h>

#include "gmem_vm.h"
#include "harness.h"
#include "host.h"
#include "sweep.h"

#define SWEEP_SEED	0x5eed0003

/* The last sweep. */
static struct sweep last;

static inline void sweep(struct __test_metadata *_metadata, struct rig *rig,
			 const struct sweep_call *call)
{
	ASSERT_STREQ("", sweep_call(&last, rig, call));
	TH_LOG("%u allocations", last.nr);
}

/* Only pages that are watched have contents: of others there may be many. */
static inline void sweep_write_contents(struct __test_metadata *_metadata,
					struct rig *rig)
{
	__u8 page[GMEM_PAGE_SIZE];
	size_t i, at;

	for (i = 0; i < rig->nr_watched; i++) {
		at = rig->watched[i] * GMEM_PAGE_SIZE;
		gmem_pattern(page, at, SWEEP_SEED);
		ASSERT_EQ(0, host_write(rig->vm.mem + at, page, sizeof(page)));
	}
}

static inline void sweep_share_all(struct __test_metadata *_metadata,
				   struct rig *rig)
{
	__u64 offset;

	EXPECT_EQ(0, gmem_convert(rig->vm.gmem_fd, 0, rig->config.size,
				  KVM_GMEM_TARGET_SHARED, &offset));
	EXPECT_EQ(0, offset);
}

/* After a sweep that lost contents: the teardown wants them back. */
static inline void sweep_restore_contents(struct __test_metadata *_metadata,
					  struct rig *rig)
{
	sweep_share_all(_metadata, rig);
	sweep_write_contents(_metadata, rig);
}

/* C11: as only a conversion shows the contents of private pages, this comes last. */
static inline void sweep_check_contents(struct __test_metadata *_metadata,
					struct rig *rig)
{
	__u8 page[GMEM_PAGE_SIZE];
	size_t i, at;

	sweep_share_all(_metadata, rig);
	for (i = 0; i < rig->nr_watched; i++) {
		at = rig->watched[i] * GMEM_PAGE_SIZE;
		memset(page, 0, sizeof(page));
		host_read(page, rig->vm.mem + at, sizeof(page));
		EXPECT_TRUE(gmem_pattern_matches(page, at, SWEEP_SEED))
			TH_LOG("contents of page %zu", rig->watched[i]);
	}
}

#endif /* SELFTESTS_GMEM_IOMMU_SWEEP_HARNESS_H */
