/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The oracle: what a device can reach, read from the page table that the IOMMU
 * itself walks, by the Intel driver's debugfs. None of the code under test has a
 * part in it.
 *
 * A test keeps its own model of a file, one enum page_state per page, and has
 * both the page table and the binding's runs compared with it.
 */
#ifndef SELFTESTS_GMEM_IOMMU_WALKER_H
#define SELFTESTS_GMEM_IOMMU_WALKER_H

#include <stdbool.h>
#include <stddef.h>

#include <linux/types.h>

/**
 * enum page_state - State of one page of the model
 * @PAGE_PRIVATE: Only the guest may touch it
 * @PAGE_SHARED: Devices reach it
 * @PAGE_HOLE: Shared, but its memory was punched: devices do not reach it
 */
enum page_state {
	PAGE_PRIVATE,
	PAGE_SHARED,
	PAGE_HOLE,
};

/* The oracle can be used for this device: debugfs lists its page table. */
bool walker_available(const char *bdf);

/*
 * Exactly the PAGE_SHARED pages of @model translate in the @npages pages at
 * @iova of the device; with @mem, the host mapping of the same pages, each leads
 * to the physical page that the host sees. Returns "", or what is wrong, in a
 * buffer that is valid until the thread's next call.
 */
const char *walker_check(const char *bdf, __u64 iova, const __u8 *model,
			 size_t npages, const void *mem);

/* Pages that translate in a range, -errno on error. */
long walker_count(const char *bdf, __u64 iova, size_t npages);

/* What devices may do with a page: 1 read, 2 write, 3 both; 0 nothing; or -errno. */
int walker_permissions(const char *bdf, __u64 iova);

/* Leaves of exactly @leaf_pages pages that touch a range, -errno on error. */
long walker_count_leaves(const char *bdf, __u64 iova, size_t npages,
			 size_t leaf_pages);

/* The same for several @sizes, in pages, at once. 0 or -errno. */
int walker_count_sizes(const char *bdf, __u64 iova, size_t npages,
		       const size_t *sizes, long *counts, int nr_sizes);

#endif /* SELFTESTS_GMEM_IOMMU_WALKER_H */
