/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A sweep: every allocation of a call fails once.
 *
 * The n-th allocation of the call is made to fail, for n = 1, 2, ... until the call
 * has fewer. Each time it answers ENOMEM and nothing of the rig has changed; or it
 * did without the allocation and succeeds. In the end it succeeds.
 */
#ifndef SELFTESTS_GMEM_IOMMU_SWEEP_H
#define SELFTESTS_GMEM_IOMMU_SWEEP_H

#include <stdbool.h>

#include "rig.h"

/**
 * struct sweep_call - What is tested
 * @run: Make the call; 0, or a negative errno
 * @undo: After a success: bring back the state before
 * @min: Allocations that are known to be in it; fewer means that the injection
 *	does not reach it
 * @iommufd: It passes fault points of iommufd that are not allocations: looking
 *	up an object (ENOENT) and reserved regions of a device (EINVAL)
 * @may_keep: The memory that it is about may be in the file after a failure, where
 *	nobody sees it before the next attempt
 * @leaves_nothing: An attempt that failed does not spare the next one an allocation, so
 *	that it need not be completed and undone before that, which can take long
 * @prepare: Before each call; what it changes, @undo or @recover bring back. NULL:
 *	nothing to prepare
 * @recover: After a failure: check what only this call is about, and undo
 *	@prepare. 0, or a negative errno. NULL: nothing to recover
 */
struct sweep_call {
	int (*run)(struct rig *rig);
	void (*undo)(struct rig *rig);
	unsigned int min;
	bool iommufd;
	bool may_keep;
	bool leaves_nothing;
	int (*prepare)(struct rig *rig);
	int (*recover)(struct rig *rig);
};

/**
 * struct sweep - A sweep and what it found
 * @nr: Allocations of the call
 * @before: State of the watched pages before it
 * @nr_resident: Pages with memory before it
 */
struct sweep {
	unsigned int nr;
	struct gmem_state before;
	long nr_resident;
};

/* Returns "", or what is wrong, in a buffer that is valid until the next call. */
const char *sweep_call(struct sweep *sweep, struct rig *rig,
		       const struct sweep_call *call);

#endif /* SELFTESTS_GMEM_IOMMU_SWEEP_H */
