/* SPDX-License-Identifier: GPL-2.0 */
/*
 * /dev/gmem_iommu for tests: bind, and compare what a binding says of itself with
 * the model of the test.
 */
#ifndef SELFTESTS_GMEM_IOMMU_MIRROR_H
#define SELFTESTS_GMEM_IOMMU_MIRROR_H

#include <stddef.h>

#include <linux/gmem_iommu.h>
#include <linux/types.h>

#include "ioas.h"

/* What a test needs and the kernel lacks, as text for SKIP, or NULL. */
const char *mirror_missing(void);

/*
 * Bind @length bytes at @offset of the file to @iova, read-write, in leaves of
 * 4 KiB. Returns the binding, or -errno.
 */
int mirror_bind(int gmem_fd, const struct ioas *ioas, __u64 offset,
		__u64 length, __u64 iova);

/* The same, in leaves of up to @max_leaf_size; 0: no limit. */
int mirror_bind_leaves(int gmem_fd, const struct ioas *ioas, __u64 offset,
		       __u64 length, __u64 iova, __u64 max_leaf_size);

/* The same with all arguments, of which @args->size is filled in here. */
int mirror_bind_args(struct gmem_iommu_bind *args);

/*
 * QUERY_RUNS, from the start to the end of a binding, gives exactly the runs of
 * @model, which has the @npages pages from @offset on. Few runs are asked for at
 * a time, so that the cursor is used. Returns "", or what is wrong, in a buffer
 * that is valid until the thread's next call.
 */
const char *mirror_check_runs(int binding, __u64 offset, const __u8 *model,
			      size_t npages);

/*
 * QUERY_RUNS as it is: up to @max runs of the whole binding. Returns their number, or
 * -errno; -E2BIG if there are more.
 */
int mirror_read_runs(int binding, __u64 offset, struct gmem_iommu_run *runs,
		     __u32 max);

int mirror_get_stats(int binding, struct gmem_iommu_stats *stats);

/* 0: alive; 1: poll() reports that it is dead; -errno. */
int mirror_poll_dead(int binding);

#endif /* SELFTESTS_GMEM_IOMMU_MIRROR_H */
